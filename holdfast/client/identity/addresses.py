# SPDX-License-Identifier: Apache-2.0
"""People by e-mail address: asked of the tenant's directory, and pinned to the person whom it first named.

Implements ORGANISATION "Directory" for the client.
Does not make sure of anybody: the directory is the server's word, and comparing words with the person is what counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, TypeAlias
from uuid import UUID

from holdfast.client.errors import AddressChanged, Problem, Unreachable, WrongInput, damaged
from holdfast.client.profile.account import Account
from holdfast.core.base.addresses import address_key
from holdfast.core.base.errors import Malformed
from holdfast.core.base.rows import octets, open_row, seal_row, uint
from holdfast.core.base.secret import SecretBytes
from holdfast.core.base.typed import trimmed

# How long an answer holds without being asked for again: as long as a chain does.
FRESH_SECONDS: Final = 300
_PINNED: Final = "address"
_MAX_ROW: Final = 256  # bytes: an id and a time, with room
_DIRECTORY: Final = "users"
_ENROLLEES: Final = "enrolment-codes/person"

# A person as an app or a command names them: by id, or by e-mail address.
Who: TypeAlias = UUID | str


@dataclass(frozen=True)
class Found:
    """Whom an address was found to be. is_new: it was pinned by this very look-up; address: as it is compared."""

    person: UUID
    address: str
    is_new: bool


@dataclass(frozen=True)
class _Pin:
    ROW_SIZE: ClassVar = _MAX_ROW

    user: Annotated[bytes, octets(16)]
    asked_at: Annotated[int, uint()]


def person_of(account: Account, who: Who) -> UUID:
    """Return the person with an id, which may be text, or with an e-mail address. Raises as `find` does."""
    if isinstance(who, UUID):
        return who
    return find(account, who).person if "@" in who else _identifier(who)


def find(account: Account, address: str, *, for_enrolment: bool = False) -> Found:
    """Return whom an address is of, and pin it to them when it is asked for the first time.

    for_enrolment: also people who were invited and have not come yet, for whoever may issue codes. A pinned address is
    asked for again after five minutes, and holds while the server cannot be reached. Raises AddressChanged when it is
    another person's now, or nobody's; WrongInput for an address that the directory does not know, or that is none.
    """
    key = key_of(address)
    pinned, now = _pinned(account, key), account.api.clock.now()
    if pinned is not None and 0 <= now - pinned.asked_at < FRESH_SECONDS:
        return Found(UUID(bytes=pinned.user), key, is_new=False)
    try:
        user = _asked(account, key, for_enrolment=for_enrolment)
    except Unreachable:
        if pinned is None:
            raise
        return Found(UUID(bytes=pinned.user), key, is_new=False)
    if pinned is not None and user != pinned.user:
        raise _changed(key, pinned.user, user)
    if user is None:
        raise WrongInput(
            f"Nobody whom you can reach has the address {key}.",
            way_out="Check how it is written. Somebody who was invited is found once they are active.",
        )
    account.store.put(_PINNED, key.encode(), seal_row(_Pin(user, now)))
    return Found(UUID(bytes=user), key, is_new=pinned is None)


def key_of(address: str) -> str:
    """Return an e-mail address as addresses are compared. Raises WrongInput for what is none."""
    try:
        return address_key(trimmed(address))
    except Malformed as error:
        raise WrongInput("That is not one e-mail address.", way_out="Write it whole: bob@acme.test") from error


def require_pinned(account: Account, key: str, person: UUID | None) -> None:
    """Raise AddressChanged when an address is pinned here, and to another person than the one the server now names."""
    pinned = _pinned(account, key)
    user = person.bytes if person else None
    if pinned is not None and pinned.user != user:
        raise _changed(key, pinned.user, user)


def list_pinned(account: Account) -> dict[str, UUID]:
    """Return every address that is pinned, and to whom, by address. The server is not asked."""
    found = {}
    for key in sorted(account.store.keys(_PINNED)):
        pinned = _pinned(account, key.decode())
        if pinned is not None:
            found[key.decode()] = UUID(bytes=pinned.user)
    return found


def forget(account: Account, address: str) -> None:
    """Forget whom an address was pinned to, so that the directory's next answer is taken. Raises WrongInput."""
    key = key_of(address)
    if account.store.get(_PINNED, key.encode()) is None:
        raise WrongInput(f"The address {key} is pinned to nobody.")
    account.store.delete(_PINNED, key.encode())


def _identifier(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise WrongInput(
            "A person is named by their id or their e-mail address.", way_out="Write an address whole: bob@acme.test"
        ) from error


def _pinned(account: Account, key: str) -> _Pin | None:
    row: SecretBytes | None = account.store.get(_PINNED, key.encode())
    try:
        return open_row(_Pin, row, "pinned address") if row is not None else None
    except Malformed as error:
        raise damaged(error) from error


def _asked(account: Account, key: str, *, for_enrolment: bool) -> bytes | None:
    path, name = (_ENROLLEES, "person_id") if for_enrolment else (_DIRECTORY, "user_id")
    try:
        return account.api.get(path, query={"email": key}).identifier(name)
    except Problem as problem:
        if problem.code != "not-found":
            raise
        return None


def _changed(key: str, pinned: bytes, user: bytes | None) -> AddressChanged:
    said = f"now names another person for it: {UUID(bytes=user)}" if user else "knows nobody by it any more"
    return AddressChanged(
        f"The address {key} was {UUID(bytes=pinned)} for this profile, and the directory {said}.",
        way_out=f"To go on with the person of before, name them by their id. If you know that the address has changed "
        f"hands: holdfast contacts forget {key}, and compare words with the person whom it then finds.",
    )
