# SPDX-License-Identifier: Apache-2.0
"""Fetching what is in custody: policies, officers, escrow keys, deposits, for those who may see them.

Implements ESCROW "Policy and officers" and ORGANISATION "Tenants". It writes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final
from uuid import UUID

from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Subquery

from escrow.errors import EscrowOff
from escrow.models import (
    Consent,
    Deposit,
    EscrowKey,
    EscrowKeyProposal,
    OfficerKeyStatement,
    OfficerStatement,
    Policy,
    PolicyOfficer,
    PolicyProposal,
    Receipt,
    Resolution,
)
from escrow.states import OfficerState
from holdfast.core.base.encoding import MAX_BLOB
from holdfast.core.crypto.keys import SIGNING_KINDS, decode_public_key
from holdfast.core.escrow.deposit import DepositHeader
from holdfast.core.identity import policy as core_policy
from holdfast.core.identity import trust
from holdfast.core.identity.acts import Act
from holdfast.core.signed import cose
from holdfast.core.signed import statements as signed_statements
from kernel import statements
from kernel.actors import Actor
from kernel.clock import SKEW, database_now
from kernel.errors import NotFound
from kernel.paging import page, page_in_parts, page_of_octets
from kernel.rows import Rows
from kernel.scope import current_tenant
from keys import access as keys
from tenants import access as tenants
from tenants.roles import Role
from tenants.states import PersonState

DECIDING: Final = frozenset({OfficerState.ACTIVE})
# Ways back to an officer's keys: one is lost with the paper that it is on.
DOORS: Final = 2


@dataclass(frozen=True)
class Chronicle:
    """What `history_of` takes: every version, oldest first, when each was published, and withdrawn, in UTC seconds."""

    versions: list[core_policy.SignedPolicy]
    published: list[int]
    withdrawn: dict[bytes, int]


@dataclass(frozen=True)
class Place:
    """Where the next version of the policy stands: its number, and the hashes that its fields 11 and 12 have to be."""

    version: int
    predecessor: bytes
    held_in_force: bytes


def policies() -> list[Policy]:
    """List every version of the policy, oldest first."""
    return list(Policy.objects.order_by("version"))


def policy_page(after: int) -> tuple[list[Policy], bool]:
    """Return versions above `after`, oldest first, and whether there are more than one answer has room for."""
    return page_of_octets(Policy.objects.filter(version__gt=after).order_by("version"), lambda row: len(row.statement))


def newest_policy() -> Policy:
    """Return the highest version that stands, which new statements name. Raises EscrowOff when there is none."""
    row: Policy | None = Policy.objects.filter(withdrawn_at=None).order_by("-version").first()
    if row is None:
        raise EscrowOff
    return row


def policy_in_force(now: datetime) -> Policy:
    """Return the highest version whose time has come: a newer one that lowers a guard is still cooling off.

    Raises EscrowOff when there is none.
    """
    standing = Policy.objects.filter(in_force_from__lte=now, withdrawn_at=None)
    row: Policy | None = standing.order_by("-version").first()
    if row is None:
        raise EscrowOff
    return row


def policy_named(policy_hash: bytes) -> Policy:
    """Return the version with this hash. Raises NotFound."""
    row: Policy | None = Policy.objects.filter(hash=policy_hash).first()
    if row is None:
        raise NotFound
    return row


_STANDING: Final = (
    f"SELECT id FROM {Policy._meta.db_table} WHERE tenant_id = %s AND in_force_from <= %s"  # noqa: S608 — our own table's name
    " AND withdrawn_at IS NULL ORDER BY version DESC LIMIT 1"
)
_NAMED_AND_STANDING: Final = Rows(Policy, f"hash IN (%s) OR id = ({_STANDING})", order="version DESC")


def policies_named(policy_hashes: Collection[bytes], now: datetime) -> tuple[dict[bytes, Policy], Policy]:
    """Return the versions with these hashes, by hash, and the one in force, as `policy_in_force` does. One query.

    Raises NotFound when one of them is missing, EscrowOff when none is in force.
    """
    rows = _NAMED_AND_STANDING.read(list(policy_hashes), current_tenant(), now)
    named = {bytes(row.hash): row for row in rows}
    if not named.keys() >= set(policy_hashes):
        raise NotFound
    in_force = next((row for row in rows if row.in_force_from <= now and row.withdrawn_at is None), None)
    if in_force is None:
        raise EscrowOff
    return named, in_force


def policy_statement(policy_hash: bytes) -> bytes | None:
    """Return the statements of the version with this hash as they were received, if it is stored."""
    row: Policy | None = Policy.objects.filter(hash=policy_hash).first()
    return bytes(row.statement) if row else None


def escrow_key_statement(key_hash: bytes) -> bytes | None:
    """Return the statements of the escrow key with this hash as they were received, if it is stored."""
    row: EscrowKey | None = EscrowKey.objects.filter(hash=key_hash).first()
    return bytes(row.statement) if row else None


_FOUNDING: Final = Rows(Policy, "version = 1", locks=True)


def lock_policies() -> bool:
    """Lock the tenant's policies until the transaction ends: what changes officers or policies holds this lock.

    False when there is none to be locked.
    """
    # The founding row is the lock, since it is the same for all. Whoever waited for the highest one would be given that
    # row when the wait is over, which by then is the second highest: PostgreSQL looks at the row again, not for others.
    return bool(_FOUNDING.read())


def newest_policy_for_update() -> Policy | None:
    """Lock the tenant's policies and return the highest version that stands."""
    if not lock_policies():
        return None
    return Policy.objects.filter(withdrawn_at=None).order_by("-version").first()


def trusted_tenant() -> trust.TrustedTenant:
    """Follow the stored policies from the tenant's pin, checking every signature.

    Raises EscrowOff when there is no policy yet, and the core's refusals when a row is not what was signed.
    """
    tenant = tenants.tenant()
    rows = policies()
    history = [cose.parse_many(bytes(row.statement), max_size=MAX_BLOB) for row in rows]
    if not history:
        raise EscrowOff
    return trust.verify_tenant(
        history,
        tenant=tenant.id.bytes,
        root_key=decode_public_key(bytes(tenant.root_key or b""), expect=SIGNING_KINDS),
        pin=bytes(tenant.root_pin or b""),
        is_development=tenant.is_development,
        # What is stored was judged by the rules of its day. A new version goes through `publish_policy`.
        early=len(history),
        withdrawn=[bytes(row.hash) for row in rows if row.withdrawn_at],
    )


def history(
    *added: tuple[core_policy.SignedPolicy, datetime], withdrawn: Mapping[bytes, int] | None = None
) -> core_policy.History:
    """Return every stored version with its times, and after them those added, as if published at those times.

    withdrawn: as if these were withdrawn as well, at these times (UTC seconds). One query. The signatures were checked
    when each was stored.
    """
    return history_of(policies(), *added, withdrawn=withdrawn)


def history_of(
    rows: Sequence[Policy],
    *added: tuple[core_policy.SignedPolicy, datetime],
    withdrawn: Mapping[bytes, int] | None = None,
) -> core_policy.History:
    """Return what `history` does, of the rows of every stored version, oldest first."""
    known = _chronicle(rows)
    return core_policy.history_of(
        [*known.versions, *(signed for signed, _ in added)],
        [*known.published, *(_seconds(at) for _, at in added)],
        known.withdrawn | dict(withdrawn or {}),
    )


def chronicle() -> Chronicle:
    """Return every stored version with when it was published and withdrawn. One query."""
    return _chronicle(policies())


def _chronicle(rows: Sequence[Policy]) -> Chronicle:
    return Chronicle(
        [signed_reading(row) for row in rows],
        [_seconds(row.published_at) for row in rows],
        {bytes(row.hash): _seconds(row.withdrawn_at) for row in rows if row.withdrawn_at},
    )


def _seconds(at: datetime) -> int:
    return int(at.timestamp())


def escrow_keys() -> list[EscrowKey]:
    """List every version of the escrow key, oldest first."""
    return list(EscrowKey.objects.order_by("version"))


def escrow_key_page(after: int) -> tuple[list[EscrowKey], bool]:
    """Return versions above `after`, oldest first, and whether there are more than one answer has room for."""
    rows = EscrowKey.objects.filter(version__gt=after).order_by("version")
    return page_of_octets(rows, lambda row: len(row.statement))


def escrow_key_in_force() -> EscrowKey:
    """Return the key that new deposits are made to. Raises EscrowOff when there is none."""
    row: EscrowKey | None = EscrowKey.objects.order_by("-version").first()
    if row is None:
        raise EscrowOff
    return row


_KEY_NAMED: Final = Rows(EscrowKey, "hash = %s")


def escrow_key_named(key_hash: bytes) -> EscrowKey:
    """Return the version with this hash. Raises NotFound."""
    row = _KEY_NAMED.first(key_hash)
    if row is None:
        raise NotFound
    return row


def endings(policy: Policy, key: EscrowKey | None, now: datetime) -> list[trust.Ending]:
    """Return what of a policy and an escrow key runs out within 30 days, or has."""
    headers = {"escrow policy": reading(policy).header}
    if key is not None:
        signed = cose.parse_many(bytes(key.statement), max_size=MAX_BLOB)
        headers["escrow key"] = signed_statements.EscrowKey.from_payload(signed[0].payload).header
    found = (trust.find_ending(what, header, _seconds(now)) for what, header in headers.items())
    return [ending for ending in found if ending]


def newest_endings(now: datetime) -> list[trust.Ending]:
    """Return what of the newest policy and escrow key runs out within 30 days, or has. Two queries."""
    keys = escrow_keys()
    return endings(newest_policy(), keys[-1] if keys else None, now)


def officers(policy: Policy) -> list[PolicyOfficer]:
    """List one policy's roster by index."""
    return list(PolicyOfficer.objects.filter(policy=policy).order_by("index"))


def reading(row: Policy) -> core_policy.Policy:
    """Return what a stored policy says. Its signatures were checked when it was stored."""
    return signed_reading(row).policy


def signed_reading(row: Policy) -> core_policy.SignedPolicy:
    """Return a stored policy with its hash and who signed it. Its signatures were checked when it was stored."""
    return _read(bytes(row.statement))


@lru_cache(maxsize=32)
def _read(statement: bytes) -> core_policy.SignedPolicy:
    # What the same bytes say is the same for ever, and one case asks for it a dozen times.
    statements = cose.parse_many(statement, max_size=MAX_BLOB)
    read = core_policy.Policy.from_payload(statements[0].payload)
    signers = frozenset(statement.kid for statement in statements)
    return core_policy.SignedPolicy(read, statements[0].payload_hash, signers)


def states_of_officers() -> dict[UUID, OfficerState]:
    """Return each person's state as an officer, whom any policy names: it is the same in all of them."""
    rows = PolicyOfficer.objects.values_list("person_id", "state").distinct()
    return {person_id: OfficerState(state) for person_id, state in rows}


def lost_keys() -> dict[tuple[UUID, bytes], datetime]:
    """Return, by person and encoded key, which of officers' keys were lost with a device, and when."""
    rows = PolicyOfficer.objects.exclude(keys_lost_at=None)
    return {(row.person_id, bytes(key)): row.keys_lost_at for row in rows for key in (row.signing_key, row.sealing_key)}


def with_lost_keys(now: datetime) -> frozenset[UUID]:
    """Return whose keys in the policy in force were lost with a device, and count for nothing. One query."""
    standing = Policy.objects.filter(in_force_from__lte=now, withdrawn_at=None).order_by("-version")
    rows = PolicyOfficer.objects.filter(policy=Subquery(standing.values("pk")[:1])).exclude(keys_lost_at=None)
    return frozenset(rows.values_list("person_id", flat=True))


def places_of(person_id: UUID) -> QuerySet[PolicyOfficer]:
    """Return every place that one person holds, over all policies, locked for a change of state."""
    return PolicyOfficer.objects.select_for_update().filter(person_id=person_id).order_by("id")


# The places of two policies that the tenant's active officers hold.
_ACTIVE_PLACES: Final = Rows(
    PolicyOfficer,
    f"policy_id IN (%s, %s) AND person_id IN (SELECT id FROM {tenants.PERSON_TABLE}"  # noqa: S608 — our own table's name
    f" WHERE tenant_id = %s AND {tenants.ACTIVE_OFFICER})",
    order='"index"',
)


def eligible(
    policy: Policy,
    *,
    now: datetime,
    excluded: frozenset[UUID],
    states: frozenset[OfficerState] = DECIDING,
    in_force: Policy | None = None,
) -> list[PolicyOfficer]:
    """List the officers of `policy` who may decide: active, past their cooling-off, and not excluded.

    Default-deny: a state that is not among `states`, unless told otherwise `active` alone, counts for nothing
    (FAULTS P9), and neither do keys that were lost with a device. Persons, not accounts, are excluded (FAULTS P1). The
    tenant's own word on the person counts as well. Of another version than the one in force, those count who are in
    that one too, with the same keys: whoever is taken off goes when it is in force, not before. in_force: that version,
    if the caller has it.
    """
    in_force = in_force or policy_in_force(now)
    places = _ACTIVE_PLACES.read(policy.pk, in_force.pk, current_tenant())
    roster, counting = ([one for one in places if one.policy_id == row.pk] for row in (policy, in_force))
    active = {officer.person_id for officer in places}
    found = deciding_of(roster, in_force=counting, active=active, now=now, states=states)
    return [officer for officer in found if officer.person_id not in excluded]


def deciding_of(
    roster: Iterable[PolicyOfficer],
    *,
    in_force: Iterable[PolicyOfficer],
    active: Collection[UUID],
    now: datetime,
    states: Collection[OfficerState] = DECIDING,
) -> list[PolicyOfficer]:
    """Return those of a roster who may decide, as `eligible` has it, with nobody excluded.

    in_force: the roster of the version in force. active: the tenant's active officers.
    """
    counting = {
        _who(officer)
        for officer in in_force
        if officer.keys_lost_at is None and (officer.counts_from is None or officer.counts_from <= now)
    }
    return [
        officer
        for officer in roster
        if officer.state in states and _who(officer) in counting and officer.person_id in active
    ]


_IN_FORCE_SINCE: Final = Rows(Policy, "withdrawn_at IS NULL AND in_force_from > %s AND in_force_from <= %s")


# For statements of other apps' own that read which policy a deposit was made under.
DEPOSIT_TABLE: Final = Deposit._meta.db_table


def has_changed(*, since: datetime, now: datetime) -> bool:
    """Tell whether a version of the policy came into force after one moment and by another."""
    return bool(_IN_FORCE_SINCE.read(since, now))


def left_since(acted: Mapping[UUID, datetime], policy_hash: bytes, now: datetime) -> set[UUID]:
    """Return those whom a version in force since they acted, each at their own moment, did not name with the same keys.

    acted: persons of the roster of the version with this hash, with the keys that they have there. One query.
    """
    rows = policies()
    return left_of(acted, policy_hash, rows, history_of(rows), now)


def left_of(
    acted: Mapping[UUID, datetime],
    policy_hash: bytes,
    rows: Sequence[Policy],
    versions: core_policy.History,
    now: datetime,
) -> set[UUID]:
    """Return as `left_since` does who left. rows: every stored version, oldest first; versions: `history_of` them."""
    published = [row.published_at for row in rows]
    (named,) = (signed.policy for signed in versions.versions if signed.hash == policy_hash)
    return {
        person_id
        for officer in named.roster
        if (at := acted.get(person_id := UUID(bytes=officer.person))) is not None
        and versions.has_left(officer, since=_seconds(at), known=sum(one <= at for one in published), at=_seconds(now))
    }


def _who(officer: PolicyOfficer) -> tuple[UUID, bytes, bytes]:
    return officer.person_id, bytes(officer.signing_key), bytes(officer.sealing_key)


def officer_statement(statement_hash: bytes) -> bytes | None:
    """Return what an officer signed about a standing by its hash: one Sign1 as received. None when there is none."""
    row = officer_statement_named(statement_hash)
    return bytes(row.statement) if row else None


def officer_statement_named(statement_hash: bytes) -> OfficerStatement | None:
    """Return the row of a statement about an officer's standing, if it was taken."""
    return OfficerStatement.objects.filter(hash=statement_hash).first()


def officer_keys_named(statement_hash: bytes) -> OfficerKeyStatement | None:
    """Return the row of a statement about an officer's keys, if it was taken."""
    return OfficerKeyStatement.objects.filter(hash=statement_hash).first()


def newest_officer_keys(person_id: UUID) -> OfficerKeyStatement | None:
    """Return what a person's account said last of their keys as an officer, if it ever did."""
    return OfficerKeyStatement.objects.filter(person_id=person_id).order_by("-at", "-pk").first()


def officer_keys_until(person_id: UUID, at: datetime) -> OfficerKeyStatement | None:
    """Return what a person's account had said last of their keys as an officer by then, if it ever had."""
    return OfficerKeyStatement.objects.filter(person_id=person_id, at__lte=at).order_by("-at", "-pk").first()


def officer_keys_since(person_id: UUID, since: datetime) -> int:
    """Count what a person's account has said of their keys as an officer since then."""
    return int(OfficerKeyStatement.objects.filter(person_id=person_id, at__gt=since).count())


def officer_keys_page(person_id: UUID | None, *, after: UUID | None) -> tuple[list[OfficerKeyStatement], bool]:
    """Return a page of what accounts said of their people's keys as officers, of one person if given; newest first.

    Raises NotFound for an `after` that is not among them.
    """
    rows = OfficerKeyStatement.objects.all()
    if person_id is not None:
        rows = rows.filter(person_id=person_id)
    return page(rows, ("-at", "id"), after=after)


def has_two_proven_doors(person_id: UUID) -> bool:
    """Tell whether a person has shown that two doors open their officers' section, and what it holds now.

    Asked when keys are stated and when a roster is published. That a door lapses later takes nobody out of office.
    """
    return len(keys.proven_doors(person_id)) >= DOORS


def is_in_office(person_id: UUID) -> bool:
    """Tell whether the policy in force, or one that waits to be, names a person as an officer who was not removed."""
    try:
        in_force = policy_in_force(database_now())
    except EscrowOff:
        return False
    places = PolicyOfficer.objects.filter(
        policy__version__gte=in_force.version, policy__withdrawn_at=None, person_id=person_id
    )
    return bool(places.exclude(state=OfficerState.REMOVED).exists())


def keeps_doors(person_id: UUID) -> bool:
    """Tell whether a person in office must keep the section that their doors open: not once its keys were lost.

    Whoever lost a device with them makes others, under another key of the section and behind doors set anew.
    """
    kept = PolicyOfficer.objects.filter(person_id=person_id, keys_lost_at=None)
    return is_in_office(person_id) and bool(kept.exists())


def own_words(person_id: UUID, since: datetime | None = None) -> QuerySet[OfficerStatement]:
    """Return what an officer said of their own standing, newest first; `since`: what was taken after that."""
    rows = OfficerStatement.objects.filter(person_id=person_id, signer_id=person_id).order_by("-at", "-pk")
    return rows.filter(at__gt=since) if since else rows


def last_words(person_ids: list[UUID]) -> dict[UUID, OfficerStatement]:
    """Return the newest statement about each of these people of whom there is one. One query."""
    of_person = OfficerStatement.objects.filter(person_id=OuterRef("person_id")).order_by("-at", "-pk")
    rows = OfficerStatement.objects.filter(person_id__in=person_ids, pk=Subquery(of_person.values("pk")[:1]))
    return {row.person_id: row for row in rows}


def resolution_statement(resolution_hash: bytes) -> bytes | None:
    """Return a resolution by its hash: the array of its signers' statements so far. None when there is none."""
    row = resolution_named(resolution_hash)
    return bytes(row.statement) if row else None


def resolution_named(resolution_hash: bytes) -> Resolution | None:
    """Return the row of a resolution, if it was proposed."""
    return Resolution.objects.filter(hash=resolution_hash).first()


def is_suspended_by_officers(device_id: UUID) -> bool:
    """Tell whether a resolution of m officers has suspended a device."""
    rows = Resolution.objects.filter(device_id=device_id, act=Act.SUSPEND_DEVICE, passed_at__isnull=False)
    return bool(rows.exists())


def resolutions() -> list[Resolution]:
    """List the resolutions that passed, oldest first."""
    return list(Resolution.objects.filter(passed_at__isnull=False).order_by("passed_at", "pk"))


def stage_of_acceptance(since: datetime) -> str:
    """Say how far the officers are who accept a backup that was found at a moment: "", `proposed` or `passed`.

    By the rows, for people. Two queries at most.
    """
    rows = Resolution.objects.filter(act=int(Act.ACCEPT_LOG), proposed_at__gte=since - SKEW)
    if rows.filter(passed_at__isnull=False).exists():
        return "passed"
    return "proposed" if rows.exists() else ""


def withdrawals() -> list[bytes]:
    """Return the resolutions that withdrew a policy version, oldest first, each as the array of its statements."""
    rows = Resolution.objects.filter(act=int(Act.WITHDRAW_VERSION), passed_at__isnull=False)
    return [bytes(row.statement) for row in rows.order_by("passed_at", "pk")]


def proposals_of(person_id: UUID, since: datetime) -> int:
    """Count what a person proposed after a moment and what has not passed."""
    rows = Resolution.objects.filter(proposer_id=person_id, proposed_at__gt=since, passed_at=None)
    return int(rows.count())


def resolution_page(
    in_force: Policy, *, now: datetime, after: UUID | None = None, limit: int = 100
) -> tuple[list[Resolution], bool]:
    """List resolutions, the open ones first, then newest first, and say whether there are more.

    Raises NotFound for an `after` that is not among them.
    """
    is_open = Q(passed_at=None, ends_at__gt=now, policy_hash=bytes(in_force.hash))
    order = ("-proposed_at", "-id")
    return page_in_parts(Resolution.objects.all(), (is_open, ~is_open), order, after=after, limit=limit)


def proposal_for_update(proposal_id: UUID) -> PolicyProposal:
    """Return a proposed policy, locked until the transaction ends. Raises NotFound."""
    row: PolicyProposal | None = PolicyProposal.objects.select_for_update().filter(pk=proposal_id).first()
    if row is None:
        raise NotFound
    return row


def key_proposal_for_update(proposal_id: UUID) -> EscrowKeyProposal:
    """Return a proposed escrow key, locked until the transaction ends. Raises NotFound."""
    row: EscrowKeyProposal | None = EscrowKeyProposal.objects.select_for_update().filter(pk=proposal_id).first()
    if row is None:
        raise NotFound
    return row


def proposal_named(policy_hash: bytes) -> PolicyProposal | None:
    """Return the proposal of the policy with this hash, if it was made."""
    return PolicyProposal.objects.filter(hash=policy_hash).first()


def key_proposal_named(key_hash: bytes) -> EscrowKeyProposal | None:
    """Return the proposal of the escrow key with this hash, if it was made."""
    return EscrowKeyProposal.objects.filter(hash=key_hash).first()


def next_place(now: datetime) -> Place:
    """Return where the next version has to stand; the founding one's place while there is none. One query."""
    rows = policies()
    standing = [row for row in rows if row.withdrawn_at is None]
    if not standing:
        return Place(1, b"", b"")
    in_force = next(row for row in reversed(standing) if row.in_force_from <= now)
    return Place(rows[-1].version + 1, bytes(standing[-1].hash), bytes(in_force.hash))


def policy_proposals_of(person_id: UUID, since: datetime) -> int:
    """Count the policies that a person proposed after a moment and that were not published."""
    rows = PolicyProposal.objects.filter(proposer_id=person_id, proposed_at__gt=since, published_at=None)
    return int(rows.count())


def proposal_page(
    place: Place, *, now: datetime, after: UUID | None = None, limit: int = 20
) -> tuple[list[PolicyProposal], bool]:
    """List policy proposals, the open ones first, then newest first, and say whether there are more. Raises NotFound.

    20 of up to 32 KiB each, payload and statement, are well below what a client takes for one answer.
    """
    is_open = Q(
        published_at=None,
        withdrawn_at=None,
        ends_at__gt=now,
        version=place.version,
        predecessor=place.predecessor,
        held_in_force=place.held_in_force,
    )
    order = ("-proposed_at", "-id")
    return page_in_parts(PolicyProposal.objects.all(), (is_open, ~is_open), order, after=after, limit=limit)


def key_proposal_page(*, after: UUID | None = None) -> tuple[list[EscrowKeyProposal], bool]:
    """List proposals of escrow keys, newest first, and say whether there are more. Raises NotFound."""
    return page(EscrowKeyProposal.objects.all(), ("-proposed_at", "-id"), after=after)


def own_deposits(actor: Actor, *, after: UUID | None = None) -> tuple[list[Deposit], bool]:
    """List the actor's own deposits, newest generation first, and say whether there are more; any device may ask.

    Raises NotFound for an `after` that is not among them.
    """
    rows = Deposit.objects.filter(user_id=actor.person_id).defer("sealed")
    return page(rows, ("-generation", "-created_at", "-id"), after=after)


def deposit_for_owner(actor: Actor, deposit_id: UUID) -> Deposit:
    """Return one of the actor's own deposits. Raises NotFound for everybody else's."""
    row: Deposit | None = Deposit.objects.filter(id=deposit_id, user_id=actor.person_id).first()
    if row is None:
        raise NotFound
    return row


def receipts_of(deposit_ids: Iterable[UUID]) -> dict[UUID, bytes]:
    """Return the receipts of these deposits as they were signed, empty for one refused; one without is left out."""
    rows = Receipt.objects.filter(deposit_id__in=list(deposit_ids)).values_list("deposit_id", "statement")
    return {deposit_id: bytes(statement) for deposit_id, statement in rows}


def policies_of_deposits(deposit_ids: Collection[UUID]) -> dict[UUID, bytes]:
    """Return {deposit: hash of the policy that it was made under} of these deposits, and nothing that is sealed."""
    rows = Deposit.objects.filter(id__in=list(deposit_ids)).values_list("id", "policy_hash")
    return {deposit_id: bytes(policy_hash) for deposit_id, policy_hash in rows}


_DEPOSITS_NAMED: Final = Rows(Deposit, "id IN (%s)")


def deposits_named(deposit_ids: list[UUID]) -> dict[UUID, Deposit]:
    """Return the deposits with these ids; who may see them is the caller's rule (a case names them)."""
    return {row.id: row for row in _DEPOSITS_NAMED.read(deposit_ids)} if deposit_ids else {}


def newest_deposits(most: int) -> list[Deposit]:
    """Return the newest deposits of the open tenant, whoever's they are: for an operator's ceremony."""
    return list(Deposit.objects.filter(shredded_at=None).order_by("-created_at")[:most])


def count_deposits(user_id: UUID) -> int:
    """Count a user's deposits that were not shredded."""
    return int(Deposit.objects.filter(user_id=user_id, shredded_at=None).count())


def deposits_of(user_id: UUID) -> list[Deposit]:
    """List one user's deposits, oldest first, for coverage and for the console."""
    return list(Deposit.objects.filter(user_id=user_id).order_by("generation", "created_at"))


def deposits_found(user_id: UUID, *, order: Sequence[str], start: int, limit: int) -> tuple[list[Deposit], int]:
    """List a page of one user's deposits in an order, without what is sealed, and count them. Two queries.

    order: names of fields, the last of them unique.
    """
    rows = Deposit.objects.filter(user_id=user_id).order_by(*order)
    return list(rows.defer("sealed")[start : start + limit]), rows.count()


def consent_named(user_id: UUID, consent_hash: bytes) -> Consent | None:
    """Return one user's consent by its hash, if it was published."""
    return Consent.objects.filter(user_id=user_id, hash=consent_hash).first()


def consents_to(user_id: UUID, policy_hash: bytes) -> int:
    """Count a user's answers to one policy."""
    return int(Consent.objects.filter(user_id=user_id, policy_hash=policy_hash).count())


@dataclass(frozen=True)
class DepositGround:
    """What a deposit is held against before it is sealed: newest policy and key, and its owner's consents.

    named: of the consent that it names, whether it was a yes, and to which policy. newest: whether the last word is.
    """

    policy: Policy
    key: EscrowKey
    named: tuple[bool, bytes] | None
    newest: bool | None


_GROUND: Final = (
    "SELECT p.hash, p.statement, p.m, p.n, k.hash, k.statement, k.spki, c.agreed, c.policy_hash, n.agreed"  # noqa: S608 — our own tables' names
    f" FROM (SELECT hash, statement, m, n FROM {Policy._meta.db_table}"
    " WHERE tenant_id = %s AND withdrawn_at IS NULL ORDER BY version DESC LIMIT 1) p"
    f" LEFT JOIN (SELECT hash, statement, spki FROM {EscrowKey._meta.db_table}"
    " WHERE tenant_id = %s ORDER BY version DESC LIMIT 1) k ON 1 = 1"
    f" LEFT JOIN {Consent._meta.db_table} c ON c.tenant_id = %s AND c.user_id = %s AND c.hash = %s"
    f" LEFT JOIN (SELECT agreed FROM {Consent._meta.db_table}"
    " WHERE tenant_id = %s AND user_id = %s ORDER BY given_at DESC, id DESC LIMIT 1) n ON 1 = 1"
)


def deposit_ground(user_id: UUID, consent_hash: bytes) -> DepositGround:
    """Return what a deposit that names this consent of its owner is held against. One query. Raises EscrowOff."""
    tenant, user = statements.plain((current_tenant(), user_id))
    found = statements.run(_GROUND, [tenant, tenant, tenant, user, consent_hash, tenant, user])
    if not found or found[0][4] is None:
        raise EscrowOff
    row = found[0]
    policy = Policy(hash=row[0], statement=row[1], m=row[2], n=row[3])
    key = EscrowKey(hash=row[4], statement=row[5], spki=row[6])
    named = None if row[7] is None else (bool(row[7]), bytes(row[8]))
    return DepositGround(policy, key, named, None if row[9] is None else bool(row[9]))


@dataclass(frozen=True)
class DepositRoom:
    """What stands at the moment at which a deposit is taken.

    policy_hash: of the newest version. officers: those of its roster who count, whether they cool off still or not.
    is_known: its half, or its id, was deposited before. person_state: its owner's. alike: deposits of its generation
    under its policy and key.
    """

    policy_hash: bytes
    officers: int
    is_known: bool
    person_state: str | None
    is_exposed: bool
    alike: int


_ROOM: Final = (
    "SELECT p.hash,"  # noqa: S608 — our own tables' names
    f" (SELECT COUNT(*) FROM {PolicyOfficer._meta.db_table} o JOIN {tenants.PERSON_TABLE} u"
    f" ON u.tenant_id = o.tenant_id AND u.id = o.person_id AND u.role = '{Role.OFFICER.value}'"
    f" AND u.state = '{PersonState.ACTIVE.value}'"
    f" WHERE o.policy_id = p.id AND o.state = '{OfficerState.ACTIVE.value}' AND NOT EXISTS"
    f" (SELECT 1 FROM {PolicyOfficer._meta.db_table} l WHERE l.person_id = o.person_id"
    f" AND l.keys_lost_at IS NOT NULL AND l.policy_id = (SELECT f.id FROM {Policy._meta.db_table} f"
    " WHERE f.tenant_id = p.tenant_id AND f.withdrawn_at IS NULL AND f.in_force_from <= %s"
    " ORDER BY f.version DESC LIMIT 1))),"
    f" EXISTS (SELECT 1 FROM {Deposit._meta.db_table} d WHERE d.tenant_id = p.tenant_id AND d.half_hash = %s)"
    f" OR EXISTS (SELECT 1 FROM {Deposit._meta.db_table} d WHERE d.tenant_id = p.tenant_id AND d.id = %s),"
    f" (SELECT u.state FROM {tenants.PERSON_TABLE} u WHERE u.tenant_id = p.tenant_id AND u.id = %s),"
    f" EXISTS (SELECT 1 FROM {Deposit._meta.db_table} d WHERE d.tenant_id = p.tenant_id AND d.user_id = %s"
    " AND d.generation = %s AND d.exposed_at IS NOT NULL),"
    f" (SELECT COUNT(*) FROM {Deposit._meta.db_table} d WHERE d.tenant_id = p.tenant_id AND d.user_id = %s"
    " AND d.generation = %s AND d.policy_hash = %s AND d.escrow_key_hash = %s)"
    f" FROM {Policy._meta.db_table} p WHERE p.tenant_id = %s AND p.withdrawn_at IS NULL"
    " ORDER BY p.version DESC LIMIT 1"
)


def deposit_room(head: DepositHeader, half_hash: bytes, now: datetime) -> DepositRoom | None:
    """Return what stands at the moment at which a deposit is taken; None without a policy. One query.

    Under the lock of `lock_policies`, which whoever takes an officer out, or records that a person left, holds as well.
    """
    user, tenant = UUID(bytes=head.user), current_tenant()
    values = [
        now,
        half_hash,
        UUID(bytes=head.deposit_id),
        user,
        user,
        head.generation,
        user,
        head.generation,
        head.policy_hash,
        head.escrow_key_hash,
        tenant,
    ]
    found = statements.run(_ROOM, statements.plain(values))
    if not found:
        return None
    policy_hash, officers, is_known, state, is_exposed, alike = found[0]
    return DepositRoom(bytes(policy_hash), officers, bool(is_known), state, bool(is_exposed), alike)


def most_deposits_alike(user_id: UUID) -> int:
    """Return the most deposits that a user has of one generation under one policy and escrow key."""
    alike = Deposit.objects.filter(user_id=user_id).values("generation", "policy_hash", "escrow_key_hash").order_by()
    return max(alike.annotate(count=Count("pk")).values_list("count", flat=True), default=0)


def most_consents_alike(user_id: UUID) -> int:
    """Return the most answers that a user has given to one policy."""
    alike = Consent.objects.filter(user_id=user_id).values("policy_hash").order_by()
    return max(alike.annotate(count=Count("pk")).values_list("count", flat=True), default=0)


def agreed_since(user_id: UUID, policy_hash: bytes) -> datetime:
    """Return when a user first said the yes that stands for this policy: after their last no to it, if there was one.

    For a user whose newest answer to it is a yes. Two queries.
    """
    answers = Consent.objects.filter(user_id=user_id, policy_hash=policy_hash)
    last_no = answers.filter(agreed=False).order_by("-given_at").first()
    standing = answers.filter(agreed=True, **({"given_at__gt": last_no.given_at} if last_no else {}))
    first: datetime = standing.order_by("given_at").values_list("given_at", flat=True)[0]
    return first


def newest_consent(user_id: UUID) -> Consent | None:
    """Return the user's last word on escrow, if they gave one."""
    return Consent.objects.filter(user_id=user_id).order_by("-given_at", "agreed").first()


def consents_of(user_id: UUID) -> list[Consent]:
    """List one user's consents and refusals, oldest first."""
    return list(Consent.objects.filter(user_id=user_id).order_by("given_at"))


def devices_to_flag() -> list[tuple[UUID, UUID]]:
    """List (device, tenant) of the revoked devices with deposits that are not flagged, in every tenant. One query.

    It goes from the revoked devices to their deposits: those of all others lie there and cost nothing.
    """
    theirs = Deposit.unscoped.filter(tenant_id=OuterRef("tenant_id"), device_id=OuterRef("id"), flagged_at=None)
    rows = keys.revoked_devices().filter(Exists(theirs)).order_by("tenant_id", "id")
    return list(rows.values_list("id", "tenant_id"))
