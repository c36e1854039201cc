# SPDX-License-Identifier: Apache-2.0
"""The device door: one device of a person brings another in, by a QR code, eight digits, or eight words.

Implements PROTOCOL section 6 (device door and device-to-device sync) on both devices.
Does not draw QR codes, and brings no session over: what the new device gets is the key of the vault.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from holdfast.client.errors import (
    ClientError,
    NotPossible,
    NotYet,
    ProfileError,
    RaceLost,
    TrustRefused,
    Unreachable,
    WrongInput,
    WrongWords,
)
from holdfast.client.identity import device as devices
from holdfast.client.identity import key_log, restored
from holdfast.client.identity.contacts import identity_words
from holdfast.client.identity.peers import HiddenChain
from holdfast.client.messages import handshakes, letters
from holdfast.client.messages.letters import Letter, LetterKind
from holdfast.client.profile.account import Account
from holdfast.client.profile.state import OfficersSection
from holdfast.client.vault import vault
from holdfast.client.waiting import wait_for
from holdfast.core.base import typed
from holdfast.core.base.encoding import decode, encode
from holdfast.core.base.errors import HoldfastError, Malformed, Untrusted, UnwrapFailed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.base.words import as_typed
from holdfast.core.crypto.keys import SealingKey
from holdfast.core.identity.chain import ChainState
from holdfast.core.signed.cose import Sign1
from holdfast.core.signed.statements import DeviceStatement, SyncKind
from holdfast.core.vault.pairing import CODE_DIGITS, ExistingDevice, NewDevice, PairingRequest
from holdfast.core.vault.sync_letter import NONCE_SIZE, DeviceSync, OfficersKey, SyncLetter, seal_sync

_LATER: Final = "It is read once the server shows that. If this goes on, tell your officers."
_REQUEST: Final = ("pairing", b"request")
# The server saw the nonce of a pairing by digits: what answers it proves less than an answer to a QR code.
_BY_DIGITS: Final = ("pairing", b"digits")
# The key of the officers' section that came along, until the officers' room has read the section with it.
_OFFICERS: Final = ("pairing", b"officers-key")


@dataclass(frozen=True)
class Joined:
    """How a new device came in. words: the 8 words of the account's identity key.

    is_authenticated: the new device knows by itself that it was brought in by the person's own device, because only
    that one saw its QR code. False after an approval by words or digits, which the old device alone compared: the
    person then compares `words` on both screens.
    """

    opened: vault.OpenedVault
    by: UUID
    words: tuple[str, ...]
    is_authenticated: bool


# The new device


def request(account: Account) -> PairingRequest:
    """Return what this new device shows to another one of the person's; the same again until it was answered.

    Raises NotPossible on a device that is in the account already.
    """
    kept = _kept_request(account)
    if kept is not None and account.store.get(*_BY_DIGITS) is None:
        return kept
    if vault.chain_of(account).devices.get(account.device.id):
        raise NotPossible("This device is in your account already.", way_out="See: holdfast devices list")
    made = PairingRequest.new(account.device_statement)
    account.store.put(*_REQUEST, SecretBytes(made.text().encode()))
    account.store.delete(*_BY_DIGITS)
    return made


def _kept_request(account: Account) -> PairingRequest | None:
    value = account.store.get(*_REQUEST)
    return PairingRequest.parse(value.reveal().decode()) if value is not None else None


def complete(account: Account, *, wait_seconds: int = 0) -> Joined:
    """Take the letter by which another device of the person answered, and open the vault with the key in it.

    Where this device asked by QR code or digits, the letter must answer that very question: its nonce was seen by
    nobody but the device that was shown it. Raises NotYet while no letter is there, or the server does not show what
    one rests on; TrustRefused for letters that are not an answer or from a device that is not the person's; SplitView
    when the other device has seen another log of keys. Letters that are wrong by themselves are destroyed, others wait.
    """
    return wait_for(lambda: _complete(account), wait_seconds)


def _complete(account: Account) -> Joined:
    asked = _kept_request(account)
    letters.fetch(account)
    state = vault.chain_of(account)
    if account.device.id not in state.devices:
        raise _not_answered()
    waiting = letters.waiting(account, LetterKind.SYNC)
    refused: ClientError | None = None
    wrong: list[Letter] = []
    held: list[Letter] = []
    for letter in reversed(waiting):
        try:
            contents, sender, kind = _read(account, state, letter, asked)
        except HiddenChain as error:
            held.append(letter)
            refused = refused or NotYet(str(error), way_out=error.way_out)
            continue
        except HoldfastError as error:
            wrong.append(letter)
            refused = TrustRefused(
                f"A letter that claims to bring your vault's key is not to be trusted: {error}.",
                way_out="Start again on both devices: holdfast devices pair. If it happens again, tell your officers.",
            )
            continue
        opened = _open(account, contents)
        if contents.officers is not None:
            account.store.put(*_OFFICERS, SecretBytes(encode(contents.officers.row())))
        was_scanned = kind is SyncKind.DEVICE_DOOR and account.store.get(*_BY_DIGITS) is None
        letters.put_away(account, [one for one in waiting if one not in held])
        account.store.delete(*_REQUEST)
        account.store.delete(*_BY_DIGITS)
        return Joined(opened, UUID(bytes=sender), identity_words(state), was_scanned)
    letters.put_away(account, wrong)
    raise refused or _not_answered()


def officers_key_given(account: Account) -> OfficersSection | None:
    """Return the key of the officers' section that the other device gave along, if it did and nobody took it yet."""
    value = account.store.get(*_OFFICERS)
    if value is None:
        return None
    given = OfficersKey.from_row(decode(value.reveal()))
    return OfficersSection(given.epoch, given.key, given.version)


def put_away_officers_key(account: Account) -> None:
    """Forget the key that came along: the profile holds it."""
    account.store.delete(*_OFFICERS)


def _not_answered() -> NotYet:
    return NotYet(
        "No device of yours has brought this one in yet.",
        way_out="On a device that holds your account: holdfast devices pair, or holdfast devices approve.",
    )


def _read(
    account: Account, state: ChainState, letter: Letter, asked: PairingRequest | None
) -> tuple[DeviceSync, bytes, SyncKind]:
    """Open a sync letter and verify who wrote it: an active device of this very chain, at a head that stands in it.

    Raises HoldfastError for one that is wrong by itself, HiddenChain for one that the server may show to be right yet.
    """
    if letter.sender_user != account.user:
        # Before anything that may pass: anybody could write one that rests on a chain of their own making.
        raise Untrusted("it is from another person")
    opened, kind, nonce = _open_letter(account, letter, asked)
    sender = opened.header.device
    if (opened.header.tenant, opened.header.user) != (account.tenant, account.user):
        raise Untrusted("it is from another person")
    if opened.head not in state.hashes:
        raise HiddenChain("It rests on an account chain that the server does not show.", way_out=_LATER)
    if sender == account.device.id or sender not in state.devices:
        raise Untrusted("it is from a device that is not yours")
    statement = devices.fetch_statement(account, sender)
    if statement.payload_hash != state.devices[sender]:
        raise HiddenChain("The server shows another device than your chain lists.", way_out=_LATER)
    signing_key = DeviceStatement.from_payload(statement.payload).signing_key
    return opened.verify(signing_key, kind=kind, nonce=nonce), sender, kind


def _open_letter(account: Account, letter: Letter, asked: PairingRequest | None) -> tuple[SyncLetter, SyncKind, bytes]:
    if asked is not None:
        with contextlib.suppress(UnwrapFailed):
            found = SyncLetter.open(letter.message, key=account.sealing_key, request_hash=asked.hash)
            return found, SyncKind.DEVICE_DOOR, asked.nonce
    # Also where a code was shown, the person may have gone by the words instead.
    for device in handshakes.own_devices(account):
        own = Sign1.parse(device.statement).payload_hash
        with contextlib.suppress(UnwrapFailed):
            found = SyncLetter.open(letter.message, key=SealingKey.from_seed(device.sealing_seed), request_hash=own)
            return found, SyncKind.DEVICE_TO_DEVICE, own[:NONCE_SIZE]
    raise UnwrapFailed("the letter does not open")


def _open(account: Account, contents: DeviceSync) -> vault.OpenedVault:
    # Before anything is taken over: what the other device has seen of the log of keys must be what is shown here.
    key_log.compare_gossip(account, contents.checkpoint)
    found = vault.find(account)
    # A server that was put back has a lower version of it, until the devices have given it theirs.
    told = (contents.epoch, 0 if restored.is_healing(account) else contents.version)
    if (found.header.epoch, found.header.version) < told:
        raise TrustRefused(
            "The server shows an older vault than your other device told of.",
            way_out="Run `holdfast maintain` on the other device, and pair again. If it happens again, tell your "
            "officers.",
        )
    if found.header.epoch != contents.epoch:
        raise RaceLost(
            "A device of yours has changed the vault's key since your other device told of it.",
            way_out="Run `holdfast maintain` on the other device, and pair again.",
        )
    return vault.open_found(account, found, contents.vault_key)


# The existing device


def accept(account: Account, text: str, *, with_officers_keys: bool = False) -> UUID:
    """Bring in the new device whose QR code was scanned (or typed); returns its id.

    with_officers_keys: give it the key of the officers' section as well, which this device holds. The device that the
    server shows must be the one in the code. Raises TrustRefused when none is, or another.
    """
    try:
        asked = PairingRequest.parse(text)
    except Malformed as error:
        raise WrongInput(
            f"This is not a pairing code: {error}.", way_out="On the new device: holdfast devices pair"
        ) from None
    return _accept(account, asked, with_officers_keys)


def is_code(text: str) -> bool:
    """Tell whether a text is a whole pairing code."""
    try:
        PairingRequest.parse(text)
    except Malformed:
        return False
    return True


def _accept(account: Account, asked: PairingRequest, with_officers_keys: bool) -> UUID:
    if (asked.tenant, asked.user) != (account.tenant, account.user):
        raise WrongInput(
            "The code is of a device of another person or another tenant.", way_out="Scan the one on your own device."
        )
    officers = _officers_key(account, with_officers_keys)
    statement = _pending(account, asked)
    identifier = UUID(bytes=DeviceStatement.from_payload(statement.payload).header.device)
    vault.save_if_changed(account)
    devices.approve(account, identifier, words=devices.device_words(statement))
    _send(account, statement, asked, officers=officers)
    return identifier


def _officers_key(account: Account, is_given: bool) -> OfficersKey | None:
    """Return what goes along of the officers' section. Raises ProfileError where this device has nothing to give."""
    kept = account.state.officers_section
    if not is_given:
        return None
    if kept is None or not kept.version:
        raise ProfileError(
            "This device does not hold the key of your officers' section. Nothing was added.",
            way_out="Bring it here first: holdfast officer restore",
        )
    return OfficersKey(kept.key, kept.epoch, kept.version)


def _pending(account: Account, asked: PairingRequest) -> Sign1:
    """Return the statement of the device that a request is about, among the person's that the server shows."""
    for row in account.api.pages("devices", "devices", "device_id"):
        statement = devices.fetch_statement(account, row.identifier("device_id"))
        try:
            asked.require(DeviceStatement.open(statement))
        except HoldfastError:
            continue
        return statement
    raise TrustRefused(
        "No device that the server shows is the one whose code you gave. Nothing was added.",
        way_out="Enrol the new device again, and scan the code that it then shows. If it happens again, tell your "
        "officers: the server shows your device as another one.",
    )


def approve(account: Account, device: UUID, *, words: tuple[str, ...], with_officers_keys: bool = False) -> UUID:
    """Bring in a new device after its 8 words were compared on both screens, and send it the vault's key.

    with_officers_keys: as in `accept`. Raises WrongWords as `device.approve` does, and then nothing was done.
    """
    officers = _officers_key(account, with_officers_keys)
    statement = devices.fetch_statement(account, device.bytes)
    if devices.device_words(statement) != as_typed(words):
        raise WrongWords("These are not the words of the device that the server shows. Do not approve it.")
    vault.save_if_changed(account)
    devices.approve(account, device, words=words)
    _send(account, statement, officers=officers)
    return device


def sync(account: Account) -> list[UUID]:
    """Send the vault key of now to every other device of the person; returns them. Repeatable."""
    state = vault.chain_of(account)
    told = []
    for identifier, statement_hash in state.devices.items():
        if identifier == account.device.id:
            continue
        statement = devices.fetch_statement(account, identifier)
        if statement.payload_hash != statement_hash:
            raise TrustRefused(
                "The server shows another device than your chain lists.", way_out="See: holdfast devices list"
            )
        _send(account, statement)
        told.append(UUID(bytes=identifier))
    return told


def _send(
    account: Account, statement: Sign1, asked: PairingRequest | None = None, *, officers: OfficersKey | None = None
) -> None:
    kept, to = account.state.vault, DeviceStatement.from_payload(statement.payload)
    own = statement.payload_hash
    about, nonce = (asked.hash, asked.nonce) if asked else (own, own[:NONCE_SIZE])
    message = seal_sync(
        DeviceSync(kept.key, kept.epoch, kept.version, key_log.own_checkpoint(account), nonce, officers),
        header=account.header(),
        kind=SyncKind.DEVICE_DOOR if asked else SyncKind.DEVICE_TO_DEVICE,
        key=account.signing_key,
        to=to.sealing_key,
        request_hash=about,
        head=account.chain.head,
    )
    letters.send(account, to.header.device, LetterKind.SYNC, message)


def catch_up(account: Account) -> bool:
    """Take over a vault key or an identity key that another device of the person changed; True when one was.

    A letter about an epoch that this device has passed changes nothing, so a replayed one does no harm. Letters from
    devices that the chain does not list any more are destroyed unread; one that rests on what the server does not show
    waits, if an own device is its sender.
    """
    state = vault.chain_of(account)
    if account.device.id not in state.devices:
        return False
    waiting = letters.waiting(account, LetterKind.SYNC)
    told: list[DeviceSync] = []
    over: list[Letter] = []
    for letter in waiting:
        try:
            with contextlib.suppress(HoldfastError):  # wrong by itself
                told.append(_read(account, state, letter, None)[0])
        except Unreachable:
            raise
        except ClientError as error:
            letters.hold(account, letter, error)
        else:
            over.append(letter)
    changed = False
    # Of several changes only the last one's key opens what lies on the server now.
    newest = max(told, key=lambda change: (change.epoch, change.version), default=None)
    if newest is not None and newest.epoch > account.state.vault.epoch and not _is_passed(account, newest):
        _open(account, newest)
        changed = True
    letters.put_away(account, over)
    if not changed and not _holds(account, state) and len(account.state.vault.key):
        vault.load(account)
        changed = _holds(account, state)
    return changed


def _is_passed(account: Account, contents: DeviceSync) -> bool:
    """Whether the vault has gone on to a later key, about which another letter is on its way."""
    return vault.find(account).header.epoch > contents.epoch


def _holds(account: Account, state: ChainState) -> bool:
    return bool(len(account.state.identity_seed)) and account.identity_key.public == state.aik


# Without a camera: eight digits, after each side has committed itself


class CodeOffer:
    """The new device's side. Lives as long as the person looks at the screen: a second try is a new offer."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._side = NewDevice(request(account))
        account.store.put(*_BY_DIGITS, SecretBytes(b"1"))
        letters.fetch(account)
        letters.put_away(account, letters.waiting(account, LetterKind.PAIRING))
        for identifier in vault.chain_of(account).devices:
            letters.send(account, identifier, LetterKind.PAIRING, self._side.commitment)

    def wait(self, seconds: int) -> str:
        """Wait for the other device's answer, and return the 8 digits to type there. Raises NotYet."""
        return wait_for(self._code, seconds)

    def _code(self) -> str:
        account = self._account
        letters.fetch(account)
        state = vault.chain_of(account)
        for letter in letters.waiting(account, LetterKind.PAIRING):
            if letter.sender_device not in state.devices:
                continue
            letters.put_away(account, [letter])
            try:
                reveal = self._side.answer(letter.message)
            except HoldfastError:
                continue
            # The first answer is the only one: two would give whoever stands between two tries at the digits.
            letters.send(account, letter.sender_device, LetterKind.PAIRING, reveal)
            return self._side.code
        raise NotYet("Your other device has not answered yet.", way_out="On it, run: holdfast devices pair --digits")


class CodeAnswer:
    """The existing device's side: one try, then a new one on both devices."""

    def __init__(self, account: Account, side: ExistingDevice, new_device: bytes) -> None:
        self._account = account
        self._side = side
        self._new_device = new_device
        self._is_over = False

    def confirm(self, said: str, *, wait_seconds: int = 0, with_officers_keys: bool = False) -> UUID:
        """Bring in the new device if the digits typed are those this side has computed; returns its id.

        said: as typed, in groups or not. What is no eight digits costs no try, since it could be no code.

        with_officers_keys: as in `accept`. Raises WrongWords for others: somebody stands between the two devices, or a
        digit was mistyped.
        """
        if self._is_over:
            raise NotPossible("This pairing is over.", way_out="Start again on both devices.")
        digits = typed.ungrouped(said)
        if len(digits) != CODE_DIGITS or not digits.isdigit():
            raise WrongWords(
                f"The code is {CODE_DIGITS} digits. Nothing was added, and this pairing goes on.",
                way_out="Type the digits once more, as the new device shows them.",
            )
        wait_for(self._take_reveal, wait_seconds)
        self._is_over = True
        try:
            asked = self._side.confirm(digits)
        except Untrusted:
            raise WrongWords(
                "These are not the digits of this pairing. Nothing was added.",
                way_out="Start again on both devices. If they differ again, somebody is between them: tell your "
                "officers.",
            ) from None
        return _accept(self._account, asked, with_officers_keys)

    def _take_reveal(self) -> None:
        account = self._account
        letters.fetch(account)
        for letter in letters.waiting(account, LetterKind.PAIRING):
            if letter.sender_device != self._new_device:
                continue
            letters.put_away(account, [letter])
            try:
                self._side.receive_reveal(letter.message)
            except HoldfastError as error:
                raise TrustRefused(
                    f"The new device's answer does not fit what it committed itself to: {error}.",
                    way_out="Start again on both devices. If it happens again, tell your officers.",
                ) from error
            return
        raise NotYet("The new device has not answered yet.", way_out="Leave both commands running.")


def offer_code(account: Account) -> CodeOffer:
    """On the new device: begin a pairing by eight digits, with a letter to each device of the person."""
    return CodeOffer(account)


def answer_code(account: Account, *, wait_seconds: int = 0) -> CodeAnswer:
    """On an existing device: answer the new device that offers itself. Raises NotYet while none does."""
    return wait_for(lambda: _answer(account), wait_seconds)


def _answer(account: Account) -> CodeAnswer:
    letters.fetch(account)
    listed = vault.chain_of(account).devices
    for letter in reversed(letters.waiting(account, LetterKind.PAIRING)):
        letters.put_away(account, [letter])
        if letter.sender_user != account.user or letter.sender_device in listed:
            continue
        side = ExistingDevice(account.device_statement)
        try:
            message = side.receive_commitment(letter.message)
        except HoldfastError:
            continue
        letters.send(account, letter.sender_device, LetterKind.PAIRING, message)
        return CodeAnswer(account, side, letter.sender_device)
    raise NotYet("No new device of yours offers itself.", way_out="On it, run: holdfast devices pair --digits")
