# SPDX-License-Identifier: Apache-2.0
"""A state in its store: one row for the account, and one for each contact, written only when it has changed.

Implements docs/formats/profile.md (`state`, `contact`).
Does not know what a state means (`state`), nor when it is written: every module that changes it says so.
"""

from __future__ import annotations

from typing import Final

from holdfast.client.errors import NotPossible, UpdateNeeded, damaged
from holdfast.client.profile.state import Contact, State
from holdfast.client.profile.store import Store
from holdfast.core.base.errors import Malformed
from holdfast.core.base.rows import RowTooLong, open_row, seal_row

STATE: Final = ("state", b"")
CONTACT: Final = "contact"

_Snapshot = tuple[tuple[bytes, ...], tuple[bytes, ...], int, bytes]


class StateRows:
    """Writes states into one store.

    A contact's chain grows by an entry whenever they replace a key, and there may be hundreds of contacts: in one row
    the chains would outgrow it within a year, and be encrypted anew at every message.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._written: dict[bytes, _Snapshot] = {}
        self._undone = store.undone

    def save(self, state: State) -> None:
        """Write what has changed, all of it or nothing. Raises NotPossible for a state too long to be read again."""
        try:
            secret = state.to_secret()
        except RowTooLong:
            raise NotPossible("This profile is full: what your organisation signed has outgrown it.") from None
        if self._undone != self._store.undone:
            # What was written in a transaction that was undone is not there, though it is in memory.
            self._written.clear()
            self._undone = self._store.undone
        with self._store.transaction():
            for user in set(self._store.keys(CONTACT)) - state.contacts.keys():
                self._store.delete(CONTACT, user)
                self._written.pop(user, None)
            for user, contact in state.contacts.items():
                self._save_contact(user, contact)
            self._store.put(*STATE, secret)

    def _save_contact(self, user: bytes, contact: Contact) -> None:
        now = _snapshot(contact)
        if self._written.get(user) != now:
            self._store.put(CONTACT, user, seal_row(contact))
            self._written[user] = now

    def load(self) -> State:
        """Read the state. Raises ProfileError when there is none, UpdateNeeded for a newer version's."""
        secret = self._store.get(*STATE)
        if secret is None:
            raise damaged("it has no state")
        try:
            state = State.from_secret(secret)
            for user in self._store.keys(CONTACT):
                row = self._store.get(CONTACT, user)
                if row is not None:
                    state.contacts[user] = open_row(Contact, row, "profile contact")
                    self._written[user] = _snapshot(state.contacts[user])
        except Malformed as error:
            # Its encryption held, so nobody and no disk has changed it: this program does not know what it says.
            raise UpdateNeeded from error
        return state


def _snapshot(contact: Contact) -> _Snapshot:
    return tuple(contact.entries), tuple(contact.unconfirmed), contact.suite, contact.verified
