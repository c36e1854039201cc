# SPDX-License-Identifier: Apache-2.0
"""Publishing policies and escrow keys. `services` re-exports these verbs.

Implements ESCROW "Policy and officers" and "Keys"; FAULTS P6, P8, P15, X8. It makes no signature: people
and the ceremony do, and what is stored here was verified first and is kept as received.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from uuid import UUID

from django.db import transaction

from audit import services as audit
from escrow import access, campaign, coverage
from escrow.errors import EscrowKeyRefused, OfficerNeeded, PolicyInForce, PolicyRefused
from escrow.models import EscrowKey, EscrowKeyProposal, OfficerKeyStatement, Policy, PolicyOfficer, PolicyProposal
from escrow.states import OFFICER, OfficerState
from holdfast.core.base.encoding import MAX_BLOB
from holdfast.core.base.errors import HoldfastError
from holdfast.core.crypto.keys import SIGNING_KINDS, decode_public_key
from holdfast.core.identity import policy, policy_change, trust
from holdfast.core.identity.acts import MAX_AGE_SECONDS
from holdfast.core.identity.officers import OfficerStatement
from holdfast.core.signed import cose
from holdfast.core.signed.payloads import MAX_AHEAD_SECONDS, Header
from kernel.actors import Actor
from kernel.clock import database_now
from kernel.transitions import advance
from keys import notices
from tenants import access as tenants
from tenants.roles import Role

# Types of leaves in the `keys` log (PROTOCOL section 8).
LEAF_ESCROW_KEY = 2
LEAF_POLICY = 3


def publish_policy(*, statement: bytes, actor: Actor) -> Policy:
    """Store the next policy version and log it.

    statement: the array of Sign1 as received, at most 17 signers. Version 1 must be signed by all its founders
    and lead to the tenant's pin; a later one by m officers of the version that it follows and m of the one in force,
    which it names. Raises PolicyRefused.
    """
    # To publish a version we must know, in this order:
    #
    # (1) that those signed it who may, within the last 30 days, and that each officer has the role of one;
    # (2) that the version which it holds to be in force is in force, by the database's clock;
    # (3) that nobody's key is lost by it, but for what it gives up by name.
    with transaction.atomic():
        is_first = access.newest_policy_for_update() is None
        now = database_now()
        try:
            signed = _verify_policy(statement, is_first=is_first)  # (1)
        except HoldfastError as error:
            raise PolicyRefused(str(error), field="statement") from error
        _require_recent(signed.policy, now)
        _require_lasting(signed.policy.header, now, PolicyRefused)
        _require_officers(signed.policy)
        after = access.history((signed, now))
        before = None if is_first else access.history()
        _require_stated(signed.policy, before.newest.policy if before else None)
        if before:
            _require_held(signed.policy, before, now)  # (2)
            _require_nothing_lost(signed.policy, before, after)  # (3)
        row = _store_policy(signed, statement, after=after, now=now)
        PolicyProposal.objects.filter(hash=signed.hash, withdrawn_at=None).update(published_at=now)
        campaign.promise_warnings(row, signed.policy.header, now=now)
        # Founders know what they have signed, and there is nobody else yet.
        if not is_first:
            campaign.promise(row)
        audit.append(
            tag="escrow:policy:publish",
            actor=actor,
            subject=str(row.pk),
            body={"version": row.version, "hash": signed.hash},
        )
        audit.append_key_leaf(type=LEAF_POLICY, seq=row.version, statement_hash=signed.hash)
    return row


def require_publishable(body: policy.Policy, *, policy_hash: bytes, now: datetime) -> int:
    """Refuse, before officers are asked to sign it, a version that could not be published with all their signatures.

    policy_hash: its hash, 32 bytes. Its place is the caller's question. Returns how many deposits it touches, with
    those that it gives up. Raises PolicyRefused, as `publish_policy` does.
    """
    _require_recent(body, now)
    _require_lasting(body.header, now, PolicyRefused)
    _require_officers(body)
    known = access.chronicle()
    if not known.versions:
        _require_stated(body, None)
        return 0
    before = policy.history_of(known.versions, known.published, known.withdrawn)
    _require_stated(body, before.newest.policy)
    after = policy_change.history_with(
        body,
        versions=known.versions,
        published=known.published,
        withdrawn=known.withdrawn,
        policy_hash=policy_hash,
        at=int(now.timestamp()),
    )
    _require_held(body, before, now)
    _require_nothing_lost(body, before, after)
    return coverage.touched_between(before, after)


def _verify_policy(statement: bytes, *, is_first: bool) -> policy.SignedPolicy:
    statements = cose.parse_many(statement, max_size=MAX_BLOB)
    if not is_first:
        trusted = access.trusted_tenant()
        return policy.verify_successor(statements, predecessor=trusted.newest, history=trusted.policies)
    tenant = tenants.tenant()
    return trust.verify_tenant(
        [statements],
        tenant=tenant.id.bytes,
        root_key=decode_public_key(bytes(tenant.root_key or b""), expect=SIGNING_KINDS),
        pin=bytes(tenant.root_pin or b""),
        is_development=tenant.is_development,
    ).newest


def _require_recent(body: policy.Policy, now: datetime) -> None:
    age = int(now.timestamp()) - body.header.issued_at
    # Stops a version that was signed for other circumstances and kept for a better moment.
    if age > MAX_AGE_SECONDS or age < -MAX_AHEAD_SECONDS:
        raise PolicyRefused(
            "The version was signed more than 30 days ago, or is dated ahead. Have it signed anew, and published soon.",
            field="statement",
        )


def _require_lasting(header: Header, now: datetime, refused: type[PolicyRefused | EscrowKeyRefused]) -> None:
    # Nothing can be sealed under what has run out when it comes: a slip of the maker, found before it is in the way.
    if header.expires_at and header.expires_at <= now.timestamp():
        raise refused("It has run out already (field 6). Have it made and signed anew.", field="statement")


def _require_officers(body: policy.Policy) -> None:
    people = tenants.people_by_id(UUID(bytes=officer.person) for officer in body.roster)
    for officer in body.roster:
        person = people.get(UUID(bytes=officer.person))
        if person is None or person.role != Role.OFFICER:
            raise PolicyRefused(f"Officer {officer.index} does not have the role of an officer.", field="statement")


def _require_stated(body: policy.Policy, before: policy.Policy | None) -> None:
    """Hold each row that the version before does not have to what its person's account states of their keys.

    Where the account states any: an installation of before has officers whose accounts have said nothing yet.
    """
    known = {officer.who for officer in before.roster} if before else set()
    lost = access.lost_keys()
    for officer in body.roster:
        person_id = UUID(bytes=officer.person)
        if officer.who in known:
            continue
        _require_unlost(officer, lost)
        row = access.newest_officer_keys(person_id)
        if row is None:
            continue
        if not _states(row, officer):
            raise PolicyRefused(
                f"Row {officer.index} holds other keys than that person's account states. Have it proposed anew with "
                "the keys that they have now.",
                field="statement",
            )
        # Whoever has no way back to their keys would take deposits' shares along with a lost machine.
        if not access.has_two_proven_doors(person_id):
            raise PolicyRefused(
                f"Officer {officer.index} has fewer than two ways back to their keys that were proven. They run: "
                "holdfast officer doors",
                field="statement",
            )


def _states(row: OfficerKeyStatement, officer: policy.Officer) -> bool:
    said = OfficerStatement.from_payload(cose.Sign1.parse(bytes(row.statement)).payload)
    return (said.signing_key, said.sealing_key) == (officer.signing_key, officer.sealing_key)


def _require_unlost(officer: policy.Officer, lost: Mapping[tuple[UUID, bytes], datetime]) -> None:
    """Refuse a new row with keys that its person held already when they lost a device."""
    person_id = UUID(bytes=officer.person)
    at = max((when for (whose, _), when in lost.items() if whose == person_id), default=None)
    # What no policy named yet lay in the same section: whoever has the device has it too.
    stated = access.officer_keys_until(person_id, at) if at else None
    own = {(person_id, officer.signing_key.encoded), (person_id, officer.sealing_key.encoded)}
    if own & lost.keys() or (stated and _states(stated, officer)):
        raise PolicyRefused(
            f"Row {officer.index} holds keys that its person lost with a device. They make others first: holdfast "
            "officer new-keys. Then have it proposed anew.",
            field="statement",
        )


def _require_held(body: policy.Policy, history: policy.History, now: datetime) -> None:
    held = history.in_force(int(now.timestamp()))
    if body.held_in_force != held.hash:
        raise PolicyRefused(
            f"The version names another one as in force than version {held.policy.version}, which is. Have it made "
            "and signed anew.",
            field="statement",
        )


def _require_nothing_lost(body: policy.Policy, before: policy.History, after: policy.History) -> None:
    lost = coverage.lost_between(before, after)
    if lost is None and body.given_up is None:
        return
    if lost is None:
        raise PolicyRefused(
            "The version gives up deposits (field 13), and none would be lost by it.", field="statement"
        )
    # Exactly these: a number that is agreed to in general would be agreed to whatever it has become since.
    if body.given_up != lost.given_up():
        raise PolicyRefused(
            f"Under this version {lost.deposits} deposits of {lost.users} users could be released no more, because too "
            "few of the officers who hold their shares would remain, with the keys that they have. Keep enough of "
            f"them, or name what is given up in field 13: [{lost.deposits}, {lost.root.hex()}].",
            field="statement",
            deposits=lost.deposits,
            users=lost.users,
            root=lost.root.hex(),
        )


def _store_policy(signed: policy.SignedPolicy, statement: bytes, *, after: policy.History, now: datetime) -> Policy:
    body, in_force_from = signed.policy, after.in_force_from[-1]
    row: Policy = Policy.objects.create(
        version=body.version,
        hash=signed.hash,
        statement=statement,
        m=body.m,
        n=body.n,
        published_at=now,
        in_force_from=now if in_force_from <= int(now.timestamp()) else _end(in_force_from),
    )
    # A person's state is the same in every policy that names them, and so in the next.
    states, lost = access.states_of_officers(), access.lost_keys()
    for officer, since in zip(body.roster, after.counts_from[-1], strict=True):
        person_id = UUID(bytes=officer.person)
        PolicyOfficer.objects.create(
            policy=row,
            index=officer.index,
            person_id=person_id,
            signing_key=officer.signing_key.encoded,
            sealing_key=officer.sealing_key.encoded,
            state=states.get(person_id, OfficerState.ACTIVE),
            counts_from=_end(since) if since else None,
            # Either of the two is enough: with one half in somebody's hands the pair is no officer's own.
            keys_lost_at=lost.get((person_id, officer.signing_key.encoded))
            or lost.get((person_id, officer.sealing_key.encoded)),
        )
    return row


def _end(seconds: int) -> datetime:
    # A second later: times are rounded down, and a wait is not to be shortened by that.
    return datetime.fromtimestamp(seconds + 1, tz=UTC)


def withdraw_policy(*, policy_hash: bytes, now: datetime) -> None:
    """Note that officers withdrew a version: it counts nowhere, and neither does what follows it.

    To be called in the transaction that takes their resolution, under the lock of `access.newest_policy_for_update`.
    now: the database's time. Raises NotFound for an unknown version, PolicyInForce for one that is in force.
    """
    row = access.policy_named(policy_hash)
    if row.withdrawn_at is not None:
        return
    seconds = int(now.timestamp())
    before, after = access.history(), access.history(withdrawn={policy_hash: seconds})
    fallen = [
        signed.hash
        for signed, was, will in zip(before.versions, before.in_force_from, after.in_force_from, strict=True)
        if was != will == policy.NEVER
    ]
    if policy_hash not in fallen:
        raise PolicyInForce
    Policy.objects.filter(hash__in=fallen).update(withdrawn_at=now)


def publish_escrow_key(*, statement: bytes, cka_id: bytes, actor: Actor) -> EscrowKey:
    """Store the next escrow-key version and log it.

    statement: signed by the tenant root and m officers of the policy it names. cka_id: 16 bytes that name the
    private half in the HSM, from the ceremony. Raises EscrowKeyRefused.
    """
    if len(cka_id) != 16:
        raise ValueError("a key in the HSM is named by 16 bytes")
    with transaction.atomic():
        access.newest_policy_for_update()
        try:
            stored = [cose.parse_many(bytes(row.statement)) for row in access.escrow_keys()]
            history = [*stored, cose.parse_many(statement)]
            signed = trust.verify_escrow_keys(history, trusted=access.trusted_tenant())[-1]
        except HoldfastError as error:
            raise EscrowKeyRefused(str(error), field="statement") from error
        key = signed.statement
        now = database_now()
        _require_lasting(key.header, now, EscrowKeyRefused)
        row: EscrowKey = EscrowKey.objects.create(
            version=key.version,
            hash=signed.hash,
            statement=statement,
            algorithm=key.algorithm,
            spki=key.key.raw,
            cka_id=cka_id,
            published_at=now,
        )
        campaign.promise_warnings(row, key.header, now=now)
        EscrowKeyProposal.objects.filter(hash=signed.hash).update(published_at=row.published_at)
        audit.append(
            tag="escrow:key:publish",
            actor=actor,
            subject=str(row.pk),
            body={
                "version": row.version,
                "hash": signed.hash,
                "cka_id": cka_id,
                "spki_sha256": hashlib.sha256(key.key.raw).digest(),
            },
        )
        audit.append_key_leaf(type=LEAF_ESCROW_KEY, seq=row.version, statement_hash=signed.hash)
    return row


def require_enough_without(person_id: UUID, *, for_ever: bool) -> None:
    """Raise OfficerNeeded when too few officers would remain for today's deposits without this one.

    for_ever: also when deposits of any age could be released no more.
    """
    left = coverage.releasable_now(excluded=frozenset({person_id}))
    if not left.is_open:
        raise OfficerNeeded(
            f"{len(left.approvers)} officers would remain, and {left.needed} are needed. "
            "Have another officer come back, or publish a policy with another officer first."
        )
    if for_ever:
        _require_nothing_lost_without(person_id)


def _require_nothing_lost_without(person_id: UUID) -> None:
    history = access.history()
    lost = coverage.lost_between(history, history, leaver=person_id)
    if lost is not None:
        raise OfficerNeeded(
            f"{lost.deposits} deposits of {lost.users} users could be released no more, because too few of the "
            "officers who hold their shares would remain. Have their users deposit again under a policy without this "
            "officer, or publish one that names what is given up in its field 13.",
            deposits=lost.deposits,
            users=lost.users,
        )


def suspend_officer(person_id: UUID) -> None:
    """Suspend an officer with the person, or the role, that the tenant has stopped; a resolution alone returns them.

    In the transaction of whoever stopped them: that they are back is nothing that a server's word alone may say.
    """
    access.newest_policy_for_update()
    for place in access.places_of(person_id):
        if OFFICER.allows(place.state, OfficerState.SUSPENDED):
            advance(place, OFFICER, OfficerState.SUSPENDED)
    _end_given(person_id)


def lose_keys(person_id: UUID) -> None:
    """Take an officer out who has lost a device, until a version names other keys than any policy named before.

    In the transaction that revokes the device. What they had approved ends, and all who are concerned are told. Of
    somebody whom no policy names it changes nothing.
    """
    access.newest_policy_for_update()
    now = database_now()
    if not access.places_of(person_id).filter(keys_lost_at=None).update(keys_lost_at=now):
        return
    _end_given(person_id)
    if not access.is_in_office(person_id):
        return
    others = {row.person_id for row in access.officers(access.policy_in_force(now))}
    told = sorted({person_id, *others})
    notices.owe(person_ids=told, with_mail=told, event="officer-keys-lost", by=str(person_id))


def move_officer(person_id: UUID, target: OfficerState) -> None:
    """Move a person to another state in every policy that names them; the caller holds the lock and logs why."""
    for place in access.places_of(person_id):
        if place.state != target:
            advance(place, OFFICER, target)
    if target in (OfficerState.SUSPENDED, OfficerState.REMOVED):
        _end_given(person_id)


# What an app above knows and this one cannot: what an officer gave before they were suspended or removed.
_ends_with_an_office: list[Callable[[UUID], None]] = []


def ends_with_an_office(end: Callable[[UUID], None]) -> None:
    """Say once, at start, what ends when an officer is suspended or removed, in the same transaction."""
    _ends_with_an_office.append(end)


def _end_given(person_id: UUID) -> None:
    for end in _ends_with_an_office:
        end(person_id)
