# SPDX-License-Identifier: Apache-2.0
"""The profile's part of telling two copies of it from one: its marks, kept before they are said, and what was heard.

Implements docs/formats/requests.md (Turns) and docs/formats/profile.md (`turn`).
Believes the server no further than to tell the person: a server that lies about it costs them a look, and nothing else.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Final

from holdfast.client.profile.store import Store
from holdfast.core.base.rows import octets, open_row, seal_row, uint
from holdfast.core.signed.turns import MARK_SIZE, Answered, Turn

TURN: Final = "turn"  # row kind, by the 16-byte device whose key signs: each device's openings follow one another


@dataclass(frozen=True)
class Standing:
    """What a profile keeps of its openings. mark: of the last one that the server took; next: drawn, not taken yet.

    breaks: how often an opening of this profile did not follow the newest one. broken_at: UTC seconds of the last.
    """

    mark: Annotated[bytes, octets()] = b""
    next: Annotated[bytes, octets()] = b""
    breaks: Annotated[int, uint()] = 0
    broken_at: Annotated[int, uint()] = 0


class Turns:
    """The turn of one opening: drawn when the first request is signed, and the same for all that follow.

    A mark that no answer has confirmed is said again by the next opening, so that a lost answer breaks nothing.
    """

    def __init__(self, store: Store, device: bytes, now: Callable[[], int]) -> None:
        self._store = store
        self._device = device
        self._now = now
        self._said: Turn | None = None
        self._is_heard = False
        self.is_broken = False

    def say(self) -> str:
        """Return the field holdfast-turn of a request."""
        if self._said is None:
            kept = standing(self._store, self._device)
            if not kept.next:
                kept = replace(kept, next=secrets.token_bytes(MARK_SIZE))
                self._save(kept)
            self._said = Turn(kept.next, kept.mark)
        return self._said.text

    def hear(self, answered: Answered) -> None:
        """Take what an answer says of the turn. What is about another's mark is of no interest."""
        if self._said is None or answered.mark != self._said.mark:
            return
        is_new = bool(answered.breaks) and not self.is_broken
        if self._is_heard and not is_new:
            return
        kept = standing(self._store, self._device)
        if is_new:
            self.is_broken = True
            kept = replace(kept, breaks=kept.breaks + 1, broken_at=self._now())
        self._is_heard = True
        self._save(replace(kept, mark=self._said.mark, next=b""))

    def _save(self, kept: Standing) -> None:
        with self._store.transaction():
            for other in self._store.keys(TURN):
                if other != self._device:
                    self._store.delete(TURN, other)  # of a device whose keys were replaced
            self._store.put(TURN, self._device, seal_row(kept))


def standing(store: Store, device: bytes) -> Standing:
    """Return what a profile keeps of the openings of its device. device: 16 bytes."""
    row = store.get(TURN, device)
    return open_row(Standing, row, "profile turn") if row is not None else Standing()


def words_of(kept: Standing) -> tuple[str, str]:
    """Say what a break means, and what its person does."""
    said = "This profile is not the newest one: it was put back from an older copy, or is used on another machine, too."
    if kept.breaks > 1:
        said = f"This profile is used on another machine, too: {kept.breaks} times it was not the newest one."
    return said, (
        "If you or your operator put something back, it goes on from here, and nothing is to be done. If another "
        "machine uses it, stop it there and enrol that machine anew: two copies lose each other's messages. If neither "
        "was you, somebody has a copy: on another device, holdfast devices revoke; and tell your officers."
    )
