# SPDX-License-Identifier: Apache-2.0
"""`holdfast contacts`: the people this profile has met, and the yes to one who began again.

Implements PROTOCOL section 5 for peers at the keyboard: after a re-genesis a human confirms, never a program.
Does not show what is not verified.
"""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from holdfast.cli.asking import words_of
from holdfast.cli.commands.chain import document, lines
from holdfast.cli.exits import Exit
from holdfast.cli.page import command
from holdfast.cli.shell import shell_of
from holdfast.client import contacts

app = typer.Typer(help="The people you write to.", no_args_is_help=True)

Person = Annotated[UUID, typer.Argument(help="The contact.")]


@command(
    app,
    "confirm",
    asks="the 8 words of the contact's new key, as you hear them from the person, unless --words gives them.",
    changes="whom you trust: this profile takes the contact's new key from now on.",
    exits={Exit.ASK_PERSON: "these are not the words of the new key: trust nothing under it, and tell your officers"},
    examples=[("holdfast contacts confirm 3f2b8c1e-1c1b-4a53-8f0a-6f2d1c9e7a11", "Ask for the words, then confirm.")],
)
def confirm(
    context: typer.Context,
    user_id: Person,
    words: Annotated[
        str | None, typer.Option(help="The 8 words of the contact's new key, as heard from the person.")
    ] = None,
) -> None:
    """Trust a contact again whose account was begun again.

    After a recovery through officers an account has a new key, which nothing of the old one vouches for: to you it
    is another person. Call her, and have the words of the new key read to you; do not take them from a message.
    """
    shell = shell_of(context)
    typed = words if words is not None else typer.prompt("The 8 words, as the person reads them to you")
    with shell.account() as account:
        state = contacts.confirm(account, user_id.bytes, words=words_of(typed))
    shell.show(document(state), f"[bold green]✓[/] You trust {user_id} again, under a new key.", *lines(state))
