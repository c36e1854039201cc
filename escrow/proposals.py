# SPDX-License-Identifier: Apache-2.0
"""Policy versions and escrow keys that officers are asked to sign, at different desks. `services` re-exports the verbs.

Implements ESCROW "Policy and officers" and "Keys". A proposal is bytes with the signatures that they
have so far: one that was edited is another proposal. Nothing is believed of it that its signatures do not bear out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import transaction

from audit import services as audit
from escrow import access, coverage, policies
from escrow.access import Place
from escrow.errors import EscrowKeyRefused, NotCounting, PolicyRefused, ProposalOver, ProposalRefused
from escrow.models import EscrowKeyProposal, PolicyProposal
from escrow.states import OfficerState
from holdfast.core.base.encoding import MAX_BLOB
from holdfast.core.base.errors import HoldfastError
from holdfast.core.crypto.keys import SIGNING_KINDS, decode_public_key
from holdfast.core.escrow.sponsors import still_behind
from holdfast.core.identity import policy, trust
from holdfast.core.identity.acts import MAX_AGE_SECONDS
from holdfast.core.identity.policy import Officer, Policy
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.payloads import check_time
from holdfast.core.signed.statements import EscrowKey
from kernel.actors import Actor
from kernel.clock import database_now
from kernel.errors import Denied, LimitReached
from keys import notices
from tenants import access as tenants
from tenants.states import TenantState

# Drafts of one person in 30 days that were not published: terms are worked on, and whoever proposes without end takes
# nobody else's place.
MAX_PROPOSALS: Final = 10
_MONTH: Final = timedelta(seconds=MAX_AGE_SECONDS)
_ANEW: Final = "Propose it anew, over the version of now: holdfast officer policy propose"


@dataclass(frozen=True)
class PolicyProgress:
    """How far a proposed policy is. state: open, published, replaced, expired or withdrawn.

    asked: persons whose signature is asked for. signed: of these, who signed and counts. missing: how many more
    signatures are needed, of the version that lacks the most; 0 of a founding policy that is complete. is_undone:
    whether officers withdrew the version after it was published.
    """

    state: str
    asked: tuple[UUID, ...]
    signed: tuple[UUID, ...]
    missing: int
    is_undone: bool


# A policy.


def propose_policy(*, payload: bytes, actor: Actor) -> PolicyProposal:
    """Take a policy version that officers are then asked to sign, tell them, and log it.

    payload: of a `policy` statement, at most 64 KiB. The same again by anybody changes nothing. Raises PolicyRefused
    for one that could never be published; ProposalOver for one that does not follow the version of now; LimitReached.
    """
    proposer_id = tenants.person_behind(actor)
    if proposer_id is None:
        raise Denied
    with transaction.atomic():
        access.newest_policy_for_update()
        # Before the first policy there is no lock but this: two drafts of one person are counted one after the other.
        tenants.person_for_update(proposer_id)
        now = database_now()
        body, policy_hash = _read_policy(payload, actor)
        known = access.proposal_named(policy_hash)
        if known is not None:
            return known
        _require_founded(body, field="payload")
        place = access.next_place(now)
        if _place_of(body) != place:
            raise ProposalOver(_behind(body, place), field="payload")
        _require_no_removed(body)
        touches = policies.require_publishable(body, policy_hash=policy_hash, now=now)
        _require_room(proposer_id, now)
        row: PolicyProposal = PolicyProposal.objects.create(
            hash=policy_hash,
            payload=payload,
            version=body.version,
            predecessor=body.predecessor,
            held_in_force=body.held_in_force,
            proposer_id=proposer_id,
            touches=touches,
            proposed_at=now,
            ends_at=datetime.fromtimestamp(body.header.issued_at, tz=UTC) + _MONTH,
        )
        audit.append(
            tag="escrow:policy:propose",
            actor=actor,
            subject=str(row.pk),
            body={"hash": policy_hash, "version": body.version},
        )
        asked = [person_id for person_id in _asked(_rosters(body)) if person_id != proposer_id]
        notices.owe(
            person_ids=asked,
            with_mail=asked,
            event="policy-proposed",
            by=str(proposer_id),
            version=str(body.version),
            proposal=policy_hash.hex()[:8],
        )
    return row


def sign_policy(*, proposal_id: UUID, statement: bytes, actor: Actor) -> PolicyProposal:
    """Take one officer's signature on a proposed policy, and publish it once enough have signed who count.

    statement: one Sign1 of `policy`, whose payload is the proposal's. A founding policy is published by the ceremony.
    Sent again, it is counted again. No second version is taken while the tenant is being founded.
    Raises NotFound; ProposalRefused for a signature that does not hold or is not the sender's; NotCounting;
    ProposalOver; PolicyRefused when it cannot be published as things stand: the signature is not kept then.
    """
    with transaction.atomic():
        access.newest_policy_for_update()
        now = database_now()
        row = access.proposal_for_update(proposal_id)
        sign1 = _read_signature(statement, bytes(row.payload))
        body = Policy.from_payload(bytes(row.payload))
        signed = _signatures(row)
        state = _state(row, access.next_place(now), now)
        is_again = any(one.kid == sign1.kid for one in signed)
        if is_again and state == "published":
            return row
        if state != "open":
            raise ProposalOver(_OVER[state])
        _require_founded(body, field="statement")
        rosters = _rosters(body)
        signer = _verify_signer(sign1, [roster for roster, _ in rosters], Purpose.POLICY, actor)
        present = _signing()
        if signer.person not in present:
            raise NotCounting(_WHY_NOT)
        if not is_again:
            signed.append(sign1)
            row.statement = cose.encode_many(signed)
            row.save(update_fields=["statement"])
            audit.append(tag="escrow:policy:sign", actor=actor, subject=str(row.pk), body={"hash": bytes(row.hash)})
        # Counted anew each time, also for one who has signed already: of those who signed, some may have been suspended
        # since, or have returned, and then no new signature has to come.
        counting = _counting(signed, rosters, present)
        if body.version > 1 and not _missing(counting, rosters):
            policies.publish_policy(statement=cose.encode_many(counting), actor=actor)
            row.refresh_from_db()
    return row


def withdraw_policy_proposal(*, proposal_id: UUID, actor: Actor) -> PolicyProposal:
    """Take a proposal back, which its proposer alone can. Raises NotFound, Denied and ProposalOver."""
    with transaction.atomic():
        access.newest_policy_for_update()
        now = database_now()
        row = access.proposal_for_update(proposal_id)
        if row.proposer_id != tenants.person_behind(actor):
            raise Denied("Only whoever proposed it takes it back. You need not sign it.")
        if row.withdrawn_at is None:
            state = _state(row, access.next_place(now), now)
            if state != "open":
                raise ProposalOver(_OVER[state])
            row.withdrawn_at = now
            row.save(update_fields=["withdrawn_at"])
            audit.append(tag="escrow:policy:cancel", actor=actor, subject=str(row.pk), body={"hash": bytes(row.hash)})
    return row


def complete_founding() -> bytes | None:
    """Return the founding policy that all its founders have signed, as the array of their statements; None before."""
    rows, _ = access.proposal_page(access.next_place(now := database_now()), now=now)
    for row, progress in zip(rows, policy_progress(rows), strict=True):
        if row.version == 1 and progress.state == "open" and not progress.missing:
            return bytes(row.statement)
    return None


def policy_progress(rows: Sequence[PolicyProposal]) -> list[PolicyProgress]:
    """Say of each of these proposals how far it is. Four queries, and two for each of them."""
    now = database_now()
    place, present = access.next_place(now), _signing()
    undone = {bytes(row.hash) for row in access.policies() if row.withdrawn_at}
    found = []
    for row in rows:
        rosters = _rosters(Policy.from_payload(bytes(row.payload)))
        signed = _signatures(row)
        is_over = row.published_at is not None
        counting = signed if is_over else _counting(signed, rosters, present)
        known = [next(filter(None, (roster.officer(one.kid) for roster, _ in rosters)), None) for one in counting]
        found.append(
            PolicyProgress(
                state=_state(row, place, now),
                asked=_asked(rosters),
                signed=tuple(UUID(bytes=officer.person) for officer in known if officer),
                missing=0 if is_over else _missing(counting, rosters),
                is_undone=bytes(row.hash) in undone,
            )
        )
    return found


def _read_policy(payload: bytes, actor: Actor) -> tuple[Policy, bytes]:
    try:
        body = Policy.from_payload(payload)
        check_time(body.header, int(database_now().timestamp()))
    except HoldfastError as error:
        raise PolicyRefused(f"Not taken: {error}.", field="payload") from error
    if actor.tenant_id is None or body.header.tenant != actor.tenant_id.bytes:
        raise PolicyRefused("The policy names another tenant.", field="payload")
    return body, Sign1(b"", payload, b"").payload_hash


def _place_of(body: Policy) -> Place:
    return Place(body.version, body.predecessor, body.held_in_force)


def _behind(body: Policy, place: Place) -> str:
    if body.version != place.version or body.predecessor != place.predecessor:
        return f"The next version is number {place.version}, and follows the last one that stands. {_ANEW}"
    return f"It names another version as the one in force than the one that is. {_ANEW}"


_OVER: Final = {
    "published": "The proposal is published already.",
    "replaced": f"Another version was published meanwhile, or has come into force. {_ANEW}",
    "expired": f"The proposal is older than 30 days. {_ANEW}",
    "withdrawn": "Whoever proposed it has taken it back. Ask them for the one that they mean.",
}
_WHY_NOT: Final = (
    "You do not count as an officer now: you are suspended, away or removed, or have not the role of one. "
    "From being away you return by: holdfast officer back."
)


def _signing() -> frozenset[bytes]:
    # Also with keys that were lost: a version with other keys is what ends that, and where too few keep theirs, nobody
    # else could sign it. It is their own device that signs: one that was revoked is not heard any more.
    return coverage.present_officers(OfficerState.ACTIVE, even_with_lost_keys=True)


def _require_founded(body: Policy, *, field: str) -> None:
    # The ceremony has the root sign the first escrow key for version 1, and officers sign a key for the version in
    # force alone: a second version before it would leave the founding without an end.
    if body.version > 1 and tenants.tenant().state == TenantState.FOUNDING:
        raise PolicyRefused(
            "The tenant is still being founded, and has one policy until it works. Sign its escrow key first "
            "(holdfast officer key sign), and have the operator end the founding: ceremony found",
            field=field,
        )


def _require_no_removed(body: Policy) -> None:
    states = access.states_of_officers()
    for officer in body.roster:
        if states.get(UUID(bytes=officer.person)) == OfficerState.REMOVED:
            raise PolicyRefused(f"Officer {officer.index} was removed, and that is for ever.", field="payload")


def _require_room(person_id: UUID, now: datetime) -> None:
    if access.policy_proposals_of(person_id, now - _MONTH) >= MAX_PROPOSALS:
        raise LimitReached(
            f"You have proposed {MAX_PROPOSALS} policies in 30 days that were not published. Have officers sign one, "
            "or have another officer propose this.",
            field="payload",
            limit="policy-proposals",
            most=MAX_PROPOSALS,
        )


def _state(row: PolicyProposal, place: Place, now: datetime) -> str:
    if row.published_at is not None:
        return "published"
    if row.withdrawn_at is not None:
        return "withdrawn"
    if row.ends_at <= now:
        return "expired"
    return "open" if Place(row.version, bytes(row.predecessor), bytes(row.held_in_force)) == place else "replaced"


def _rosters(body: Policy) -> list[tuple[Policy, int]]:
    """Return the versions whose officers are asked, each with how many of them have to sign."""
    if body.version == 1:
        return [(body, body.n)]
    hashes = dict.fromkeys((body.predecessor, body.held_in_force))
    asked = [access.reading(access.policy_named(one)) for one in hashes]
    return [(one, one.m) for one in asked]


def _asked(rosters: Sequence[tuple[Policy, int]]) -> tuple[UUID, ...]:
    return tuple(dict.fromkeys(UUID(bytes=officer.person) for roster, _ in rosters for officer in roster.roster))


def _counting(signed: Sequence[Sign1], rosters: Sequence[tuple[Policy, int]], present: frozenset[bytes]) -> list[Sign1]:
    def signer(one: Sign1) -> Officer | None:
        return next(filter(None, (roster.officer(one.kid) for roster, _ in rosters)), None)

    return [one for one in signed if (officer := signer(one)) is not None and officer.person in present]


def _missing(counting: Sequence[Sign1], rosters: Sequence[tuple[Policy, int]]) -> int:
    kids = {one.kid for one in counting}
    return max(
        max(0, needed - sum(officer.signing_key.kid in kids for officer in roster.roster)) for roster, needed in rosters
    )


def _signatures(row: PolicyProposal | EscrowKeyProposal) -> list[Sign1]:
    return [*cose.parse_many(bytes(row.statement), max_size=MAX_BLOB)] if row.statement else []


def _read_signature(statement: bytes, payload: bytes) -> Sign1:
    try:
        sign1 = Sign1.parse(statement, max_size=2 * MAX_BLOB)
    except HoldfastError as error:
        raise ProposalRefused(f"Not taken: {error}.", field="statement") from error
    # An edited proposal is another one: no signature is carried over from one to the other.
    if sign1.payload != payload:
        raise ProposalRefused("The signature is on another proposal than the one at this address.", field="statement")
    return sign1


def _verify_signer(sign1: Sign1, rosters: Sequence[Policy], purpose: Purpose, actor: Actor) -> Officer:
    try:
        (signer,) = policy.officers_who_signed([sign1], *rosters, purpose=purpose)
    except HoldfastError as error:
        raise ProposalRefused(f"Not taken: {error}.", field="statement") from error
    # Whoever comes by another's unsent signature does not choose the moment at which it counts.
    if actor.person_id is None or signer.person != actor.person_id.bytes:
        raise ProposalRefused("An officer's signature is sent by that officer's own device.", field="statement")
    return signer


# An escrow key.


@dataclass(frozen=True)
class KeyProgress:
    """How far a proposed escrow key is. state: open, published, replaced or expired. signed: persons who count."""

    state: str
    asked: tuple[UUID, ...]
    signed: tuple[UUID, ...]
    missing: int


def propose_escrow_key(*, statement: bytes, cka_id: bytes, actor: Actor) -> EscrowKeyProposal:
    """Take an escrow key that the tenant root has signed, and ask the officers of the policy in force to sign it.

    statement: the array with the root's Sign1 alone. cka_id: 16 bytes that name the private half in the HSM. For the
    ceremony; the same again changes nothing. Raises EscrowKeyRefused; EscrowOff before there is a policy.
    """
    if len(cka_id) != 16:
        raise ValueError("a key in the HSM is named by 16 bytes")
    with transaction.atomic():
        access.newest_policy_for_update()
        now = database_now()
        in_force = access.policy_in_force(now)
        key, sign1 = _read_key(statement)
        known = access.key_proposal_named(sign1.payload_hash)
        if known is not None:
            return known
        stored = access.escrow_keys()
        if (key.version, key.predecessor) != (len(stored) + 1, bytes(stored[-1].hash) if stored else b""):
            raise EscrowKeyRefused("The key does not follow the newest one. Make it anew.", field="statement")
        if key.policy_hash != bytes(in_force.hash):
            raise EscrowKeyRefused("The key names another policy than the one in force.", field="statement")
        row: EscrowKeyProposal = EscrowKeyProposal.objects.create(
            hash=sign1.payload_hash,
            version=key.version,
            policy_hash=key.policy_hash,
            statement=statement,
            cka_id=cka_id,
            proposed_at=now,
            ends_at=now + _MONTH,
        )
        audit.append(
            tag="escrow:key:propose",
            actor=actor,
            subject=str(row.pk),
            body={"version": key.version, "hash": sign1.payload_hash, "cka_id": cka_id},
        )
        asked = _asked([(access.reading(in_force), in_force.m)])
        notices.owe(
            person_ids=asked,
            with_mail=asked,
            event="escrow-key-proposed",
            version=str(key.version),
            proposal=sign1.payload_hash.hex()[:8],
        )
    return row


def sign_escrow_key(*, proposal_id: UUID, statement: bytes, actor: Actor) -> EscrowKeyProposal:
    """Take one officer's signature on a proposed escrow key, and publish the key once m have signed who count.

    statement: one Sign1 of `escrow-key`, whose payload is the proposal's. Raises NotFound; ProposalRefused, NotCounting
    and ProposalOver as `sign_policy` does; EscrowKeyRefused when the key cannot be published.
    """
    with transaction.atomic():
        access.newest_policy_for_update()
        now = database_now()
        row = access.key_proposal_for_update(proposal_id)
        signed = _signatures(row)
        sign1 = _read_signature(statement, signed[0].payload)
        state = _key_state(row, now)
        is_again = any(one.kid == sign1.kid for one in signed)
        if is_again and state == "published":
            return row
        if state != "open":
            raise ProposalOver(_KEY_OVER[state])
        roster = access.reading(access.policy_named(bytes(row.policy_hash)))
        signer = _verify_signer(sign1, [roster], Purpose.ESCROW_KEY, actor)
        present = coverage.present_officers(OfficerState.ACTIVE)
        if signer.person not in present:
            raise NotCounting(_WHY_NOT)
        if not is_again:
            signed.append(sign1)
            row.statement = cose.encode_many(signed)
            row.save(update_fields=["statement"])
            audit.append(tag="escrow:key:sign", actor=actor, subject=str(row.pk), body={"hash": bytes(row.hash)})
        # As of a policy: counted anew, whoever sends.
        counting = _counting(signed, [(roster, roster.m)], present)
        if len(counting) >= roster.m:
            complete = cose.encode_many([signed[0], *counting])
            policies.publish_escrow_key(statement=complete, cka_id=bytes(row.cka_id), actor=actor)
            row.refresh_from_db()
    return row


def key_progress(rows: Sequence[EscrowKeyProposal]) -> list[KeyProgress]:
    """Say of each of these proposals how far it is."""
    now = database_now()
    present = coverage.present_officers(OfficerState.ACTIVE)
    found = []
    for row in rows:
        roster = access.reading(access.policy_named(bytes(row.policy_hash)))
        is_over = row.published_at is not None
        everybody = frozenset(officer.person for officer in roster.roster)
        counting = _counting(_signatures(row), [(roster, roster.m)], everybody if is_over else present)
        known = [roster.officer(one.kid) for one in counting]
        found.append(
            KeyProgress(
                state=_key_state(row, now),
                asked=_asked([(roster, roster.m)]),
                signed=tuple(UUID(bytes=officer.person) for officer in known if officer),
                missing=0 if is_over else max(0, roster.m - len(counting)),
            )
        )
    return found


_KEY_OVER: Final = {
    "published": "The escrow key is published already.",
    "replaced": "Another policy is in force by now, or another key was published. The operator makes the key anew.",
    "expired": "The proposal is older than 30 days. The operator makes the key anew.",
}


def _key_state(row: EscrowKeyProposal, now: datetime) -> str:
    if row.published_at is not None:
        return "published"
    if row.ends_at <= now:
        return "expired"
    is_next = len(access.escrow_keys()) + 1 == row.version
    return "open" if is_next and access.policy_in_force(now).hash == row.policy_hash else "replaced"


def _read_key(statement: bytes) -> tuple[EscrowKey, Sign1]:
    tenant = tenants.tenant()
    root_key = decode_public_key(bytes(tenant.root_key or b""), expect=SIGNING_KINDS)
    try:
        (sign1,) = cose.parse_many(statement)
        sign1.verify(root_key, purpose=Purpose.ESCROW_KEY)
        key = EscrowKey.from_payload(sign1.payload)
        check_time(key.header, int(database_now().timestamp()))
    except HoldfastError as error:
        raise EscrowKeyRefused(f"Not taken: {error}.", field="statement") from error
    if key.header.tenant != tenant.id.bytes:
        raise EscrowKeyRefused("The key is another tenant's.", field="statement")
    if key.algorithm.startswith("oaep-sha1") and not tenant.is_development:
        raise EscrowKeyRefused("oaep-sha1 is for development tenants alone.", field="statement")
    return key, sign1


@dataclass(frozen=True)
class RosterPerson:
    """What the server knows of somebody whom a roster names: since when, and who let them in within 90 days."""

    person_id: UUID
    name: str
    since: datetime
    let_in_by: tuple[UUID, ...]


def roster_people(rows: Sequence[PolicyProposal]) -> dict[UUID, tuple[RosterPerson, ...]]:
    """Return the people of each proposal's roster, by the row's id, in the roster's order. Two queries."""
    rosters = {
        row.pk: [UUID(bytes=officer.person) for officer in Policy.from_payload(bytes(row.payload)).roster]
        for row in rows
    }
    named = {person_id for roster in rosters.values() for person_id in roster}
    people, behind = tenants.people_by_id(named), tenants.sponsors_of(named)
    now = int(database_now().timestamp())

    def known(person_id: UUID) -> RosterPerson:
        person = people[person_id]
        let_in_by = still_behind(behind.get(person_id, {}), now)
        return RosterPerson(person_id, person.name, person.created_at, tuple(sorted(let_in_by)))

    return {pk: tuple(known(one) for one in roster if one in people) for pk, roster in rosters.items()}


def founder_words(policy_hash: bytes, person_id: UUID) -> tuple[str, ...]:
    """Return the eight words that a person's client shows for a policy, to be heard by the operator and the others."""
    tenant = tenants.tenant()
    root_key = decode_public_key(bytes(tenant.root_key or b""), expect=SIGNING_KINDS)
    return trust.founder_words(tenant.id.bytes, root_key, policy_hash, person_id.bytes)
