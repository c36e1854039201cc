# SPDX-License-Identifier: Apache-2.0
"""The parts of a `Client`, one for each subject: devices, contacts, backup, recovery, escrow, archive.

Implements nothing: each method is a call into the module of its subject, under the client's lock.
Does not keep state; the account does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeAlias, overload
from uuid import UUID

from holdfast.client import archive, contacts, device, doors, escrow, pairing
from holdfast.client.account import Account
from holdfast.client.archive import Advance, FileDone
from holdfast.client.device import ListedDevice
from holdfast.client.doors import Door
from holdfast.client.pairing import Joined
from holdfast.core.chain import ChainState
from holdfast.core.phrase import Language, Phrase
from holdfast.core.secret import SecretBytes

# Text and bytes are taken for convenience; a SecretBytes prints itself nowhere.
Secret: TypeAlias = str | bytes | SecretBytes
Use: TypeAlias = Callable[[], AbstractContextManager[Account]]


@overload
def secret(given: Secret) -> SecretBytes: ...


@overload
def secret(given: None) -> None: ...


def secret(given: Secret | None) -> SecretBytes | None:
    """Return what was given as a secret that prints itself nowhere; text as its UTF-8 bytes."""
    if given is None or isinstance(given, SecretBytes):
        return given
    return SecretBytes(given.encode() if isinstance(given, str) else given)


class _Facet:
    def __init__(self, use: Use) -> None:
        self._use = use


class Devices(_Facet):
    """The person's devices."""

    def all(self) -> list[ListedDevice]:
        """Return every device, held against the verified account chain."""
        with self._use() as account:
            return device.listed(account)

    def approve(self, pending: UUID, words: Sequence[str]) -> UUID:
        """Bring another device in by the 8 words that it shows; returns it. Raises WrongWords.

        The new device then calls `recover.by_device`. The words are read on its own screen, never from a message.
        """
        with self._use() as account:
            return pairing.approve(account, pending, words=tuple(words))

    def pairing_text(self) -> str:
        """On a new device: return the text of the QR code that an existing device scans."""
        with self._use() as account:
            return pairing.request(account).text()

    def pair(self, text: str) -> UUID:
        """On an existing device: bring in the new device whose QR code was scanned; returns it."""
        with self._use() as account:
            return pairing.accept(account, text)


class Contacts(_Facet):
    """The people whom the person writes to."""

    def confirm(self, user: UUID, words: Sequence[str]) -> ChainState:
        """Trust a person again whose account was begun again, by the 8 words that she read out. Raises WrongWords."""
        with self._use() as account:
            return contacts.confirm(account, user.bytes, words=tuple(words))


class Backup(_Facet):
    """Doors of the vault: ways back to the keys."""

    def status(self) -> list[Door]:
        """Return every kind of door: whether it is open, and what it needs of the person."""
        with self._use() as account:
            return doors.status(account)

    def set_password(self, password: Secret | None = None) -> SecretBytes:
        """Set the vault's password; returns it. None: one is generated, to be shown to the person once.

        Raises ProfileError for one of fewer than 14 characters.
        """
        with self._use() as account:
            return doors.set_password(account, secret(password))

    def new_phrase(self, language: Language = Language.ENGLISH) -> Phrase:
        """Make a recovery phrase, to be shown to the person once: `phrase.words()`; `confirm_phrase` makes it count."""
        with self._use() as account:
            return doors.new_phrase(account, language=language)

    def questions(self) -> tuple[int, ...]:
        """Return the places (1 to 24) of the words that the person is to give back from her paper."""
        return doors.questions()

    def confirm_phrase(
        self,
        phrase: Phrase,
        answers: Mapping[int, str],
        *,
        passphrase: Secret | None = None,
        old: Phrase | None = None,
        old_passphrase: Secret | None = None,
    ) -> Door:
        """Make a phrase count, once the person has given words of it back. Raises WrongWords; nothing is done then.

        answers: by place, four or more. passphrase: a second secret beside the words. old: the phrase so far; with
        it the new one signs for the account at once, without it after a week.
        """
        with self._use() as account:
            return doors.confirm_phrase(
                account,
                phrase,
                answers,
                passphrase=secret(passphrase),
                old=old,
                old_passphrase=secret(old_passphrase),
            )

    def remove(self, kind: str) -> None:
        """Take a door off the server: "password", "phrase" or "contacts"."""
        with self._use() as account:
            doors.remove(account, kind)


class Recover(_Facet):
    """Ways back, on a device that does not hold the keys."""

    def by_device(self, *, wait_seconds: int = 0) -> Joined:
        """Take the keys that another device of the person sent when it brought this one in. Raises NotYet."""
        with self._use() as account:
            return pairing.complete(account, wait_seconds=wait_seconds)


class Escrow(_Facet):
    """What the organisation could open, and the person's word about it."""

    def status(self) -> escrow.Status:
        """Return who could open the archive, what the person has agreed to, and what is deposited."""
        with self._use() as account:
            return escrow.status(account)

    def consent_text(self) -> str:
        """Return the text that the person agrees to, for the policy in force."""
        with self._use() as account:
            escrow.prepare(account)
            return escrow.consent_text(account)

    def consent(self, *, agreed: bool) -> None:
        """Sign the person's yes or no to `consent_text`. Only she can say it: show her the text first."""
        with self._use() as account:
            escrow.consent(account, agreed=agreed)

    def deposit(self) -> list[int]:
        """Deposit the archive keys that are not in escrow yet; returns their generations. Raises ConsentNeeded."""
        with self._use() as account:
            return [one.number for one in escrow.deposit_missing(account)]


class Archive(_Facet):
    """Files encrypted under the person's archive keys."""

    def encrypt(self, source: Path, target: Path, *, advance: Advance = lambda _done: None) -> FileDone:
        """Encrypt a file under this month's key. Raises ConsentNeeded, FileExistsError."""
        with self._use() as account:
            return archive.encrypt_file(account, source, target, advance=advance)

    def decrypt(self, source: Path, target: Path, *, advance: Advance = lambda _done: None) -> FileDone:
        """Decrypt a file under the key that it names. Raises ProfileError without it; TrustRefused if changed."""
        with self._use() as account:
            return archive.decrypt_file(account, source, target, advance=advance)
