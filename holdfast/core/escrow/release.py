# SPDX-License-Identifier: Apache-2.0
"""Whether a case may be released now: the one judgement in front of the HSM, as a pure function of proven facts.

Implements ESCROW "Case" and "Policy and officers". The facts come from log entries proven against a checkpoint,
never from rows (ESCROW "Release process"); collecting them is the release process's work, not this module's.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from holdfast.core.base.errors import HoldfastError, Malformed, QuorumNotMet, Untrusted
from holdfast.core.crypto.keys import PublicKey
from holdfast.core.escrow.approvals import Excluded, Reading, read_approval, read_case, require_quorum
from holdfast.core.escrow.deposit import Deposit
from holdfast.core.identity.cases import Approval, Case, ClientKind
from holdfast.core.identity.policy import ApproveWith, Policy, SignedPolicy, Terms, strictest
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.statements import DeviceStatement

# A notice is put off by this much without asking the policy. The date is by the clock of the device that signed it,
# which a request may be 60 seconds off; the log's time of the opening is counted in whole seconds by two clocks of
# another machine, whose wall clock may have been corrected since. Without it such a case would never be released.
NOTICE_SLACK_SECONDS: Final = 120


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
    """All that the judgement depends on. Times are Unix seconds as the caller counts them, ids 16 bytes.

    now: by which the log's times are as long ago as was counted. earliest, latest: where a clock may have been turned,
    the bounds of the present, by which dates that people signed are read; `now` when absent. A date is waited for until
    the earliest has reached it, and is over once the latest has.

    case: the statement whose hash the log names. recipient: its device's statement. records: by deposit id, whose
    hashes the log names. half_owners: SHA-256(h_half) to the deposit id of the first log entry that has it.
    policy_at_request and policy_now: in force then and now; policies_at_deposit: by hash. extra_officers: how many
    approvals above the policies' m the log asks for (a third veto in one subject's cases asks one). is_heard: whether
    the subject could object ever since the case was opened. objected_at: of a veto that ends nothing, since m officers
    had suspended its device.
    """

    tenant: bytes
    case: Sign1
    opened_at: int
    recipient: Sign1
    records: Mapping[bytes, bytes]
    half_owners: Mapping[bytes, bytes]
    policy_at_request: SignedPolicy
    policy_now: SignedPolicy
    policies_at_deposit: Mapping[bytes, SignedPolicy]
    approvals: tuple[LoggedApproval, ...]
    excluded: Excluded
    notice: NoticeFacts
    is_vetoed: bool
    now: int
    extra_officers: int = 0
    is_heard: bool = True
    objected_at: int | None = None
    earliest: int | None = None
    latest: int | None = None

    @property
    def surely(self) -> int:
        """The time that it is at least."""
        return self.now if self.earliest is None else self.earliest

    @property
    def perhaps(self) -> int:
        """The time that it may be already."""
        return self.now if self.latest is None else self.latest


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
    made_under = _deposit_policies(facts, deposits)
    m, terms = strictest([*made_under.values(), facts.policy_at_request.policy, facts.policy_now.policy])  # (3)
    _require_alive(facts, case, terms)  # (4)
    count = _Count(facts, terms, made_under, m + facts.extra_officers)
    counted = count.counted()  # (5)
    _require_time(facts, case, terms, count.met_at())  # (6)
    return tuple(Rewrap(deposit, case.recipient_rsa_key, counted[deposit.header.deposit_id]) for deposit in deposits)


def judge_shares(facts: ReleaseFacts) -> dict[bytes, dict[int, bytes]]:
    """Return whose shares may be handed on in a case that was released, in place of wrong ones.

    {deposit: {index: SHA-256(sealed_i)}} of the officers who approve and count now.

    It asks for no quorum, delay or notice: the release had them, and nothing more comes out of the HSM by it. Raises
    Ended when the case has expired, its disclosure has ended or its purpose is not allowed any more, and otherwise as
    `judge` does.
    """
    case = _require_case(facts)
    deposits = _require_deposits(facts, case)
    made_under = _deposit_policies(facts, deposits)
    _, terms = strictest([*made_under.values(), facts.policy_at_request.policy, facts.policy_now.policy])
    _require_alive(facts, case, terms)
    count = _Count(facts, terms, made_under, 0)
    return count.over(count.standing())


def _require_case(facts: ReleaseFacts) -> Case:
    # Stops a case made by the server: only the recipient device's own key signs one,
    # for its own fresh keys (FAULTS F20).
    recipient = DeviceStatement.open(facts.recipient)
    facts.case.verify(recipient.signing_key, purpose=Purpose.CASE)
    case = read_case(facts.case.payload)
    # Stops another device statement, with another person in it, in place of the one that officers were shown.
    if not hmac.compare_digest(facts.recipient.payload_hash, case.recipient_device_hash):
        raise Untrusted("the case names another recipient device")
    # Stops a true case of another tenant, and a device that signs in the name of another.
    whose = (facts.tenant, recipient.header.user, recipient.header.device)
    if (case.header.tenant, case.header.user, case.header.device) != whose or recipient.header.tenant != facts.tenant:
        raise Untrusted("the case is of another tenant or was signed by another device")
    # Stops an approval of one's own case: whom the log leaves out must be whom the case is about (FAULTS P1).
    if facts.excluded.subject != case.subject or facts.excluded.requester != case.requester:
        raise Untrusted("the log names another subject or requester than the case")
    # Stops an officer who receives: the person in the signed device statement must be the one the log leaves out.
    if facts.excluded.recipient != recipient.person:
        raise Untrusted("the recipient device belongs to another person")
    # Stops a case that picks an older, weaker policy for itself (FAULTS P6).
    if case.policy_hash != facts.policy_at_request.hash:
        raise Untrusted("the case names another policy than was in force when it was opened")
    return case


def _require_deposits(facts: ReleaseFacts, case: Case) -> list[Deposit]:
    deposits = []
    for deposit_id, record_hash in case.deposits:
        record = facts.records.get(deposit_id)
        # Stops a record changed or swapped after officers signed: q holds its hash (FAULTS P16).
        if record is None or not hmac.compare_digest(hashlib.sha256(record).digest(), record_hash):
            raise Untrusted("a deposit is not the one that the case names")
        deposit = Deposit.from_record(record)
        # Stops a case about one person that opens another's key: officers only ever see one subject (FAULTS P17).
        if (deposit.header.tenant, deposit.header.user, deposit.header.deposit_id) != (
            facts.tenant,
            case.subject,
            deposit_id,
        ):
            raise Untrusted("a deposit is not the subject's")
        # Whoever puts another's h_half into a deposit of their own would have the HSM open that other's deposit.
        if facts.half_owners.get(deposit.half_hash) != deposit_id:
            raise Untrusted("the HSM's half was deposited by another before")
        deposits.append(deposit)
    return deposits


def _deposit_policies(facts: ReleaseFacts, deposits: list[Deposit]) -> dict[bytes, Policy]:
    policies = {}
    for deposit in deposits:
        signed = facts.policies_at_deposit.get(deposit.header.policy_hash)
        if signed is None:
            raise Untrusted("a deposit names a policy that the pin does not lead to")
        # Stops a deposit that asks for fewer officers than its policy.
        deposit.require_policy(signed)
        policies[deposit.header.deposit_id] = signed.policy
    return policies


def _require_alive(facts: ReleaseFacts, case: Case, terms: Terms) -> None:
    # Each of these is final, so they come before the count: a case that has ended must not look as if it lacked a vote.
    if facts.is_vetoed:
        raise Ended("the subject vetoed the case")
    # And nothing is opened for reading after the end that officers were shown: field 22 of a disclosure.
    if facts.surely >= case.ends_at:
        raise Ended("the case has expired, or its disclosure has ended")
    # A clock that was turned ends nothing for ever: it comes right, or the time comes.
    if facts.perhaps >= case.ends_at:
        raise NotYet("by one of this machine's clocks the case has expired, or its disclosure has ended")
    # The intersection: a purpose that the subject never consented to, or that has been withdrawn since, opens nothing.
    if case.purpose not in terms.purposes:
        raise Ended("the purpose is not allowed by every policy concerned")
    # Stops a release in silence.
    delay = case.notice_at - _asked_at(facts, case) - NOTICE_SLACK_SECONDS
    if delay > terms.max_notice_delay_seconds and case.notice_at > facts.opened_at + NOTICE_SLACK_SECONDS:
        raise Ended("the case delays notice longer than every policy concerned allows")


def _asked_at(facts: ReleaseFacts, case: Case) -> int:
    """Return the date from which a notice is put off, UTC seconds.

    The date that was signed, since the log's time of it is later by however long nobody looked; a date of its author's
    that lies ahead gains them nothing.
    """
    return min(case.header.issued_at, facts.opened_at)


def _decision(statement: Sign1) -> Approval | None:
    try:
        return read_approval(statement.payload)
    except Malformed:
        return None


def _is_denial(statement: Sign1) -> bool:
    decision = _decision(statement)
    return decision is not None and not decision.approves


def stands(statement: Sign1, terms: Terms, *, at: int) -> bool:
    """Tell whether a decision stands at a time (UTC seconds): in its own, and made where the strictest terms allow."""
    decision = _decision(statement)
    # A denial lowers the count: it needs no permission and does not age. Counting leaves out what is malformed.
    if decision is None or not decision.approves:
        return True
    # Stops old approvals that were collected and kept for a better moment (FAULTS P3).
    is_over = 0 < decision.header.expires_at <= at
    # The strictest terms, not the case's policy alone: that one `read_decision` has looked at already (FAULTS P7).
    is_elsewhere = terms.approve_with is ApproveWith.CLI and decision.client_kind is not ClientKind.CLI
    return not (is_over or is_elsewhere)


@dataclass(frozen=True)
class _Count:
    """The counting of one case's approvals under the terms that bind it."""

    facts: ReleaseFacts
    terms: Terms
    made_under: Mapping[bytes, Policy]
    m: int
    known: dict[Sign1, Reading] = field(default_factory=dict)  # as for `require_quorum`: each is verified once

    def standing(self) -> tuple[LoggedApproval, ...]:
        """Return the decisions that still stand: in their own time, and made where every policy allows it."""
        decisions = self.facts.approvals
        return tuple(one for one in decisions if stands(one.statement, self.terms, at=self.facts.perhaps))

    def counted(self) -> dict[bytes, dict[int, bytes]]:
        """Count what stands. Raises QuorumNotMet, or NotYet where it hangs on which of two clocks is right."""
        try:
            return self.over(self.standing())
        except QuorumNotMet:
            expiries = [_decision(one.statement) for one in self.facts.approvals]
            if any(one and self.facts.surely < one.header.expires_at <= self.facts.perhaps for one in expiries):
                raise NotYet("by one of this machine's clocks an approval has expired") from None
            raise

    def over(self, approvals: tuple[LoggedApproval, ...]) -> dict[bytes, dict[int, bytes]]:
        """Count; raises QuorumNotMet. Officers whose key a newer policy replaced count as suspended."""
        # Stops officers who were taken off, or whose key was replaced, between approval and release (FAULTS P5). Nobody
        # new counts either: the roster counted over is the one at the request (FAULTS P8).
        keys_now = {(officer.person, officer.signing_key) for officer in self.facts.policy_now.policy.roster}
        roster = self.facts.policy_at_request.policy.roster
        replaced = {officer.person for officer in roster if (officer.person, officer.signing_key) not in keys_now}
        excluded = self.facts.excluded
        return require_quorum(
            self.facts.case,
            [approval.statement for approval in approvals],
            policy=self.facts.policy_at_request,
            excluded=replace(excluded, suspended=excluded.suspended | replaced),
            m=self.m,
            made_under=self.made_under,
            known=self.known,
        )

    def met_at(self) -> int:
        """Return when the decisions that count now were first enough: the delay runs from there."""
        standing = self.standing()
        for at in sorted(approval.at for approval in standing):
            # Denials weigh from the start: an officer who took their word back later does not count now.
            known = tuple(approval for approval in standing if approval.at <= at or _is_denial(approval.statement))
            try:
                self.over(known)
            except QuorumNotMet:
                continue
            return at
        raise QuorumNotMet("too few approvals count")


def _require_time(facts: ReleaseFacts, case: Case, terms: Terms, quorum_at: int) -> None:
    # From the quorum and not from the request: a case could otherwise wait out its delay before anybody looks at it.
    delay, start = terms.delay_seconds, quorum_at
    # What is borne of clocks gains no silence: a release waits for the notice from the date that policies allow.
    if min(case.notice_at, _asked_at(facts, case) + terms.max_notice_delay_seconds) <= facts.perhaps:
        # The delay is the subject's time to object: it does not run before they are told, and for one who could
        # not be told the long delay takes the place of their veto.
        told_at, failed_at = facts.notice.handed_over_at, facts.notice.failed_at
        if told_at is None and failed_at is None:
            raise NotYet("the subject has not been told yet")
        if told_at is None:
            delay = max(delay, terms.undelivered_delay_seconds)
        # Stops a notice that is held back until the end of the delay: the time to object
        # begins when it has arrived (FAULTS R3).
        start = max(quorum_at, told_at or failed_at or 0)
    # Nobody else objects for a subject who cannot: what another receives waits as long as if they had not been told.
    if case.is_disclosure and not facts.is_heard:
        delay = max(delay, terms.undelivered_delay_seconds)
    # A stolen device must not stop its owner for ever, nor m officers silence a subject at once.
    if facts.objected_at is not None:
        delay, start = max(delay, terms.undelivered_delay_seconds), max(start, facts.objected_at)
    # Both: the case may ask for later than the policy, and never for earlier.
    if facts.now < start + delay or facts.surely < case.not_before:
        raise NotYet("the delay is not over", at=max(start + delay, case.not_before, facts.now + 1))
