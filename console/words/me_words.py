# SPDX-License-Identifier: Apache-2.0
"""What doors, notices and the like are called to the person whose they are.

Implements ORGANISATION "People" (each person). Tables and pure functions: it reads no rows.
"""

from __future__ import annotations

from typing import Final

DOORS: Final = {
    "password": "Recovery password",
    "phrase": "24 words",
    "passkey": "Passkey",
    "contacts": "Trusted contacts",
}
_OFFICERS: Final = "officers-"

# Notices about cases, by their kind; of several of a kind each has its number behind it.
_ABOUT_CASES: Final = {
    "opened": "Somebody asked to open your escrowed keys",
    "asked": "A recovery case waits for your decision",
    "requested": "A case to open escrowed keys was opened in your name",
    "released": "Your escrowed keys were released",
    "share": "A recovery case waits for another officer’s share",
    "voided": "A recovery case has ended",
}
# Mails about all else, by the event that they tell of.
_MAILS: Final = {
    "code-issued": "An enrolment code was issued for you",
    "contacts-collected": "Shares of your trusted contacts were collected",
    "contacts-request": "A device asked your trusted contacts for your vault",
    "device-enrolled": "A device was enrolled in your name",
    "device-joined": "A device joined your account",
    "device-restored": "A device of yours came back after a restored backup",
    "door-read": "A door of your vault was read by a device that is not in your account",
    "escrow-ending": "A policy or an escrow key runs out",
    "escrow-key-proposed": "An escrow key was proposed to the officers",
    "officer-keys-lost": "An officer’s keys were lost with a device",
    "policy-proposed": "A policy was proposed",
    "policy-published": "A policy was published",
}
STATES: Final = {
    "pending": ("wait", "not sent yet"),
    "handed-over": ("ok", "handed to the mail system"),
    "failed": ("alarm", "could not be delivered"),
}


def door(kind: str) -> str:
    """Return what a door is called; a kind that is not known here stands for itself."""
    name = kind.removeprefix(_OFFICERS)
    words = DOORS.get(name, name)
    return f"{words}, of your officer’s keys" if kind.startswith(_OFFICERS) else words


def case_notice(kind: str) -> str:
    """Return what a notice about a case told."""
    return _ABOUT_CASES.get(kind.partition("-")[0], kind)


def mail(event: str) -> str:
    """Return what a mail told of."""
    return _MAILS.get(event, event)
