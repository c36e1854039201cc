# SPDX-License-Identifier: Apache-2.0
"""What is owed to each device that writes to this one: acknowledgements, a session begun anew, what it did not read.

Implements the rows of "Acknowledged and sent again" of docs/formats/messages.md, on `holdfast.core.messages.repeats`.
Sends nothing; `settling` does, once what came is safe.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Final

from holdfast.client.messages import quotas, unsent
from holdfast.client.messages.quotas import Quota
from holdfast.client.profile.account import Account
from holdfast.client.profile.store import Store
from holdfast.client.sessions.sessions import Address, Place
from holdfast.core.base.encoding import MAX_BLOB, encode
from holdfast.core.base.rows import flag, octets, open_row, seal_row, several, uint
from holdfast.core.base.secret import SecretBytes
from holdfast.core.messages import repeats
from holdfast.core.messages.session import Session

_RENEWAL: Final = "renewal"
_OWED: Final = "owed-acknowledgement"
# Devices in whose name something came that did not open. The server names them, so there is an end; whoever is one too
# many stands in a report like every other.
_MOST: Final = 1000
# What was read and could not be acknowledged yet, since the server is away. Who is above it is sent nothing twice that
# would be lost: their device sends again what is not acknowledged, and is told then.
_OWED_QUOTA: Final = Quota(of_one=2000, of_all=10_000)


@dataclass(frozen=True)
class Renewal:
    """What is owed to one device. begun: when a session with it was tried, answered: its greetings, UTC seconds.

    is_unread: something of it did not open. session: the 16-byte id of the session begun last, or b"". greeting: that
    session's first message while the server has not taken it, or b"". is_greeted: it has begun anew, and awaits an
    answer. is_again: what it has not acknowledged is to be sent again.
    """

    ROW_SIZE: ClassVar = 2 * MAX_BLOB

    peer: Address
    is_unread: Annotated[bool, flag()] = False
    session: Annotated[bytes, octets(0, 16)] = b""
    greeting: Annotated[bytes, octets()] = b""
    begun: Annotated[tuple[int, ...], several(uint(), of=tuple, maximum=64)] = ()
    is_greeted: Annotated[bool, flag()] = False
    answered: Annotated[tuple[int, ...], several(uint(), of=tuple, maximum=64)] = ()
    is_again: Annotated[bool, flag()] = False

    @property
    def is_owed(self) -> bool:
        """Whether there is anything to send."""
        return self.is_unread or bool(self.greeting) or self.is_greeted or self.is_again


def load(store: Store, peer: Address) -> Renewal:
    """Return what is owed to a device."""
    kept = store.get(_RENEWAL, peer.user + peer.device)
    return open_row(Renewal, kept, "renewal", peer=peer) if kept else Renewal(peer)


def save(account: Account, row: Renewal) -> None:
    """Write what is owed to a device, or destroy the row of one to which nothing is, a day after the last."""
    now, key = account.api.clock.now(), row.peer.user + row.peer.device
    row = replace(row, begun=repeats.of_the_day(row.begun, now), answered=repeats.of_the_day(row.answered, now))
    if row.is_owed or row.begun or row.answered:
        account.store.put(_RENEWAL, key, seal_row(row))
    else:
        account.store.delete(_RENEWAL, key)


def note_unread(account: Account, peer: Address) -> bool:
    """Note that something in another device's name did not open, in the caller's transaction.

    Nobody is believed by it: `settling` asks that device's own account, and bounds how often. False where nothing comes
    of it: in this device's own name, and when there are too many names.
    """
    if peer.device == account.device.id:
        return False
    keys = account.store.keys(_RENEWAL)
    if len(keys) >= _MOST and peer.user + peer.device not in keys:
        return False
    save(account, replace(load(account.store, peer), is_unread=True))
    return True


def note_opened(account: Account, peer: Address, session: Session) -> None:
    """Note that a message opened: in the session begun last, what was unread before it was sent before it."""
    row = load(account.store, peer)
    if row.is_unread and row.session == session.id:
        save(account, replace(row, is_unread=False))


def note_greeted(account: Account, peer: Address) -> None:
    """Note that a device has begun a session anew, as one that could not read what it was sent."""
    save(account, replace(load(account.store, peer), is_greeted=True))


def note_again(account: Account, peer: Address) -> None:
    """Note that what a device has not acknowledged is to be sent to it again."""
    save(account, replace(load(account.store, peer), is_again=True))


def note_tried(account: Account, peer: Address) -> None:
    """Note that a key of a device is about to be claimed: it is used up also where no session comes of it."""
    row = load(account.store, peer)
    save(account, replace(row, begun=(*row.begun, account.api.clock.now())))


def note_begun(account: Account, peer: Address, place: Place, greeting: bytes) -> Renewal:
    """Note the session that was begun anew with a device, and its first message, until the server has taken that."""
    row = replace(load(account.store, peer), is_unread=False, session=place.id, greeting=greeting, is_again=True)
    save(account, row)
    return row


def begun_of_all(account: Account) -> Counter[bytes]:
    """Count the sessions that were tried within a day, by the users (16 bytes each) of the devices."""
    now, store, found = account.api.clock.now(), account.store, Counter[bytes]()
    for key in store.keys(_RENEWAL):
        row = load(store, _address(key))
        if today := repeats.of_the_day(row.begun, now):
            found[row.peer.user] += len(today)
    return found


def forget(store: Store, peer: Address) -> None:
    """Owe a device nothing more, in the caller's transaction."""
    store.delete(_RENEWAL, peer.user + peer.device)
    unsent.forget(store, peer, b"")
    unsent.forget_others(store, peer, ())
    settle(store, peer, owed(store, peer))


def prune(account: Account) -> int:
    """Destroy rows that bound nothing any more; returns how many."""
    before = account.store.keys(_RENEWAL)
    with account.store.transaction():
        for key in before:
            save(account, load(account.store, _address(key)))
    return len(before) - len(account.store.keys(_RENEWAL))


# Acknowledgements


def owe(store: Store, peer: Address, message_id: bytes) -> None:
    """Owe a device the acknowledgement of a message (16 bytes) that an app has taken, in the caller's transaction."""
    store.put(_OWED, peer.user + peer.device + message_id, SecretBytes(encode(1)))
    quotas.trim(store, _OWED, _OWED_QUOTA)


def owed(store: Store, peer: Address) -> list[bytes]:
    """Return the ids that a device is owed, oldest first."""
    head = peer.user + peer.device
    return [key[len(head) :] for key in store.keys(_OWED) if key.startswith(head)]


def settle(store: Store, peer: Address, message_ids: Collection[bytes]) -> None:
    """Owe a device these acknowledgements no more, in the caller's transaction."""
    for message_id in message_ids:
        store.delete(_OWED, peer.user + peer.device + message_id)


def peers(store: Store) -> list[Address]:
    """Return the devices to which something is owed."""
    found = {key[:32]: None for key in store.keys(_OWED)}
    found |= {key: None for key in store.keys(_RENEWAL) if load(store, _address(key)).is_owed}
    return [_address(key) for key in found]


def _address(key: bytes) -> Address:
    return Address(key[:16], key[16:32])
