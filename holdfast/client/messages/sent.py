# SPDX-License-Identifier: Apache-2.0
"""What was sent and not acknowledged yet: kept sealed, message by message, for the devices that have not said so.

Implements "Acknowledged and sent again" of docs/formats/messages.md on `holdfast.core.messages.repeats`.
Sends nothing, and believes an acknowledgement of nobody but the device that it is from.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, ClassVar, Final
from uuid import UUID

from holdfast.client.messages import reports
from holdfast.client.messages.reports import ReportKind
from holdfast.client.profile.account import Account
from holdfast.client.profile.store import Store
from holdfast.client.sessions.sessions import Address
from holdfast.core.base.rows import flag, octets, open_row, pair, seal_row, several, uint
from holdfast.core.messages import repeats
from holdfast.core.messages.content import Content, ContentKind
from holdfast.core.signed.payloads import MAX_AHEAD_SECONDS

_SENT: Final = "sent"
_BODY: Final = "sent-body"
_TOTAL: Final = "sent-total"
_MAX_BODY: Final = 2 * 1024 * 1024  # bytes of a row: large content beside the content that names it
_DAY: Final = 86_400
_USER: Final = 16  # octets at the beginning of a key: to whom


@dataclass(frozen=True)
class Sent:
    """One message to the devices of one user. key: that user, and the message's name (`Content.name`), 16 bytes each.

    sent_at: when it was written, tried_at: when it was last sent again, UTC seconds. octets: what it counts as.
    is_acknowledged: by at least one device. waiting: each device that has not, with the session it went in; without
    one where it is still to be sent. overtaken: those of them that have acknowledged a later message. id: of it.
    """

    key: bytes
    sent_at: Annotated[int, uint()]
    tried_at: Annotated[int, uint()]
    octets: Annotated[int, uint()]
    is_acknowledged: Annotated[bool, flag()]
    waiting: Annotated[tuple[tuple[bytes, bytes], ...], several(pair(octets(16), octets(0, 16)), of=tuple)]
    overtaken: Annotated[tuple[bytes, ...], several(octets(16), of=tuple)]
    id: Annotated[bytes, octets(16)]

    @property
    def user(self) -> bytes:
        """To whom."""
        return self.key[:_USER]

    @property
    def devices(self) -> list[bytes]:
        """The devices that have not acknowledged it."""
        return [device for device, _ in self.waiting]

    def session_with(self, device: bytes) -> bytes | None:
        """Return the session in which a device was sent it, b"" before it was; None when it is not waited for."""
        return dict(self.waiting).get(device)


@dataclass(frozen=True)
class Body:
    """What is sent again: the encoded content, and the large ciphertext that it names, or b""."""

    ROW_SIZE: ClassVar = _MAX_BODY

    plaintext: Annotated[bytes, octets()]
    content: Annotated[bytes, octets()]


@dataclass(frozen=True)
class Unconfirmed:
    """A message that is kept here since not every device of `user` has said that it is there. id: 16 bytes.

    devices: those that have not. is_confirmed: whether at least one has. A message to oneself is a copy.
    """

    id: bytes
    user: UUID
    sent_at: datetime
    devices: tuple[UUID, ...]
    is_confirmed: bool


def keep(account: Account, user: bytes, what: Body, *, at: int, places: Sequence[tuple[bytes, bytes]]) -> None:
    """Keep a message until its devices have acknowledged it, in the transaction that encrypts it for them.

    at: when it was written. places: each device, with the id of the session that it is sent in. What is not for a
    person is not kept.
    """
    said = Content.decode(what.plaintext)
    if said.kind not in (ContentKind.BYTES, ContentKind.LARGE):
        return
    store, key = account.store, user + said.name
    if before := _load(store, key):
        # Encrypted anew: it keeps its place among the others.
        _count(store, -before.octets)
    counted = repeats.counted(len(what.plaintext) + len(what.content))
    row = Sent(key, at, at, counted, False, tuple(places), (), said.message_id)
    _save(store, row)
    store.put(_BODY, key, seal_row(what))
    _count(store, row.octets)
    if _total(store) > repeats.KEPT_OCTETS:
        _trim(account)


def forget(store: Store, user: bytes, name: bytes) -> None:
    """Keep a message no longer, in the caller's transaction: it was never sent, or nobody is waited for."""
    if row := _load(store, user + name):
        _drop(store, row)


def acknowledge(account: Account, sender: Address, names: Collection[bytes]) -> None:
    """Take a device's word that it has messages of this one, in the caller's transaction.

    names: `Content.name` of each; one of nothing that was sent to its user changes nothing. What was kept before one
    that the device has, and is not among them, is noted as overtaken by it: told by the order of the rows, for a
    second may have many.
    """
    store = account.store
    keys = [key for key in store.keys(_SENT) if key[:_USER] == sender.user]
    had = [at for at, key in enumerate(keys) if key[_USER:] in names]
    for at, key in enumerate(keys[: had[-1] + 1] if had else []):
        row = _load(store, key)
        assert row is not None
        if at in had:
            left = tuple(place for place in row.waiting if place[0] != sender.device)
            _save_or_drop(store, replace(row, is_acknowledged=True, waiting=left))
        elif sender.device in row.devices and sender.device not in row.overtaken:
            _save(store, replace(row, overtaken=(*row.overtaken, sender.device)))


def find_lost(account: Account) -> set[Address]:
    """Have what was overtaken, and not sent again within a day, be due again, in the caller's transaction.

    Returns the devices that it is due to.
    """
    now, found = account.api.clock.now(), set[Address]()
    for row in list(_rows(account.store)):
        # One that was tried in the future, by a clock that was ahead, is due as well.
        is_due = abs(now - row.tried_at) >= _DAY
        # Without a session it is due already, or waited for no longer.
        lost = [device for device in row.overtaken if is_due and row.session_with(device)]
        if lost:
            waiting = tuple((device, b"" if device in lost else session) for device, session in row.waiting)
            _save(account.store, replace(row, waiting=waiting))
            found |= {Address(row.user, device) for device in lost}
    return found


def find_given_up(account: Account, before: int) -> set[Address]:
    """Have all that was last sent before a time (UTC seconds), and is not acknowledged, be due again.

    In the caller's transaction: the server may have lost it. Returns the devices that it is due to, each of which
    delivers once what it has already.
    """
    found: set[Address] = set()
    for row in list(_rows(account.store)):
        if row.tried_at <= before:
            _save(account.store, replace(row, waiting=tuple((device, b"") for device, _ in row.waiting)))
            found |= {Address(row.user, device) for device in row.devices}
    return found


def revise(account: Account, user: bytes, listed: Collection[bytes]) -> set[bytes]:
    """Wait for those devices alone that a user's chain lists, in the caller's transaction.

    listed: of 16 bytes each, without this one. What nobody has acknowledged is due to the devices that remain; where
    the chain lists none for now, to those that come within its month. Returns those that are to be sent something.
    """
    due: set[bytes] = set()
    for row in list(_of_user(account.store, user)):
        if not listed and not row.is_acknowledged and user != account.user:
            # Of a recovery the server may show the half that removes the devices: nothing is given up by that unsaid.
            continue
        still = repeats.still_due(row.devices, listed, is_acknowledged=row.is_acknowledged)
        if still != set(row.devices):
            due |= still - set(row.devices)
            places = tuple((device, row.session_with(device) or b"") for device in sorted(still))
            _save_or_drop(account.store, replace(row, waiting=places))
    return due


def devices_of_users(store: Store) -> dict[bytes, set[bytes]]:
    """Return, of each user to whom something was sent, the devices that are waited for; 16 bytes each.

    Of all users at once: looked up for each by itself, the rows would be gone through once for every user.
    """
    found: dict[bytes, set[bytes]] = {}
    for row in _rows(store):
        found.setdefault(row.user, set()).update(row.devices)
    return found


def users(store: Store) -> list[bytes]:
    """Return the users (16 bytes each) to whom something was sent that is not acknowledged by all."""
    return list(dict.fromkeys(key[:_USER] for key in store.keys(_SENT)))


def waiting_for(account: Account, peer: Address) -> Iterator[Sent]:
    """Give what a device has not acknowledged and may still be sent, oldest first."""
    for row in list(_of_user(account.store, peer.user)):
        if row.session_with(peer.device) is not None and not _is_over(account, row):
            yield row


def body(store: Store, row: Sent) -> Body:
    """Return what is sent again."""
    kept = store.get(_BODY, row.key)
    assert kept is not None
    return open_row(Body, kept, "sent message")


def sent_again(account: Account, row: Sent, device: bytes, session: bytes) -> None:
    """Note in which session (its 16-byte id) a message was sent to a device again."""
    _save(account.store, replace(_placed(row, device, session), tried_at=account.api.clock.now()))


def give_up_on(store: Store, row: Sent, device: bytes) -> None:
    """Wait for a device no more, in the caller's transaction: the server never takes this message for it."""
    _save_or_drop(store, replace(row, waiting=tuple(place for place in row.waiting if place[0] != device)))


def unconfirmed(account: Account) -> list[Unconfirmed]:
    """Return what is kept, oldest first."""
    return [
        Unconfirmed(
            id=row.id,
            user=UUID(bytes=row.user),
            sent_at=datetime.fromtimestamp(row.sent_at, UTC),
            devices=tuple(UUID(bytes=device) for device in row.devices),
            is_confirmed=row.is_acknowledged,
        )
        for row in sorted(_rows(account.store), key=lambda row: row.sent_at)
    ]


def is_due(account: Account) -> bool:
    """Tell whether something has waited for 30 days."""
    return any(_is_over(account, row) for row in _rows(account.store))


def expire(account: Account) -> int:
    """Destroy what has waited for 30 days, each told if no device has it; returns how many there were."""
    now = account.api.clock.confirmed()
    over = [row for row in _rows(account.store) if _is_over(account, row)]
    ahead = [row for row in _rows(account.store) if now is not None and row.sent_at > now + MAX_AHEAD_SECONDS]
    with account.store.transaction():
        for row in over:
            _give_up(account, row)
        for row in ahead:
            # Written under a clock that was ahead: its month begins today.
            _save(account.store, replace(row, sent_at=now or 0))
    return len(over)


def _is_over(account: Account, row: Sent) -> bool:
    """Whether its month is over, by a confirmed time: a clock that jumps gives no message up."""
    now = account.api.clock.confirmed()
    return now is not None and now - row.sent_at >= repeats.KEPT_SECONDS


def _trim(account: Account) -> None:
    for row in sorted(_rows(account.store), key=lambda row: row.sent_at):
        if _total(account.store) <= repeats.KEPT_OCTETS:
            return
        _give_up(account, row)


def _give_up(account: Account, row: Sent) -> None:
    _drop(account.store, row)
    # A copy that an own device never took is no message that somebody does not have.
    if row.is_acknowledged or row.user == account.user:
        return
    written = datetime.fromtimestamp(row.sent_at, UTC)
    reports.add(
        account,
        ReportKind.NOT_CONFIRMED,
        f"Not confirmed: no device has said that it has the message that you wrote to {UUID(bytes=row.user)} on "
        f"{written:%Y-%m-%d at %H:%M} UTC ({row.id.hex()}).",
        way_out="It is kept here no longer. Ask the person whether it came, and send it again if it still matters.",
        user=row.user,
    )


def _rows(store: Store) -> Iterator[Sent]:
    for key in store.keys(_SENT):
        if row := _load(store, key):
            yield row


def _of_user(store: Store, user: bytes) -> Iterator[Sent]:
    for key in store.keys(_SENT):
        if key[:_USER] == user and (row := _load(store, key)):
            yield row


def _load(store: Store, key: bytes) -> Sent | None:
    kept = store.get(_SENT, key)
    return None if kept is None else open_row(Sent, kept, "sent", key=key)


def _placed(row: Sent, device: bytes, session: bytes) -> Sent:
    return replace(row, waiting=tuple((other, session if other == device else was) for other, was in row.waiting))


def _save(store: Store, row: Sent) -> None:
    store.put(_SENT, row.key, seal_row(row))


def _save_or_drop(store: Store, row: Sent) -> None:
    if row.waiting:
        _save(store, row)
    else:
        _drop(store, row)


def _drop(store: Store, row: Sent) -> None:
    store.delete(_SENT, row.key)
    store.delete(_BODY, row.key)
    _count(store, -row.octets)


@dataclass(frozen=True)
class _Total:
    octets: Annotated[int, uint()]


def _total(store: Store) -> int:
    kept = store.get(_TOTAL, b"")
    return open_row(_Total, kept, "sent total").octets if kept else 0


def _count(store: Store, octets: int) -> None:
    store.put(_TOTAL, b"", seal_row(_Total(max(0, _total(store) + octets))))
