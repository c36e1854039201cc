# SPDX-License-Identifier: Apache-2.0
"""From the pin to the key: the one path by which a client comes to trust a tenant's officers and escrow key.

Implements ESCROW "Keys" and "Policy and officers" and FAULTS S1 to S3 and S15.
Does not keep the pin or the highest versions seen; the caller does, and hands them in.
"""

import hashlib
import hmac
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from holdfast.core.base.encoding import label
from holdfast.core.base.errors import Forked, Malformed, OutOfBounds, QuorumNotMet, Untrusted
from holdfast.core.base.words import eight_words
from holdfast.core.crypto.keys import PublicKey
from holdfast.core.identity.acts import Act, Resolution, verify_resolution
from holdfast.core.identity.policy import (
    Policy,
    SignedPolicy,
    history_of,
    officers_who_signed,
    verify_founding,
    verify_successor,
)
from holdfast.core.signed.cose import Sign1
from holdfast.core.signed.payloads import Header
from holdfast.core.signed.statements import EscrowKey, OfflineKey

# ESCROW "Officers change": an alarm 30 days before policy or key run out, and 30 days of grace after, in which officers
# sign the next one; until then the old one is better than none.
NOTICE_SECONDS: Final = 30 * 86_400
GRACE_SECONDS: Final = 30 * 86_400

TenantKey = TypeVar("TenantKey", EscrowKey, OfflineKey)


def root_pin(tenant: bytes, root_key: PublicKey, founding_policy_hash: bytes) -> bytes:
    """Return the 32 bytes that every client pins: tenant, root key, founding policy. ESCROW "Keys"."""
    # Root and founders together: with the root alone pinned, its holder could found another set of officers. The
    # policy's hash holds the founders' keys, so nothing else has to be pinned.
    return hashlib.sha256(label("root", tenant, root_key.encoded, founding_policy_hash)).digest()


def pin_words(pin: bytes) -> tuple[str, ...]:
    """Return the 8 BIP-39 words of a pin, for people to compare."""
    return eight_words(pin)


def founder_words(tenant: bytes, root_key: PublicKey, policy_hash: bytes, person: bytes) -> tuple[str, ...]:
    """Return the 8 BIP-39 words by which others hear that a person means the same policy version, with their own keys.

    policy_hash: 32 bytes, of the version that names them; the hash holds every row with its keys. person: 16 bytes.
    ESCROW "Policy and officers".
    """
    # The person is in it: each reads out other words, so nobody can repeat what another has read.
    return eight_words(hashlib.sha256(label("founder", tenant, root_key.encoded, policy_hash, person)).digest())


@dataclass(frozen=True)
class Ending:
    """A policy or a key that runs out soon or has. at: UTC seconds; is_over: so is its grace: nothing is sealed to it.

    What was sealed before stays, and is released as ever.
    """

    what: str
    at: int
    has_ended: bool
    is_over: bool


def find_ending(what: str, header: Header, now: int) -> Ending | None:
    """Return the end of a statement that is 30 days away or less, or past; None for one that is further, or has none.

    what: how people call it. now: UTC seconds.
    """
    end = header.expires_at
    if not end or now <= end - NOTICE_SECONDS:
        return None
    return Ending(what, end, has_ended=now > end, is_over=now > end + GRACE_SECONDS)


@dataclass(frozen=True)
class TrustedTenant:
    """A tenant reached from its pin: root key and every policy version, oldest first.

    is_development: whether the pin marks a tenant for development, which alone may use oaep-sha1. withdrawn: hashes of
    the versions that officers withdrew, and of those that fall with them.
    """

    tenant: bytes
    root_key: PublicKey
    policies: tuple[SignedPolicy, ...]
    is_development: bool
    withdrawn: frozenset[bytes] = frozenset()

    @property
    def newest(self) -> SignedPolicy:
        """The newest policy that stands. Whether its cooling-off is over is the caller's question: no clock here."""
        return self.standing[-1]

    @property
    def standing(self) -> tuple[SignedPolicy, ...]:
        """Every version that was not withdrawn, oldest first."""
        return tuple(signed for signed in self.policies if signed.hash not in self.withdrawn)

    def in_force(self, at: int) -> SignedPolicy:
        """Return the version in force at a time (UTC seconds), as the statements date themselves."""
        return history_of(self.standing, [signed.policy.header.issued_at for signed in self.standing]).in_force(at)

    def policy_named(self, policy_hash: bytes) -> SignedPolicy:
        """Return the version with this hash. Raises Untrusted if there is none."""
        for signed in self.policies:
            if signed.hash == policy_hash:
                return signed
        raise Untrusted("names a policy that the pin does not lead to")


@dataclass(frozen=True)
class SignedTenantKey(Generic[TenantKey]):
    """An escrow or offline key whose signatures have been checked, and the hash that others name it by."""

    statement: TenantKey
    hash: bytes


def verify_tenant(
    history: Sequence[Sequence[Sign1]],
    *,
    tenant: bytes,
    root_key: PublicKey,
    pin: bytes,
    is_development: bool = False,
    seen: SignedPolicy | None = None,
    early: int = 0,
    withdrawals: Sequence[Sequence[Sign1]] = (),
    withdrawn: Collection[bytes] = (),
) -> TrustedTenant:
    """Follow all policy versions from the founding one to the newest, and hold the first to the pin.

    history: every version's signatures, oldest first. seen: the highest version this verifier has known. early: how
    many of the first versions were made before field 12 was, and need none. withdrawals: the signatures of each
    resolution that withdraws a version, held here to the policy that it names; whether it came in time is the caller's
    question. withdrawn: hashes of versions of which the caller knows that they were withdrawn.
    Raises Untrusted if the pin is another or the history ends below `seen`, Forked if it passes `seen` by,
    and what verify_founding, verify_successor and verify_resolution raise.
    """
    if not history:
        raise Untrusted("no policy: nothing leads from the pin to an officer")
    # From the first version on, each time: an officer is trusted because a row of signatures leads there, never because
    # a server says who is in office.
    policies = [verify_founding(history[0], tenant=tenant)]
    # Only version 1 is held to the pin. All later ones follow from it by signatures, so the pin never has to change.
    if not hmac.compare_digest(root_pin(tenant, root_key, policies[0].hash), pin):
        raise Untrusted("tenant root and founders are not the pinned ones")
    # By its own word here; below each is held to its signatures, or nothing of all this is believed.
    fallen = {*withdrawn, *(_withdrawal(statements).hash for statements in withdrawals)}
    for statements in history[1:]:
        before = version_before(statements, policies, fallen)
        is_early = len(policies) < early
        signed = verify_successor(statements, predecessor=before, history=policies, is_early=is_early)
        # What rests on a withdrawn version falls with it.
        if before.hash in fallen:
            fallen.add(signed.hash)
        policies.append(signed)
    for statements in withdrawals:
        _require_passed(statements, policies)
    if seen is not None:
        # Hiding the newest versions would bring back officers who have left (FAULTS S15).
        if len(policies) < seen.policy.version:
            raise Untrusted("policy history is older than the one seen before")
        # Compared in its own place: two histories that both lead from the pin mean that m officers signed twice.
        if policies[seen.policy.version - 1].hash != seen.hash:
            raise Forked("two histories lead from the pin to one policy version")
    return TrustedTenant(tenant, root_key, tuple(policies), is_development, frozenset(fallen))


def version_before(
    statements: Sequence[Sign1], policies: Sequence[SignedPolicy], fallen: Collection[bytes]
) -> SignedPolicy:
    """Return the version that the next one has to follow: the last, or an earlier one if all between were withdrawn."""
    if policies[-1].hash not in fallen:
        return policies[-1]
    named = Policy.from_payload(statements[0].payload).predecessor if statements else b""
    # The founding version ends the search: it was in force before anybody could have withdrawn it.
    return next(
        signed
        for signed in reversed(policies)
        if signed.hash == named or signed.hash not in fallen or signed.policy.version == 1
    )


def _withdrawal(statements: Sequence[Sign1]) -> Resolution:
    resolution = Resolution.from_payload(statements[0].payload) if statements else None
    if resolution is None or resolution.act is not Act.WITHDRAW_VERSION:
        raise Malformed("resolution: withdraws no policy version")
    return resolution


def _require_passed(statements: Sequence[Sign1], policies: Sequence[SignedPolicy]) -> None:
    said = _withdrawal(statements)
    passed_under = next((signed for signed in policies if signed.hash == said.policy_hash), None)
    if passed_under is None or (said.version, said.hash) not in {(one.policy.version, one.hash) for one in policies}:
        raise Untrusted("a resolution names a policy that the pin does not lead to")
    # Its age was judged by whoever took it; here it is long past.
    verify_resolution(statements, passed_under, at=said.header.issued_at)


def verify_escrow_keys(
    history: Sequence[Sequence[Sign1]],
    *,
    trusted: TrustedTenant,
    seen: SignedTenantKey[EscrowKey] | None = None,
) -> tuple[SignedTenantKey[EscrowKey], ...]:
    """Check every version of the escrow key, oldest first, by one path for the first key and each rotation.

    Each is signed by the tenant root and by m officers of the policy it names, and names its predecessor.
    Raises Malformed, InvalidSignature, QuorumNotMet; Untrusted or Forked as verify_tenant does; OutOfBounds
    for oaep-sha1 in a tenant that the pin does not mark `development`.
    """
    # Every key of the history is checked, not the newest alone: each rests on the one
    # before, back to the first (FAULTS S3).
    keys = _verify_keys(EscrowKey, history, trusted, seen)
    # Any and not the newest: deposits under an older key stay releasable. What the client was told when it enrolled
    # decides, since a server could use a flag of its own only to loosen this (FAULTS S8).
    if not trusted.is_development and any(key.statement.algorithm.startswith("oaep-sha1") for key in keys):
        raise OutOfBounds("escrow key uses oaep-sha1, which only a development tenant may")
    return keys


def verify_offline_keys(
    history: Sequence[Sequence[Sign1]],
    *,
    trusted: TrustedTenant,
    seen: SignedTenantKey[OfflineKey] | None = None,
) -> tuple[SignedTenantKey[OfflineKey], ...]:
    """Check every version of the offline key as verify_escrow_keys does the escrow key's."""
    return _verify_keys(OfflineKey, history, trusted, seen)


def _verify_keys(
    shape: type[TenantKey],
    history: Sequence[Sequence[Sign1]],
    trusted: TrustedTenant,
    seen: SignedTenantKey[TenantKey] | None,
) -> tuple[SignedTenantKey[TenantKey], ...]:
    keys: list[SignedTenantKey[TenantKey]] = []
    for statements in history:
        keys.append(_verify_key(shape, statements, trusted, keys[-1] if keys else None))
    if seen is not None:
        if len(keys) < seen.statement.version:
            raise Untrusted("key history is older than the one seen before")
        if keys[seen.statement.version - 1].hash != seen.hash:
            raise Forked("two keys claim one version")
    return tuple(keys)


def _verify_key(
    shape: type[TenantKey],
    statements: Sequence[Sign1],
    trusted: TrustedTenant,
    predecessor: SignedTenantKey[TenantKey] | None,
) -> SignedTenantKey[TenantKey]:
    if len({statement.payload for statement in statements}) != 1:
        raise Malformed("tenant key: no signature, or of differing payloads")
    key = shape.from_payload(statements[0].payload)
    if key.header.tenant != trusted.tenant:
        raise Untrusted("key of another tenant")
    # No gaps: `seen` finds a key by its number in the list.
    if key.version != (predecessor.statement.version + 1 if predecessor else 1):
        raise Untrusted("key is not the next version")
    # The policy that it names and not the newest: a key stays valid when the roster changes after it.
    signed_policy = trusted.policy_named(key.policy_hash)
    if predecessor:
        before = trusted.policy_named(predecessor.statement.policy_hash).policy
        if signed_policy.policy.version < before.version:
            # Officers who have left could otherwise be made to sign a rotation under their old roster.
            raise Untrusted("key names an older policy than its predecessor")
    # Root and officers both. The root alone, in one pair of hands, could give everybody a key of its own; the officers
    # alone could as well, without the ceremony that keeps its private half in the HSM (FAULTS S1).
    by_root = [statement for statement in statements if statement.kid == trusted.root_key.kid]
    if not by_root:
        raise QuorumNotMet("the tenant root has not signed")
    by_root[0].verify(trusted.root_key, purpose=shape.PURPOSE)
    officers = officers_who_signed(
        # The rest must all be officers: the root's own signature never counts as one of them.
        [statement for statement in statements if statement.kid != trusted.root_key.kid],
        signed_policy.policy,
        purpose=shape.PURPOSE,
    )
    if len(officers) < signed_policy.policy.m:
        raise QuorumNotMet("too few officers have signed")
    # Only now: a key that nobody entitled has signed is no evidence of a fork.
    if predecessor and key.predecessor != predecessor.hash:
        raise Forked("key follows another version than the one known")
    return SignedTenantKey(key, statements[0].payload_hash)
