# SPDX-License-Identifier: Apache-2.0
"""A deposit: one archive key, sealed so that the HSM's half and m officers' halves together open it.

Implements ESCROW "Deposit". All checks of shape are in `Deposit.from_record`; opening needs both halves.
Does not decide who may open: a case does (`cases`, `approvals`, `release`).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa

from holdfast.core.base.encoding import MAX_BLOB, Encodable, Fields, Value, decode, encode, label
from holdfast.core.base.errors import Malformed, Untrusted, UnwrapFailed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.base.writing import read_back
from holdfast.core.crypto import sealing, shares, wrapping
from holdfast.core.crypto.keys import KeyKind, OaepHash, PublicKey, SealingKey, wrap_rsa
from holdfast.core.crypto.suites import Suite
from holdfast.core.identity.policy import MAX_OFFICERS, MIN_OFFICERS, MIN_QUORUM, SignedPolicy
from holdfast.core.identity.trust import SignedTenantKey
from holdfast.core.signed.payloads import HASH_SIZE, ID_SIZE, MAX_U32, read_suite
from holdfast.core.signed.statements import EscrowKey, OfflineKey

VERSION: Final = 1  # in the header, and so in ctx: no half of one version opens under another
ARCHIVE_KEY_SIZE: Final = 32  # bytes: 256 bits, as every symmetric key of PROTOCOL section 1
HALF_SIZE: Final = 32  # bytes: each half alone must be as hard to guess as the data key (ESCROW "Deposit")
SEALED_HALF_SIZE: Final = 384  # bytes: RSA-OAEP under 3072 bits is as long as the modulus (RFC 8017 section 7.1.1)
SEALED_SHARE_SIZE: Final = 32 + 1136  # bytes: a share, X-Wing's 1,120 and a tag of 16 (PROTOCOL section 1)
CIPHERTEXT_SIZE: Final = ARCHIVE_KEY_SIZE + wrapping.TAG_SIZE  # bytes: GCM adds a tag and nothing else
KID_SIZE: Final = 16  # bytes: docs/formats/statements.md, "Keys"

# DK comes fresh from r_h and r_o for every deposit and encrypts once, so its nonce may be fixed.
_NONCE: Final = bytes(wrapping.NONCE_SIZE)


def archive_key_commitment(generation: int, archive_key: SecretBytes) -> bytes:
    """Return SHA-256(["…/ak", g, AK_g]), 32 bytes: also in the account chain's entry of the generation."""
    # Safe to publish: the key has 256 random bits, so nobody can try candidates against the hash. It is in the chain,
    # so that a deposit of garbage is found at the latest when it is opened (FAULTS C10).
    return hashlib.sha256(label("ak", generation, archive_key.reveal())).digest()


def share_commitment(ctx: bytes, index: int, share: SecretBytes) -> bytes:
    """Return t_i = SHA-256(["…/share-commit", ctx, i, s_i]), by which a wrong share is laid to its officer."""
    # With ctx and index: the same share in another deposit or place has another commitment.
    return hashlib.sha256(label("share-commit", ctx, index, share.reveal())).digest()


# Whatever is in here is bound by ctx: nobody can move a half or a share to another user, generation, policy or consent.
@dataclass(frozen=True)
class DepositHeader:
    """What a deposit is about; its hash is `ctx`, to which both halves are bound. ids are 16 bytes, hashes 32."""

    suite: Suite
    tenant: bytes
    user: bytes
    device: bytes
    deposit_id: bytes
    generation: int
    ak_commitment: bytes
    escrow_key_hash: bytes
    policy_hash: bytes
    consent_hash: bytes
    m: int
    n: int
    offline_kid: bytes = b""

    @read_back("from_bytes")
    def to_bytes(self) -> bytes:
        """Return the header's dCBOR. ESCROW "Deposit": fields 1 to 14."""
        value: dict[int, Encodable] = {
            1: VERSION,
            2: int(self.suite),
            3: self.tenant,
            4: self.user,
            5: self.device,
            6: self.deposit_id,
            7: self.generation,
            8: self.ak_commitment,
            9: self.escrow_key_hash,
            10: self.policy_hash,
            11: self.consent_hash,
            12: self.m,
            13: self.n,
        }
        # Absent and not empty, so that a deposit without an offline key has one encoding.
        if self.offline_kid:
            value[14] = self.offline_kid
        return encode(value)

    @classmethod
    def from_bytes(cls, data: bytes) -> DepositHeader:
        """Read a header; raises Malformed, also for m of n outside the bounds."""
        fields = Fields(decode(data), "deposit header", range(1, 14), (14,))
        fields.uint(1, minimum=VERSION, maximum=VERSION)
        # The bounds hold in the record itself: a deposit with m = 1 is refused whatever policy it names (FAULTS P15).
        n = fields.uint(13, minimum=MIN_OFFICERS, maximum=MAX_OFFICERS)
        return cls(
            suite=read_suite(fields, 2),
            tenant=fields.octets(3, ID_SIZE),
            user=fields.octets(4, ID_SIZE),
            device=fields.octets(5, ID_SIZE),
            deposit_id=fields.octets(6, ID_SIZE),
            generation=fields.uint(7, maximum=MAX_U32),
            ak_commitment=fields.octets(8, HASH_SIZE),
            escrow_key_hash=fields.octets(9, HASH_SIZE),
            policy_hash=fields.octets(10, HASH_SIZE),
            consent_hash=fields.octets(11, HASH_SIZE),
            m=fields.uint(12, minimum=MIN_QUORUM, maximum=n - 1),
            n=n,
            offline_kid=fields.octets(14, KID_SIZE) if 14 in fields else b"",
        )

    @property
    def ctx(self) -> bytes:
        """SHA-256 of the header: binds every part to user, generation, keys and policy."""
        return hashlib.sha256(self.to_bytes()).digest()


@dataclass(frozen=True)
class ShareBox:
    """One officer's row: index i, s_i sealed to them (1,168 bytes), its commitment t_i (32 bytes)."""

    index: int
    sealed: bytes
    commitment: bytes

    @classmethod
    def from_row(cls, value: Value) -> ShareBox:
        """Read one row; raises Malformed."""
        row = Fields.of_row(value, "deposit share", 3)
        return cls(
            index=row.uint(0, minimum=1, maximum=MAX_OFFICERS),
            sealed=row.octets(1, SEALED_SHARE_SIZE),
            commitment=row.octets(2, HASH_SIZE),
        )


@dataclass(frozen=True)
class Deposit:
    """A deposit's parts. commit: 32 bytes; ciphertext: 48; sealed_half: 384 bytes RSA-OAEP of r_h."""

    header: DepositHeader
    commit: bytes
    ciphertext: bytes
    sealed_half: bytes
    boxes: tuple[ShareBox, ...]
    offline_half: bytes = b""

    @read_back("from_record")
    def to_record(self) -> bytes:
        """Return the record's bytes, at most 64 KiB. ESCROW "Deposit"."""
        value: dict[int, Encodable] = {
            1: self.header.to_bytes(),
            2: self.commit,
            3: self.ciphertext,
            4: self.sealed_half,
            6: [[box.index, box.sealed, box.commitment] for box in self.boxes],
        }
        if self.offline_half:
            value[5] = self.offline_half
        return encode(value)

    @classmethod
    def from_record(cls, record: bytes) -> Deposit:
        """Read a record; raises Malformed, also for boxes that are not 1..n, each once, in order.

        An offline half is there exactly when the header names an offline key.
        """
        fields = Fields(decode(record, max_size=MAX_BLOB), "deposit", (1, 2, 3, 4, 6), (5,))
        # The header as bytes inside the record: ctx is over what was signed, and not over what a reader encodes again.
        header = DepositHeader.from_bytes(fields.octets(1, maximum=1024))
        boxes = tuple(ShareBox.from_row(row) for row in fields.array(6, maximum=MAX_OFFICERS))
        if [box.index for box in boxes] != list(range(1, header.n + 1)):
            raise fields.refuse(6, "does not number its shares 1..n in order")
        # The header says whether there is a second sealing of r_h, so nobody can add one unseen, or drop it.
        if (5 in fields) != bool(header.offline_kid):
            raise fields.refuse(5, "does not agree with the header's offline key")
        return cls(
            header=header,
            commit=fields.octets(2, wrapping.COMMIT_SIZE),
            ciphertext=fields.octets(3, CIPHERTEXT_SIZE),
            sealed_half=fields.octets(4, SEALED_HALF_SIZE),
            boxes=boxes,
            offline_half=fields.octets(5, SEALED_SHARE_SIZE) if 5 in fields else b"",
        )

    @property
    def half_hash(self) -> bytes:
        """SHA-256(h_half), unique in the tenant for ever: nobody can carry another's half into their own."""
        return hashlib.sha256(self.sealed_half).digest()

    def require_half_for(self, key: PublicKey) -> None:
        """Raise Malformed unless h_half is below the modulus of the escrow key, as every OAEP ciphertext is."""
        public = key.parsed
        if (
            not isinstance(public, rsa.RSAPublicKey)
            or int.from_bytes(self.sealed_half, "big") >= public.public_numbers().n
        ):
            raise Malformed("deposit: the HSM's half is not sealed to the escrow key")

    def require_policy(self, signed: SignedPolicy) -> None:
        """Raise Untrusted unless the deposit was made under this policy, with its m and n."""
        head, policy = self.header, signed.policy
        # The hash is in ctx: r_h and r_o only open a deposit whose policy is the one that its owner consented to.
        if (head.policy_hash, head.tenant) != (signed.hash, policy.header.tenant):
            raise Untrusted("the deposit was made under another policy")
        if (head.m, head.n) != (policy.m, policy.n):
            # With a lower m than its policy's, fewer officers than agreed could open it.
            raise Untrusted("the deposit asks for another number of officers than its policy")

    def box(self, index: int) -> ShareBox:
        """Return the box of an index that the policy has."""
        return self.boxes[index - 1]

    def open_share(self, index: int, *, key: SealingKey) -> SecretBytes:
        """Have officer `index` open their share. Raises UnwrapFailed when it does not open or is not as committed."""
        box = self.box(index)
        # The info has ctx and index: a box copied from another deposit, or into another officer's row, does not open.
        share = sealing.open_sealed(box.sealed, key=key, info=_share_info(self.header.ctx, index))
        self.require_share(index, share)
        return share

    def require_share(self, index: int, share: SecretBytes) -> None:
        """Raise UnwrapFailed unless this is the share that the depositor committed to for `index`."""
        if not hmac.compare_digest(share_commitment(self.header.ctx, index, share), self.box(index).commitment):
            raise UnwrapFailed("the share is not the one that was deposited")

    def open_offline_half(self, *, key: SealingKey) -> SecretBytes:
        """Return r_h from the second sealing of it, when the HSM is lost. Raises UnwrapFailed, also without one."""
        return sealing.open_sealed(self.offline_half, key=key, info=_offline_info(self.header.ctx))

    def open(self, *, half: SecretBytes, officers_half: SecretBytes) -> SecretBytes:
        """Return AK_g from r_h and r_o, 32 bytes each.

        Raises UnwrapFailed for wrong halves and for a key that is not the one committed to: never a wrong key.
        """
        # First the commitment to the data key, which finds wrong halves; then GCM; then the commitment to the archive
        # key, which finds a depositor who sealed something else. The order tells whose fault it is.
        data_key, commit = _derive(self.header.ctx, half, officers_half)
        if not hmac.compare_digest(commit, self.commit):
            raise UnwrapFailed("the halves do not open this deposit")
        archive_key = wrapping.decrypt(self.ciphertext, key=data_key, nonce=_NONCE, aad=self.header.ctx)
        if not hmac.compare_digest(
            archive_key_commitment(self.header.generation, archive_key), self.header.ak_commitment
        ):
            raise UnwrapFailed("the deposited key is not the one that was committed to")
        return archive_key


@dataclass(frozen=True)
class DepositTerms:
    """What every deposit of a device shares: who deposits, under which verified policy and keys, with what consent."""

    suite: Suite
    tenant: bytes
    user: bytes
    device: bytes
    policy: SignedPolicy
    escrow_key: SignedTenantKey[EscrowKey]
    consent_hash: bytes
    offline_key: SignedTenantKey[OfflineKey] | None = None


def build_deposit(
    archive_key: SecretBytes,
    *,
    generation: int,
    deposit_id: bytes,
    terms: DepositTerms,
    random: Callable[[int], bytes] = secrets.token_bytes,
) -> Deposit:
    """Put AK_g (32 bytes) into escrow: fresh halves, one for the HSM's key, one split among the policy's officers.

    terms hold only what `trust` verified, so nothing unsigned decides who can read. random(k) gives k uniform bytes:
    r_h, then r_o, then the shares' coefficients. What is built is opened once before it is returned: a deposit that
    would fail its owner is never sent. Raises ValueError on a key of another length (the caller's mistake), Untrusted
    when policy or keys are of another tenant.
    """
    if len(archive_key) != ARCHIVE_KEY_SIZE:
        raise ValueError("an archive key has 32 bytes")
    policy, escrow_key = terms.policy.policy, terms.escrow_key.statement
    offline = terms.offline_key.statement if terms.offline_key else None
    # Each was verified, but perhaps from another pin: a program that serves two tenants could mix them.
    if {terms.tenant} != {statement.header.tenant for statement in (policy, escrow_key, offline) if statement}:
        raise Untrusted("policy or key of another tenant")
    header = DepositHeader(
        suite=terms.suite,
        tenant=terms.tenant,
        user=terms.user,
        device=terms.device,
        deposit_id=deposit_id,
        generation=generation,
        ak_commitment=archive_key_commitment(generation, archive_key),
        escrow_key_hash=terms.escrow_key.hash,
        policy_hash=terms.policy.hash,
        consent_hash=terms.consent_hash,
        m=policy.m,
        n=policy.n,
        offline_kid=offline.key.kid if offline else b"",
    )
    # Fresh for each deposit, both: nothing that opens one deposit helps with the next, also after a release.
    half, officers_half = (SecretBytes(random(HALF_SIZE)) for _ in range(2))
    # r_h goes to the HSM and nowhere else, r_o is split and never sealed whole. So neither the HSM's operator nor all
    # officers together have DK without the other side.
    data_key, commit = _derive(header.ctx, half, officers_half)
    parts = shares.split(officers_half, m=policy.m, n=policy.n, random=random)
    built = Deposit(
        header=header,
        commit=commit,
        ciphertext=wrapping.encrypt(archive_key, key=data_key, nonce=_NONCE, aad=header.ctx),
        sealed_half=_wrap_half(half, escrow_key, header.ctx),
        boxes=tuple(
            ShareBox(
                index=officer.index,
                sealed=sealing.seal(
                    parts[officer.index], to=officer.sealing_key, info=_share_info(header.ctx, officer.index)
                ),
                commitment=share_commitment(header.ctx, officer.index, parts[officer.index]),
            )
            # By the roster's own order and index, so that who holds which share is in the
            # policy and in no list of the server's.
            for officer in policy.roster
        ),
        offline_half=sealing.seal(half, to=offline.key, info=_offline_info(header.ctx)) if offline else b"",
    )
    # The last m and not the first: a fault in the highest points would otherwise show at the recovery only.
    rejoined = shares.combine({index: parts[index] for index in list(parts)[-policy.m :]})
    built.open(half=half, officers_half=rejoined)
    return built


def oaep_hash(algorithm: str) -> OaepHash:
    """Return the hash of an escrow-key statement's algorithm, with which its halves are sealed and wrapped on."""
    return "sha1" if algorithm.startswith("oaep-sha1") else "sha256"


def oaep_label(algorithm: str, ctx: bytes) -> bytes:
    """Return the label under which an escrow-key statement's algorithm seals r_h: ctx (32 bytes), or none."""
    return ctx if algorithm.endswith("-ctx") else b""


def combine_shares(held: Sequence[tuple[int, SecretBytes]]) -> SecretBytes:
    """Return r_o from shares that `require_share` accepted; 32 bytes."""
    return shares.combine(dict(held))


def _wrap_half(half: SecretBytes, escrow_key: EscrowKey, ctx: bytes) -> bytes:
    # The one kind that every module unwraps and wraps again blindly. HSM section 3.1.
    if escrow_key.key.kind is not KeyKind.RSA_3072:
        raise ValueError("an escrow key is RSA-3072")
    algorithm = escrow_key.algorithm
    return wrap_rsa(escrow_key.key, half, hash_name=oaep_hash(algorithm), label=oaep_label(algorithm, ctx))


def _derive(ctx: bytes, half: SecretBytes, officers_half: SecretBytes) -> tuple[SecretBytes, bytes]:
    """DK || commit. Either half alone, if unknown and uniform, keeps DK secret (dual-PRF use of HMAC)."""
    if len(half) != HALF_SIZE or len(officers_half) != HALF_SIZE:
        # OAEP hides the length from the HSM, so only here a half of another length is noticed.
        raise UnwrapFailed("a half of another length")
    ikm = SecretBytes(half.reveal() + officers_half.reveal())
    # Joined and not XORed: with XOR, whoever chooses one half last could choose DK. ctx as salt binds what OAEP
    # does not, where the module takes no label.
    okm = wrapping.hkdf(salt=ctx, ikm=ikm, info=label("deposit"), length=64).reveal()
    return SecretBytes(okm[:32]), okm[32:]


def _share_info(ctx: bytes, index: int) -> bytes:
    return label("deposit-share", ctx, index)


def _offline_info(ctx: bytes) -> bytes:
    return label("deposit-offline", ctx)
