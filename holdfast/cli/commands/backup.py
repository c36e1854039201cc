# SPDX-License-Identifier: Apache-2.0
"""`holdfast backup`: keep the keyring where only its owner can get at it, and the ways back to it.

Implements PROTOCOL section 6 (the vault and its doors) at the keyboard of the person who still has a device.
The vault's password is not the profile's passphrase: one opens the account anywhere, one this machine's file.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from holdfast.cli.asking import (
    PassphraseOfPhrase,
    PasswordFile,
    ask_in_private,
    ask_phrase,
    ask_secret,
    password,
    require_person,
    show_in_private,
)
from holdfast.cli.exits import Exit
from holdfast.cli.page import command
from holdfast.cli.shell import Shell, shell_of
from holdfast.client import doors
from holdfast.client.account import Account
from holdfast.client.doors import Door
from holdfast.client.errors import WrongWords
from holdfast.core.phrase import Language, Phrase
from holdfast.core.secret import SecretBytes

app = typer.Typer(help="Ways back to your keys, made while you still have them.", no_args_is_help=True)

_TRIES: Final = 3
_COLUMNS: Final = 4


@command(
    app,
    "status",
    examples=[("holdfast backup status", "See which ways back to your keys are open, and which need you.")],
)
def status(context: typer.Context) -> None:
    """Say which doors your vault has, since when, and what each still needs.

    The vault is your keyring on the server, which the server cannot read; a door is a way to open it. A door is open
    only for the vault key of now: after a rotation, password and phrase have to be set again.
    """
    shell = shell_of(context)
    with shell.account() as account, shell.working("Asking for your doors"):
        found = doors.status(account)
    shell.show({"doors": [_document(one) for one in found]}, *(line for one in found for line in _lines(one)))


@command(
    app,
    "password",
    asks="a new password for your vault (14 characters or more), twice; not with --generate or --password-file.",
    changes="your vault on the server has this password, and any earlier one opens it no more.",
    exits={Exit.ASK_PERSON: "--generate shows the password to a person at a terminal only"},
    examples=[
        ("holdfast backup password", "Choose a password, and save your keyring behind it."),
        ("holdfast backup password --generate", "Have one made, and shown once."),
    ],
)
def set_password(
    context: typer.Context,
    password_file: PasswordFile = None,
    generate: Annotated[bool, typer.Option("--generate", help="Make a password, and show it once.")] = False,
) -> None:
    """Save your keyring to the server, behind a password of yours.

    The server keeps ciphertext and never sees the password. Whoever knows the password and has a device enrolled in
    your name can open your account, so let it be long, and used nowhere else.
    """
    shell = shell_of(context)
    if generate:
        require_person(is_json=shell.is_json)
    with shell.account() as account:
        chosen: SecretBytes | None = None
        if not generate:
            chosen = password(password_file, "New password of your vault (14 characters or more)", confirm=True)
        with shell.working("Saving your vault"):
            made = doors.set_password(account, chosen)
        version = account.state.vault.version
    if generate:
        show_in_private("The password of your vault", [made.reveal().decode()])
    shell.show({"version": version}, f"[bold green]✓[/] Your vault is saved, version {version}. Its password is set.")


@command(
    app,
    "phrase",
    asks="four words of the new phrase, back from the paper; with --old, the phrase so far.",
    changes="your vault opens by these 24 words, and they can sign for your account when every device is lost.",
    exits={Exit.ASK_PERSON: "nobody was at a terminal to write it down, or the words given back were wrong"},
    examples=[
        ("holdfast backup phrase", "Make a phrase, write it down, and prove it."),
        ("holdfast backup phrase --language french", "In words of another BIP-39 list."),
    ],
)
def set_phrase(
    context: typer.Context,
    language: Annotated[Language, typer.Option(help="The BIP-39 word list to take the words from.")] = Language.ENGLISH,
    passphrase_of_phrase: PassphraseOfPhrase = False,
    old: Annotated[
        bool, typer.Option("--old", help="You still have the phrase so far: the new one then signs at once.")
    ] = False,
) -> None:
    """Make a recovery phrase: 24 words that you write down on paper, once.

    Shown on a terminal and nowhere else, on a screen of its own that leaves nothing in the scrollback, and counted
    only after you have given four of the words back. Whoever has the paper can become you: keep it where you would
    keep a passport, and never photograph it.

    When the phrase replaces another and you do not have that one any more, it opens your vault at once, and signs for
    your account after a week, in which any of your devices can stop it.
    """
    shell = shell_of(context)
    require_person(is_json=shell.is_json)
    with shell.account() as account:
        before = ask_phrase("The phrase so far", None) if old else None
        beside = ask_secret("Passphrase beside the phrase", confirm=True) if passphrase_of_phrase else None
        phrase = doors.new_phrase(account, language=language)
        made = _proven(shell, account, phrase, before, beside)
    shell.show(
        _document(made),
        "[bold green]✓[/] Your recovery phrase counts. The paper opens your account; nothing here can show it again.",
        *([f"  {made.needs}"] if made.needs else []),
    )


def _proven(shell: Shell, account: Account, phrase: Phrase, before: Phrase | None, beside: SecretBytes | None) -> Door:
    """Show the phrase and ask words of it back, again when they were wrong; then make it count."""
    for tries_left in reversed(range(_TRIES)):
        show_in_private("Your recovery phrase: 24 words, in this order", _rows(phrase.words()))
        places = doors.questions()
        words = ask_in_private("From the paper, please", [f"Word {place}" for place in places])
        answers = dict(zip(places, (word.strip().lower() for word in words), strict=True))
        try:
            with shell.working("Making the door"):
                return doors.confirm_phrase(account, phrase, answers, passphrase=beside, old=before)
        except WrongWords:
            if not tries_left:
                raise
            shell.note("[yellow]Not the words of the phrase. It is shown once more.[/]")
    raise AssertionError("the last try ends in a return or an error")


def _rows(words: tuple[str, ...]) -> list[str]:
    """Set words in columns, read from left to right, each with its number."""
    width = max(map(len, words)) + 3
    cells = [f"{number:>2} {word:<{width}}" for number, word in enumerate(words, start=1)]
    return ["".join(cells[start : start + _COLUMNS]).rstrip() for start in range(0, len(cells), _COLUMNS)]


def _document(door: Door) -> dict[str, object]:
    return {
        "kind": door.kind,
        "open": door.is_open,
        "set_at": door.set_at or None,
        "needs": door.needs,
        "language": door.language or None,
    }


def _lines(door: Door) -> list[str]:
    mark = "[green]✓[/]" if door.is_open else "[yellow]○[/]"
    since = f", set {datetime.fromtimestamp(door.set_at, UTC):%Y-%m-%d}" if door.set_at else ""
    return [f"{mark} {door.kind:<9} {'open' if door.is_open else 'closed'}{since}"] + (
        [f"    {door.needs}"] if door.needs else []
    )
