# SPDX-License-Identifier: Apache-2.0
"""One person's device as an app sees it: open it, and send, receive, keep, recover, without touching a key.

Implements the protocol's acts by calling the module of each subject; docs/quickstart.md walks through it.
Holds no rule of its own, and shows no interface: what a person must see or say, the app shows and asks.
"""

from __future__ import annotations

import contextlib
import platform
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from uuid import UUID

from holdfast.client import account as accounts
from holdfast.client import device, prekeys
from holdfast.client.account import Account
from holdfast.client.device import Enrolment
from holdfast.client.errors import ProfileError
from holdfast.client.facets import Archive, Backup, Contacts, Devices, Escrow, Recover, Secret, secret
from holdfast.client.store import PROFILE_FILE
from holdfast.client.transport import check_server
from holdfast.core.cose import Sign1
from holdfast.core.enrolment import EnrolmentCode
from holdfast.core.suites import DEFAULT_SUITE, Suite


class Client:
    """One person's device. Make one with `Client.enrol` or `Client.open`, and close it, best by a `with` block.

    What a method did is durable when it returns: a crash loses and repeats nothing. Every method may be called from
    any thread; calls wait for each other. While a client is open, no other process can use its profile.

    Refusals are `holdfast.client.errors.ClientError`: each says what is wrong, and in `way_out` what a person can
    do. Where bytes are not what they claim to be, they are `holdfast.core.errors.HoldfastError`.
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
        """The people she writes to, and how she makes sure of them."""
        self.backup = Backup(self._use)
        """Ways back to the keys, made while there is still a device."""
        self.recover = Recover(self._use)
        """Those ways, on a device that does not hold the keys."""
        self.escrow = Escrow(self._use)
        """Who could open the archive with her organisation, and her yes or no to it."""
        self.archive = Archive(self._use)
        """Files under her archive keys."""

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

        The first device of a person begins her account; `is_active` says so. A later one is pending: `recover`
        brings it in. After a lost connection, call it again with the same code and profile: nothing is made twice.

        Raises TrustRefused when the server is not the one that the code pins, ProfileError when the profile cannot
        be made or is another person's, Problem for a code that is used up.
        """
        directory, chosen = Path(profile), secret(passphrase)
        check_server(server)
        parsed = EnrolmentCode.parse(secret(code).reveal().decode("utf-8", "replace").strip())
        if not (directory / PROFILE_FILE).exists():
            accounts.create(directory, tenant=parsed.tenant, user=parsed.person, passphrase=chosen).close()
        with contextlib.ExitStack() as held:
            account = held.enter_context(accounts.opened(directory, passphrase=chosen))
            account.connect(server)
            called = name or platform.node() or "this device"
            done = device.enrol(account, parsed, name=called, suite=suite, is_development=is_development)
            if done.is_active:
                prekeys.publish(account)
            return cls(account, held.pop_all(), done)

    @classmethod
    def open(cls, profile: Path | str, *, passphrase: Secret | None = None) -> Client:
        """Open a profile that was enrolled before, and address its server.

        Raises ProfileError when there is none, when it is in use, or when it needs another way to be opened;
        WrongPassphrase.
        """
        with contextlib.ExitStack() as held:
            account = held.enter_context(accounts.opened(Path(profile), passphrase=secret(passphrase)))
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
                raise ProfileError("This client is closed.", way_out="Open the profile again: Client.open")
            yield self._account

    # Who and what

    @property
    def user(self) -> UUID:
        """The person, as others address her."""
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
        """The 8 words of this device, which the person compares when another device of hers brings it in."""
        with self._use() as account:
            return device.device_words(Sign1.parse(account.device.statement))

    @property
    def enrolment(self) -> Enrolment | None:
        """How the enrolment ended, in the client that enrolled; None in one that was opened later."""
        return self._enrolment


__all__ = ["Client"]
