# SPDX-License-Identifier: Apache-2.0
"""The sessions of this device with other devices, as rows of its store: at most four for each, newest first.

Implements PROTOCOL section 4 (repeated initial parts, the seen-set) and PROTOCOL section 5 (a revoked device's go).
Begins no session and opens no message: `handshakes` and `inbox` do, inside the caller's transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from holdfast.client.profile.account import Account
from holdfast.client.profile.store import Store
from holdfast.core.base.encoding import MAX_BLOB, Encodable, Value, decode, encode
from holdfast.core.base.rows import decode_row, encode_row, octets, open_row, seal_row, spread, uint
from holdfast.core.base.secret import SecretBytes
from holdfast.core.base.writing import require_readable
from holdfast.core.identity.chain import ChainState
from holdfast.core.messages.session import Session
from holdfast.core.signed.payloads import MAX_AHEAD_SECONDS

# With one device: both ends may begin at once, and again after a loss; Sesame keeps few as well.
MOST_SESSIONS: Final = 4
# An initial part may come again for as long as its signed pre-key's private half is kept: 30 days in use, 30 after.
INITIAL_LIFE_SECONDS: Final = 60 * 86_400
# A session is sent on for 7 days from when its end has it, a message waits for 30 at most: the responder may have it 30
# days late, so the initiator hears from it for 67.
SESSION_LIFE_SECONDS: Final = 67 * 86_400
INITIAL, SEEN = "initial", "seen"
_PEER, _SESSION, _SKIPPED = "peer", "session", "skipped"
_MAX_INDEX: Final = 64 * 1024  # bytes: four sessions with each of hundreds of devices
_MAX_ROW: Final = 2 * MAX_BLOB  # bytes: what a used one-time key is kept with, a whole first message


@dataclass(frozen=True)
class Address:
    """One end of a session: a user and one of their devices, 16 bytes each."""

    user: Annotated[bytes, octets(16)]
    device: Annotated[bytes, octets(16)]


@dataclass(frozen=True)
class Place:
    """Where a session lies: with whom, its 16-byte id, and the own device (16 bytes) that it was begun with."""

    peer: Address
    id: bytes
    own: bytes

    @property
    def key(self) -> bytes:
        """The key of its rows."""
        return self.peer.user + self.peer.device + self.id


@dataclass(frozen=True)
class _Initial:
    """Where an initial part led, kept until nobody can send it again. until: UTC seconds, first in every such row."""

    until: Annotated[int, uint()]
    peer: Annotated[Address, spread(Address)]
    id: Annotated[bytes, octets(16)]
    own: Annotated[bytes, octets(16)]


@dataclass(frozen=True)
class _Seat:
    """One session in the index of a user: with which device, its 16-byte id, and the own device it was begun with."""

    device: Annotated[bytes, octets(16)]
    id: Annotated[bytes, octets(16)]
    own: Annotated[bytes, octets(16)]


def places(store: Store, peer: Address) -> list[Place]:
    """Return the sessions with one device, the one received on most recently first."""
    return [place for place in _index(store, peer.user) if place.peer == peer]


def places_of(store: Store, user: bytes) -> list[Place]:
    """Return the sessions with all devices of a user (16 bytes)."""
    return _index(store, user)


def peers(store: Store) -> list[bytes]:
    """Return the users (16 bytes each) with whom there are sessions."""
    return store.keys(_PEER)


def load(store: Store, place: Place, *, for_receiving: bool) -> Session | None:
    """Return a session, with its skipped keys when it is to receive; they are left alone in sending."""
    secret = store.get(_SESSION, place.key)
    if secret is None:
        return None
    session = Session.from_secret(secret)
    if for_receiving and (skipped := store.get(_SKIPPED, place.key)):
        session.restore_skipped(skipped)
    return session


def to_send(account: Account, peer: Address) -> tuple[Place, Session] | None:
    """Return the newest session of this device with another that is not due for a new handshake, or None."""
    now = account.api.clock.latest()
    for place in places(account.store, peer):
        if place.own != account.device.id:
            continue
        session = load(account.store, place, for_receiving=False)
        if session is not None and not session.needs_handshake(now):
            return place, session
    return None


def newest(account: Account, peer: Address) -> tuple[Place, Session] | None:
    """Return the newest session of this device with another, also one that is due for a new handshake, or None."""
    for place in places(account.store, peer):
        session = load(account.store, place, for_receiving=False) if place.own == account.device.id else None
        if session is not None:
            return place, session
    return None


def put(store: Store, place: Place, session: Session, *, was_received_on: bool) -> None:
    """Write a session's rows. One that is new, or was received on, becomes the newest; beyond four the oldest goes."""
    with store.transaction():
        store.put(_SESSION, place.key, session.to_secret())
        if session.is_skipped_changed:
            store.put(_SKIPPED, place.key, session.skipped_to_secret())
        index = _index(store, place.peer.user)
        of_device = [other for other in index if other.peer == place.peer]
        if place in of_device and (not was_received_on or of_device[0] == place):
            return
        of_device = [place, *(other for other in of_device if other != place)]
        for old in of_device[MOST_SESSIONS:]:
            _destroy(store, old)
        others = [other for other in index if other.peer != place.peer]
        _write(store, place.peer.user, [*others, *of_device[:MOST_SESSIONS]])


def drop(store: Store, user: bytes, device: bytes | None = None) -> int:
    """Destroy the sessions with one device of a user, or with all of them; returns how many there were."""
    with store.transaction():
        index = _index(store, user)
        gone = [place for place in index if device in (None, place.peer.device)]
        for place in gone:
            _destroy(store, place)
        if gone:
            _write(store, user, [place for place in index if place not in gone])
    return len(gone)


def gone(store: Store, state: ChainState) -> list[bytes]:
    """Return the devices with which there are sessions although the user's chain lists them no longer."""
    known = dict.fromkeys(place.peer.device for place in _index(store, state.user))
    return [device for device in known if device not in state.devices]


def drop_gone(store: Store, state: ChainState) -> int:
    """Destroy the sessions with every device that the user's chain no longer lists; returns how many there were."""
    if not (devices := gone(store, state)):
        return 0
    with store.transaction():
        return sum(drop(store, state.user, device) for device in devices)


def route(store: Store, initial_hash: bytes) -> Place | None:
    """Return the session that an initial part began here, found by its hash before any key is looked up."""
    row = store.get(INITIAL, initial_hash)
    if row is None:
        return None
    initial = open_row(_Initial, row, "initial part")
    return Place(initial.peer, initial.id, initial.own)


def remember_initial(store: Store, place: Place, session: Session, *, now: int) -> None:
    """Keep the hash of the initial part of a session begun by the peer, and its transcript when no key was used up."""
    until = now + INITIAL_LIFE_SECONDS
    store.put(INITIAL, session.initial_hash, seal_row(_Initial(until, place.peer, place.id, place.own)))
    if session.is_last_resort:
        store.put(SEEN, session.transcript, SecretBytes(encode([until])))


def was_seen(store: Store, session: Session) -> bool:
    """Whether a handshake without a one-time key has begun a session here before: a replay."""
    return store.get(SEEN, session.transcript) is not None


def last_resorts_since(store: Store, since: int) -> int:
    """Count the sessions begun here without a one-time key from a time on, in UTC seconds."""
    count = 0
    for key in reversed(store.keys(SEEN)):
        if _until(store, SEEN, key) - INITIAL_LIFE_SECONDS < since:
            break
        count += 1
    return count


def prune(store: Store, kind: str, *, now: int, life: int) -> int:
    """Destroy the rows of a kind whose time, their first item, is over. They were written in the order of it.

    now: UTC seconds that were confirmed. life: the seconds that a row of now has. One of longer was written under a
    clock that was ahead: it has that long from now on, and keeps none after it from its end.
    """
    destroyed = 0
    with store.transaction():
        for key in store.keys(kind):
            until, rest = _row(store, kind, key)
            if until > now + life + MAX_AHEAD_SECONDS:
                store.put(kind, key, SecretBytes(encode([now + life, *rest])))
            elif until > now:
                break
            else:
                store.delete(kind, key)
                destroyed += 1
    return destroyed


def _until(store: Store, kind: str, key: bytes) -> int:
    return _row(store, kind, key)[0]


def _row(store: Store, kind: str, key: bytes) -> tuple[int, list[Encodable]]:
    """Return the time in front of a row, and the rest of it."""
    row = store.get(kind, key)
    value = decode(row.reveal(), max_size=_MAX_ROW) if row else None
    assert isinstance(value, list)
    until, *rest = value
    assert isinstance(until, int)
    return until, list[Encodable](rest)


def _destroy(store: Store, place: Place) -> None:
    store.delete(_SESSION, place.key)
    store.delete(_SKIPPED, place.key)


def _index(store: Store, user: bytes) -> list[Place]:
    kept = store.get(_PEER, user)
    value: Value = decode(kept.reveal(), max_size=_MAX_INDEX) if kept else []
    assert isinstance(value, list)
    seats = [decode_row(_Seat, row, "peer") for row in value]
    return [Place(Address(user, seat.device), seat.id, seat.own) for seat in seats]


def _write(store: Store, user: bytes, index: list[Place]) -> None:
    rows: list[Encodable] = [encode_row(_Seat(place.peer.device, place.id, place.own)) for place in index]
    if rows:
        index_row = require_readable(lambda octets: decode(octets, max_size=_MAX_INDEX), encode(rows))
        store.put(_PEER, user, SecretBytes(index_row))
    else:
        store.delete(_PEER, user)


def prune_sessions(store: Store, *, now: int) -> int:
    """Destroy sessions in which nothing can arrive any more, and skipped keys past their time; returns how many rows.

    now: UTC seconds that were confirmed. Nothing else does: receiving asks for no head of the log, and without one no
    clock is believed to destroy.
    """
    count = 0
    with store.transaction():
        for user in peers(store):
            for place in _index(store, user):
                session = load(store, place, for_receiving=True)
                if session is None or now - session.created_at >= SESSION_LIFE_SECONDS:
                    _destroy(store, place)
                    _write(store, user, [other for other in _index(store, user) if other != place])
                    count += 1
                    continue
                if session.created_at > now + MAX_AHEAD_SECONDS:
                    # Begun under a clock that was ahead: it has its time from today.
                    session.created_at = now
                    store.put(_SESSION, place.key, session.to_secret())
                session.expire(now)
                if session.is_skipped_changed:
                    store.put(_SKIPPED, place.key, session.skipped_to_secret())
                    count += 1
    return count
