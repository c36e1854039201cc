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
from holdfast.core.base.encoding import MAX_BLOB
from holdfast.core.base.errors import QuorumNotMet, Untrusted
from holdfast.core.escrow import release
from holdfast.core.escrow.deposit import Deposit
from holdfast.core.escrow.release import LoggedApproval, ReleaseFacts
from holdfast.core.identity import trust
from holdfast.core.identity.policy import SignedPolicy, strictest
from holdfast.core.identity.trust import SignedTenantKey, TrustedTenant
from holdfast.core.signed.cose import Sign1, parse_many
from holdfast.core.signed.statements import EscrowKey
from keys import access as keys
from recovery import access
from recovery.models import Case
from recovery.release.directory import Directory, Seen
from recovery.release.facts import CaseFacts, Facts

_GOING = frozenset({"waiting", "releasing"})


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


def trusted_tenant(directory: Directory, facts: Facts) -> tuple[TrustedTenant, dict[bytes, SignedTenantKey[EscrowKey]]]:
    """Follow stored policies and escrow keys from this process's own pin, and hold them to the log.

    Raises Untrusted, Forked, QuorumNotMet or InvalidSignature when a row is not what was signed and logged, or when
    the history is shorter than the one seen before.
    """
    pinned, seen = directory.trust(), directory.seen_policy()
    history = [parse_many(bytes(row.statement), max_size=MAX_BLOB) for row in escrow.policies()]
    trusted = trust.verify_tenant(
        history,
        tenant=directory.tenant_id.bytes,
        root_key=pinned.root_key,
        pin=pinned.pin,
        is_development=pinned.is_development,
        # What was believed before the rule of field 12 is believed after it.
        early=seen.version if seen else 0,
        withdrawn=facts.withdrawn,
    )
    _require_not_older(seen, trusted)
    stored = [parse_many(bytes(row.statement)) for row in escrow.escrow_keys()]
    verified = trust.verify_escrow_keys(stored, trusted=trusted)
    facts.require_history(trusted.policies, [key.hash for key in verified])
    last = trusted.policies[-1]
    directory.see_policy(Seen(last.policy.version, last.hash))
    return trusted, {key.hash: key for key in verified}


def _require_not_older(seen: Seen | None, trusted: TrustedTenant) -> None:
    if seen is None:
        return
    if len(trusted.policies) < seen.version or trusted.policies[seen.version - 1].hash != seen.hash:
        raise Untrusted("the policy history is not the one seen before")


def orders_for(case: Case, *, directory: Directory, facts: Facts, now: int) -> tuple[Order, ...]:
    """Return what the HSM may be asked for a case now, one order for each deposit.

    Asks the HSM's root token to read stored records, so call it outside transactions. Raises Ended, NotYet,
    QuorumNotMet as `release.judge` does, and another HoldfastError, or RecordUnreadable, when rows and log disagree.
    """
    trusted, escrow_keys = trusted_tenant(directory, facts)
    logged = _require_logged(case, facts)
    at_request = trusted.policy_named(logged.policy_hash)
    in_force = facts.policy_in_force(trusted.policies, now=now)
    records = _require_records(case, facts)
    orders = release.judge(
        ReleaseFacts(
            tenant=directory.tenant_id.bytes,
            case=Sign1.parse(bytes(case.statement)),
            opened_at=logged.opened_at,
            recipient=Sign1.parse(bytes(keys.device(case.recipient_device_id).statement)),
            records=records,
            # Read backwards, so that the first deposit with a half keeps it.
            half_owners={half: deposit_id for deposit_id, half in reversed(facts.halves.items())},
            policy_at_request=at_request,
            policy_now=in_force,
            policies_at_deposit={signed.hash: signed for signed in trusted.policies},
            approvals=_require_approvals(case, logged),
            excluded=facts.excluded(logged, trusted.policies, now=now),
            notice=logged.notice,
            is_vetoed=logged.stage == "vetoed",
            now=now,
            extra_officers=logged.extra_officers,
        )
    )
    return tuple(
        _order(order, escrow_keys, _needed(order, trusted, (at_request, in_force), logged)) for order in orders
    )


def _needed(
    order: release.Rewrap, trusted: TrustedTenant, others: tuple[SignedPolicy, SignedPolicy], logged: CaseFacts
) -> int:
    """Return the strictest m, and one more when the subject's vetoes no longer end their cases."""
    at_deposit = trusted.policy_named(order.deposit.header.policy_hash)
    m, _ = strictest([at_deposit.policy, *(signed.policy for signed in others)])
    needed = m + logged.extra_officers
    if len(order.share_hashes) < needed:
        raise QuorumNotMet(f"{len(order.share_hashes)} of {needed} officers approve")
    return needed


def _order(order: release.Rewrap, escrow_keys: Mapping[bytes, SignedTenantKey[EscrowKey]], needed: int) -> Order:
    key = escrow_keys.get(order.deposit.header.escrow_key_hash)
    if key is None:
        raise Untrusted("a deposit names an escrow key that the pin does not lead to")
    return Order(order, key.statement, bytes(escrow.escrow_key_named(key.hash).cka_id), needed)


def _require_logged(case: Case, facts: Facts) -> CaseFacts:
    logged = facts.cases.get(case.id.bytes)
    if logged is None:
        raise Untrusted("the log knows no such case")
    signed = Sign1.parse(bytes(case.statement))
    if signed.payload_hash != logged.q or bytes(case.q) != logged.q:
        raise Untrusted("the case is not the one that the log tells of")
    asked = access.statement_of(case)
    if asked.case_id != case.id.bytes:
        raise Untrusted("the case is stored under another id than its own")
    if [(row.deposit_id.bytes, bytes(row.record_hash)) for row in access.deposits_of(case)] != list(asked.deposits):
        raise Untrusted("the case's rows name other deposits than its statement")
    if logged.stage not in _GOING:
        raise Untrusted(f"the log has this case as {logged.stage}")
    return logged


def _require_approvals(case: Case, logged: CaseFacts) -> tuple[LoggedApproval, ...]:
    """Return the stored approvals with the log's times; exactly those of the log, none more and none fewer."""
    stored = {row.index: row for row in access.approvals_of(case) if row.decision == "approve"}
    if stored.keys() != logged.approvals.keys():
        raise Untrusted("the stored approvals are not those of the log")
    approvals = []
    for index, decision in sorted(logged.approvals.items()):
        signed = Sign1.parse(bytes(stored[index].statement))
        if signed.payload_hash != decision.statement_hash:
            raise Untrusted("a stored approval is not the one that the log tells of")
        approvals.append(LoggedApproval(signed, decision.at))
    return tuple(approvals)


def _require_records(case: Case, facts: Facts) -> dict[bytes, bytes]:
    """Return the records that the case's own statement names; each accepted only as the log tells of it."""
    named = [UUID(bytes=deposit_id) for deposit_id, _ in access.statement_of(case).deposits]
    held = escrow.deposits_named(named)
    records = {}
    for deposit_id in named:
        row = held.get(deposit_id)
        if row is None:
            raise Untrusted("a deposit that the case names is not in custody")
        record = custody.open_deposit(row).record
        if facts.deposits.get(deposit_id.bytes) != hashlib.sha256(record).digest():
            raise Untrusted("a stored deposit is not the one that the log tells of")
        if facts.halves.get(deposit_id.bytes) != Deposit.from_record(record).half_hash:
            raise Untrusted("a deposit's half is not the one that the log tells of")
        records[deposit_id.bytes] = record
    return records
