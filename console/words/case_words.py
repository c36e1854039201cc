# SPDX-License-Identifier: Apache-2.0
"""What a case's states and log entries are called on console pages, and who must act next.

Implements ESCROW "Case", for people. Tables and pure functions: it reads no rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from recovery.states import FAILED, CaseState

C = CaseState

# The road of a case that succeeds, in order.
ROAD: Final = (C.REQUESTED, C.QUORATE, C.WAITING, C.RELEASING, C.RELEASED, C.COLLECTED, C.ROTATED, C.CLOSED)
# States beside the road, by the place on it that they stand at.
_BESIDE: Final = {C.AWAITING_SHARE: C.COLLECTED, C.SEALED: C.ROTATED}

STATE_WORDS: Final = {
    C.REQUESTED: "waiting for officers",
    C.QUORATE: "quorum reached",
    C.WAITING: "delay runs",
    C.RELEASING: "releasing",
    C.RELEASED: "released",
    C.COLLECTED: "collected",
    C.AWAITING_SHARE: "waiting for a share",
    C.ROTATED: "rotated",
    C.SEALED: "sealed",
    C.CLOSED: "closed",
    C.DENIED: "denied",
    C.VETOED: "vetoed",
    C.EXPIRED: "expired",
    C.CANCELLED: "cancelled",
    C.HELD: "held",
}
# Who must act for the case to move, and what is to be done; nobody for those that are over.
ACTS: Final = {
    C.REQUESTED: ("officers", "Officers decide, each at their own command line."),
    C.QUORATE: ("time", "Enough officers approved. The subject is being told; then the delay begins."),
    C.WAITING: ("time", "The delay runs. The subject may veto until it is over."),
    C.RELEASING: ("time", "The release process has the HSM re-wrap its half to the recipient."),
    C.RELEASED: ("recipient", "The recipient collects: holdfast recover escrow collect."),
    C.COLLECTED: ("subject", "The archive keys are open. What was exposed is rotated, under a new key of the subject."),
    C.AWAITING_SHARE: ("officers", "A share was wrong: its officer, or another one, approves and replaces it."),
    C.ROTATED: ("time", "The subject has a new key. Nothing more is to be done."),
    C.SEALED: ("time", "No device is left to rotate. What was opened is marked, and takes no further deposit."),
    C.HELD: ("operator", "Rows and log disagree. Nothing more is released. Find out why; only a new case goes on."),
    C.CLOSED: ("nobody", "Over: released, collected, and rotated or sealed."),
    C.DENIED: ("nobody", "An officer denied it. The shares sealed for it were destroyed."),
    C.VETOED: ("nobody", "The subject vetoed it. The shares sealed for it were destroyed."),
    C.EXPIRED: ("nobody", "Its time ran out. What was sealed or released for it was destroyed."),
    C.CANCELLED: ("nobody", "Its requester took it back. The shares sealed for it were destroyed."),
}  # fmt: skip

_ENTRIES: Final = {
    "recovery:approval:refuse": "An approval was refused",
    "recovery:attestation:accept": "An officer attested the new key",
    "recovery:case:approve": "An officer approved",
    "recovery:case:cancel": "Cancelled",
    "recovery:case:close": "Closed",
    "recovery:case:collect": "Collected by the recipient device",
    "recovery:case:deny": "An officer denied",
    "recovery:case:expire": "Expired",
    "recovery:case:open": "Opened",
    "recovery:case:quorum": "Quorum reached",
    "recovery:case:read": "Read",
    "recovery:case:reopen": "Back to the officers",
    "recovery:case:rotate": "What was exposed was rotated",
    "recovery:case:seal": "Sealed: no device is left to rotate, and what was opened takes no further deposit",
    "recovery:case:succeed": "The subject proposed a new key",
    "recovery:case:veto": "The subject vetoed",
    "recovery:case:void": "Ended by the operator's ceremony: the server was carried over or restored; ask anew",
    "recovery:case:wait": "The delay began",
    "recovery:notice:fail": "A notice could not be delivered",
    "recovery:notice:hand-over": "A notice was handed over",
    "recovery:release:begin": "Release begun: intent committed",
    "recovery:release:defer": "Release put off",
    "recovery:release:destroy": "What was released was destroyed, 90 days after its collection",
    "recovery:release:finish": "Released: re-wrapped to the recipient",
    "recovery:release:held": "Held: rows and log disagree",
    "recovery:share:blame": "The recipient found too few right shares",
    "recovery:share:replace": "Another share was handed on to the recipient",
}
_ALARMS: Final = frozenset(
    {
        "recovery:approval:refuse",
        "recovery:case:deny",
        "recovery:case:reopen",
        "recovery:case:veto",
        "recovery:notice:fail",
        "recovery:release:held",
        "recovery:share:blame",
    }
)


@dataclass(frozen=True)
class Step:
    """One place on a case's road, marked `is-done`, `is-now`, `is-alarm` or not at all."""

    words: str
    mark: str


def road(state: str, *, was_quorate: bool) -> list[Step]:
    """Return where a case stands on its road; a case that failed shows how far it came and how it ended."""
    if state in FAILED:
        done = ROAD[: 2 if was_quorate else 1]
        return [
            *(Step(STATE_WORDS[stage], "is-done") for stage in done),
            Step(STATE_WORDS[CaseState(state)], "is-alarm"),
        ]
    now = CaseState(state)
    place = ROAD.index(_BESIDE.get(now, now))
    steps = [Step(STATE_WORDS[stage], "is-done" if at < place else "") for at, stage in enumerate(ROAD)]
    steps[place] = Step(STATE_WORDS[now], "is-done" if now is C.CLOSED else "is-now")
    return steps


def entry_words(tag: str) -> str:
    """Return what a log entry about a case says; a tag without words stands for itself."""
    return _ENTRIES.get(tag, tag)


def is_alarming(tag: str) -> bool:
    """Tell whether a log entry is one that a reader must not pass over."""
    return tag in _ALARMS
