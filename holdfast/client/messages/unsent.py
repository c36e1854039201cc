# SPDX-License-Identifier: Apache-2.0
"""What was encrypted for one device and not taken by the server yet, and how long it is waited before the next try.

Implements the rows of "Acknowledged and sent again" of docs/formats/messages.md: a message is encrypted once for each
session, since a session opens only so many after one that it did not get. Sends nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from holdfast.client.errors import ClientError, Problem
from holdfast.client.profile.account import Account
from holdfast.client.profile.store import Store
from holdfast.client.sessions.sessions import Address, Place
from holdfast.core.base.encoding import MAX_BLOB
from holdfast.core.base.rows import octets, open_row, seal_row, several, uint
from holdfast.core.messages import repeats
from holdfast.core.messages.content import MAX_ACKNOWLEDGED

_UNSENT: Final = "unsent"
_PAUSE: Final = "pause"


@dataclass(frozen=True)
class Unsent:
    """One message as it was encrypted. session: its 16-byte id. acknowledged: the ids that it acknowledges."""

    ROW_SIZE: ClassVar = 2 * MAX_BLOB

    session: Annotated[bytes, octets(16)]
    message: Annotated[bytes, octets()]
    acknowledged: Annotated[tuple[bytes, ...], several(octets(16), of=tuple, maximum=MAX_ACKNOWLEDGED)] = ()


def keep(store: Store, peer: Address, what: bytes, row: Unsent) -> None:
    """Keep a message for a device, in the transaction that writes its session.

    what: the key of what is sent again, b"" for acknowledgements; one message is kept for each.
    """
    store.put(_UNSENT, _key(peer, what), seal_row(row))


def find(store: Store, place: Place, what: bytes) -> Unsent | None:
    """Return what was encrypted in a session and is not taken yet; None where it was in another, or not at all."""
    kept = store.get(_UNSENT, _key(place.peer, what))
    row = open_row(Unsent, kept, "unsent message") if kept else None
    return row if row and row.session == place.id else None


def forget(store: Store, peer: Address, what: bytes) -> None:
    """Destroy a message that is taken, or given up, and its wait; in the caller's transaction."""
    for kind in (_UNSENT, _PAUSE):
        store.delete(kind, _key(peer, what))


def forget_others(store: Store, peer: Address, still: Collection[bytes]) -> None:
    """Destroy what was to be sent to a device again and is waited for no more, but for acknowledgements."""
    head = _key(peer, b"")
    for kind in (_UNSENT, _PAUSE):
        for key in store.keys(kind):
            if key.startswith(head) and key != head and key[len(head) :] not in still:
                store.delete(kind, key)


# How long the server is left alone after a refusal


@dataclass(frozen=True)
class _Pause:
    """refused: how often in a row. until: UTC seconds."""

    refused: Annotated[int, uint()]
    until: Annotated[int, uint()]


def pause(account: Account, peer: Address, what: bytes, error: ClientError) -> None:
    """Leave the server alone after a refusal, the longer the more there were. what: as in `keep`, b"" for a device."""
    refused = (row.refused if (row := _load(account.store, _key(peer, what))) else 0) + 1
    asked = error.retry_after if isinstance(error, Problem) else 0
    until = account.api.clock.now() + repeats.pause_seconds(refused, asked)
    account.store.put(_PAUSE, _key(peer, what), seal_row(_Pause(refused, until)))


def is_paused(account: Account, peer: Address, what: bytes = b"") -> bool:
    """Whether it is too early for another try. A clock that was ahead when it was refused holds up nothing for long."""
    row = _load(account.store, _key(peer, what))
    return row is not None and 0 < row.until - account.api.clock.now() <= repeats.MOST_PAUSED_SECONDS


def resume(store: Store, peer: Address) -> None:
    """Wait no more for a device: the server has taken all that could be sent to it."""
    if store.get(_PAUSE, _key(peer, b"")) is not None:
        store.delete(_PAUSE, _key(peer, b""))


def prune(account: Account) -> int:
    """Destroy the waits that are over for as long as one lasts at most; returns how many."""
    now, store = account.api.clock.now(), account.store
    over = [
        key
        for key in store.keys(_PAUSE)
        if (row := _load(store, key)) and abs(now - row.until) > repeats.MOST_PAUSED_SECONDS
    ]
    for key in over:
        store.delete(_PAUSE, key)
    return len(over)


def _load(store: Store, key: bytes) -> _Pause | None:
    kept = store.get(_PAUSE, key)
    return open_row(_Pause, kept, "pause") if kept else None


def _key(peer: Address, what: bytes) -> bytes:
    return peer.user + peer.device + what
