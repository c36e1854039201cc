# SPDX-License-Identifier: Apache-2.0
"""What a case waits for, in words, since when, and whether somebody must act; who decides it and who does not count.

Implements ESCROW "What it believes of the log" (why a case waits or is held is said in words). One answer for
requester, officers and console; what stays stuck for ten minutes is an alarm. It moves nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from escrow import access as escrow
from escrow.states import OfficerState
from holdfast.core.escrow.approvals import Excluded
from kernel.clock import database_now
from kernel.queue import apart
from kernel.scope import awake
from recovery import access
from recovery.cases import many
from recovery.cases.counting import LongDelay, count_approvals, why_long
from recovery.cases.endings import REQUESTER_LEFT, SHREDDED
from recovery.cases.notices import latest_try
from recovery.states import FAILED, CaseState, NoticeState
from tenants import mails

if TYPE_CHECKING:
    from escrow.models import Policy
    from recovery.models import Case

log = logging.getLogger("holdfast.stuck")

# Whatever comes right by itself does so sooner: the next head, a mail server that starts again. Then a person is told.
ALARM_AFTER: Final = timedelta(minutes=10)
# Lines of one round. With more cases than this, one cause holds them all, and one line says how many there are.
_MAX_LINES: Final = 20

# Why a case waits though it is time, or does not come to its officers' end: each with what is to be done.
STUCK: Final = {
    "error": "The release process failed at this case in a way that nobody foresaw, and tries again from time to time. "
    "Tell your operator: its log names the case.",
    "forbidden-meanwhile": "What was asked is not allowed any more by every policy concerned. Ask anew.",
    "half-refused": "The HSM refused its half of a deposit. Tell your operator.",
    "hsm-away": "The HSM is away. Nothing is lost; the release goes on when it is back.",
    "hsm-key-wrong": "The HSM answers, and lacks a key that this case needs, or holds another than was pinned. Waiting "
    "does not bring it back. Nothing is lost. Tell your operator: the release process's log names the key.",
    "hsm-shut": "The HSM refused the release process's PIN, or its token is damaged. Waiting does not mend it. Nothing "
    "is lost. Tell your operator: the release process's log says which. After a wrong PIN it has to be started anew.",
    "log-behind": "An act is not in the signed log yet. The sequencer is away, or keeps an entry from it.",
    "log-changed": "The stored log is not the one that was seen before. Tell your operator: "
    "a backup was put back, or somebody has rewritten it.",
    "log-too-old": "There is no fresh signed head of the log: the sequencer or its HSM is away, or a clock is wrong.",
    "log-wrong": "The log holds an entry that nobody entitled wrote. Officers read it and acknowledge it: "
    "holdfast officer resolve acknowledge-leaf.",
    "quorum-not-in-log": "The rows show a quorum that the log does not. If it stays so for ten minutes, it is held.",
    "release-key-missing": "The release process lacks a key that the policy names. Its directory's backup is put back.",
    "rows-and-log-disagree": "Rows and log disagree. If it stays so for ten minutes, the case is held.",
    "vetoed-in-log": "The log has a veto of it that its rows lack. Ask anew.",
    "voided": "It was under way beside a wrong entry of the log, or a log that nobody watched. Ask anew.",
}
_SINCE: Final = {
    LongDelay.UNHEARD: "the subject cannot object: they are or were suspended, gone or without a device",
    LongDelay.OBJECTED: "a device of the subject that officers had suspended objects",
    LongDelay.NOT_TOLD: "the notice to its subject could not be delivered",
}
LONG: Final = {long: f"{why[0].upper()}{why[1:]}. The long delay applies." for long, why in _SINCE.items()}
# Said of whoever was suspended, or off the roster, since they approved, and of whoever handed over no right share.
APPROVE_ANEW: Final = "is asked to approve anew"
# Of a case that ended after its recipient had collected, by whatever they said of it then.
_HAD: Final = (
    "Its recipient had collected what was released: that counts as exposed, and its subject has to renew their keys."
)
# Why it is back with its officers.
_BACK: Final = {
    "quorum-lost": "An approval counts no more.",
    "share-wrong": "A share was not what its officer had signed for, and is void.",
    "veto": "The subject vetoed once more: one officer more is asked for.",
}


@dataclass(frozen=True)
class OfficerStanding:
    """One officer of a case's policy: what they decided, and why they do not count; "" for one who counts.

    has_ended: they approved, and are asked to approve anew; `decision` is "" then.
    """

    index: int
    person_id: UUID
    decision: str
    why_not: str
    has_ended: bool = False


@dataclass(frozen=True)
class Waiting:
    """What a case waits for. code: a fixed word. is_stuck: whether it waits for something that ought not to be."""

    code: str
    text: str
    since: datetime
    is_stuck: bool = False


@dataclass(frozen=True)
class Ended:
    """What ended a case, and what has to be done before somebody asks anew. code: its state."""

    code: str
    text: str
    at: datetime


def standings(case: Case, policy: Policy, now: datetime) -> list[OfficerStanding]:
    """Return the roster of the case's policy; who does not count is there with the reason."""
    counting = {officer.person_id for officer in access.eligible_for(case, policy, now)}
    rows = access.approvals_of(case)
    decided = {row.person_id: str(row.decision) for row in rows}
    anew = access.ended_approvals(case, rows)
    ended = {row.person_id for row in rows if row.pk in anew}
    roster = escrow.officers(policy)

    def those(*states: OfficerState) -> frozenset[bytes]:
        return frozenset(officer.person_id.bytes for officer in roster if officer.state in states)

    excluded = Excluded(
        requester=case.requester_id.bytes,
        subject=case.subject_id.bytes,
        recipient=case.recipient_person_id.bytes,
        cooling_off=frozenset(
            officer.person_id.bytes for officer in roster if officer.counts_from and officer.counts_from > now
        ),
        suspended=those(OfficerState.SUSPENDED, OfficerState.REMOVED),
        away=those(OfficerState.AWAY),
        keys_lost=frozenset(person_id.bytes for person_id in escrow.with_lost_keys(now)),
        behind=frozenset(person_id.bytes for person_id in access.behind(case)),
    )
    return [
        OfficerStanding(
            index=officer.index,
            person_id=officer.person_id,
            decision="" if officer.person_id in ended else decided.get(officer.person_id, ""),
            why_not=""
            if officer.person_id in counting
            else excluded.why(officer.person_id.bytes) or "is no officer now, or has other keys",
            has_ended=officer.person_id in ended,
        )
        for officer in roster
    ]


def waiting_for(case: Case, now: datetime) -> Waiting | None:
    """Return what a case waits for now; None for one that is over, or that waits for its recipient."""
    match case.state:
        case CaseState.REQUESTED:
            return _for_officers(case, now)
        case CaseState.QUORATE:
            return _for_the_notice(case, now)
        case CaseState.WAITING | CaseState.RELEASING:
            return _for_the_release(case, now)
        case CaseState.AWAITING_SHARE:
            return _for_a_share(case, now)
        case CaseState.HELD:
            text = STUCK.get(case.why, "Rows and log disagree.")
            return Waiting(case.why or "held", f"Held for ever. {text}", case.ended_at or now, is_stuck=True)
    return None


def ended_by(case: Case) -> Ended | None:
    """Return what ended a case before its time; None for one that goes on, or that went its way to the end."""
    if case.state not in FAILED or case.ended_at is None:
        return None
    match case.state:
        case CaseState.DENIED:
            denial = next((row for row in access.approvals_of(case) if row.decision == "deny"), None)
            who = f"Officer {denial.index}" if denial else "An officer"
            text = f"{who} denied it. Speak to them: what they were in doubt about has to be cleared up first."
        case CaseState.VETOED:
            text = (
                "A device of the subject forbade it. If that was not the subject, that device has to be revoked first."
            )
        case CaseState.EXPIRED | CaseState.CANCELLED if case.why == SHREDDED:
            text = "Its subject has left, and their keys were destroyed for good: there is nothing to ask for."
        case CaseState.EXPIRED:
            text = "Its time ran out." if case.collected_at else "Its time ran out before its recipient collected."
        case CaseState.CANCELLED if case.why == REQUESTER_LEFT:
            text = "Whoever asked has left. Whoever takes over from them asks anew, on a device of their own."
        case CaseState.CANCELLED:
            text = "Whoever asked took it back."
        case _:
            text = STUCK.get(case.why, "Rows and log disagree.")
    return Ended(str(case.state), f"{text} {_HAD}" if case.collected_at else text, case.ended_at)


def _for_officers(case: Case, now: datetime) -> Waiting:
    standard = access.standard_of(case, now)
    needed, policy = standard.m, standard.at_request
    counted = min((len(persons) for persons in count_approvals(case, standard, now).values()), default=0)
    said = [f"{counted} of {needed} approvals count."]
    if case.why in _BACK:
        said.insert(0, _BACK[case.why])
    officers = standings(case, policy, now)
    said += [
        f"Officer {one.index} approved and {one.why_not or APPROVE_ANEW}."
        for one in officers
        if one.has_ended or (one.decision and one.why_not)
    ]
    left = sum(not one.why_not for one in officers)
    if left < needed:
        others = "; ".join(f"officer {one.index} {one.why_not}" for one in officers if one.why_not)
        said.append(f"Only {left} officers may decide ({others}): have one come back, or ask anew.")
    return Waiting("officers", " ".join(said), case.why_since or case.opened_at, is_stuck=left < needed)


def _for_a_share(case: Case, now: datetime) -> Waiting:
    since = case.why_since or case.opened_at
    if case.release_at is not None:
        is_stuck = case.why in STUCK
        text = STUCK[case.why] if is_stuck else "A share is here, and is being handed on."
        return Waiting(case.why if is_stuck else "releasing", text, since, is_stuck)
    policy = escrow.policy_named(bytes(case.policy_hash))
    officers = [one for one in standings(case, policy, now) if not one.why_not and not one.decision]
    wanted, may = access.shares_wanted(case), {one.person_id for one in officers}
    missing = max((one.missing for one in wanted), default=0)
    # By who holds a share of what lacks one: an officer of a later roster may have none of an older deposit.
    asked = [one for one in officers if any(one.person_id in lacking.holders for lacking in wanted)]
    is_stuck = any(len(may & lacking.holders) < lacking.missing for lacking in wanted)
    named = ", ".join(str(one.index) for one in asked) or "none"
    text = (
        f"The recipient says that there are too few right shares: {missing} more needed. Officers who may give one, in "
        f"this same case: {named}. The HSM is not asked again. What was collected counts as exposed all the same."
    )
    if is_stuck:
        text += " Too few may: have one come back, or ask anew."
    return Waiting("share", text, since, is_stuck)


def _for_the_notice(case: Case, now: datetime) -> Waiting:
    notice, since = access.notice_of_opening(case), case.quorate_at or case.opened_at
    if notice is not None and notice.state == NoticeState.PENDING and notice.attempts:
        _, terms, _ = access.terms_of(case, now)
        delay = timedelta(seconds=max(terms.delay_seconds, terms.undelivered_delay_seconds))
        last = min(now + mails.patience_after(notice.attempts), max(now, latest_try(notice, case, now)))
        text = (
            f"The mail server does not take the notice to its subject, in {_tries(notice.attempts)}. It is tried "
            f"until about {_written(last)}. Then the long delay begins: until about "
            f"{_written(max(case.not_before, max(since, last) + delay))}, since the notice could not be delivered. "
            "Tell your operator."
        )
        return Waiting("notice-not-taken", text, since, is_stuck=True)
    is_told = notice is not None and notice.state != NoticeState.PENDING
    text = "The delay is being reckoned." if is_told else "The subject is being told. Then the delay begins."
    return Waiting("notice", text, since, is_stuck=notice is None)


def _for_the_release(case: Case, now: datetime) -> Waiting:
    since = case.why_since or case.quorate_at or case.opened_at
    if case.why == "cooling-off":
        text = (
            "By the release process's own time a policy version or an officer still cools off: it was away meanwhile."
        )
        return Waiting(case.why, text, since)
    if case.why == "tenant-locked":
        text = "The organisation is locked: nothing is released, and the delay stands still. Two owners unlock it."
        return Waiting(case.why, text, since)
    if case.why in STUCK:
        return Waiting(case.why, STUCK[case.why], since, is_stuck=True)
    if case.state == CaseState.RELEASING:
        return Waiting("releasing", "The HSM re-wraps its half to the recipient.", since)
    until = _written(case.release_at) if case.release_at else "its end"
    long = why_long(case, now)
    text = (
        f"The long delay runs until {until}, since {_SINCE[long]}."
        if long
        else f"The delay runs until {until}. The subject may veto."
    )
    return Waiting("delay", text, since)


def _tries(number: int) -> str:
    return "1 try" if number == 1 else f"{number} tries"


def _written(at: datetime) -> str:
    """Write a time as people say it: `13 December 2026, 09:05 UTC`."""
    return f"{at.astimezone(UTC):%-d %B %Y, %H:%M} UTC"


def raise_alarms() -> int:
    """Say in the process's log which cases have been stuck for ten minutes, in every tenant; return how many."""
    now = database_now()
    # Whether one that awaits a share is stuck, its own standing has to say; of all others the database does.
    found = _stuck(access.in_states(CaseState.AWAITING_SHARE), now)
    others = many.stuck(since=now - ALARM_AFTER, words=STUCK, now=now)
    room = max(0, _MAX_LINES - len(found))
    listed = _stuck(others[:room], now)
    for tenant_id, case_id, waiting in [*found, *listed][:_MAX_LINES]:
        log.critical("tenant %s: case %s is stuck since %s: %s", tenant_id, case_id, waiting.since, waiting.text)
    count = len(found) + len(listed) + len(others[room:])
    if count > _MAX_LINES:
        log.critical("%d cases in all are stuck", count)
    return count


def _stuck(cases: Iterable[tuple[UUID, UUID]], now: datetime) -> list[tuple[UUID, UUID, Waiting]]:
    found = []
    for case_id, tenant_id in awake(cases):
        # A row that cannot be read must not keep the alarms of all others from being raised.
        with apart(tenant_id, f"standing of case {case_id}"):
            row = access.case_for_release(case_id)
            waiting = waiting_for(row, now) if row is not None else None
            if waiting is not None and waiting.is_stuck and waiting.since <= now - ALARM_AFTER:
                found.append((tenant_id, case_id, waiting))
    return found
