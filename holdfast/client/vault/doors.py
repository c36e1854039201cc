# SPDX-License-Identifier: Apache-2.0
"""The doors of the vault: which are open, and the two that a person sets from memory or paper (password, phrase).

Implements PROTOCOL section 6 (password, phrase) and PROTOCOL section 5 (recovery key); FAULTS S7, R11, R12.
Does not pair devices (`pairing`) or share among contacts (`trusted`), and finishes no recovery (`recover`).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from holdfast.client.errors import NotPossible, Problem, TrustRefused, WrongInput, WrongSecret, WrongWords
from holdfast.client.identity import chains
from holdfast.client.profile.account import Account
from holdfast.client.server.answers import Answer
from holdfast.client.vault import vault, vault_contents
from holdfast.core.base.encoding import MAX_BLOB, b64u, decode, encode
from holdfast.core.base.errors import HoldfastError, Malformed, Unusable, UnwrapFailed
from holdfast.core.base.rows import octets, open_row, seal_row, text, uint
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.crypto.phrase import Language, NotConfirmed, Phrase
from holdfast.core.identity import chain_author
from holdfast.core.identity.chain import ChainState
from holdfast.core.identity.entries import Entry
from holdfast.core.vault import password_door, phrase_door
from holdfast.core.vault.password_door import (
    DEFAULT_COST,
    Argon2Cost,
    DoorOwner,
    open_password_door,
    seal_password_door,
)

PASSWORD: Final = password_door.KIND
PHRASE: Final = phrase_door.KIND
DEVICE: Final = "device"
CONTACTS: Final = "contacts"
KINDS: Final = (PASSWORD, PHRASE, DEVICE, CONTACTS)
QUESTIONS: Final = 4  # of 24 words: who has not written them down fails, who has is done in a minute
_WORDS: Final = 24  # BIP-39, for 256 bits
_MAX_PHRASE_ROW: Final = 4096  # bytes: a time, an epoch, a language, a public key

# By kind: the door as this device gave it; and, of one that another device gave and the server has lost, the mark whose
# door has to be set again.
_GIVEN: Final = "given-door"
_LOST: Final = "lost-door"
# A door's mark is dated by a device, and its row by the server some moments before: their clocks differ by no more, or
# the server would have refused the request (PROTOCOL section 3).
_SLACK_SECONDS: Final = 120

_SETTING: Final = {
    PASSWORD: "Set a password: holdfast backup password",
    PHRASE: "Make a new phrase: holdfast backup phrase",
    DEVICE: "Enrol a second device, and pair it: holdfast devices pair",
    CONTACTS: "Choose trusted contacts: holdfast backup contacts",
}


class WrongPassword(WrongSecret):
    """The password does not open the door, or the door is not this account's."""


class WrongPhrase(WrongSecret):
    """The phrase does not open the door, or the door is not this account's."""


@dataclass(frozen=True)
class Door:
    """One way into the vault. set_at: UTC seconds, 0 when never set. epoch: of the vault key behind it, 0 for none.

    needs: what the person has to do for it, with the command; empty when nothing.
    """

    kind: str
    is_open: bool
    set_at: int
    epoch: int
    needs: str
    language: str = ""


@dataclass(frozen=True)
class _Mark:
    """What every device of the person knows of a door: when it was set, for which epoch (0: removed), and how.

    recovery_key: of a phrase, the encoded public half of its signing key.
    """

    ROW_SIZE: ClassVar = _MAX_PHRASE_ROW

    set_at: Annotated[int, uint()]
    epoch: Annotated[int, uint()]
    language: Annotated[str, text()] = ""
    recovery_key: Annotated[bytes, octets()] = b""

    @classmethod
    def of(cls, account: Account, kind: str) -> _Mark:
        value = account.store.get(vault_contents.DOOR, kind.encode())
        if value is None:
            return cls(0, 0)
        return open_row(cls, value, "door")


@dataclass(frozen=True)
class _Given:
    """A door as this device gave it, to be given back to a server that was put back. set_at: as its mark has it."""

    ROW_SIZE: ClassVar = 2 * MAX_BLOB

    set_at: Annotated[int, uint()]
    blob: Annotated[bytes, octets()]

    @classmethod
    def of(cls, account: Account, kind: str, known: _Mark) -> _Given | None:
        """Return the door that a mark is of, unless another device set it."""
        value = account.store.get(_GIVEN, kind.encode())
        given = open_row(cls, value, "given door") if value is not None else None
        return given if given is not None and given.set_at == known.set_at else None


def mark(
    account: Account, kind: str, *, epoch: int, blob: bytes = b"", language: str = "", recovery_key: bytes = b""
) -> None:
    """Note for all devices that a door was set for an epoch, or with epoch 0 that it was removed. blob: as it was sent.

    The blob is kept on this device: it opens nothing that this device does not hold.
    """
    at = vault_contents.next_stamp(account, vault_contents.DOOR, kind.encode())
    with account.store.transaction():
        account.store.put(vault_contents.DOOR, kind.encode(), seal_row(_Mark(at, epoch, language, recovery_key)))
        account.store.delete(_LOST, kind.encode())
        if blob:
            account.store.put(_GIVEN, kind.encode(), seal_row(_Given(at, blob)))
        else:
            account.store.delete(_GIVEN, kind.encode())


def put_door(account: Account, kind: str, blob: bytes) -> None:
    """Write a door to the server in place of the one of its kind."""
    account.api.put(f"vault/doors/{kind}", {"blob": b64u(blob)}, if_match=f'"{_versions(account).get(kind, 0)}"')


def fetch_door(account: Account, kind: str) -> bytes:
    """Return a door's blob. Raises NotPossible when there is none of that kind."""
    try:
        return account.api.get(f"vault/doors/{kind}").octets("blob", maximum=MAX_BLOB)
    except Problem as problem:
        if problem.status != 404:
            raise
    raise NotPossible(
        f"Your vault has no {kind} door.", way_out="Another may be open: holdfast recover --help lists them."
    )


def _versions(account: Account) -> dict[str, int]:
    """Return the doors that the server has, with their versions."""
    return {row.text("kind"): row.number("version") for row in _listed(account)}


def _listed(account: Account) -> Iterator[Answer]:
    return account.api.get("vault/doors").many("doors", maximum=16)


# After a restored backup


def give_back(account: Account) -> list[str]:
    """Give a server that was put back the doors that it lacks, or has an older one of; returns which it was given.

    Those that this device set itself; and what their person removed is removed there. Of one that another device set,
    and that is missing there or older than its setting, `list_lost` says that it has to be set again. To be called as
    `vault.give_back`, after it, and again while something is lost.
    """
    vault.load(account)
    epoch, done = account.state.vault.epoch, []
    stored = {row.text("kind"): row.time("stored_at") for row in _listed(account)}
    for kind in (PASSWORD, PHRASE, CONTACTS):
        known, at = _Mark.of(account, kind), stored.get(kind, 0)
        account.store.delete(_LOST, kind.encode())
        if not known.set_at or known.epoch not in (0, epoch):
            continue
        given = _Given.of(account, kind, known)
        if known.epoch == 0:
            if 0 < at < known.set_at:
                _delete(account, kind)
                done.append(kind)
        elif given is not None:
            if not at or fetch_door(account, kind) != given.blob:
                put_door(account, kind, given.blob)
                done.append(kind)
        elif at < known.set_at - _SLACK_SECONDS:
            account.store.put(_LOST, kind.encode(), SecretBytes(encode(known.set_at)))
    return done


def list_lost(account: Account) -> list[str]:
    """Return the kinds of doors that the server has lost and nobody but the person can make again."""
    kinds = (kind for kind in KINDS if account.store.get(_LOST, kind.encode()) is not None)
    return [kind for kind in kinds if _Mark.of(account, kind).epoch == account.state.vault.epoch]


# What there is


@dataclass(frozen=True)
class IfAllIsLost:
    """What becomes of the account if every device is lost today, by the doors' state and this device's own memory.

    doors: the kinds that bring back account, contacts and archive keys. by_officers: generations that are in escrow;
    lost: those to which then nothing leads.
    """

    doors: tuple[str, ...]
    by_officers: tuple[int, ...]
    lost: tuple[int, ...]


def if_all_is_lost(account: Account, found: Sequence[Door]) -> IfAllIsLost:
    """Say what comes back without any of the devices. found: what `status` returned."""
    # Another device is a door as well, and lost with the rest.
    ways = tuple(door.kind for door in found if door.is_open and door.kind != DEVICE)
    kept = account.state.generations
    return IfAllIsLost(
        ways,
        tuple(one.number for one in kept if one.deposit_id),
        tuple(one.number for one in kept if not one.deposit_id) if not ways else (),
    )


def status(account: Account) -> list[Door]:
    """Return every kind of door: open only if the server has it and it was set for the vault key of now."""
    state = vault.chain_of(account)
    if len(account.state.vault.key):
        vault.load(account)
    epoch, on_server, lost = account.state.vault.epoch, _versions(account), list_lost(account)
    found = []
    for kind in KINDS:
        if kind == DEVICE:
            others = [device for device in state.devices if device != account.device.id]
            found.append(Door(kind, bool(others), 0, epoch if others else 0, "" if others else _SETTING[kind]))
            continue
        known = _Mark.of(account, kind)
        is_open = kind in on_server and known.epoch == epoch and epoch > 0 and kind not in lost
        needs = _waits(state, known) if is_open and kind == PHRASE else "" if is_open else _SETTING[kind]
        found.append(Door(kind, is_open, known.set_at, known.epoch, needs, known.language))
    return found


def _waits(state: ChainState, known: _Mark) -> str:
    """Say what a phrase still lacks to sign for the account; it opens the vault already."""
    if state.recovery_key is not None and state.recovery_key.encoded == known.recovery_key:
        return ""
    if state.announced is not None and state.announced.key.encoded == known.recovery_key:
        return "It opens your vault; it signs for your account after a week: holdfast maintain then completes it."
    return _SETTING[PHRASE]


def list_closed(account: Account) -> list[str]:
    """Return the kinds of doors that were open and closed when the vault key changed: they need the person."""
    epoch = account.state.vault.epoch
    return [kind for kind in KINDS if 0 < _Mark.of(account, kind).epoch < epoch]


def remove(account: Account, kind: str) -> None:
    """Take a door off the server. Raises NotPossible for the device door, which devices are.

    Whoever copied the door before, and has its secret, opens the vault key of that time: only a new vault key
    (holdfast rotate) makes an end of that. The phrase keeps signing for the account until another replaces it.
    """
    if kind not in (PASSWORD, PHRASE, CONTACTS):
        raise NotPossible("A device is taken out by revoking it.", way_out="See: holdfast devices revoke")
    _delete(account, kind)
    with account.store.transaction():
        mark(account, kind, epoch=0)
        if kind == CONTACTS:
            # Written over, not deleted: another device's row would bring it back.
            at = vault_contents.next_stamp(account, vault_contents.TRUSTED_SET, b"")
            gone = SecretBytes(encode([at, b"", 0]))
            account.store.put(vault_contents.TRUSTED_SET, b"", gone)
    vault.save(account)


def _delete(account: Account, kind: str) -> None:
    try:
        account.api.delete(f"vault/doors/{kind}")
    except Problem as problem:
        if problem.status != 404:
            raise


# The password


def set_password(account: Account, password: SecretBytes, *, cost: Argon2Cost = DEFAULT_COST) -> None:
    """Make the password door for the vault key of now, and the vault if there is none.

    password: at least 14 characters. One that was made for the person (`password_door.generate_password`) was shown to
    them before: once it counts, no earlier one does. Raises WrongInput for a shorter one.
    """
    owner = _owner_with_vault(account)
    try:
        blob = seal_password_door(account.state.vault.key, password=password, owner=owner, cost=cost)
    except Unusable as error:
        raise WrongInput(
            f"This password cannot be used: {error}.", way_out="Choose a longer one, or have one generated."
        ) from None
    put_door(account, PASSWORD, blob)
    mark(account, PASSWORD, epoch=owner.epoch, blob=blob)
    vault.save(account)


def open_with_password(account: Account, *, password: SecretBytes) -> vault.OpenedVault:
    """Bring the keyring to this device by the password door.

    Raises WrongPassword; NoVault; TrustRefused for a door that is not to be used, and for a vault as `open_found` does.
    """
    found = vault.find(account)
    blob = fetch_door(account, PASSWORD)
    _require_epoch(blob, found, "password")
    owner = DoorOwner(account.tenant, account.user, found.header.epoch)
    try:
        key = open_password_door(blob, password=password, owner=owner)
    except UnwrapFailed:
        raise WrongPassword(
            "The password does not open your vault.", way_out="Try again, or recover the account another way."
        ) from None
    except Unusable as error:
        raise no_secret(error) from None
    except HoldfastError as error:
        # Above all Argon2 parameters outside the bounds: the server stores them (FAULTS S7).
        raise _not_to_be_used(error) from error
    return vault.open_found(account, found, key)


# The phrase


def new_phrase(account: Account, *, language: Language = Language.ENGLISH) -> Phrase:
    """First act: make a phrase, to be shown to the person once. Nothing is kept or sent; `confirm_phrase` does that."""
    vault.chain_of(account)
    return Phrase.generate(language)


def questions() -> tuple[int, ...]:
    """Return positions of a phrase (1..24, ascending) to ask the person back, at random: four of them."""
    return tuple(sorted(secrets.SystemRandom().sample(range(1, _WORDS + 1), QUESTIONS)))


def confirm_phrase(
    account: Account,
    phrase: Phrase,
    answers: Mapping[int, str],
    *,
    passphrase: SecretBytes | None = None,
    old: Phrase | None = None,
    old_passphrase: SecretBytes | None = None,
) -> Door:
    """Second act, which alone makes the phrase count: answers checked, door made, recovery key in the account chain.

    answers: what the person wrote down, by position, four or more. old: the phrase so far, if they still have it: with
    it the new recovery key counts at once; without, it is announced and counts after a week in which any of their
    devices can cancel it. Raises WrongWords for a wrong answer, and then nothing was done.
    """
    require_answers(phrase, answers)
    owner = _owner_with_vault(account)
    try:
        blob = phrase_door.seal_phrase_door(account.state.vault.key, phrase=phrase, owner=owner, passphrase=passphrase)
    except Unusable as error:
        raise WrongInput(f"This passphrase cannot be used: {error}.", way_out="Choose another, or none.") from None
    new = recovery_key(account, phrase, passphrase)
    before = _key_of_old(account, old, old_passphrase) if old else None
    put_door(account, PHRASE, blob)
    language = phrase.language.value
    mark(account, PHRASE, epoch=owner.epoch, blob=blob, language=language, recovery_key=new.public.encoded)
    _set_recovery_key(account, new, before)
    vault.save(account)
    return next(door for door in status(account) if door.kind == PHRASE)


def require_answers(phrase: Phrase, answers: Mapping[int, str]) -> None:
    """Raise WrongWords unless four words or more of a phrase were given back, by position."""
    if len(answers) < QUESTIONS:
        raise WrongInput(f"Ask for {QUESTIONS} words of the phrase at least.")
    try:
        phrase.confirm(answers)
    except NotConfirmed as error:
        places = ", ".join(map(str, error.positions))
        raise WrongWords(
            f"Not the words of this phrase: {places}. Nothing was set.",
            way_out="Compare what you wrote down with the words shown, and answer again.",
        ) from None


def recovery_key(account: Account, phrase: Phrase, passphrase: SecretBytes | None) -> SigningKey:
    """Return the signing key that a phrase holds for this account."""
    kind = account.device_statement.suite.signing_kind
    return phrase_door.recovery_key(phrase, tenant=account.tenant, user=account.user, kind=kind, passphrase=passphrase)


def key_in_force(account: Account, phrase: Phrase, passphrase: SecretBytes | None) -> SigningKey | None:
    """Return the key of a phrase that signs for this account, in any spelling of the passphrase; None for none."""
    kind, state = account.device_statement.suite.signing_kind, vault.chain_of(account)
    keys = phrase_door.recovery_keys(phrase, tenant=account.tenant, user=account.user, kind=kind, passphrase=passphrase)
    return next((key for key in keys if key.public == state.recovery_key), None)


def _key_of_old(account: Account, old: Phrase, passphrase: SecretBytes | None) -> SigningKey:
    found = key_in_force(account, old, passphrase)
    if found is None:
        raise WrongPhrase(
            "The old phrase is not the one that signs for your account. Nothing was set.",
            way_out="Try it again, or leave it out: the new phrase then signs after a week.",
        )
    return found


def _set_recovery_key(account: Account, new: SigningKey, before: SigningKey | None) -> None:
    def write(state: ChainState) -> list[Entry]:
        announced = state.announced.key if state.announced else None
        if new.public in (state.recovery_key, announced):
            return []
        old = before if state.recovery_key is not None else None
        return [chain_author.set_recovery_key(state, by=account.author(state), recovery_key=new.public, old=old)]

    chains.append(account, write)


def complete_recovery_key(account: Account) -> bool:
    """Make an announced recovery key count once its week is over; True when it does from now on.

    Only the one that a device of the person noted beside their phrase door: a key that somebody else announced waits
    for them to look at it.
    """
    known = _Mark.of(account, PHRASE).recovery_key
    done = False

    def write(state: ChainState) -> list[Entry]:
        nonlocal done
        waiting = state.announced
        by = account.author(state)
        if waiting is None or waiting.key.encoded != known or by.issued_at < waiting.due_at:
            return []
        done = True
        return [chain_author.set_recovery_key(state, by=by, recovery_key=waiting.key)]

    chains.append(account, write)
    return done


def cancel_recovery_key(account: Account) -> bool:
    """Cancel a recovery key that is announced and does not count yet; False when none is.

    For whoever finds one that they did not announce: a thief of a device may have.
    """
    cancelled = False

    def write(state: ChainState) -> list[Entry]:
        nonlocal cancelled
        if state.announced is None or state.recovery_key is None:
            return []
        cancelled = True
        return [chain_author.set_recovery_key(state, by=account.author(state), recovery_key=state.recovery_key)]

    chains.append(account, write)
    return cancelled


def open_with_phrase(account: Account, phrase: Phrase, *, passphrase: SecretBytes | None = None) -> vault.OpenedVault:
    """Bring the keyring to this device by the phrase door.

    Raises WrongPhrase; NoVault; TrustRefused as `open_with_password` does.
    """
    found = vault.find(account)
    blob = fetch_door(account, PHRASE)
    _require_epoch(blob, found, "phrase")
    owner = DoorOwner(account.tenant, account.user, found.header.epoch)
    try:
        asks = phrase_door.read_phrase_door(blob).has_passphrase
        if asks and passphrase is None:
            raise WrongInput("This phrase has a passphrase beside it.", way_out="Give it too: --passphrase-of-phrase")
        key = phrase_door.open_phrase_door(blob, phrase=phrase, owner=owner, passphrase=passphrase)
    except UnwrapFailed:
        raise WrongPhrase(
            "The phrase does not open your vault.",
            way_out="It is another phrase, or another account's: compare the paper it is on.",
        ) from None
    except Unusable as error:
        raise no_secret(error) from None
    except HoldfastError as error:
        raise _not_to_be_used(error) from error
    return vault.open_found(account, found, key)


def _owner_with_vault(account: Account) -> DoorOwner:
    """Return whose door is to be made, with the vault on the server that it opens."""
    if len(account.state.vault.key):
        vault.load(account)
    else:
        vault.save(account)
    return DoorOwner(account.tenant, account.user, account.state.vault.epoch)


def _require_epoch(blob: bytes, found: vault.Found, name: str) -> None:
    """Say of a door that it is closed, by what it says of itself: a better word than that the secret is wrong."""
    try:
        stated = decode(blob)
        epoch = stated.get(6) if isinstance(stated, dict) else None
        if not isinstance(epoch, int):
            raise Malformed("door: names no vault key")
    except HoldfastError as error:
        raise _not_to_be_used(error) from error
    if epoch != found.header.epoch:
        raise NotPossible(
            f"The {name} door is closed: it was set for another vault key than the vault has now.",
            way_out="Use another door, or another device of yours; then set this one anew.",
        )


def no_secret(error: Unusable) -> WrongSecret:
    """Return the refusal of what was typed or read as a secret and can be none."""
    return WrongSecret(f"What was given is no password or passphrase: {error}.", way_out="Give it once more.")


def _not_to_be_used(error: HoldfastError) -> TrustRefused:
    return TrustRefused(
        f"The vault's door is not to be used: {error}.",
        way_out="Do not try again with other secrets; show this to your officers, and use another door.",
    )
