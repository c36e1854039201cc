# SPDX-License-Identifier: Apache-2.0
"""What each process may ask of the HSM: one small Protocol for each token, and the values they exchange.

Implements HSM section 1 and the table of tokens in ESCROW "Keys"; every backend offers these.
Contains no behaviour beyond checking sizes: see hsm.tokens for the PKCS#11 backend.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol
from uuid import UUID

from holdfast.core.base.encoding import label
from holdfast.core.base.secret import SecretBytes

# With -ctx, what is sealed bears the label ctx of its deposit (RFC 8017's L), and opens under no other.
OaepAlgorithm = Literal["oaep-sha256", "oaep-sha1", "oaep-sha256-ctx", "oaep-sha1-ctx"]
SignatureAlgorithm = Literal["ed25519", "p256"]

CTX_BYTES = 32  # SHA-256 of a deposit's header
SEALED_BYTES = 384  # RSA-3072: as long as the modulus (RFC 8017 section 7.1.1)
KEY_BYTES = 32  # AES-256, for master, tenant and record keys alike: the smallest is the strength of all
WRAPPED_TENANT_KEY_BYTES = 40  # RFC 3394 section 2.2.1: one block of 8 bytes more than the key
KCV_BYTES = 3  # as PKCS#11's CKA_CHECK_VALUE: enough to notice a mix-up, too little to attack
MAC_BYTES = 32  # HMAC-SHA256, whole
WRAPPED_RECORD_KEY_BYTES = 12 + KEY_BYTES + 16  # nonce, key, tag (NIST SP 800-38D)


@dataclass(frozen=True)
class Capabilities:
    """What the module behind the tokens can do; a tenant's policy may demand `blind_rewrap`."""

    blind_rewrap: bool
    oaep: OaepAlgorithm
    signature: SignatureAlgorithm | None


@dataclass(frozen=True)
class SigningPublicKey:
    """raw: 32 bytes for ed25519 (RFC 8032), 65 bytes uncompressed for p256 (SEC 1 section 2.3.3)."""

    algorithm: SignatureAlgorithm
    raw: bytes


@dataclass(frozen=True)
class WrappedTenantKey:
    """A tenant master key at rest: 40 bytes AES-KW (RFC 3394) under master key `master_version`.

    tenant_id, version: whose key it is, and which of theirs. kcv: first 3 bytes of AES-ECB of a fixed block, computed
    in the HSM; it identifies, and proves nothing. mac: 32 bytes HMAC-SHA256 by a key of the HSM over `bound()`; none
    for a key from before there was one, which is not loaded. Raises ValueError on other sizes (a caller's mistake).
    """

    tenant_id: UUID
    version: int
    blob: bytes
    kcv: bytes
    master_version: int
    mac: bytes = b""

    def __post_init__(self) -> None:
        if len(self.blob) != WRAPPED_TENANT_KEY_BYTES or len(self.kcv) != KCV_BYTES:
            raise ValueError("a wrapped tenant key is 40 bytes with a check value of 3")
        if len(self.mac) not in {0, MAC_BYTES}:
            raise ValueError("a tenant key is bound by 32 bytes")

    def bound(self) -> bytes:
        """Return what the HMAC is over: dCBOR(["holdfast/v1/tenant-key", tenant, version, master version, kcv, blob]).

        So a row takes no other tenant's key, and no older one of its own.
        """
        return label("tenant-key", self.tenant_id.bytes, self.version, self.master_version, self.kcv, self.blob)


@dataclass(frozen=True)
class EscrowKeyRef:
    """Names one escrow key: whose it is, its random CKA_ID (16 bytes), SHA-256 of its DER SPKI (32 bytes), its hash.

    tenant_id: of the tenant in whose name it is to be used; the token refuses a key that was made for another.
    """

    tenant_id: str
    cka_id: bytes
    spki_sha256: bytes
    algorithm: OaepAlgorithm

    def __post_init__(self) -> None:
        if len(self.cka_id) != 16 or len(self.spki_sha256) != 32:
            raise ValueError("an escrow key is named by 16 bytes of id and 32 bytes of SHA-256")


@dataclass(frozen=True)
class EscrowPublicKey:
    """A tenant's escrow key as the ceremony made it; spki: canonical DER, RSA-3072, e = 65537."""

    tenant_id: str
    version: int
    ref: EscrowKeyRef
    spki: bytes


class RecordKey(NamedTuple):
    """A fresh 32-byte record key, and the 60 bytes (nonce, ciphertext, tag) stored beside the record."""

    key: SecretBytes
    wrapped: bytes


class TenantKey(Protocol):
    """A tenant master key inside the HSM; usable from any thread, valid as long as the tokens are open."""

    def new_record_key(self, *, aad: bytes) -> RecordKey:
        """Make a random 32-byte record key and wrap it. Raises HsmUnavailable."""
        ...

    def wrap_record_key(self, key: SecretBytes, *, aad: bytes) -> bytes:
        """Return 60 bytes: nonce 12, ciphertext 32, tag 16 (AES-256-GCM inside the HSM).

        key: 32 bytes, else ValueError (a caller's mistake). aad: what the record key belongs to.
        Raises HsmUnavailable. NIST SP 800-38D with a random 96-bit nonce.
        """
        ...

    def unwrap_record_key(self, wrapped: bytes, *, aad: bytes) -> SecretBytes:
        """Return the 32-byte record key. Raises HsmRefused for every integrity failure; HsmUnavailable."""
        ...


class RootToken(Protocol):
    """Web and worker: tenant master keys, and nothing that opens an escrow."""

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def master_version(self) -> int:
        """The version that new tenant keys are wrapped under."""
        ...

    @property
    def binds(self) -> bool:
        """Whether there is a key to bind tenant keys with; without one, none can be made or loaded."""
        ...

    def answers(self) -> bool:
        """Tell, within half a second, whether the token answers and shows its keys. Raises nothing."""
        ...

    def generate_tenant_key(self, *, tenant_id: UUID, version: int) -> WrappedTenantKey:
        """Make a tenant master key inside the HSM, bound to its tenant and version; its plaintext never leaves.

        Raises HsmUnavailable.
        """
        ...

    def load_tenant_key(self, wrapped: WrappedTenantKey) -> TenantKey:
        """Unwrap into the HSM a key that is bound to its tenant and version, and check its KCV.

        Raises HsmKeyMismatch for a key that is not bound to them, or opens to another key than its KCV says, HsmRefused
        when the blob does not open, HsmKeyMissing for a master version that the token lacks, HsmUnavailable.
        """
        ...

    def bind_tenant_key(self, wrapped: WrappedTenantKey) -> WrappedTenantKey:
        """Bind a key from before there was a binding key: a ceremony's act, once. Raises as `load_tenant_key` does."""
        ...


class LogToken(Protocol):
    """The sequencer: one signing key, for checkpoints."""

    @property
    def public_key(self) -> SigningPublicKey: ...

    def sign(self, data: bytes) -> bytes:
        """Return the raw 64-byte signature: R || S of Ed25519, or r || s of ECDSA P-256 with SHA-256, low s.

        Raises HsmUnavailable.
        """
        ...


class EscrowToken(Protocol):
    """The release process: the one verb that opens a sealed half, without showing it to anybody."""

    @property
    def capabilities(self) -> Capabilities: ...

    def require(self, key_ref: EscrowKeyRef) -> None:
        """See that the token answers and shows this key; nothing is unwrapped. Raises as `rewrap` does for the key."""
        ...

    def rewrap(self, key_ref: EscrowKeyRef, sealed: bytes, recipient_spki: bytes, *, ctx: bytes = b"") -> bytes:
        """Re-wrap `sealed` for the recipient inside the HSM; the plaintext never leaves it.

        sealed: 384 bytes RSA-OAEP under the escrow key. recipient_spki: canonical DER RSA-3072, e = 65537.
        ctx: 32 bytes, the label of an algorithm that has one; any other takes no notice of it.
        Returns 384 bytes RSA-OAEP under the recipient's key, with the same hash and no label. Exactly one C_UnwrapKey
        for each call; a call that fails after it began to unwrap is not repeated here.
        Raises HsmRefused for a blob that does not open, a recipient key that is not of that form, or an escrow
        key that was made for another tenant than the reference names; HsmKeyMissing for an unknown reference,
        HsmKeyMismatch when id and public key disagree, HsmUnavailable.
        The recipient must check the length of what it opens: RSA-OAEP hides it from the HSM.
        """
        ...


class CeremonyToken(Protocol):
    """Ceremonies only: tenant root signing keys, whose PIN nothing that runs can read."""

    def create_tenant_root(self, tenant_id: str) -> SigningPublicKey:
        """Make the tenant's root signing key. Raises HsmError when the tenant has one."""
        ...

    def sign_with_tenant_root(self, tenant_id: str, data: bytes) -> bytes:
        """Return the raw 64-byte signature of `data`. Raises HsmKeyMissing for a tenant without a root."""
        ...
