# SPDX-License-Identifier: Apache-2.0
"""What each process may ask of the HSM: one small Protocol for each token, and the values they exchange.

Implements HSM section 1 and the table of tokens in ESCROW "Keys"; every backend offers these.
Contains no behaviour beyond checking sizes: see hsm.tokens for the PKCS#11 backend.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from holdfast.core.base.secret import SecretBytes

OaepAlgorithm = Literal["oaep-sha256", "oaep-sha1"]
SignatureAlgorithm = Literal["ed25519", "p256"]

SEALED_BYTES = 384  # RSA-3072: as long as the modulus (RFC 8017 section 7.1.1)
KEY_BYTES = 32  # AES-256, for master, tenant and record keys alike: the smallest is the strength of all
WRAPPED_TENANT_KEY_BYTES = 40  # RFC 3394 section 2.2.1: one block of 8 bytes more than the key
KCV_BYTES = 3  # as PKCS#11's CKA_CHECK_VALUE: enough to notice a mix-up, too little to attack
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

    kcv: first 3 bytes of AES-ECB of a fixed block, computed in the HSM; it identifies, and proves nothing.
    Raises ValueError on other sizes (a caller's mistake).
    """

    blob: bytes
    kcv: bytes
    master_version: int

    def __post_init__(self) -> None:
        if len(self.blob) != WRAPPED_TENANT_KEY_BYTES or len(self.kcv) != KCV_BYTES:
            raise ValueError("a wrapped tenant key is 40 bytes with a check value of 3")


@dataclass(frozen=True)
class EscrowKeyRef:
    """Names one escrow key: its random CKA_ID (16 bytes), SHA-256 of its DER SPKI (32 bytes), its hash."""

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

    def answers(self) -> bool:
        """Tell, within half a second, whether the token answers and shows its keys. Raises nothing."""
        ...

    def generate_tenant_key(self) -> WrappedTenantKey:
        """Make a tenant master key inside the HSM; its plaintext never leaves. Raises HsmUnavailable."""
        ...

    def load_tenant_key(self, wrapped: WrappedTenantKey) -> TenantKey:
        """Unwrap into the HSM and check its KCV.

        Raises HsmRefused when the blob does not open, HsmKeyMismatch when it opens to another key than its
        KCV says, HsmKeyMissing for a master version that the token lacks, HsmUnavailable.
        """
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

    def rewrap(self, key_ref: EscrowKeyRef, sealed: bytes, recipient_spki: bytes) -> bytes:
        """Re-wrap `sealed` for the recipient inside the HSM; the plaintext never leaves it.

        sealed: 384 bytes RSA-OAEP under the escrow key. recipient_spki: canonical DER RSA-3072, e = 65537.
        Returns 384 bytes RSA-OAEP under the recipient's key, with the same hash. Exactly one C_UnwrapKey
        for each call; a call that fails after it began to unwrap is not repeated here.
        Raises HsmRefused for a blob that does not open or a recipient key that is not of that form,
        HsmKeyMissing for an unknown reference, HsmKeyMismatch when id and public key disagree,
        HsmUnavailable.
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
