# SPDX-License-Identifier: Apache-2.0
"""The parts of a `Client`, one for each subject: devices, contacts, backup, recovery, escrow, archive, administration.

Implements nothing: each method is a call into the module of its subject, under the client's lock.
Does not keep state; the account does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import TypeAlias, overload
from uuid import UUID

from holdfast.client import organisation
from holdfast.client.escrow import archive, disclosures, escrow
from holdfast.client.escrow.archive import Advance, FileDone
from holdfast.client.escrow.disclosures import Disclosure
from holdfast.client.identity import addresses, contacts, device
from holdfast.client.identity.addresses import Found, Who
from holdfast.client.identity.contacts import KnownContact
from holdfast.client.identity.device import ListedDevice
from holdfast.client.messages import letters, prekeys
from holdfast.client.officers import answers, joining
from holdfast.client.organisation import (
    ActKind,
    ImportProgress,
    ListedPerson,
    Look,
    PendingAct,
    PendingLook,
    ReadFile,
)
from holdfast.client.profile.account import Account
from holdfast.client.recovery import by_case, by_door
from holdfast.client.recovery.by_case import CaseStatus, Collected, OpenedCase
from holdfast.client.recovery.by_door import OpenedDoor, Recovered
from holdfast.client.vault import doors, export, pairing, share_requests, trusted
from holdfast.client.vault.doors import Door
from holdfast.client.vault.pairing import Joined
from holdfast.client.vault.share_requests import Asked, OpenRequest, Pending
from holdfast.client.vault.trusted import HeldShare, TrustedSet
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.phrase import AmbiguousLanguage, Language, Phrase
from holdfast.core.identity.chain import ChainState
from holdfast.core.vault.contact_shares import DEFAULT_K
from holdfast.core.vault.password_door import generate_password

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
            return device.list_devices(account)

    def approve(self, pending: UUID, words: Sequence[str]) -> UUID:
        """Bring another device in by the 8 words that it shows; returns it. Raises WrongWords.

        The new device then calls `by_door.by_device`. The words are read on its own screen, never from a message.
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
    """The people whom the person writes to, and those who trust them with a share.

    A person is named by id or by e-mail address. The directory's first answer for an address is pinned; it is the
    server's word, so that words or the safety number are to be compared with the person (`safety_number`).
    """

    def all(self) -> list[KnownContact]:
        """Return everybody this profile has met, as kept; the server is not asked."""
        with self._use() as account:
            return contacts.list_contacts(account)

    def refresh(self, user: Who) -> ChainState:
        """Fetch and verify a person's account; one never met before is pinned as met. Raises PeerChanged."""
        with self._use() as account:
            return contacts.refresh(account, addresses.person_of(account, user).bytes)

    def safety_number(self, user: Who) -> tuple[str, ...]:
        """Return the 12 groups of digits that both people see, if nobody stands between them."""
        with self._use() as account:
            return contacts.safety_number(account, addresses.person_of(account, user).bytes)

    def verify(self, user: Who, number: Sequence[str]) -> ChainState:
        """Keep that two people compared the safety number. Raises WrongWords when it is another."""
        with self._use() as account:
            return contacts.verify(account, addresses.person_of(account, user).bytes, number=number)

    def confirm(self, user: Who, words: Sequence[str]) -> ChainState:
        """Trust a person again whose account was begun again, by the 8 words that they read out. Raises WrongWords."""
        with self._use() as account:
            return contacts.confirm(account, addresses.person_of(account, user).bytes, words=tuple(words))

    def find(self, address: str) -> Found:
        """Return whom an e-mail address is of. Raises AddressChanged when they are another, WrongInput for nobody's."""
        with self._use() as account:
            return addresses.find(account, address)

    def addresses(self) -> dict[str, UUID]:
        """Return the e-mail addresses that are pinned, and to whom; the server is not asked."""
        with self._use() as account:
            return addresses.list_pinned(account)

    def forget_address(self, address: str) -> None:
        """Take another answer for an e-mail address from now on: it has changed hands, and the person knows it."""
        with self._use() as account:
            addresses.forget(account, address)

    def held_shares(self) -> list[HeldShare]:
        """Return the recovery shares that are kept for others, with those that have just come."""
        with self._use() as account:
            letters.fetch(account)
            return trusted.take_shares(account)

    def requests(self) -> list[Asked]:
        """Return who asks this person for a share."""
        with self._use() as account:
            return share_requests.list_requests(account)

    def give(self, request: UUID, code: Sequence[str]) -> None:
        """Give the share kept for somebody, by the code heard in that person's own voice. Raises WrongWords."""
        with self._use() as account:
            share_requests.give(account, request, code=code)

    def requests_in_own_name(self) -> list[Pending]:
        """Return the requests for shares that devices made in this person's name."""
        with self._use() as account:
            return share_requests.requests(account)

    def veto(self, request: UUID) -> None:
        """Stop a request in one's own name: no share is handed out by it any more."""
        with self._use() as account:
            share_requests.veto(account, request)


class Backup(_Facet):
    """Doors of the vault: ways back to the keys."""

    def status(self) -> list[Door]:
        """Return every kind of door: whether it is open, and what it needs of the person."""
        with self._use() as account:
            return doors.status(account)

    def new_password(self) -> SecretBytes:
        """Make a password to be shown to the person once; it counts from `set_password` on, which comes after that."""
        return generate_password()

    def set_password(self, password: Secret) -> None:
        """Set the vault's password, in the place of any before.

        Raises WrongInput for one of fewer than 14 characters.
        """
        with self._use() as account:
            doors.set_password(account, secret(password))

    def new_phrase(self, language: Language = Language.ENGLISH) -> Phrase:
        """Make a recovery phrase, to be shown to the person once: `phrase.words()`; `confirm_phrase` makes it count."""
        with self._use() as account:
            return doors.new_phrase(account, language=language)

    def questions(self) -> tuple[int, ...]:
        """Return the places (1 to 24) of the words that the person is to give back from their paper."""
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

    def set_contacts(self, people: Sequence[Who], *, needed: int = DEFAULT_K) -> TrustedSet:
        """Give each of `people` a share; any `needed` of them together can bring this account back, and become it."""
        with self._use() as account:
            return trusted.choose(account, [addresses.person_of(account, one).bytes for one in people], k=needed)

    def contacts(self) -> TrustedSet | None:
        """Return the trusted contacts of now; None when there are none."""
        with self._use() as account:
            return trusted.find_chosen_set(account)

    def export(self, password: Secret) -> bytes:
        """Return the keyring as a file behind a password of its own, of at least 14 characters, for a safe."""
        with self._use() as account:
            return export.write(account, password=secret(password))

    def remove(self, kind: str) -> None:
        """Take a door off the server: "password", "phrase" or "contacts"."""
        with self._use() as account:
            doors.remove(account, kind)


class Recover(_Facet):
    """Ways back, on a device that does not hold the keys: first one of `by_...`, then `finish`.

    `by_device` is complete by itself: the person has another device, and nothing was lost.
    """

    def by_device(self, *, wait_seconds: int = 0) -> Joined:
        """Take the keys that another device of the person sent when it brought this one in. Raises NotYet."""
        with self._use() as account:
            joined = pairing.complete(account, wait_seconds=wait_seconds)
            prekeys.publish(account)
            joining.take(account)
            return joined

    def by_password(self, password: Secret) -> OpenedDoor:
        """Open the vault by its password. Raises WrongPassword."""
        with self._use() as account:
            return by_door.by_password(account, secret(password))

    def by_phrase(
        self, words: Phrase | str, *, passphrase: Secret | None = None, without_vault: bool = False
    ) -> OpenedDoor:
        """Open the vault by the 24 words, in any BIP-39 language. Raises PhraseError for no phrase, WrongPhrase.

        without_vault: go on when the vault itself is lost; archive keys do not come back by that.
        """
        with self._use() as account:
            phrase = words if isinstance(words, Phrase) else _phrase(words)
            return by_door.by_phrase(account, phrase, passphrase=secret(passphrase), without_vault=without_vault)

    def ask_contacts(self) -> OpenRequest:
        """Ask the trusted contacts; the code in what is returned is read to each of them by voice."""
        with self._use() as account:
            return share_requests.open_request(account)

    def cancel_request(self) -> None:
        """Withdraw what was asked of the trusted contacts."""
        with self._use() as account:
            share_requests.cancel_request(account)

    def by_contacts(self, *, wait_seconds: int = 0) -> OpenedDoor:
        """Open the vault by the shares that contacts gave. Raises NotYet while too few have, or the delay runs."""
        with self._use() as account:
            return by_door.by_contacts(account, wait_seconds=wait_seconds)

    def by_export(self, data: bytes, password: Secret, *, without_vault: bool = False) -> OpenedDoor:
        """Open the vault by an export file and its password. Raises WrongPassword."""
        with self._use() as account:
            return by_door.by_export(account, data, password=secret(password), without_vault=without_vault)

    def finish(self, *, lost: Sequence[UUID] = ()) -> Recovered:
        """Bring this device into the account, revoke the lost ones, and replace every key. Resumable.

        `Opened.devices` are those to ask the person about. Raises NotPossible before a door was opened.
        """
        with self._use() as account:
            return by_door.finish(account, lost=lost)


def _phrase(words: str) -> Phrase:
    """Read a phrase; in the rare case that its words are in two lists, in the first that it belongs to."""
    text = SecretBytes(words.encode())
    try:
        return Phrase.parse(text)
    except AmbiguousLanguage as error:
        return Phrase.parse(text, language=error.languages[0])


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

    def what_changed(self) -> list[str]:
        """Say, line by line, what the newest policy changes of the one that the person last answered."""
        with self._use() as account:
            escrow.prepare(account)
            return escrow.what_changed(account)

    def consent(self, *, agreed: bool) -> None:
        """Sign the person's yes or no to `consent_text`. Only they can say it: show them the text first.

        Raises NotYet or Problem for a no to a yes that still binds: `status().consent_bound_until`.
        """
        with self._use() as account:
            escrow.consent(account, agreed=agreed)

    def deposit(self) -> list[int]:
        """Deposit the archive keys that are not in escrow yet; returns their generations.

        Raises ConsentNeeded, and NotYet where the organisation's escrow is not set up yet.
        """
        with self._use() as account:
            escrow.prepare(account)
            escrow.take_back(account)
            return [generation.number for generation in escrow.deposit_missing(account)]

    def answers(self) -> answers.Answers:
        """For officers and those who oversee: who has answered the newest policy. Raises Problem for others."""
        with self._use() as account:
            return answers.read(account)


class Archive(_Facet):
    """Files encrypted under the person's archive keys."""

    def encrypt(self, source: Path, target: Path, *, advance: Advance = lambda _done: None) -> FileDone:
        """Encrypt a file under this month's key. Raises ConsentNeeded, NameTaken, FileFailed."""
        with self._use() as account:
            return archive.encrypt_file(account, source, target, advance=advance)

    def decrypt(self, source: Path, target: Path, *, advance: Advance = lambda _done: None) -> FileDone:
        """Decrypt a file under the key that it names. Raises ProfileError without it; TrustRefused if changed."""
        with self._use() as account:
            return archive.decrypt_file(account, source, target, advance=advance)


class Disclosures(_Facet):
    """What cases open to this device of other people's archives: asked for, read until its end, accounted for."""

    def ask(
        self,
        subject: Who,
        *,
        reason: str,
        purpose: str,
        reference: str = "",
        deposits: Sequence[UUID] = (),
        until: datetime | None = None,
    ) -> OpenedCase:
        """Ask the officers to open another person's archive to this device; they will ask the person here for words.

        deposits: the newest of each generation when none is named. until: when the disclosure ends, with a time zone;
        in 60 days when left out. Raises NotPossible when there is nothing to open, Problem where the role may not see
        what others have in escrow. One case at a time.
        """
        with self._use() as account:
            return by_case.open_case(
                account,
                reason=reason,
                purpose=purpose,
                reference=reference,
                subject=addresses.person_of(account, subject).bytes,
                wanted=[deposit.bytes for deposit in deposits],
                ends_at=int(until.timestamp()) if until else None,
            )

    def status(self) -> CaseStatus:
        """Return how far the case is that this device has open."""
        with self._use() as account:
            return by_case.status(account)

    def collect(self, *, wait_seconds: int = 0) -> Collected:
        """Collect the release: `Collected.disclosure` is what was opened. Raises NotYet, TrustRefused."""
        with self._use() as account:
            return by_case.collect(account, wait_seconds=wait_seconds)

    def all(self) -> list[Disclosure]:
        """Return every disclosure of this profile, ended ones too; what has run out is ended first."""
        with self._use() as account:
            disclosures.end_due(account)
            return disclosures.list_disclosures(account)

    def decrypt(self, case: UUID, source: Path, target: Path, *, advance: Advance = lambda _done: None) -> FileDone:
        """Decrypt a file of the archive that a case disclosed; the line in its manifest is written first.

        Raises NotPossible after the end and for a file that the case does not open, TrustRefused if it was changed.
        """
        with self._use() as account:
            return disclosures.decrypt_file(account, case.bytes, source, target, advance=advance)

    def manifest(self, case: UUID, target: Path) -> Disclosure:
        """Write the custody manifest of a case to a new file. `disclosures.read_file` verifies it on any machine."""
        with self._use() as account:
            return disclosures.write_file(account, case.bytes, target)

    def end(self, case: UUID) -> Disclosure:
        """Destroy the keys of a disclosure now, and close its manifest."""
        with self._use() as account:
            return disclosures.end(account, case.bytes)

    def forget(self, case: UUID) -> None:
        """Take an ended disclosure and its manifest out of the profile.

        Raises NotPossible before it has ended, and before all of its manifest was written to a file.
        """
        with self._use() as account:
            disclosures.forget(account, case.bytes)


class Organisation(_Facet):
    """Acts of administration, for whoever may do them: looked at in the server's words, done with a one-time code."""

    def people(self, *, search: str = "", role: str = "", state: str = "") -> list[ListedPerson]:
        """Return the organisation's people by name. search: a part of name or address."""
        with self._use() as account:
            return organisation.people(account, search=search, role=role, state=state)

    def acts(self) -> list[ActKind]:
        """Return the acts that this person may do, and what has to be given for each."""
        with self._use() as account:
            return organisation.acts(account)

    def look(self, act: str, /, subject: Who | None = None, **given: str) -> Look:
        """Return what an act would do, in words to show to the person; nothing is done.

        subject: the id of whom or what it is about; of a person, the e-mail address, too. given: the act's fields.
        """
        with self._use() as account:
            about = organisation.find_person(account, subject) if subject is not None else None
            return organisation.look(account, act, about, given)

    def perform(self, seen: Look, code: Secret) -> organisation.Done:
        """Do what was shown, by the authenticator's present code; where it takes two persons, propose it to a second.

        Keep `once` when there is one: nobody can show it again. Raises Problem when nothing was done, and Unreachable
        when nobody knows here.
        """
        with self._use() as account:
            return organisation.perform(account, seen, secret(code))

    def read_people(self, text: str) -> ReadFile:
        """Have a CSV file of people read: whom it would invite is counted, and every bad line named. Invites nobody.

        text: name, email, role, of at most 2 MiB as it is sent. Within the hour they are invited by the act
        `people-import`, whose subject is `import_id`.
        """
        with self._use() as account:
            return organisation.read_people(account, text)

    def import_progress(self, import_id: UUID) -> ImportProgress:
        """Return how far a file of people is that was read, confirmed or done within the last week."""
        with self._use() as account:
            return organisation.import_progress(account, import_id)

    def pending(self) -> list[PendingAct]:
        """Return the acts that wait for a second person."""
        with self._use() as account:
            return organisation.pending(account)

    def look_pending(self, pending: UUID) -> PendingLook:
        """Return what a waiting act would do now, in words to show to the person."""
        with self._use() as account:
            return organisation.look_pending(account, pending)

    def confirm(self, seen: PendingLook, code: Secret) -> organisation.Done:
        """Be the second person behind a waiting act. Raises as `perform` does."""
        with self._use() as account:
            return organisation.confirm(account, seen, secret(code))

    def withdraw(self, pending: UUID) -> None:
        """Take a waiting act back."""
        with self._use() as account:
            organisation.withdraw(account, pending)
