# SPDX-License-Identifier: Apache-2.0
"""Holding the rows of one case against the log, and asking `holdfast.core.escrow.release` for the judgement.

Implements ESCROW "Release process"; FAULTS P3 to P6, P16. It reads rows and changes none; every row is believed
only when its hash is in the log and its signatures hold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from escrow import access as escrow
from escrow import services as custody
from holdfast.core.base.errors import QuorumNotMet, Untrusted
from holdfast.core.escrow import release
from holdfast.core.escrow.deposit import Deposit
from holdfast.core.escrow.release import Ended, LoggedApproval, ReleaseFacts
from holdfast.core.identity.policy import SignedPolicy, strictest
from holdfast.core.signed.cose import Sign1
from holdfast.core.signed.statements import EscrowKey
from keys import access as keys
from keys.services import tenant_key
from recovery import access
from recovery.models import Case
from recovery.release.clock import Now
from recovery.release.facts import CaseFacts, Facts

_GOING = frozenset({"waiting", "releasing", "deferred"})
_RELEASED = frozenset({"released"})


class Voided(Ended):
    """The case was under way beside a lie in the log; only a new one goes on."""


class Vetoed(Ended):
    """By the log the subject ended the case, and by its rows they did not; only a new one goes on."""


@dataclass(frozen=True)
class Order:
    """One thing to ask the HSM, with everything about it verified. needed: how many shares must come with it."""

    rewrap: release.Rewrap
    key: EscrowKey
    cka_id: bytes
    needed: int

    @property
    def deposit_id(self) -> UUID:
        """The deposit that it opens."""
        return UUID(bytes=self.rewrap.deposit.header.deposit_id)


def orders_for(case: Case, *, facts: Facts, now: Now) -> tuple[Order, ...]:
    """Return what the HSM may be asked for a case now, one order for each deposit.

    Asks the HSM's root token to read stored records, so call it outside transactions. Raises Ended, NotYet,
    QuorumNotMet as `release.judge` does, and another HoldfastError, or RecordUnreadable, when rows and log disagree.
    """
    logged = _require_logged(case, facts, _GOING)
    proven = _proven(case, logged, facts, now)
    others = (proven.policy_at_request, proven.policy_now)
    return tuple(_order(order, facts, _needed(order, facts, others, logged)) for order in release.judge(proven))


def shares_for(case: Case, *, facts: Facts, now: Now) -> dict[UUID, Mapping[int, bytes]]:
    """Return {deposit: {index: SHA-256(sealed_i)}} of the shares that may be handed on in a case that was released.

    They are of officers who approve and count now. Nothing is asked of the escrow token.

    Raises as `orders_for` does; too few approvals are nobody's fault here.
    """
    logged = _require_logged(case, facts, _RELEASED)
    judged = release.judge_shares(_proven(case, logged, facts, now))
    return {UUID(bytes=deposit_id): hashes for deposit_id, hashes in judged.items()}


def _proven(case: Case, logged: CaseFacts, facts: Facts, now: Now) -> ReleaseFacts:
    return ReleaseFacts(
        tenant=facts.tenant,
        case=Sign1.parse(bytes(case.statement)),
        opened_at=now.at(logged.opened),
        recipient=Sign1.parse(bytes(keys.device(case.recipient_device_id).statement)),
        records=_require_records(case, facts),
        half_owners=facts.half_owners,
        policy_at_request=facts.policy_named(logged.policy_hash),
        policy_now=facts.policy_in_force(now),
        policies_at_deposit={signed.hash: signed for signed in facts.trusted().policies},
        approvals=_require_approvals(case, logged, facts, now),
        excluded=facts.excluded(logged, now=now),
        notice=facts.told(logged, now),
        is_vetoed=logged.stage == "vetoed",
        now=now.wall,
        extra_officers=logged.extra_officers,
        is_heard=facts.is_heard(logged),
        objected_at=facts.for_delays(objected, now) if (objected := facts.objected(logged)) else None,
        earliest=now.earliest(logged.opened),
        latest=now.latest(logged.opened),
    )


def _needed(order: release.Rewrap, facts: Facts, others: tuple[SignedPolicy, SignedPolicy], logged: CaseFacts) -> int:
    """Return the strictest m, and one more when the subject's vetoes no longer end their cases."""
    at_deposit = facts.policy_named(order.deposit.header.policy_hash)
    m, _ = strictest([at_deposit.policy, *(signed.policy for signed in others)])
    needed = m + logged.extra_officers
    if len(order.share_hashes) < needed:
        raise QuorumNotMet(f"{len(order.share_hashes)} of {needed} officers approve")
    return needed


def _order(order: release.Rewrap, facts: Facts, needed: int) -> Order:
    key = facts.escrow_keys.get(order.deposit.header.escrow_key_hash)
    if key is None:
        raise Untrusted("a deposit names an escrow key that the pin does not lead to")
    # `trust` has seen to it already; said again where the HSM is asked, as for everything else that crosses here.
    if key.statement.header.tenant != facts.tenant:
        raise Untrusted("a deposit names an escrow key of another tenant")
    return Order(order, key.statement, bytes(escrow.escrow_key_named(key.hash).cka_id), needed)


def _require_logged(case: Case, facts: Facts, stages: frozenset[str]) -> CaseFacts:
    logged = facts.cases.get(case.id.bytes)
    if logged is None:
        raise Untrusted("the log knows no such case")
    signed = Sign1.parse(bytes(case.statement))
    if signed.payload_hash != logged.q or bytes(case.q) != logged.q:
        raise Untrusted("the case is not the one that the log tells of")
    asked = access.statement_of(case)
    if asked.case_id != case.id.bytes:
        raise Untrusted("the case is stored under another id than its own")
    # Stops a device whose code an approver issued in the place of one that nobody stands behind.
    if asked.header.device != logged.recipient_device:
        raise Untrusted("the log names another recipient device than the case")
    if [(row.deposit_id.bytes, bytes(row.record_hash)) for row in access.deposits_of(case)] != list(asked.deposits):
        raise Untrusted("the case's rows name other deposits than its statement")
    if logged.stage == "void":
        raise Voided("officers acknowledged a wrong entry of the log, or a log that nobody watched: ask anew")
    if logged.stage == "vetoed":
        # Whatever the rows make of it: that ends it, and nothing comes right by waiting.
        raise Vetoed("the log has a veto that ends the case")
    if logged.stage not in stages:
        raise Untrusted(f"the log has this case as {logged.stage}")
    return logged


def _require_approvals(case: Case, logged: CaseFacts, facts: Facts, now: Now) -> tuple[LoggedApproval, ...]:
    """Return the stored approvals that have not ended, with the log's times.

    Each officer's last one is exactly that of the log, none more and none fewer.
    """
    stored = {row.person_id.bytes: row for row in access.approvals_of(case) if row.decision == "approve"}
    if stored.keys() != logged.approvals.keys():
        raise Untrusted("the stored approvals are not those of the log")
    signed = {person: Sign1.parse(bytes(row.statement)) for person, row in stored.items()}
    if any(signed[person].payload_hash != given.statement_hash for person, given in logged.approvals.items()):
        raise Untrusted("a stored approval is not the one that the log tells of")
    # Stops an approval logged in another's name, which the suspension of its own officer would not end.
    roster = facts.policy_named(logged.policy_hash).policy
    for person, statement in signed.items():
        officer = roster.officer(statement.kid)
        if officer is None or officer.person != person:
            raise Untrusted("an approval is in another's name than its signer's")
    standing = facts.standing(logged, now=now)
    return tuple(
        LoggedApproval(signed[person], facts.for_delays(given.place.moment, now)) for person, given in standing.items()
    )


def _require_records(case: Case, facts: Facts) -> dict[bytes, bytes]:
    """Return the records that the case's own statement names; each accepted only as the log tells of it."""
    named = [UUID(bytes=deposit_id) for deposit_id, _ in access.statement_of(case).deposits]
    held = escrow.deposits_named(named)
    records, key = {}, tenant_key()
    for deposit_id in named:
        row = held.get(deposit_id)
        if row is None:
            raise Untrusted("a deposit that the case names is not in custody")
        record = custody.open_deposit(row, key=key).record
        if facts.deposits.get(deposit_id.bytes) != hashlib.sha256(record).digest():
            raise Untrusted("a stored deposit is not the one that the log tells of")
        if facts.halves.get(deposit_id.bytes) != Deposit.from_record(record).half_hash:
            raise Untrusted("a deposit's half is not the one that the log tells of")
        records[deposit_id.bytes] = record
    return records
