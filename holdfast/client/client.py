# SPDX-License-Identifier: Apache-2.0
"""One person's device as an app sees it: open it, and send, receive, keep, recover, without touching a key.

Implements the protocol's acts by calling the module of each subject; docs/quickstart.md walks through it.
Holds no rule of its own, and shows no interface: what a person must see or say, the app shows and asks.
"""

from __future__ import annotations

import contextlib
import platform
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final
from uuid import UUID

from holdfast.client import maintenance, standing
from holdfast.client.errors import NotPossible
from holdfast.client.facets import (
    Archive,
    Backup,
    Contacts,
    Devices,
    Disclosures,
    Escrow,
    Organisation,
    Recover,
    Secret,
    secret,
)
from holdfast.client.identity import addresses, contacts, device
from holdfast.client.identity.addresses import Who
from holdfast.client.identity.device import Enrolment
from holdfast.client.maintenance import Done
from holdfast.client.messages import letters, messages, prekeys
from holdfast.client.messages.letters import Notice
from holdfast.client.messages.messages import Received, Report, Sent, Unconfirmed
from holdfast.client.profile import account as accounts
from holdfast.client.profile.account import Account
from holdfast.client.profile.store import PROFILE_FILE
from holdfast.client.rotation import rotation
from holdfast.client.rotation.rotation_record import Progress
from holdfast.client.server.transport import check_server
from holdfast.core.base import typed
from holdfast.core.crypto.suites import DEFAULT_SUITE, Suite
from holdfast.core.identity.entries import Reason
from holdfast.core.messages.content import LargeReference
from holdfast.core.signed.cose import Sign1
from holdfast.core.signed.enrolment import EnrolmentCode

EVERYTHING: Final = rotation.EVERYTHING


@dataclass(frozen=True)
class Message:
    """One message that was received. It is handed out again by every `receive` until `done` is called.

    id: 16 bytes, the same on every device of the recipient. sender: who sent it, from `device`, as its session
    proves. conversation: the sender, or in a copy that another own device sent the person it went to. content: up to
    1,000,000 bytes; empty where `reference` names content that the app keeps elsewhere. sent_at is the sender's word,
    received_at the server's. is_last_resort: it began a session without a one-time pre-key.
    """

    id: bytes
    sender: UUID
    device: UUID
    conversation: UUID
    content: bytes
    reference: LargeReference | None
    sent_at: datetime
    received_at: datetime
    is_copy: bool
    is_last_resort: bool
    _done: Callable[[], None] = field(repr=False, compare=False)

    @property
    def text(self) -> str:
        """The content as UTF-8. Raises UnicodeDecodeError for other bytes. It is the sender's word: quote it."""
        return self.content.decode()

    def done(self) -> None:
        """Say that the app has kept it: it is destroyed here, and not handed out again."""
        self._done()


class Client:
    """One person's device. Make one with `Client.enrol` or `Client.open`, and close it, best by a `with` block.

    What a method did is durable when it returns: a crash loses and repeats nothing. Every method may be called from
    any thread; calls wait for each other. While a client is open, no other process can use its profile.

    Refusals are `holdfast.client.errors.ClientError`: each says what is wrong, and in `way_out` what a person can
    do. Where bytes are not what they claim to be, they are `holdfast.core.base.errors.HoldfastError`.
    """

    def __init__(self, account: Account, held: contextlib.ExitStack, enrolment: Enrolment | None = None) -> None:
        """Take an open account, and what to close with it. Apps use `enrol` and `open`."""
        self._account: Account | None = account
        self._held = held
        self._enrolment = enrolment
        # Reentrant: what a call hands to the app (a message and its `done`) comes back through here.
        self._lock = threading.RLock()
        self.devices = Devices(self._use)
        """Which devices are the person's, and how another one comes in and goes out."""
        self.contacts = Contacts(self._use)
        """The people that the person writes to, and how to make sure of them."""
        self.backup = Backup(self._use)
        """Ways back to the keys, made while there is still a device."""
        self.recover = Recover(self._use)
        """Those ways, on a device that does not hold the keys."""
        self.escrow = Escrow(self._use)
        """Who could open the archive with the person's organisation, and their yes or no to it."""
        self.archive = Archive(self._use)
        """Files under the person's archive keys."""
        self.disclosures = Disclosures(self._use)
        """What cases open of other people's archives, until their end."""
        self.organisation = Organisation(self._use)
        """People, roles and devices administered, for whoever may."""

    # Opening and closing

    @classmethod
    def enrol(
        cls,
        server: str,
        code: Secret,
        *,
        profile: Path | str,
        passphrase: Secret | None = None,
        name: str = "",
        suite: Suite = DEFAULT_SUITE,
        is_development: bool = False,
    ) -> Client:
        """Make a device's keys and register them by the single-use code an officer gave the person.

        server: its address, https unless it is this machine. profile: a directory of the app's own; it is made, of
        mode 0700. passphrase: encrypts the profile, at least 14 characters; without, the operating system's keyring
        keeps the key. name: what to call the device; this machine's name when left out. is_development: accept a
        tenant whose HSM is software, as `make up` makes it; never in production.

        The first device of a person begins their account; `is_active` says so. A later one is pending: `recover`
        brings it in. After a lost connection, call it again with the same code and profile: nothing is made twice.

        Raises TrustRefused when the server is not the one that the code pins, MachineError when the profile cannot be
        made, WrongInput when it is another person's, Problem for a code that is used up.
        """
        directory, chosen = Path(profile), secret(passphrase)
        check_server(server)
        parsed = EnrolmentCode.parse(typed.text_of(secret(code).reveal(), "enrolment code"))
        if not (directory / PROFILE_FILE).exists():
            accounts.create(directory, tenant=parsed.tenant, user=parsed.person, passphrase=chosen).close()
        with contextlib.ExitStack() as held:
            account = held.enter_context(accounts.open_account(directory, passphrase=chosen))
            account.connect(server)
            done = device.enrol(
                account, parsed, name=name or platform.node(), suite=suite, is_development=is_development
            )
            if done.is_active:
                prekeys.publish(account)
            return cls(account, held.pop_all(), done)

    @classmethod
    def open(cls, profile: Path | str, *, passphrase: Secret | None = None, wait_seconds: float = 0) -> Client:
        """Open a profile that was enrolled before, and address its server.

        wait_seconds: how long to wait while another program has it open. Raises ProfileBusy when it has it still,
        ProfileError when there is no profile or it needs another way to be opened; WrongPassphrase.
        """
        with contextlib.ExitStack() as held:
            account = held.enter_context(
                accounts.open_account(Path(profile), passphrase=secret(passphrase), wait_seconds=wait_seconds)
            )
            account.connect()
            return cls(account, held.pop_all())

    def close(self) -> None:
        """Close the profile and the connection. A closed client refuses everything; closing it again does nothing."""
        with self._lock:
            self._account = None
            self._held.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def _use(self) -> Iterator[Account]:
        """Give the account to one thread at a time."""
        with self._lock:
            if self._account is None:
                raise NotPossible("This client is closed.", way_out="Open the profile again: Client.open")
            yield self._account

    # Messages

    def send(self, user: Who, content: bytes, *, message_id: bytes | None = None) -> Sent:
        """Send up to 1,000,000 bytes to every device of a person, by id or e-mail address, and to one's own others.

        Kept durably before anything leaves: when the server cannot be reached, `Sent.is_sent` is False, and the next
        `send` or `maintain` sends it. message_id: 16 random bytes of an app that keeps its own list of what is to be
        sent; sent again under the same one, a message still arrives once. Raises PeerChanged until the person's new
        beginning was confirmed by a human (`contacts.confirm`), AddressChanged for an address that is not whose it
        was, TrustRefused when something does not hold, TooLarge; Unreachable for an address never looked up before;
        ValueError for a message_id of another size.
        """
        with self._use() as account:
            return messages.send(account, addresses.person_of(account, user).bytes, content, message_id=message_id)

    def receive(self) -> list[Message]:
        """Fetch what waits, and return every message that is not `done`, oldest first.

        One that does not open holds up no other; it is in `reports`. Raises Unreachable and Problem.
        """
        with self._use() as account:
            return [self._message(received) for received in messages.receive(account)]

    def _message(self, received: Received) -> Message:
        def done() -> None:
            with self._use():
                received.done()

        return Message(
            id=received.id,
            sender=UUID(bytes=received.sender),
            device=received.device,
            conversation=UUID(bytes=received.conversation),
            content=received.body,
            reference=received.reference,
            sent_at=datetime.fromtimestamp(received.sent_at, UTC),
            received_at=datetime.fromtimestamp(received.received_at, UTC),
            is_copy=received.is_copy,
            is_last_resort=received.is_last_resort,
            _done=done,
        )

    def unconfirmed(self) -> list[Unconfirmed]:
        """Return what was sent and not every device has confirmed, oldest first.

        A device confirms a message once its app has said `done`. Until then it is kept in this profile, for 30 days and
        64 MiB in all, and sent again to a device that could not read it. What no device has confirmed by then is
        in `reports`. The app does nothing for it.
        """
        with self._use() as account:
            return messages.unconfirmed(account)

    def reports(self) -> list[Report]:
        """Return what the person must hear of: what did not open, keys used twice, histories that were hidden."""
        with self._use() as account:
            found = messages.reports(account)
            standing.note_shown(account, [report.id for report in found])
            return found

    def notices(self) -> list[Notice]:
        """Return what the server says has happened to the account, such as a door of the vault that was read."""
        with self._use() as account:
            found = letters.notices(account)
            standing.note_shown(account, [notice.id for notice in found])
            return found

    def put_away_seen(self) -> int:
        """Put away what the person has read, of what `reports`, `notices` and `maintain` returned; returns how many.

        What came since stays.
        """
        with self._use() as account:
            return standing.put_away_seen(account)

    # Care

    def maintain(self) -> list[Done]:
        """Do all that is due, and say for each part what was done, what failed, and what needs the person.

        Call it when the app starts and once a day: it takes what own devices sent, tops up pre-keys, rotates monthly,
        saves the keyring, and destroys old keys in time. A part that fails stops no other.
        """
        with self._use() as account:
            report = maintenance.maintain(account)
            standing.note_shown(account, [done.kept for done in report if done.kept])
            return report

    def rotate(
        self, what: Collection[str] = EVERYTHING, *, reason: Reason = Reason.USER_REQUEST, revoke: Sequence[UUID] = ()
    ) -> Progress:
        """Replace keys now: of "identity", "device", "vault", "archive"; without more, all but the device's own.

        revoke: devices to take out of the account; they read nothing written from then on. History stays readable.
        Interrupted, it is carried on by the next `maintain`. `Progress.needs` names the doors that the person has to
        set again. Raises ProfileError on a device that is not in the account, NotPossible where it may not.
        """
        with self._use() as account:
            return rotation.rotate(account, what, reason=reason, revoke=revoke)

    # Who and what

    @property
    def user(self) -> UUID:
        """The person, as others address them."""
        with self._use() as account:
            return UUID(bytes=account.user)

    @property
    def tenant(self) -> UUID:
        """The organisation."""
        with self._use() as account:
            return UUID(bytes=account.tenant)

    @property
    def device(self) -> UUID:
        """This device."""
        with self._use() as account:
            return UUID(bytes=account.device.id)

    @property
    def is_active(self) -> bool:
        """Whether this device is part of the account, as of what it last heard; a pending one sends nothing."""
        with self._use() as account:
            return account.device.is_active

    @property
    def words(self) -> tuple[str, ...]:
        """The 8 words of this device, which the person compares when another device of theirs brings it in."""
        with self._use() as account:
            return device.device_words(Sign1.parse(account.device.statement))

    @property
    def identity_words(self) -> tuple[str, ...]:
        """The 8 words of the account's identity key, which contacts hear from the person after a new beginning."""
        with self._use() as account:
            return contacts.identity_words(account.chain)

    @property
    def enrolment(self) -> Enrolment | None:
        """How the enrolment ended, in the client that enrolled; None in one that was opened later."""
        return self._enrolment


__all__ = ["Client", "Message"]
