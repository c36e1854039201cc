# SPDX-License-Identifier: Apache-2.0
"""What a person should do first, the most urgent before the others, each with where it is done.

Implements ORGANISATION "People" (each person). It says what rows say: whether a way back really opens, only the
person's own client can find out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from console.me import own_devices
from escrow import access as escrow
from escrow import campaign
from escrow.errors import EscrowOff
from kernel.actors import Actor
from keys import access as keys
from keys.states import DeviceState
from recovery import access as recovery
from recovery.contacts import access as contacts
from recovery.states import UNRELEASED
from tenants import access as tenants
from tenants import sign_in
from tenants.permissions import MATRIX, PermissionName

WAYS_WANTED: Final = 2  # one may be lost together with the devices
FEW_CODES: Final = 2
LOOKED_AT: Final = 20  # devices, cases and requests each: who has more than that is told of the first


@dataclass(frozen=True)
class Duty:
    """One thing to do. level: alarm or wait; text says why, command what to type where the page cannot do it."""

    level: str
    title: str
    text: str
    command: str = ""
    page: str = ""
    page_words: str = ""


def of(actor: Actor, *, now: datetime) -> list[Duty]:
    """List what this person should do; nothing that their role has no use for."""
    granted = MATRIX.get(actor.role, frozenset())
    found = _cases(actor) + _requests(actor)
    if PermissionName.VAULT_WRITE in granted:
        found += _devices(actor, now) + _ways(actor)
    if PermissionName.DEPOSIT_WRITE in granted:
        found += _answer(actor)
    return found + _codes(actor)


def _cases(actor: Actor) -> list[Duty]:
    others = [
        case
        for case in recovery.cases_about(actor, limit=LOOKED_AT)
        if case.state in UNRELEASED and case.requester_id != actor.person_id
    ]
    return [
        Duty(
            "alarm",
            "Somebody asks to open your keys",
            "If you did not agree to it, say no from any of your devices while it is not released.",
            f"holdfast recover escrow veto {case.id}",
            "me-keys",
            "Look at the case",
        )
        for case in others
    ]


def _requests(actor: Actor) -> list[Duty]:
    assert actor.person_id is not None
    found = []
    if contacts.open_contact_requests(actor.person_id):
        found.append(
            Duty(
                "alarm",
                "A device asks your trusted contacts for your vault",
                "If that is not you, say no from one of your devices.",
                page="me-recovery",
                page_words="Look at the request",
            )
        )
    if contacts.open_requests_to(actor.person_id, limit=1):
        found.append(
            Duty(
                "wait",
                "Somebody asks for the share that you keep for them",
                "Call them first. Then give it, or do not, with your client.",
                page="me-recovery",
                page_words="Look at the request",
            )
        )
    return found


def _devices(actor: Actor, now: datetime) -> list[Duty]:
    assert actor.person_id is not None
    listed, _ = own_devices.of(actor.person_id, now=now, limit=LOOKED_AT)
    states = [one.standing.device.state for one in listed]
    found = []
    if DeviceState.PENDING in states:
        found.append(
            Duty(
                "alarm",
                "A device waits to become one of yours",
                "If you did not enrol it, do not approve it, and tell an officer: somebody has a code of yours.",
                "holdfast devices list",
                "me-devices",
                "Look at it",
            )
        )
    if DeviceState.ACTIVE not in states:
        found.append(
            Duty(
                "wait",
                "You have no device",
                "Ask an owner or officer for an enrolment code, and enrol one.",
                "holdfast enrol --code-file code.txt",
            )
        )
    if any(one.is_stale for one in listed):
        found.append(
            Duty(
                "wait",
                "A device of yours is silent",
                f"It was not used for {own_devices.STALE.days} days. If it is lost, revoke it: until then it opens "
                "what is sent to you.",
                "holdfast devices revoke",
                "me-devices",
                "See which",
            )
        )
    return found


def _ways(actor: Actor) -> list[Duty]:
    assert actor.person_id is not None
    ways = len(keys.doors(actor.person_id))
    if ways >= WAYS_WANTED:
        return []
    there = "You have one way back to your keys" if ways else "You have no way back to your keys"
    text = (
        "Without a second one, losing it and your devices loses your keys."
        if ways
        else "Your devices are all that leads to them."
    )
    return [Duty("wait", there, text, "holdfast backup phrase", "me-recovery", "Your ways back")]


def _answer(actor: Actor) -> list[Duty]:
    assert actor.person_id is not None
    try:
        newest = escrow.newest_policy()
    except EscrowOff:
        return []
    answer = campaign.answer_of(newest, actor.person_id).answer
    if answer in ("agreed", "refused"):
        return []
    title = (
        "You never said whether your keys may go into escrow"
        if answer == "none"
        else "Your answer is to an older policy"
    )
    text = "Read the policy and answer it with your client: yes or no, both are answers."
    return [Duty("wait", title, text, "holdfast escrow status", "me-keys", "Who could open your keys")]


def _codes(actor: Actor) -> list[Duty]:
    assert actor.person_id is not None
    left, _ = sign_in.count_recovery_codes(tenants.person(actor.person_id))
    if left > FEW_CODES:
        return []
    title = "No recovery code is left" if not left else f"{left} recovery code{'s' if left > 1 else ''} left"
    text = "They stand in for your authenticator when you lose it. Make new ones."
    return [Duty("wait", title, text, page="me-factors", page_words="Make new codes")]
