# SPDX-License-Identifier: Apache-2.0
"""Whether a case may be released now: the one judgement in front of the HSM, as a pure function of proven facts.

Implements ESCROW, "Case" and "Policy and officers". The facts come from log entries proven against a checkpoint,
never from rows (ESCROW, "Release process"); collecting them is the release process's work, not this module's.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from holdfast.core.approvals import Excluded, require_quorum
from holdfast.core.cases import Case
from holdfast.core.cose import Purpose, Sign1
from holdfast.core.deposit import Deposit
from holdfast.core.errors import HoldfastError, QuorumNotMet, Untrusted
from holdfast.core.keys import PublicKey
from holdfast.core.policy import Policy, SignedPolicy, Terms, strictest
from holdfast.core.statements import DeviceStatement


class NotYet(HoldfastError):
    """The case may be released later: `at` (Unix seconds) is when to look again, or None when it hangs on people."""

    def __init__(self, why: str, *, at: int | None = None) -> None:
        self.at = at
        super().__init__(why)


class Ended(HoldfastError):
    """The case can never be released: it was vetoed, has expired, or its purpose is not allowed any more."""


@dataclass(frozen=True)
class LoggedApproval:
    """An approval or denial, with the log's time of it (Unix seconds)."""

    statement: Sign1
    at: int


@dataclass(frozen=True)
class NoticeFacts:
    """What the log says of telling the subject: when a notice was handed over, or when its failure was settled."""

    handed_over_at: int | None = None
    failed_at: int | None = None


@dataclass(frozen=True)
class ReleaseFacts:
    """All that the judgement depends on. Times are Unix seconds from the log, ids 16 bytes.

    case: the statement whose hash the log names. recipient: its device's statement. records: by deposit id, whose
    hashes the log names. policy_at_request and policy_now: in force then and now; policies_at_deposit: by hash.
    """

    tenant: bytes
    case: Sign1
    opened_at: int
    recipient: Sign1
    records: Mapping[bytes, bytes]
    policy_at_request: SignedPolicy
    policy_now: SignedPolicy
    policies_at_deposit: Mapping[bytes, SignedPolicy]
    approvals: tuple[LoggedApproval, ...]
    excluded: Excluded
    notice: NoticeFacts
    is_vetoed: bool
    now: int


@dataclass(frozen=True)
class Rewrap:
    """One order to the HSM: this sealed half of this deposit, to this recipient, with these shares' hashes."""

    deposit: Deposit
    recipient: PublicKey
    share_hashes: Mapping[int, bytes]


def judge(facts: ReleaseFacts) -> tuple[Rewrap, ...]:
    """Return what the HSM may be asked for this case, one order for each deposit.

    Raises Ended when it never may, NotYet when it may not yet, QuorumNotMet when too few approvals count, and
    Untrusted, InvalidSignature or Malformed when rows and log disagree: then the case is held.
    """
    # To release a case we must know, in this order:
    #
    # (1) that the case is what its recipient signed, opened under the policy then in force;
    # (2) that every deposit is the one named, is the subject's, and was made under a policy we can follow;
    # (3) which terms bind: the strictest of deposit, request and now;
    # (4) that nothing has ended it: veto, expiry, a purpose no longer allowed;
    # (5) that enough officers, who count now, signed for exactly this;
    # (6) that the subject was told, and that the delay is over.
    case = _require_case(facts)  # (1)
    deposits = _require_deposits(facts, case)  # (2)
    m, terms = strictest([*_deposit_policies(facts, deposits), facts.policy_at_request.policy, facts.policy_now.policy])
    _require_alive(facts, case, terms)  # (4)
    statements = [approval.statement for approval in facts.approvals]
    counted = require_quorum(  # (5)
        facts.case, statements, policy=facts.policy_at_request, excluded=facts.excluded, m=m
    )
    _require_time(facts, case, terms, _quorum_at(facts, m))  # (6)
    return tuple(
        Rewrap(deposit, case.recipient_rsa_key, counted[deposit.header.deposit_id]) for deposit in deposits
    )


def _require_case(facts: ReleaseFacts) -> Case:
    recipient = DeviceStatement.open(facts.recipient)
    facts.case.verify(recipient.signing_key, purpose=Purpose.CASE)
    case = Case.from_payload(facts.case.payload)
    if not hmac.compare_digest(facts.recipient.payload_hash, case.recipient_device_hash):
        raise Untrusted("the case names another recipient device")
    if (case.header.tenant, case.header.device) != (facts.tenant, recipient.header.device):
        raise Untrusted("the case is of another tenant or was signed by another device")
    if facts.excluded.subject != case.subject or facts.excluded.requester != case.requester:
        raise Untrusted("the log names another subject or requester than the case")
    if facts.excluded.recipient != recipient.person:
        raise Untrusted("the recipient device belongs to another person")
    if case.policy_hash != facts.policy_at_request.hash:
        raise Untrusted("the case names another policy than was in force when it was opened")
    return case


def _require_deposits(facts: ReleaseFacts, case: Case) -> list[Deposit]:
    deposits = []
    for deposit_id, record_hash in case.deposits:
        record = facts.records.get(deposit_id)
        if record is None or not hmac.compare_digest(hashlib.sha256(record).digest(), record_hash):
            raise Untrusted("a deposit is not the one that the case names")
        deposit = Deposit.from_record(record)
        if (deposit.header.tenant, deposit.header.user, deposit.header.deposit_id) != (
            facts.tenant,
            case.subject,
            deposit_id,
        ):
            raise Untrusted("a deposit is not the subject's")
        deposits.append(deposit)
    return deposits


def _deposit_policies(facts: ReleaseFacts, deposits: list[Deposit]) -> list[Policy]:
    policies = []
    for deposit in deposits:
        signed = facts.policies_at_deposit.get(deposit.header.policy_hash)
        if signed is None:
            raise Untrusted("a deposit names a policy that the pin does not lead to")
        policies.append(signed.policy)
    return policies


def _require_alive(facts: ReleaseFacts, case: Case, terms: Terms) -> None:
    if facts.is_vetoed:
        raise Ended("the subject vetoed the case")
    if facts.now >= case.expiry:
        raise Ended("the case has expired")
    if case.purpose not in terms.purposes:
        raise Ended("the purpose is not allowed by every policy concerned")
    if case.notice_at - facts.opened_at > terms.max_notice_delay_seconds and case.notice_at > facts.opened_at:
        raise Ended("the case delays notice longer than every policy concerned allows")


def _quorum_at(facts: ReleaseFacts, m: int) -> int:
    """Return when the approvals that count now were first enough: the delay runs from there."""
    times = sorted(approval.at for approval in facts.approvals)
    for at in times:
        known = [approval.statement for approval in facts.approvals if approval.at <= at]
        try:
            require_quorum(facts.case, known, policy=facts.policy_at_request, excluded=facts.excluded, m=m)
        except QuorumNotMet:
            continue
        return at
    raise QuorumNotMet("too few approvals count")


def _require_time(facts: ReleaseFacts, case: Case, terms: Terms, quorum_at: int) -> None:
    delay = terms.delay_seconds
    if case.notice_at <= facts.now and facts.notice.handed_over_at is None:
        # A subject who could not be told is not passed over: the long delay takes the place of her veto.
        if facts.notice.failed_at is None:
            raise NotYet("the subject has not been told yet")
        delay = max(delay, terms.undelivered_delay_seconds)
    release_at = max(case.not_before, quorum_at + delay)
    if facts.now < release_at:
        raise NotYet("the delay is not over", at=release_at)
