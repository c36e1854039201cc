# SPDX-License-Identifier: Apache-2.0
"""Who could forbid a case, and since which entry of the log: an active person with a device that may act.

Implements ESCROW "Case" (a subject who is suspended, gone or without a device). Entries are the web process's word;
what it has said is never unsaid for a case that was open. Bounded by people and the devices that their chains list.
It judges nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Presence:
    """Ids are 16 bytes; an index is an entry's place in the log."""

    active: set[bytes] = field(default_factory=set)
    owners: dict[bytes, bytes] = field(default_factory=dict)  # device that its chain lists → person
    acting: dict[bytes, set[bytes]] = field(default_factory=dict)  # person → their devices that may act
    objecting_since: dict[bytes, int] = field(default_factory=dict)  # person → index; nobody who cannot forbid a case

    def since(self, person: bytes) -> int | None:
        """Return the index since which somebody could object without a break, or None when they cannot now."""
        return self.objecting_since.get(person)

    def person_is(self, person: bytes, index: int, *, active: bool) -> None:
        """Take in that a person is active, or suspended."""
        (self.active.add if active else self.active.discard)(person)
        self._look_at(person, index)

    def is_listed(self, device: bytes, person: bytes, index: int) -> None:
        """Take in that a person's chain lists a device, which acts from then on."""
        self.owners[device] = person
        self.acts(device, index, may=True)

    def acts(self, device: bytes, index: int, *, may: bool) -> None:
        """Take in that a device may act, or that it was suspended; of one that no chain lists it says nothing."""
        person = self.owners.get(device)
        if person is None:
            return
        acting = self.acting.setdefault(person, set())
        (acting.add if may else acting.discard)(device)
        self._look_at(person, index)

    def ends(self, device: bytes, index: int) -> None:
        """Take in that a device was revoked, for ever."""
        self.acts(device, index, may=False)
        self.owners.pop(device, None)

    def _look_at(self, person: bytes, index: int) -> None:
        if person in self.active and self.acting.get(person):
            self.objecting_since.setdefault(person, index)
        else:
            self.objecting_since.pop(person, None)
