# SPDX-License-Identifier: Apache-2.0
"""Messages between people: sent to every device of the recipient and every other own one, received exactly once.

Implements PROTOCOL section 4 as a developer sees it (docs/formats/messages.md) on `outbox` and `inbox`.
Does not show or store conversations: a message is this module's until the app says `done`, and the app's from then on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from holdfast.client.errors import ClientError, NotPossible, ProfileError, WrongInput
from holdfast.client.identity import chains, peers
from holdfast.client.messages import inbox, letters, outbox, prekeys, renewals, sent, settling, unsent
from holdfast.client.messages.handshakes import USED
from holdfast.client.messages.inbox_rows import Kept
from holdfast.client.messages.outbox import Flushed, Ready
from holdfast.client.messages.reports import TOLD, TOLD_SECONDS, Report, ReportKind, add, list_reports
from holdfast.client.messages.sent import Unconfirmed
from holdfast.client.messages.settling import compose
from holdfast.client.profile.account import Account
from holdfast.client.profile.store import Store
from holdfast.client.sessions import sessions
from holdfast.client.sessions.sessions import Address
from holdfast.core.messages.content import (
    MAX_BODY,
    MAX_LARGE,
    ContentKind,
    LargeReference,
    open_large,
    seal_large,
)
from holdfast.core.signed.payloads import ID_SIZE

__all__ = [
    "Flushed",
    "Received",
    "Report",
    "ReportKind",
    "Sent",
    "Unconfirmed",
    "announce",
    "care",
    "confirm",
    "flush",
    "greet",
    "open_large",
    "prune",
    "receive",
    "reports",
    "seal_large",
    "send",
    "send_reference",
    "unconfirmed",
]


class TooLarge(WrongInput):
    """The content is above what a mailbox takes: it goes through the app's own storage, by reference."""


@dataclass(frozen=True)
class Sent:
    """One message on its way. id: 16 bytes, the same for all who get it.

    devices: of the recipient. without_keys: devices of theirs that nobody can write to yet. last_resort: those whose
    session began without a one-time key just now (FAULTS S13). is_sent is False while the server could not be reached,
    or would not take it for now: the message is kept, and `flush`, or the next message, sends it.
    """

    id: bytes
    devices: tuple[UUID, ...]
    without_keys: tuple[UUID, ...]
    last_resort: tuple[UUID, ...]
    is_sent: bool


@dataclass(frozen=True)
class Received:
    """One message. sender, conversation: users of 16 bytes; device: the one that sent it, as its session proves.

    conversation is the sender, or in a copy from an own device the user it was sent to. sent_at is the sender's word,
    received_at the server's, in UTC seconds. reference: of content in the app's own storage; `body` is empty then.
    """

    id: bytes
    sender: bytes
    device: UUID
    conversation: bytes
    body: bytes
    reference: LargeReference | None
    sent_at: int
    received_at: int
    is_last_resort: bool
    _key: bytes = field(repr=False, compare=False)
    _store: Store = field(repr=False, compare=False)

    @property
    def is_copy(self) -> bool:
        """Whether an own device sent this, to `conversation`."""
        return self.sender == self._store.user

    @property
    def when(self) -> datetime:
        """When the sender says that it was sent."""
        return datetime.fromtimestamp(self.sent_at, UTC)

    def done(self) -> None:
        """Say that the app has it: it is destroyed here, and acknowledged to its sender by the next act of this client.

        Until then every `receive` hands it out again.
        """
        with self._store.transaction():
            if self._store.get(inbox.INBOX, self._key) is not None:
                self._store.delete(inbox.INBOX, self._key)
                renewals.owe(self._store, Address(self.sender, self.device.bytes), self._key[len(self.sender) :])


def send(account: Account, user: bytes, content: bytes, *, message_id: bytes | None = None) -> Sent:
    """Send up to 1,000,000 bytes to a user (16 bytes) and to one's own other devices; above 4 KiB by the mailbox.

    Durably kept before anything leaves. message_id: 16 random bytes of an app that keeps its own list of what is to be
    sent; sent again under the same one after an interruption, a message still arrives once. Raises TooLarge; ValueError
    for an id of another size, before anything is asked for or kept; PeerChanged until a human has confirmed;
    TrustRefused when something does not hold, the message being kept for later if it was queued; Problem for a refusal
    by the server.
    """
    if len(content) <= MAX_BODY:
        return _send(account, user, ContentKind.BYTES, content, message_id=message_id)
    if len(content) > MAX_LARGE:
        raise TooLarge(
            f"A message holds at most {MAX_LARGE:,} bytes; this has {len(content):,}.",
            way_out="Seal it in parts with messages.seal_large, put the ciphertexts where you keep files, and send "
            "each reference with messages.send_reference.",
        )
    reference, ciphertext = seal_large(content)
    return _send(account, user, ContentKind.LARGE, reference, ciphertext, message_id=message_id)


def send_reference(
    account: Account, user: bytes, reference: LargeReference, *, message_id: bytes | None = None
) -> Sent:
    """Send the reference of content that the app stores itself, sealed by `seal_large`. Raises as `send` does."""
    return _send(account, user, ContentKind.LARGE, reference, message_id=message_id)


def _send(
    account: Account,
    user: bytes,
    kind: ContentKind,
    body: bytes | LargeReference,
    content: bytes = b"",
    *,
    message_id: bytes | None,
) -> Sent:
    if message_id is not None and len(message_id) != ID_SIZE:
        raise ValueError(f"a message id has {ID_SIZE} bytes")
    _require_member(account)
    # The recipient's last: with the other may come in that a device of theirs is gone, and its session goes with it.
    copies = outbox.prepare(account, account.user) if user != account.user else None
    theirs = outbox.prepare(account, user)
    said = compose(account, kind, body, user if user == account.user else None, message_id=message_id)
    with account.store.transaction():
        key = outbox.queue(account, theirs, said.encode(), content=content)
        if key is None and user != account.user:
            raise NotPossible("That person has no device that can be written to yet.", way_out=outbox.NO_DEVICE)
        if copies is not None:
            copy = compose(account, kind, body, user, message_id=said.message_id)
            outbox.queue(account, copies, copy.encode(), content=content)
    return _flush_and_report(theirs, said.message_id, account, key)


def _require_member(account: Account) -> None:
    """Say it here: the server would refuse a pending device in words about its role."""
    if not account.device.is_active:
        # It may have been approved since it last looked.
        chains.refresh(account)
    if not account.device.is_active:
        raise ProfileError(
            "This device is not part of your account yet, so it sends nothing.",
            way_out="Approve it on another device of yours (holdfast devices approve), or recover: "
            "holdfast recover --help",
        )


def _flush_and_report(ready: Ready, message_id: bytes, account: Account, key: bytes | None) -> Sent:
    """Send what is queued, and say what became of the message under `key`; None for one that goes to nobody."""
    flushed = flush(account)
    if key in flushed.refused:
        raise flushed.refused[key]
    without_keys = list(ready.without_keys)
    if key in flushed.sent:
        reached = flushed.sent[key]
        now = peers.find_known(account, ready.state.user) or ready.state
        missed = (ready.state.devices.keys() & now.devices.keys()) - {account.device.id, *reached, *without_keys}
        without_keys += sorted(missed)
    else:
        reached = [device for device, _ in outbox.Row.load(account, key).envelopes] if key else []
    begun = [device for device, (_, session) in ready.chosen.items() if session.is_last_resort]
    return Sent(
        id=message_id,
        devices=tuple(UUID(bytes=device) for device in reached),
        without_keys=tuple(UUID(bytes=device) for device in without_keys),
        last_resort=tuple(UUID(bytes=device) for device in begun),
        is_sent=key not in flushed.waiting,
    )


def receive(account: Account) -> list[Received]:
    """Fetch what waits, and return everything that the app has not said `done` to, oldest first.

    What did not open, or must be heard of, is in `reports`. Raises Unreachable and Problem.
    """
    inbox.collect(account)
    settling.settle(account)
    return waiting(account)


def waiting(account: Account) -> list[Received]:
    """Return the messages that the app has not said `done` to, without asking the server."""
    found = []
    for key in account.store.keys(inbox.INBOX):
        secret = account.store.get(inbox.INBOX, key)
        assert secret is not None
        kept = Kept.from_secret(secret)
        found.append(
            Received(
                id=kept.message_id,
                sender=kept.sender.user,
                device=UUID(bytes=kept.sender.device),
                conversation=kept.conversation,
                body=kept.body,
                reference=kept.reference,
                sent_at=kept.sent_at,
                received_at=kept.received_at,
                is_last_resort=kept.is_last_resort,
                _key=key,
                _store=account.store,
            )
        )
    return found


def reports(account: Account) -> list[Report]:
    """Return what must be heard of and was not put away: what did not open, keys used twice, hidden chains."""
    return list_reports(account)


def flush(account: Account) -> Flushed:
    """Send what could not be sent before, as it was encrypted, and what is owed to devices that wrote to this one.

    Returns what became of each message that waited.
    """
    flushed = outbox.flush(account)
    if not flushed.is_cut_off:
        settling.settle(account)
    return flushed


def confirm(account: Account) -> None:
    """Acknowledge at once what the app has taken, instead of by the next act."""
    settling.settle(account)


def care(account: Account) -> Flushed:
    """Flush, having looked whether the devices that have not acknowledged something are still there."""
    settling.follow(account)
    return flush(account)


def give_back(account: Account, before: int) -> int:
    """Have what was sent until a time (UTC seconds), and nobody acknowledged, sent again by the next act.

    For a server that was put back and may have lost it. Returns to how many devices; these deliver nothing twice.
    """
    return settling.give_back(account, before)


def unconfirmed(account: Account) -> list[Unconfirmed]:
    """Return what was sent and not every device has confirmed, oldest first: kept for 30 days, 64 MiB in all."""
    return sent.unconfirmed(account)


def announce(account: Account, users: Sequence[bytes] | None = None) -> list[bytes]:
    """Tell everyone there is a session with, own devices included, that this account's chain has moved.

    Returns the users told; whoever could not be is told by the next `flush`. The fourth step of a rotation.
    """
    head = account.chain.head
    return _control(account, users, ContentKind.MOVED, head, anew=False)


def greet(account: Account, users: Sequence[bytes] | None = None) -> list[bytes]:
    """Begin a fresh session with every device of each user (all there is a session with), and say so in it.

    Returns the users greeted. The fifth step of a rotation.
    """
    return _control(account, users, ContentKind.GREETING, b"", anew=True)


def _control(
    account: Account, users: Sequence[bytes] | None, kind: ContentKind, body: bytes, *, anew: bool
) -> list[bytes]:
    told = []
    for user in sessions.peers(account.store) if users is None else users:
        try:
            ready = outbox.prepare(account, user, anew=anew)
        except ClientError as error:
            with account.store.transaction():
                text = f"A contact could not be told of a change of your keys: {error}"
                add(account, ReportKind.NOT_SENT, text, way_out=error.way_out, user=user)
            continue
        said = compose(account, kind, body, user if user == account.user else None)
        with account.store.transaction():
            key = outbox.queue(account, ready, said.encode())
        if key is not None:
            told.append(user)
    outbox.flush(account)
    return told


def prune(account: Account) -> int:
    """Destroy what was kept to recognise repetitions, or to be sent again, and is too old. Returns how many rows.

    None without a confirmed time (`Clock.confirmed`). Raises Unreachable and Problem.
    """
    now = account.api.clock.confirmed()
    if now is None:
        return 0
    # What was begun with a signed pre-key can come again for as long as its private half is here.
    since = min([now, *(made_at + sessions.INITIAL_LIFE_SECONDS for made_at in prekeys.list_made(account))])
    lives = {
        **dict.fromkeys((sessions.INITIAL, sessions.SEEN, USED), sessions.INITIAL_LIFE_SECONDS),
        **dict.fromkeys((inbox.HAD, inbox.HEARD), inbox.REMEMBER_SECONDS),
        inbox.LEFT: inbox.SERVER_KEEPS_SECONDS,
        letters.PUT_AWAY: letters.PUT_AWAY_SECONDS,
        TOLD: TOLD_SECONDS,
    }
    if sent.is_due(account):
        # A device that slept for a month has not heard yet what was acknowledged meanwhile.
        inbox.collect(account)
    recognised = sum(sessions.prune(account.store, kind, now=since, life=life) for kind, life in lives.items())
    return recognised + sent.expire(account) + renewals.prune(account) + unsent.prune(account)
