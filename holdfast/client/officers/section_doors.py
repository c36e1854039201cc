# SPDX-License-Identifier: Apache-2.0
"""The doors of the officers' section: a generated passphrase and a phrase, each proven by whoever has just opened it.

Implements ESCROW "Policy and officers" and the statement `door-proof` on the device.
Does not show or ask anything: whoever calls has had the person give the secret back. No contacts, no export file.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Final

from holdfast.client.errors import NotPossible, Problem, ProfileError, TrustRefused, WrongSecret
from holdfast.client.officers import section
from holdfast.client.officers.section import Contents
from holdfast.client.profile.account import Account
from holdfast.client.server.answers import Answer
from holdfast.client.vault.doors import WrongPassword, WrongPhrase, no_secret
from holdfast.core.base.encoding import b64u, encode
from holdfast.core.base.errors import HoldfastError, Unusable, UnwrapFailed
from holdfast.core.base.rows import octets, open_row, seal_row, uint
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.phrase import Phrase
from holdfast.core.signed.cose import Purpose, sign
from holdfast.core.vault import password_door, phrase_door
from holdfast.core.vault.blob import Section
from holdfast.core.vault.door_blob import MAX_DOOR, DoorOwner
from holdfast.core.vault.door_proof import DoorProof
from holdfast.core.vault.password_door import DEFAULT_COST, Argon2Cost

PASSWORD: Final = password_door.KIND
PHRASE: Final = phrase_door.KIND
KINDS: Final = (PASSWORD, PHRASE)
# As people call them: a password is chosen, and this one never is.
NAMES: Final = {PASSWORD: "passphrase", PHRASE: "phrase"}
# The statement asks it, and the server: one is lost with the paper that it is on.
NEEDED: Final = 2
# By kind: the door as this device gave it; and those that a server that was put back has an older one of.
_GIVEN: Final = "officers-door"
_OLDER: Final = "officers-door-older"
# After a year nobody knows any more whether a door still opens: paper fades, and people move.
STALE_SECONDS: Final = 365 * 86_400


@dataclass(frozen=True)
class SectionDoor:
    """One door: whether it opens the section's key of now, and when it was last proven (UTC seconds, 0 for never)."""

    kind: str
    is_open: bool
    proved_at: int

    def is_stale(self, now: int) -> bool:
        """Whether it was not opened for a year. It still counts: a door that lapses takes nobody out of office."""
        return self.is_open and now - self.proved_at >= STALE_SECONDS


def status(account: Account) -> list[SectionDoor]:
    """Return every kind of door, by the server's word."""
    found = {
        row.text("kind"): SectionDoor(row.text("kind"), row.flag("is_current"), row.time("proved_at"))
        for row in _listed(account)
    }
    return [found.get(kind, SectionDoor(kind, is_open=False, proved_at=0)) for kind in KINDS]


def missing(account: Account) -> list[str]:
    """Return the kinds of doors that have still to be set."""
    return [door.kind for door in status(account) if not door.is_open]


def set_passphrase(account: Account, passphrase: SecretBytes, *, cost: Argon2Cost = DEFAULT_COST) -> None:
    """Make the passphrase door, open it, and send both with the proof. passphrase: generated, and given back."""
    _set(
        account,
        PASSWORD,
        lambda key, owner: password_door.seal_password_door(key, password=passphrase, owner=owner, cost=cost),
        lambda blob, owner: password_door.open_password_door(blob, password=passphrase, owner=owner),
    )


def set_phrase(account: Account, phrase: Phrase) -> None:
    """Make the phrase door, open it, and send both with the proof. phrase: of which words were given back."""
    _set(
        account,
        PHRASE,
        lambda key, owner: phrase_door.seal_phrase_door(key, phrase=phrase, owner=owner),
        lambda blob, owner: phrase_door.open_phrase_door(blob, phrase=phrase, owner=owner),
    )


Seal = Callable[[SecretBytes, DoorOwner], bytes]
Open = Callable[[bytes, DoorOwner], SecretBytes]


def _set(account: Account, kind: str, seal: Seal, open_door: Open) -> None:
    kept = account.state.officers_section
    if kept is None:
        raise ProfileError("This device does not hold the key of your officers' section.", way_out=section.RESTORE)
    owner = _owner(account, kept.epoch)
    blob = seal(kept.key, owner)
    # Before it is proven: what is sent has been opened, by what the person has given back.
    assert open_door(blob, owner) == kept.key
    versions = {row.text("kind"): row.number("version") for row in _listed(account)}
    document = {"blob": b64u(blob), "proof": _proof(account, owner.kind(kind), blob)}
    account.api.put(f"vault/officers/doors/{kind}", document, if_match=f'"{versions.get(kind, 0)}"')
    with account.store.transaction():
        account.store.put(_GIVEN, kind.encode(), seal_row(_Given(kept.epoch, hashlib.sha256(blob).digest())))
        account.store.delete(_OLDER, kind.encode())


def look_back(account: Account) -> list[str]:
    """Return the kinds of doors that this device set, and a server that was put back has another one of.

    They are not given back: a door of this section counts by the proof that it was just opened, which is its owner's to
    make. `list_older` names them until they are set again.
    """
    kept = account.state.officers_section
    for kind in KINDS:
        value = account.store.get(_GIVEN, kind.encode())
        given = open_row(_Given, value, "given door of the officers' section") if value is not None else None
        if kept is None or given is None or given.epoch != kept.epoch:
            continue
        with contextlib.suppress(NotPossible):  # without a door, `status` says it
            if hashlib.sha256(_fetch_door(account, kind)).digest() != given.blob_hash:
                account.store.put(_OLDER, kind.encode(), SecretBytes(encode(given.epoch)))
    return list_older(account)


def list_older(account: Account) -> list[str]:
    """Return the kinds of doors of which the server has an older one than this device set."""
    return [kind for kind in KINDS if account.store.get(_OLDER, kind.encode()) is not None]


@dataclass(frozen=True)
class _Given:
    """A door that this device set: for which epoch of the section's key, and SHA-256 of it."""

    epoch: Annotated[int, uint()]
    blob_hash: Annotated[bytes, octets(32)]


def _listed(account: Account) -> Iterator[Answer]:
    return account.api.get("vault/officers/doors").many("doors", maximum=16)


def _owner(account: Account, epoch: int) -> DoorOwner:
    return DoorOwner(account.tenant, account.user, epoch, Section.OFFICERS)


def _proof(account: Account, kind: str, blob: bytes) -> str:
    proof = DoorProof(account.header(), kind, hashlib.sha256(blob).digest())
    return b64u(sign(proof.to_payload(), purpose=Purpose.DOOR_PROOF, key=account.identity_key).encode())


def open_with_passphrase(account: Account, passphrase: SecretBytes) -> Contents:
    """Bring the section's key here by its passphrase, and prove the door.

    Raises WrongPassword; NotPossible when there is no section or no such door; TrustRefused for a door that is not to
    be used, and for a section as `section.fetch` does.
    """
    return _open(
        account,
        PASSWORD,
        lambda blob, owner: password_door.open_password_door(blob, password=passphrase, owner=owner),
        WrongPassword("The passphrase does not open your officers' section.", way_out="Try again, or the phrase."),
    )


def open_with_phrase(account: Account, phrase: Phrase) -> Contents:
    """Bring the section's key here by its phrase, and prove the door. Raises WrongPhrase, else as the passphrase."""
    return _open(
        account,
        PHRASE,
        lambda blob, owner: phrase_door.open_phrase_door(blob, phrase=phrase, owner=owner),
        WrongPhrase(
            "The phrase does not open your officers' section.", way_out="Compare the paper, or the passphrase."
        ),
    )


def _open(account: Account, kind: str, open_door: Open, wrong: WrongSecret) -> Contents:
    if not account.device.is_active or not len(account.state.identity_seed):
        raise ProfileError(
            "This device is not part of your account yet.", way_out="First bring your account: holdfast recover --help"
        )
    found = section.fetch(account)
    if found is None:
        raise NotPossible("There is no officers' section of yours on the server.", way_out="holdfast officer init")
    blob = _fetch_door(account, kind)
    owner = _owner(account, found.header.epoch)
    try:
        key = open_door(blob, owner)
    except UnwrapFailed:
        raise wrong from None
    except Unusable as error:
        raise no_secret(error) from None
    except HoldfastError as error:
        # Above all Argon2 parameters outside the bounds, or a door of the vault in place of one of this section.
        raise TrustRefused(
            f"The door of your officers' section is not to be used: {error}.",
            way_out="Do not try again with other secrets; show this to the other officers, and use another door.",
        ) from error
    contents = section.open_found(account, found, key)
    account.api.put(f"vault/officers/doors/{kind}/proof", {"proof": _proof(account, owner.kind(kind), blob)})
    return contents


def _fetch_door(account: Account, kind: str) -> bytes:
    try:
        return account.api.get(f"vault/officers/doors/{kind}").octets("blob", maximum=MAX_DOOR)
    except Problem as problem:
        if problem.status != 404:
            raise
    raise NotPossible(
        f"Your officers' section has no {kind} door.", way_out="Another may be open: holdfast officer doors"
    )


def remove(account: Account, kind: str) -> None:
    """Close one door. The server refuses it to an officer in office below two that are proven."""
    account.api.delete(f"vault/officers/doors/{kind}")
