# SPDX-License-Identifier: Apache-2.0
"""A user's account chain: which identity key, devices and archive generations are theirs, entry by entry.

Implements PROTOCOL section 5. Server and client use these same functions; `chain_author` writes entries.
Reads no clock: a chain is held to its own dates, and that these are true when written, the server sees to.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from holdfast.core.base.errors import Forked, HoldfastError, InvalidSignature, Malformed, Untrusted
from holdfast.core.crypto.keys import PublicKey
from holdfast.core.identity.acts import MAX_AGE_SECONDS
from holdfast.core.identity.cases import begins_from, verify_attestations
from holdfast.core.identity.entries import (
    AddDevice,
    ArchiveGeneration,
    Entry,
    Genesis,
    ReGenesis,
    RevokeDevice,
    RotateKey,
    SetRecoveryKey,
    ShareManifest,
)
from holdfast.core.identity.policy import Policy, SignedPolicy, in_force_times
from holdfast.core.signed.cose import Purpose, Sign1

# At once, by PROTOCOL section 5. Everybody who writes to this user seals each message for every device,
# so the number is a cost for others.
MAX_DEVICES: Final = 64
# How long an identity key alone must wait to change a recovery key that is set: time for the owner to notice.
RECOVERY_KEY_DELAY_SECONDS: Final = 7 * 86_400
# How far an entry may be dated before one that it follows. Whoever writes dates no entry before those it follows, also
# when they lie in the future; older writers stood as far apart as an hour behind and five minutes ahead.
BACKWARDS_SECONDS: Final = 3_900


@dataclass(frozen=True)
class ChainPin:
    """What a peer keeps of a chain: the newest entry it has accepted."""

    seq: int
    head: bytes


@dataclass(frozen=True)
class AnnouncedKey:
    """A recovery key that the identity key alone has announced, and the UTC seconds at which it did."""

    key: PublicKey
    at: int

    @property
    def due_at(self) -> int:
        """The UTC seconds from which the same announcement, made again, takes effect."""
        return self.at + RECOVERY_KEY_DELAY_SECONDS


@dataclass(frozen=True)
class ReGenesisMark:
    """The last re-genesis: a peer shows it, closes sessions and asks a human before it trusts again."""

    seq: int
    case_id: bytes
    policy_hash: bytes


@dataclass(frozen=True)
class ChainState:
    """What a verified chain says after its newest entry. Made by verify_chain and extend only.

    devices: id → hash of the device statement, of the devices that are the user's now. hashes: of all
    entries, by seq. former_aiks: keys that may sign no more; what they sign now is a fork. time: UTC seconds, the
    latest date in the chain. announced: a recovery key that still waits.
    """

    tenant: bytes
    user: bytes
    aik: PublicKey
    recovery_key: PublicKey | None
    hashes: tuple[bytes, ...]
    devices: Mapping[bytes, bytes] = field(default_factory=dict)
    revoked: frozenset[bytes] = frozenset()
    generations: tuple[ArchiveGeneration, ...] = ()
    manifest_hash: bytes | None = None
    re_genesis: ReGenesisMark | None = None
    former_aiks: tuple[PublicKey, ...] = ()
    attested_device: bytes | None = None
    is_rotation_due: bool = False
    time: int = 0
    announced: AnnouncedKey | None = None

    @property
    def seq(self) -> int:
        """The number of the newest entry; the first is 0."""
        return len(self.hashes) - 1

    @property
    def head(self) -> bytes:
        """The 32-byte hash of the newest entry."""
        return self.hashes[-1]

    @property
    def pin(self) -> ChainPin:
        """What to keep in order to notice a rollback or a fork later."""
        return ChainPin(self.seq, self.head)


def verify_chain(
    entries: Sequence[Entry],
    *,
    tenant: bytes,
    user: bytes,
    pinned: ChainPin | None = None,
    policies: Sequence[SignedPolicy] = (),
) -> ChainState:
    """Verify a whole chain from its genesis and return what it says.

    pinned: the newest entry this verifier has accepted before. policies: every version the verifier holds, oldest
    first; a re-genesis stands on one of them. Who keeps the state and extends it can ask for more (`extend`).
    Raises Malformed, InvalidSignature, QuorumNotMet; Untrusted for another tenant or user, a gap, a chain shorter
    than pinned, a key, device or date out of place; Forked for two valid entries with one seq.
    """
    if not entries:
        raise Untrusted("chain is empty")
    # The whole chain is verified before it is compared with the pin: a fork is only said of entries that hold.
    state = extend(_begin(entries[0], tenant, user), *entries[1:], policies=policies)
    if pinned is not None:
        # A shorter chain may lack a revocation, so a verifier that has seen more takes no less (FAULTS S10).
        if state.seq < pinned.seq:
            raise Untrusted("chain is shorter than the one seen before")
        # The pin's own place is compared, not the newest: a fork that has grown longer since is still a fork.
        if state.hashes[pinned.seq] != pinned.head:
            raise Forked("chain differs from the one seen before")
    return state


def extend(
    state: ChainState, *entries: Entry, policies: Sequence[SignedPolicy] = (), oldest_policy: int = 0
) -> ChainState:
    """Verify further entries on top of `state`, all of them or none. Raises as verify_chain does.

    oldest_policy: the version in force when the verifier was last told that `state` is the newest there is. A
    re-genesis after that is of a later day, and officers who had left by then cannot begin an account again.
    A revocation must be followed by the rotation in the same call: the revoked device knew the old seed, so
    between the two entries it could still sign.
    """
    for entry in entries:
        # States are values: when a later entry is refused, the caller still holds the state
        # of before, and nothing of the call.
        state = _apply(state, entry, policies, oldest_policy)
    if state.is_rotation_due:
        raise Untrusted("a revocation comes together with a rotation")
    return state


def has_listed(
    entries: Iterable[Entry], device_hash: bytes, *, tenant: bytes, user: bytes, policies: Sequence[SignedPolicy] = ()
) -> bool:
    """Tell whether a user's chain lists a device, or ever did, by the 32-byte hash of its statement.

    entries: from the genesis on. What was appended after the device changes nothing, also where it does not hold.
    """
    state: ChainState | None = None
    try:
        for entry in entries:
            state = _apply(state, entry, policies, 0) if state else _begin(entry, tenant, user)
            if device_hash in state.devices.values():
                return True
    except HoldfastError:
        pass  # what stands before it holds, and has not listed the device
    return False


def state_at(
    entries: Sequence[Entry], head: bytes, *, tenant: bytes, user: bytes, policies: Sequence[SignedPolicy] = ()
) -> ChainState:
    """Return what a chain said when `head` (32 bytes) was its newest entry: what a handshake of that day rests on.

    entries: from the genesis on, at least up to `head`; those after it are not looked at. Raises as verify_chain
    does, and Untrusted when no entry is `head` or when it stands between a revocation and its rotation.
    """
    for count, entry in enumerate(entries, start=1):
        if entry.hash == head:
            return verify_chain(entries[:count], tenant=tenant, user=user, policies=policies)
    raise Untrusted("chain does not contain the head that is named")


def in_force(policies: Sequence[SignedPolicy], now: int) -> int:
    """Return the newest version in force at `now` (UTC seconds) as the statements date themselves; 0 without any.

    policies: every version that stands, oldest first. One that lowers a guard is in force only after the cooling-off.
    """
    times = _times(policies)
    return max((signed.policy.version for signed, at in zip(policies, times, strict=True) if at <= now), default=0)


def _times(policies: Sequence[SignedPolicy]) -> tuple[int, ...]:
    return in_force_times(policies, [signed.policy.header.issued_at for signed in policies])


def _begin(entry: Entry, tenant: bytes, user: bytes) -> ChainState:
    body = entry.body
    if not isinstance(body, Genesis) or entry.seq != 0:
        raise Untrusted("chain does not begin with a genesis")
    _require_account(entry, tenant, user)
    _require_signers(entry, body.aik)
    # Whoever steals the one would have the other, and a rotation by the recovery key would stop no thief.
    if body.recovery_key == body.aik:
        raise Untrusted("recovery key is the identity key")
    return ChainState(tenant, user, body.aik, body.recovery_key, (entry.hash,), time=entry.header.issued_at)


def _require_account(entry: Entry, tenant: bytes, user: bytes) -> None:
    if (entry.header.tenant, entry.header.user) != (tenant, user):
        raise Untrusted("chain entry of another tenant or user")


def _require_signers(entry: Entry, *keys: PublicKey) -> None:
    # Exactly the keys of the type, in order: a further signature would be a signer nobody has judged.
    if len(entry.signatures) != len(keys):
        raise InvalidSignature("chain entry is not signed by the keys its type asks for")
    for statement, key in zip(entry.signatures, keys, strict=True):
        statement.verify(key, purpose=Purpose.CHAIN)


def _holds(statement: Sign1, key: PublicKey) -> bool:
    try:
        statement.verify(key, purpose=Purpose.CHAIN)
    except InvalidSignature:
        return False
    return True


def _require_place(state: ChainState, entry: Entry) -> None:
    """Refuse an entry that does not stand directly on the head, and say whether it is evidence of a fork."""
    # Only an entry out of place is held against the keys in force; in place, the rules of its own type do that.
    in_place = entry.seq == state.seq + 1 and entry.prev == state.head
    # Only what a key of this chain has signed is evidence: anybody could otherwise raise a false alarm.
    first = entry.signatures[0]
    # Former keys count in both cases: the device that was revoked still has them,
    # and this is how its use of them shows.
    known = (*state.former_aiks, *((state.aik, state.recovery_key) if not in_place else ()))
    is_authentic = any(key is not None and _holds(first, key) for key in known)
    if in_place:
        if is_authentic:
            raise Forked("entry signed by a key that has been rotated away")
        return
    # A gap is asked about again and not called a fork: entries may only be missing on the way.
    if entry.seq > state.seq + 1:
        raise Untrusted("chain has a gap")
    if entry.seq <= state.seq and state.hashes[entry.seq] == entry.hash:
        raise Untrusted("chain repeats an entry")
    if is_authentic:
        raise Forked("two valid entries claim one place in the chain")
    raise InvalidSignature("chain entry is not signed by a key of this chain")


def _require_date(state: ChainState, entry: Entry) -> None:
    """Refuse an entry dated before those it follows: a week that must pass could otherwise lie in the past.

    A re-genesis may go back: it is the way out for a chain that a server with a wrong clock let into the future.
    """
    if entry.header.issued_at < state.time - BACKWARDS_SECONDS and not isinstance(entry.body, ReGenesis):
        raise Untrusted("chain entry is dated before the ones it follows")


def _apply(state: ChainState, entry: Entry, policies: Sequence[SignedPolicy], oldest_policy: int) -> ChainState:
    # In this order: whose it is, whether it stands on the head, when it says it was made, and only then what it does.
    # Only the first three are the same for every type.
    _require_account(entry, state.tenant, state.user)
    _require_place(state, entry)
    _require_date(state, entry)
    body = entry.body
    # Nothing comes between: signed by a key that the revoked device still knows, it could be that device's work.
    if state.is_rotation_due and not isinstance(body, (RevokeDevice, RotateKey)):
        raise Untrusted("a revocation comes together with a rotation")
    if isinstance(body, RotateKey):
        state = _rotate(state, entry, body)
    elif isinstance(body, ReGenesis):
        state = _begin_again(state, entry, body, _policy_of(policies, entry, body, oldest_policy))
    elif isinstance(body, SetRecoveryKey):
        state = _set_recovery_key(state, entry, body)
    else:
        _require_signers(entry, state.aik)
        state = _apply_plain(state, body)
    # The latest date and not the newest entry's: dates may go back a little, and waits must not get shorter by it.
    time = max(state.time, entry.header.issued_at)
    return replace(state, hashes=(*state.hashes, entry.hash), time=time)


def _set_recovery_key(state: ChainState, entry: Entry, body: SetRecoveryKey) -> ChainState:
    """Set or announce a recovery key: a thief of a device must not lock the owner's phrase out unnoticed."""
    # A former AIK may be in a thief's hands; as recovery key it would rotate the account away from its owner.
    if body.recovery_key in (state.aik, *state.former_aiks):
        raise Untrusted("recovery key is, or was, the identity key")
    # At once where nobody is locked out: none was set yet, or the old phrase agrees.
    if state.recovery_key is None or len(entry.signatures) > 1:
        _require_signers(entry, state.aik, *((state.recovery_key,) if state.recovery_key else ()))
        return replace(state, recovery_key=body.recovery_key, announced=None)
    _require_signers(entry, state.aik)
    # The way to cancel: it changes nothing but what was announced, so one signature is enough.
    if body.recovery_key == state.recovery_key:
        return replace(state, announced=None)
    # Another key begins to wait anew. Otherwise a harmless announcement could be swapped on the last day.
    if state.announced is None or state.announced.key != body.recovery_key:
        return replace(state, announced=AnnouncedKey(body.recovery_key, entry.header.issued_at))
    # Counted between the dates of two entries of the chain, so that every verifier
    # comes to the same answer at any time.
    if entry.header.issued_at < state.announced.due_at:
        raise Untrusted("the recovery key announced has not waited for seven days")
    return replace(state, recovery_key=body.recovery_key, announced=None)


def _apply_plain(
    state: ChainState, body: Genesis | AddDevice | RevokeDevice | ArchiveGeneration | ShareManifest
) -> ChainState:
    if isinstance(body, AddDevice):
        return _add_device(state, body)
    if isinstance(body, RevokeDevice):
        if body.device not in state.devices:
            raise Untrusted("revokes a device that is not the user's")
        left = {device: known for device, known in state.devices.items() if device != body.device}
        revoked = state.revoked | {body.device}
        # What the revoked device may have announced under the key it knew does not outlive it.
        return replace(state, devices=left, revoked=revoked, is_rotation_due=True, announced=None)
    if isinstance(body, ArchiveGeneration):
        newest = state.generations[-1] if state.generations else None
        if newest and (body.generation <= newest.generation or body.not_before < newest.not_before):
            # The first accepted wins; the other device re-reads the chain and takes the next number.
            raise Untrusted("archive generation is not after the newest")
        return replace(state, generations=(*state.generations, body))
    if isinstance(body, ShareManifest):
        return replace(state, manifest_hash=body.manifest_hash)
    raise Untrusted("a second genesis")


def _add_device(state: ChainState, body: AddDevice) -> ChainState:
    # Once in a lifetime: a device id that comes back would bring a revoked device's sessions and messages with it.
    if body.device in state.devices or body.device in state.revoked:
        raise Untrusted("device has been in this chain before")
    # One statement under two ids would be one set of keys twice, of which only one could be revoked.
    if body.statement_hash in state.devices.values():
        raise Untrusted("device statement is in this chain already")
    if len(state.devices) >= MAX_DEVICES:
        raise Malformed("chain: more than 64 devices")
    if state.attested_device not in (None, body.statement_hash):
        # The officers saw one device; the first one added after them is that one and no other.
        raise Untrusted("first device after a re-genesis is not the attested one")
    return replace(state, devices={**state.devices, body.device: body.statement_hash}, attested_device=None)


def _rotate(state: ChainState, entry: Entry, body: RotateKey) -> ChainState:
    first = entry.signatures[0]
    by = state.aik
    # The `kid` only picks the key to verify under; a wrong one makes the signature fail.
    if state.recovery_key and first.kid == state.recovery_key.kid:
        by = state.recovery_key
    # Back to a used key: whoever has the old seed would be the account again. The recovery key may not become AIK
    # either, since the phrase would then be the device's daily key.
    if body.aik in _used(state):
        raise Untrusted("rotates to a key that this chain has used")
    # Old and new both sign: the old one says who follows, the new one that somebody really has it.
    _require_signers(entry, by, body.aik)
    return replace(
        state,
        aik=body.aik,
        former_aiks=(*state.former_aiks, state.aik),
        is_rotation_due=False,
        # The old recovery key has spoken: whatever would have replaced it is void.
        announced=None if by == state.recovery_key else state.announced,
    )


def _used(state: ChainState) -> tuple[PublicKey | None, ...]:
    """Return the keys that may not become the identity key."""
    return (state.aik, state.recovery_key, state.announced.key if state.announced else None, *state.former_aiks)


def _policy_of(policies: Sequence[SignedPolicy], entry: Entry, body: ReGenesis, oldest: int) -> Policy:
    """Return the policy that a re-genesis names, if the verifier holds it and it was in force."""
    # Only among those verified from the pin: a policy inside the entry would bring officers of its own.
    place = next((at for at, version in enumerate(policies) if version.hash == body.policy_hash), None)
    signed = policies[place] if place is not None else None
    if place is None or signed is None or signed.policy.header.tenant != entry.header.tenant:
        raise Untrusted("re-genesis under a policy that this verifier does not hold")
    # Officers who left with an older version could otherwise begin accounts again for as long as they keep their keys.
    if signed.policy.version < oldest:
        raise Untrusted("re-genesis under a policy that is no longer in force")
    # A lowered guard must not be used while it cools off. The same leeway as for dates: clocks may differ by it.
    times = _times(policies)
    if times[place] > entry.header.issued_at + BACKWARDS_SECONDS:
        raise Untrusted("re-genesis under a policy that was not in force yet")
    # Nor may one that was replaced by then for certain, which a verifier without `oldest` would not know of. A version
    # is published up to MAX_AGE_SECONDS after its date, and its cooling-off runs from then: one that was only signed
    # before would otherwise close, on the day of its publication, accounts that rightly began again.
    longest = max(version.policy.terms.cooling_off_seconds for version in policies)
    certain = entry.header.issued_at - MAX_AGE_SECONDS - longest - BACKWARDS_SECONDS
    if any(at <= certain for at in times[place + 1 :]):
        raise Untrusted("re-genesis under a policy that was no longer in force at its date")
    return signed.policy


def _begin_again(state: ChainState, entry: Entry, body: ReGenesis, policy: Policy) -> ChainState:
    # The new key signs alone: the old one is lost. What it may be is said by the officers below, about this very head.
    _require_signers(entry, body.aik)
    if body.aik in _used(state):
        raise Untrusted("re-genesis to a key that this chain has used")
    said = verify_attestations(body.attestations, policy, user=state.user, old_head=state.head, new_aik=body.aik)
    # The owner's time to object, held to the dates that officers and the new key signed: a server that lets the account
    # begin at once is found out by every reader. The same leeway as for dates.
    if entry.header.issued_at < begins_from(body.attestations, policy) - BACKWARDS_SECONDS:
        raise Untrusted("re-genesis before the policy's delay was over")
    # Nothing that the lost identity vouched for is carried over: devices, recovery key, contacts start anew.
    # Archive generations stay, since they are what the officers release.
    return replace(
        state,
        aik=body.aik,
        recovery_key=None,
        devices={},
        # As revoked, not forgotten: a lost device must not come back under its old id.
        revoked=state.revoked | state.devices.keys(),
        manifest_hash=None,
        # The lost key counts as rotated away: if it signs again, somebody has found it, and that is a fork.
        former_aiks=(*state.former_aiks, state.aik),
        # Not the maximum here: this is the way back for a chain that was dated into the future.
        time=entry.header.issued_at,
        announced=None,
        re_genesis=ReGenesisMark(entry.seq, said.case_id, body.policy_hash),
        attested_device=said.device_hash,
    )
