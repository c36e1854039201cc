# SPDX-License-Identifier: Apache-2.0
"""`holdfast chain`: what an account's signed history says.

Implements PROTOCOL section 5 at the keyboard, for one's own chain and those of contacts.
Does not show what is not verified.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from holdfast.cli.exits import Exit
from holdfast.cli.later import later
from holdfast.cli.page import command, group
from holdfast.cli.people import PERSON, named, person
from holdfast.cli.shell import shell_of, shown
from holdfast.client.errors import ProfileError

if TYPE_CHECKING:
    from holdfast.core.identity.chain import ChainState

with later():
    from holdfast.client.identity import chains, contacts

app = group()


@command(
    app,
    "show",
    exits={Exit.ASK_PERSON: "the contact's account was begun again: holdfast contacts confirm"},
    examples=[
        ("holdfast chain show", "Show your own account."),
        ("holdfast chain show 3f2b8c1e-1c1b-4a53-8f0a-6f2d1c9e7a11", "Verify and show a contact's."),
    ],
)
def show(
    context: typer.Context,
    user_id: Annotated[
        str | None,
        typer.Argument(
            metavar=PERSON, parser=named, help="A contact, by id or e-mail address; yourself when left out."
        ),
    ] = None,
) -> None:
    """Verify an account chain and say what it holds.

    Fetches what is new, holds every entry to what this profile has pinned, and says: the identity key in words,
    active and revoked devices, archive keys, and whether the account was ever begun again by officers.
    """
    shell = shell_of(context)
    with shell.account() as account:
        user = person(shell, account, user_id).bytes if user_id else account.user
        state = chains.refresh(account) if user == account.user else contacts.refresh(account, user)
        if state is None:
            raise ProfileError("This account has no chain yet.")
    shell.show(document(state), *lines(state))


def document(state: ChainState) -> dict[str, object]:
    """Return what a verified chain holds, for JSON."""
    mark = state.re_genesis
    return {
        "user_id": UUID(bytes=state.user),
        "seq": state.seq,
        "head": state.head.hex(),
        "identity_words": list(state.aik.fingerprint("aik")),
        "devices": [UUID(bytes=device) for device in state.devices],
        "revoked": [UUID(bytes=device) for device in sorted(state.revoked)],
        "generations": [archive.generation for archive in state.generations],
        "re_genesis": {"seq": mark.seq, "case_id": UUID(bytes=mark.case_id)} if mark else None,
    }


def lines(state: ChainState) -> list[str]:
    """Return what a verified chain holds, for people."""
    mark = state.re_genesis
    said = [
        f"Account {UUID(bytes=state.user)}: {state.seq + 1} entries, all verified.",
        f"  Identity key:  {shown(state.aik.fingerprint('aik'))}",
        f"  Devices:       {len(state.devices)} active, {len(state.revoked)} revoked",
        f"  Archive keys:  {', '.join(str(archive.generation) for archive in state.generations) or 'none'}",
    ]
    if mark:
        said.append(
            f"  [bold yellow]Begun again[/] at entry {mark.seq}, by officers in case {UUID(bytes=mark.case_id)}."
        )
    return said
