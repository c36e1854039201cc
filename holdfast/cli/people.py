# SPDX-License-Identifier: Apache-2.0
"""People as they are named on the command line: by id or by e-mail address, and what is said of an address.

Implements ORGANISATION "Directory" at the keyboard: whom an address was found to be is shown with words to compare.
Does not decide whom an address is of; the client's `addresses` does, and pins it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID

import typer

from holdfast.cli.later import later
from holdfast.cli.shell import Shell, plain, shown
from holdfast.client.errors import NotPossible, PeerChanged
from holdfast.core.base.addresses import address_key, mixed_letters
from holdfast.core.base.errors import Malformed

if TYPE_CHECKING:
    from holdfast.client.identity.addresses import Found
    from holdfast.client.profile.account import Account

with later():
    from holdfast.client.identity import addresses, contacts

PERSON: Final = "PERSON"  # what stands for one in the usage of a command
CHANGED: Final = "the e-mail address is another person's now, or nobody's"


def named(text: str) -> str:
    """Read how a person is named: an id or one e-mail address. Raises BadParameter."""
    try:
        return address_key(text) if "@" in text else str(UUID(text))
    except (Malformed, ValueError):
        raise typer.BadParameter("a person's id, or one e-mail address") from None


def person(shell: Shell, account: Account, who: str, *, for_enrolment: bool = False, is_trusted: bool = False) -> UUID:
    """Return who is meant. Of an address, show people whom it was found to be, with the words to compare.

    That is at the first time; with is_trusted, where the person is about to be trusted with something, every time
    until a safety number was compared. Raises as `addresses.find` does.
    """
    if "@" not in who:
        return UUID(who)
    found = addresses.find(account, who, for_enrolment=for_enrolment)
    known = account.state.contacts.get(found.person.bytes)
    if not shell.is_json and (found.is_new or (is_trusted and not (known and known.verified))):
        for line in _lines(account, found):
            shell.note(line)
    return found.person


def _lines(account: Account, found: Found) -> list[str]:
    """Say whom the directory names. It is the server's word, so that words to compare stand with it."""
    said = [f"{plain(found.address)} is {found.person}, your organisation's server says."]
    said += [
        f"  [bold red]![/] The “{plain(sign)}” in it is no Latin letter, but {name.capitalize()}."
        for sign, name in mixed_letters(found.address)
    ]
    if found.person.bytes == account.user:
        return [*said, "  That is you."]
    try:
        state = contacts.refresh(account, found.person.bytes)
    except (NotPossible, PeerChanged) as error:
        return [*said, f"  There are no words to compare yet. {plain(str(error))}"]
    return [
        *said,
        f"  Words to compare with them by voice:  {shown(contacts.identity_words(state))}",
        f"  Or compare the safety number:  holdfast contacts show {found.person}",
    ]
