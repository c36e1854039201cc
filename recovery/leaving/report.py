# SPDX-License-Identifier: Apache-2.0
"""What was done when a person left, and what can still be opened of theirs: what their page says of them for ever.

Implements ORGANISATION "People" (leaver). It writes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from audit import access as audit
from escrow import access as escrow
from kernel.actors import Actor
from recovery import access
from recovery.leaving.preview import CaseFate, Custody, accounts_of, cases_of, custody_of
from recovery.models import Shredding
from tenants.models import Person

# The counts that an entry may name, in the order in which they are read.
STOPPED = {
    "sessions": "Sessions of the console ended",
    "devices": "Devices off for good",
    "ways_in": "Invitations and codes voided",
    "requests": "Requests to trusted contacts ended",
    "acts": "Acts waiting for a second person withdrawn",
}
DESTROYED = {
    "deposits": "Deposits",
    "releases": "Released deposits in cases",
    "given": "Shares that officers or contacts had given",
    "vaults": "Sections of the vault",
    "doors": "Doors of the vault",
    "contacts": "Sets of trusted contacts",
    "messages": "Messages that waited",
}


@dataclass(frozen=True)
class Report:
    """What became of a person who left. at, by_id: none of whoever left before there were reports.

    cases: with a part of theirs that still go on, as far as the reader may know. deposits_left: not shredded yet.
    """

    at: datetime | None
    by_id: UUID | None
    stopped: tuple[tuple[str, int], ...]
    custody: Custody
    cases: tuple[CaseFate, ...]
    accounts: tuple[str, ...]
    shredding: Shredding | None
    destroyed: tuple[tuple[str, int], ...]
    deposits_left: int


def report_of(person: Person, *, reader: Actor) -> Report:
    """Return the report on a person who has left."""
    entry = audit.last_entry(str(person.pk), tag="recovery:person:leave")
    counts = entry.body if entry else {}
    shredding = access.shredding_of(person.pk)
    return Report(
        at=entry.time if entry else None,
        by_id=entry.person_id if entry else None,
        stopped=tuple((words, int(counts[name])) for name, words in STOPPED.items() if name in counts),
        custody=custody_of(person.pk),
        cases=tuple(cases_of(person.pk, reader=reader)),
        accounts=accounts_of(person.pk),
        shredding=shredding,
        destroyed=tuple((words, shredding.done.get(name, 0)) for name, words in DESTROYED.items()) if shredding else (),
        deposits_left=escrow.count_deposits(person.pk) if shredding else 0,
    )
