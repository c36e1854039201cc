# SPDX-License-Identifier: Apache-2.0
"""What officers do outside cases: their standing, and what m of them resolve together. `services` re-exports it.

Implements ESCROW "Policy and officers" and PROTOCOL section 3, `officer-state` and `resolution`. Nobody's standing
changes and nothing passes by a word of the server's own: each act is a statement that was verified and is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from audit import services as audit
from escrow import access, policies
from escrow.errors import (
    EscrowOff,
    NotCounting,
    OfficerMoved,
    OfficerStateRefused,
    ResolutionRefused,
)
from escrow.models import OfficerStatement, Policy, Resolution
from escrow.states import OFFICER, OfficerState
from holdfast.core.base.errors import Expired, HoldfastError
from holdfast.core.identity import acts
from holdfast.core.identity.acts import ABOUT_A_PERSON, MAX_AGE_SECONDS, OWN, Act, Standing
from holdfast.core.identity.policy import Officer, SignedPolicy
from holdfast.core.signed.cose import Sign1, encode_many, parse_many
from holdfast.core.signed.payloads import check_time
from kernel.actors import Actor
from kernel.clock import database_now
from kernel.errors import LimitReached, NotFound, Throttled
from kernel.transitions import advance
from keys import access as keys
from tenants import access as tenants_access
from tenants import services as tenants
from tenants.states import CredentialState

# Proposals of one officer in 30 days that have not passed. Of each officer and not of all together: whoever proposes
# without end takes nobody else's place, and a roster has at most 16.
MAX_PROPOSALS: Final = 5
# How often an officer goes away or comes back in a day: more often than anybody does, and a bound for rows and entries.
MAX_OWN_WORDS: Final = 20
_DAY: Final = timedelta(days=1)
_MONTH: Final = timedelta(seconds=MAX_AGE_SECONDS)

_STATES: Final = {
    Standing.BACK: OfficerState.ACTIVE,
    Standing.AWAY: OfficerState.AWAY,
    Standing.SUSPENDED: OfficerState.SUSPENDED,
    Standing.REMOVED: OfficerState.REMOVED,
}
_TAGS: Final = {
    Standing.BACK: "escrow:officer:return",
    Standing.AWAY: "escrow:officer:leave",
    Standing.SUSPENDED: "escrow:officer:suspend",
    Standing.REMOVED: "escrow:officer:remove",
}
# A suspension is one person's act. It takes no vote on another's return, or whoever suspends first would keep all out.
_VOTING_ON_RETURN: Final = access.DECIDING | {OfficerState.SUSPENDED}


@dataclass(frozen=True)
class Progress:
    """How far a resolution is. state: open, passed, expired, or replaced (by a policy version).

    signers: by index, the officers who signed and count; all who signed, once it passed.
    """

    state: str
    signers: tuple[Officer, ...]
    needed: int


def state_officer(*, statement: bytes, actor: Actor) -> OfficerStatement:
    """Take an officer's signed word on their own standing or another's: keep it, move the officer, log it.

    statement: one Sign1 of `officer-state`, at most 16 KiB. One that was taken before changes nothing. Suspending takes
    effect whatever remains: a thief must not be kept for the sake of a number. Raises EscrowOff; OfficerStateRefused
    for a statement that does not hold; NotCounting for a signer who speaks of another and does not count; OfficerMoved
    for a move that the officer's standing does not allow; OfficerNeeded when too few would remain; Throttled.
    """
    with transaction.atomic():
        now, in_force, signed_policy = _policy_in_force()
        said, signer, sign1 = _read_state(statement, signed_policy, actor, now)
        known = access.officer_statement_named(sign1.payload_hash)
        if known is not None:
            return known
        person_id = UUID(bytes=said.person)
        if said.standing in OWN:
            _require_own_order(said, person_id, now)
        else:
            _require_counting(in_force, signer, now)
        _require_move(in_force, person_id, said.standing)
        if said.standing in (Standing.AWAY, Standing.REMOVED):
            policies.require_enough_without(person_id, for_ever=said.standing is Standing.REMOVED)
        policies.move_officer(person_id, _STATES[said.standing])
        row: OfficerStatement = OfficerStatement.objects.create(
            hash=sign1.payload_hash,
            person_id=person_id,
            signer_id=UUID(bytes=signer.person),
            standing=int(said.standing),
            reason=said.reason,
            statement=statement,
            issued_at=datetime.fromtimestamp(said.header.issued_at, tz=UTC),
            at=now,
        )
        audit.append(
            tag=_TAGS[said.standing],
            actor=actor,
            subject=str(person_id),
            body={"statement": sign1.payload_hash},
        )
    return row


def state_again(*, statement: bytes) -> bool:
    """Put back an officer's statement that a restored database had lost, and the standing that it gave.

    In the transaction that puts its entry back. False, and nothing is changed, when no stored policy names its signer.
    """
    sign1 = Sign1.parse(statement)
    for row in reversed(access.policies()):
        try:
            said, signer = acts.verify_officer_state(sign1, access.trusted_tenant().policy_named(bytes(row.hash)))
        except HoldfastError:
            continue
        person_id, target = UUID(bytes=said.person), _STATES[said.standing]
        if access.officer_statement_named(sign1.payload_hash) is None:
            OfficerStatement.objects.create(
                hash=sign1.payload_hash,
                person_id=person_id,
                signer_id=UUID(bytes=signer.person),
                standing=int(said.standing),
                reason=said.reason,
                statement=statement,
                issued_at=datetime.fromtimestamp(said.header.issued_at, tz=UTC),
                at=timezone.now(),
            )
        for place in access.places_of(person_id):
            if OFFICER.allows(place.state, target):
                advance(place, OFFICER, target)
        return True
    return False


def sign_resolution(*, statement: bytes, actor: Actor) -> Resolution:
    """Take one officer's signature on a resolution, and do what it says once m officers have signed who count.

    statement: one Sign1 of `resolution`, at most 16 KiB. The first one proposes it; the same one again adds nothing.
    Raises EscrowOff; ResolutionRefused for one that does not hold or could not be acted on; NotCounting for an officer
    who does not count; LimitReached for one more proposal than an officer may have open.
    """
    with transaction.atomic():
        now, in_force, signed_policy = _policy_in_force()
        resolution, signer, sign1 = _read_resolution(statement, signed_policy, actor, now)
        row = access.resolution_named(sign1.payload_hash)
        if row is not None and row.passed_at is not None:
            return row
        voters = _voters(in_force, resolution.act, now)
        if UUID(bytes=signer.person) not in voters:
            raise NotCounting(_WHY_NOT)
        if row is None:
            row = _propose(resolution, sign1, in_force, actor, now)
            statements = [sign1]
        else:
            statements = [*parse_many(bytes(row.statement))]
            # By the officer's key: an ECDSA twin of what is there is no second signature (FAULTS P2).
            if all(one.kid != sign1.kid for one in statements):
                statements.append(sign1)
                row.statement = encode_many(statements)
                row.save(update_fields=["statement"])
                _log_signature(row, signer, actor, resolution)
        # Counted anew each time: of those who signed, some may have been suspended since.
        _, signers = acts.read_resolution(statements, signed_policy, at=int(now.timestamp()))
        if sum(UUID(bytes=one.person) in voters for one in signers) >= signed_policy.policy.m:
            _pass(row, resolution, actor, now)
    return row


def progress_of(rows: Sequence[Resolution]) -> list[Progress]:
    """Say of each of these resolutions how far it is. A fixed number of queries, and one for each older policy named.

    Raises EscrowOff.
    """
    now = timezone.now()
    in_force = access.policy_in_force(now)
    votes = {act: _voters(in_force, act, now) for act in {Act(row.act) for row in rows if row.passed_at is None}}
    known = {bytes(in_force.hash): access.reading(in_force)}
    found = []
    for row in rows:
        policy_hash = bytes(row.policy_hash)
        if policy_hash not in known:
            known[policy_hash] = access.reading(access.policy_named(policy_hash))
        policy = known[policy_hash]
        signers = [policy.officer(one.kid) for one in parse_many(bytes(row.statement))]
        counting = [one for one in signers if one and (row.passed_at or UUID(bytes=one.person) in votes[Act(row.act)])]
        found.append(Progress(_state(row, in_force, now), tuple(sorted(counting, key=lambda one: one.index)), policy.m))
    return found


def _state(row: Resolution, in_force: Policy, now: datetime) -> str:
    if row.passed_at is not None:
        return "passed"
    if row.ends_at <= now:
        return "expired"
    return "open" if bytes(row.policy_hash) == bytes(in_force.hash) else "replaced"


def _policy_in_force() -> tuple[datetime, Policy, SignedPolicy]:
    """Lock what changes officers and policies; return the time, and the version in force with its verified form."""
    if access.newest_policy_for_update() is None:
        raise EscrowOff
    now = database_now()
    in_force = access.policy_in_force(now)
    return now, in_force, access.trusted_tenant().policy_named(bytes(in_force.hash))


# Standing.


def _read_state(
    statement: bytes, policy: SignedPolicy, actor: Actor, now: datetime
) -> tuple[acts.OfficerState, Officer, Sign1]:
    try:
        sign1 = Sign1.parse(statement)
        said, signer = acts.verify_officer_state(sign1, policy)
        said.require_told()
        at = int(now.timestamp())
        check_time(said.header, at)
        if said.header.issued_at < at - MAX_AGE_SECONDS:
            raise Expired("the statement is older than 30 days")
    except HoldfastError as error:
        raise OfficerStateRefused(f"Not taken: {error}. Sign it anew.", field="statement") from error
    # Whoever comes by another's unsent statement does not choose the moment at which it counts.
    if actor.person_id is None or signer.person != actor.person_id.bytes:
        raise OfficerStateRefused("An officer's statement is sent by that officer's own device.", field="statement")
    return said, signer, sign1


def _require_own_order(said: acts.OfficerState, person_id: UUID, now: datetime) -> None:
    """Keep a statement that was held back from undoing a later one of the same person's."""
    last = access.own_words(person_id).first()
    if last is not None and said.header.issued_at < int(last.issued_at.timestamp()):
        raise OfficerStateRefused("You have signed a later statement about your standing.", field="statement")
    if access.own_words(person_id, since=now - _DAY).count() >= MAX_OWN_WORDS:
        raise Throttled(
            f"You have gone away and come back {MAX_OWN_WORDS} times in a day. Try again tomorrow.",
            retry_after=int(_DAY.total_seconds()),
        )


def _require_move(in_force: Policy, person_id: UUID, standing: Standing) -> None:
    place = next((one for one in access.officers(in_force) if one.person_id == person_id), None)
    if place is None:
        raise NotFound
    target = _STATES[standing]
    if place.state == target:
        raise OfficerMoved(f"The officer is {target.label.lower()} already.", state=place.state)
    if place.state == OfficerState.REMOVED:
        raise OfficerMoved("The officer was removed, and that is for ever.", state=place.state)
    # A suspended officer would otherwise end the suspension by their own word.
    if place.state == OfficerState.SUSPENDED and standing in OWN:
        raise OfficerMoved(
            "The officer is suspended. Only a resolution of the officers ends that: "
            "holdfast officer resolve return-officer.",
            state=place.state,
        )
    OFFICER.check(place.state, target)


_WHY_NOT: Final = (
    "You do not count as an officer now: you are suspended, away or removed, your cooling-off runs, or you lost a "
    "device with your keys. From being away you return by: holdfast officer back. After a loss: holdfast officer "
    "new-keys."
)


def _require_counting(in_force: Policy, signer: Officer, now: datetime) -> None:
    # Whoever was suspended could otherwise suspend all the others.
    counting = access.eligible(in_force, now=now, excluded=frozenset())
    if signer.person not in {officer.person_id.bytes for officer in counting}:
        raise NotCounting(_WHY_NOT)


# Resolutions.


def _read_resolution(
    statement: bytes, policy: SignedPolicy, actor: Actor, now: datetime
) -> tuple[acts.Resolution, Officer, Sign1]:
    try:
        sign1 = Sign1.parse(statement)
        resolution, signers = acts.read_resolution([sign1], policy, at=int(now.timestamp()))
        check_time(resolution.header, int(now.timestamp()))
    except HoldfastError as error:
        raise ResolutionRefused(f"Not taken: {error}. Propose it anew.", field="statement") from error
    if not signers:
        raise ResolutionRefused("It is about you: your own signature does not count.", field="statement")
    (signer,) = signers
    if actor.person_id is None or signer.person != actor.person_id.bytes:
        raise ResolutionRefused("An officer's signature is sent by that officer's own device.", field="statement")
    return resolution, signer, sign1


def _voters(in_force: Policy, act: Act, now: datetime) -> frozenset[UUID]:
    states = _VOTING_ON_RETURN if act is Act.RETURN_OFFICER else access.DECIDING
    return frozenset(
        officer.person_id for officer in access.eligible(in_force, now=now, excluded=frozenset(), states=states)
    )


def _propose(resolution: acts.Resolution, sign1: Sign1, in_force: Policy, actor: Actor, now: datetime) -> Resolution:
    _require_sense(resolution, in_force, now)
    assert actor.person_id is not None
    if access.proposals_of(actor.person_id, now - _MONTH) >= MAX_PROPOSALS:
        raise LimitReached(
            f"You have proposed {MAX_PROPOSALS} resolutions in 30 days that have not passed. Have officers sign one, "
            "or have another officer propose this.",
            field="statement",
            limit="resolutions",
            most=MAX_PROPOSALS,
        )
    row = _row_of(resolution, [sign1], actor.person_id, now)
    audit.append(
        tag="escrow:resolution:propose",
        actor=actor,
        subject=_subject(resolution),
        body={"act": int(resolution.act), "hash": sign1.payload_hash, "policy": resolution.policy_hash},
    )
    signer = access.reading(in_force).officer(sign1.kid)
    assert signer is not None
    _log_signature(row, signer, actor, resolution)
    return row


def _row_of(resolution: acts.Resolution, statements: Sequence[Sign1], proposer_id: UUID, now: datetime) -> Resolution:
    row: Resolution = Resolution.objects.create(
        hash=statements[0].payload_hash,
        act=int(resolution.act),
        policy_hash=resolution.policy_hash,
        statement=encode_many(statements),
        proposer_id=proposer_id,
        proposed_at=now,
        ends_at=datetime.fromtimestamp(resolution.header.issued_at, tz=UTC) + _MONTH,
        device_id=UUID(bytes=resolution.device) if resolution.act is Act.SUSPEND_DEVICE else None,
    )
    return row


def _require_sense(resolution: acts.Resolution, in_force: Policy, now: datetime) -> None:
    """Refuse what could never be acted on, before officers are asked to sign it."""
    if resolution.act is Act.WITHDRAW_VERSION:
        row = next((one for one in access.policies() if bytes(one.hash) == resolution.hash), None)
        if row is None or row.version != resolution.version:
            raise ResolutionRefused("It names a policy version that was not published.", field="statement")
        if row.in_force_from <= now:
            raise ResolutionRefused("That version is in force: publish another that follows it.", field="statement")
    if resolution.act is Act.RETURN_OFFICER:
        places = {one.person_id.bytes: one.state for one in access.officers(in_force)}
        # Also one who stands as active here: for the release process, by its own time, they may be suspended.
        if places.get(resolution.person, OfficerState.REMOVED) == OfficerState.REMOVED:
            raise ResolutionRefused("It returns nobody who is an officer now.", field="statement")
        # Officers can say that a person is to be trusted again, and not that nobody else has their keys.
        if UUID(bytes=resolution.person) in access.with_lost_keys(now):
            raise ResolutionRefused(
                "The officer lost a device that may have led to their keys, so no resolution returns them: a policy "
                "with other keys does. They make those by: holdfast officer new-keys. Then have a version proposed "
                "with them: holdfast officer policy propose --add PERSON.",
                field="statement",
            )
    if resolution.act is Act.SUSPEND_DEVICE:
        listed = keys.active_devices(UUID(bytes=resolution.person))
        if all(device.id.bytes != resolution.device for device in listed):
            raise ResolutionRefused("It suspends no device that its person's account lists now.", field="statement")


def _pass(row: Resolution, resolution: acts.Resolution, actor: Actor, now: datetime) -> None:
    _require_sense(resolution, access.policy_in_force(now), now)
    row.passed_at = now
    row.save(update_fields=["passed_at"])
    # The log's own acts are the release process's: it finds the resolution by its hash.
    if resolution.act in _EFFECTS:
        _EFFECTS[resolution.act](resolution, actor, now)
    audit.append(
        tag="escrow:resolution:pass",
        actor=actor,
        subject=_subject(resolution),
        body={"act": int(resolution.act), "hash": bytes(row.hash)},
    )


def _return(resolution: acts.Resolution, actor: Actor, now: datetime) -> None:
    person_id = UUID(bytes=resolution.person)
    if access.places_of(person_id).filter(state=OfficerState.SUSPENDED).exists():
        policies.move_officer(person_id, OfficerState.ACTIVE)


def _withdraw(resolution: acts.Resolution, actor: Actor, now: datetime) -> None:
    policies.withdraw_policy(policy_hash=resolution.hash, now=now)


def _suspend_device(resolution: acts.Resolution, actor: Actor, now: datetime) -> None:
    device_id = UUID(bytes=resolution.device)
    # One that a single person suspended before stays so; from now on m officers have.
    if tenants_access.credential_state(device_id) == CredentialState.ACTIVE:
        tenants.suspend_credential(credential_id=device_id, actor=actor)


_EFFECTS: Final[dict[Act, Callable[[acts.Resolution, Actor, datetime], None]]] = {
    Act.WITHDRAW_VERSION: _withdraw,
    Act.RETURN_OFFICER: _return,
    Act.SUSPEND_DEVICE: _suspend_device,
}


def resolve_again(*, statement: bytes) -> bool:
    """Put back a passed resolution that suspends a device and that a restored database had lost.

    statement: the array of its signers' statements. In the transaction that puts its entry back; the suspension of the
    device has an entry of its own. False, and nothing is changed, when it does not hold under any stored policy, or is
    older than 30 days: the release process would not believe it anew, and officers pass another.
    """
    now, statements = database_now(), parse_many(statement)
    try:
        resolution = acts.Resolution.from_payload(statements[0].payload)
        policy = access.trusted_tenant().policy_named(resolution.policy_hash)
        acts.verify_resolution(statements, policy, at=int(now.timestamp()))
    except HoldfastError:
        return False
    if resolution.act is not Act.SUSPEND_DEVICE:
        return False
    row = access.resolution_named(statements[0].payload_hash)
    if row is None:
        signer = policy.policy.officer(statements[0].kid)
        assert signer is not None
        row = _row_of(resolution, statements, UUID(bytes=signer.person), now)
    if row.passed_at is None:
        row.statement, row.passed_at = statement, now
        row.save(update_fields=["statement", "passed_at"])
    return True


def _log_signature(row: Resolution, signer: Officer, actor: Actor, resolution: acts.Resolution) -> None:
    audit.append(
        tag="escrow:resolution:sign",
        actor=actor,
        subject=_subject(resolution),
        body={"hash": bytes(row.hash), "index": signer.index},
    )


def _subject(resolution: acts.Resolution) -> str:
    """Return whom a resolution is about, if it is about a person."""
    return str(UUID(bytes=resolution.person)) if resolution.act in ABOUT_A_PERSON else ""
