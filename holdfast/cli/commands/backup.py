# SPDX-License-Identifier: Apache-2.0
"""`holdfast backup`: keep the keyring where only its owner can get at it, and the ways back to it.

Implements PROTOCOL section 6 (the vault and its doors) at the keyboard of the person who still has a device.
The vault's password is not the profile's passphrase: one opens the account anywhere, one this machine's file.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from uuid import UUID

import typer

from holdfast.cli.asking import (
    PassphraseOfPhrase,
    PasswordFile,
    Yes,
    ask_in_private,
    ask_phrase,
    ask_secret,
    password,
    phrase_rows,
    require_person,
    show_in_private,
)
from holdfast.cli.exits import Exit
from holdfast.cli.later import later
from holdfast.cli.page import command, group
from holdfast.cli.people import PERSON, named, person
from holdfast.cli.shell import Shell, day, plain, shell_of
from holdfast.client.errors import WrongWords
from holdfast.core.crypto.phrase import Language

if TYPE_CHECKING:
    from holdfast.client.profile.account import Account
    from holdfast.client.vault.doors import Door, IfAllIsLost
    from holdfast.client.vault.trusted import TrustedSet
    from holdfast.core.base.secret import SecretBytes
    from holdfast.core.crypto.phrase import Phrase

with later():
    from holdfast import files
    from holdfast.client.vault import doors, export, trusted
    from holdfast.core.vault import password_door

app = group()


class Removable(StrEnum):
    """The doors that can be taken away."""

    PASSWORD = "password"  # noqa: S105 — the name of a door
    PHRASE = "phrase"
    CONTACTS = "contacts"


_PEOPLE: Final = "3f2b8c1e-1c1b-4a53-8f0a-6f2d1c9e7a11 7c9e6679-7425-40de-944b-e07fc1f90ae7"
_TRIES: Final = 3


@command(
    app,
    "status",
    examples=[("holdfast backup status", "See which ways back to your keys are open, and which need you.")],
)
def status(context: typer.Context) -> None:
    """Say which ways back are open, and what each needs.

    Says as well what is lost if you lose every device today. The vault is your keyring on the server, which the server
    cannot read; a door is a way to open it. A door opens only the present vault key: after a rotation, set the password
    and the phrase again. An export file that you keep is one more way, of which nothing here knows.
    """
    shell = shell_of(context)
    with shell.account() as account, shell.working("Asking for your doors"):
        found = doors.status(account)
        loss = doors.if_all_is_lost(account, found)
    shell.show(
        {
            "doors": [_document(door) for door in found],
            "if_all_is_lost": {"doors": loss.doors, "by_officers": loss.by_officers, "lost": loss.lost},
        },
        *(line for door in found for line in _lines(door)),
        *_loss_lines(loss),
    )


@command(
    app,
    "password",
    asks="a new password for your vault (14 characters or more), twice; not with --generate or --password-file.",
    changes="your vault on the server opens by this password, and by no earlier one.",
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
    """Keep your keyring behind a password of yours.

    The server keeps ciphertext and never sees the password. Whoever knows the password and has a device enrolled in
    your name can open your account, so let it be long, and used nowhere else.
    """
    shell = shell_of(context)
    if generate:
        require_person(is_json=shell.is_json)
    with shell.account() as account:
        if generate:
            chosen = password_door.generate_password()
            # Before it counts: a password that nobody has seen would take the place of one that is known.
            show_in_private("The password of your vault, from now on", [chosen.reveal().decode()])
        else:
            chosen = password(password_file, "New password of your vault (14 characters or more)", confirm=True)
        with shell.working("Saving your vault"):
            doors.set_password(account, chosen)
        version = account.state.vault.version
    shell.show({"version": version}, f"[bold green]✓[/] Your vault is saved, version {version}. Its password is set.")


@command(
    app,
    "phrase",
    asks="four words of the new phrase, back from the paper; with --old, the previous phrase.",
    changes="your vault opens by these 24 words, and they can sign for your account when every device is lost.",
    exits={
        Exit.ASK_PERSON: "nobody was at a terminal to write it down, or one that cannot show the words of the list; or "
        "the words given back were wrong"
    },
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
        bool, typer.Option("--old", help="You still have the previous phrase: the new one then signs at once.")
    ] = False,
) -> None:
    """Make a recovery phrase: 24 words on paper.

    The words are shown on a terminal and nowhere else, on a screen of their own that leaves nothing in the scrollback.
    The phrase counts only after you have given four of the words back. Whoever has the paper can become you: keep it
    where you would keep a passport, and never photograph it.

    If the phrase replaces one that you no longer have, it opens your vault at once, but signs for your account only
    after a week. During that week any of your devices can stop it.
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


@command(
    app,
    "contacts",
    asks="a yes, unless --yes is given.",
    changes="each contact holds a share; any --needed of them together open your vault, and could become you.",
    exits={
        Exit.ASK_PERSON: "nobody said yes, or a contact's account was begun again and you have not confirmed it",
        Exit.INPUT: "too few or too many people",
    },
    examples=[
        (f"holdfast backup contacts {_PEOPLE} --needed 2", "Both together bring you back."),
        ("holdfast backup contacts", "Show whom you trust now."),
    ],
)
def set_contacts(
    context: typer.Context,
    user_id: Annotated[
        list[str] | None,
        typer.Argument(
            metavar=PERSON,
            parser=named,
            help="The people, by id or e-mail address; with none, whom you trust now is shown.",
        ),
    ] = None,
    needed: Annotated[int, typer.Option(help="How many of them it takes.", min=2, max=16)] = 3,
    yes: Yes = False,
) -> None:
    """Give people you trust a share each.

    As many of them as you say can bring you back together.

    One share says nothing. Choose people who do not all know each other and whom you can call; compare their words
    first (holdfast contacts show).

    Naming people anew replaces the set. Those who were left out may have kept their shares: enough of them together
    can still open the vault, until the vault key changes (holdfast rotate vault).
    """
    shell = shell_of(context)
    with shell.account() as account:
        if user_id:
            trustees = [person(shell, account, who, is_trusted=True).bytes for who in user_id]
            shell.confirm(
                f"Any {needed} of these {len(user_id)} people together will be able to become you. Trust them?",
                is_given=yes,
            )
            with shell.working("Handing out shares"):
                found: TrustedSet | None = trusted.choose(account, trustees, k=needed)
        else:
            found = trusted.find_chosen_set(account)
    people = [UUID(bytes=contact) for contact in found.contacts] if found else []
    shell.show(
        {"contacts": people, "needed": found.k if found else None, "made_at": found.made_at if found else None},
        *([f"Any {found.k} of these bring you back:", *(f"  {one}" for one in people)] if found else ["Nobody yet."]),
    )


@command(
    app,
    "export",
    asks="a password for the file (14 characters or more), twice, unless --password-file names it.",
    changes="writes one new file, readable by you alone.",
    examples=[("holdfast backup export --out /media/safe/holdfast.export", "Write the file onto a stick.")],
)
def export_file(
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write; refuses to overwrite.")],
    password_file: PasswordFile = None,
) -> None:
    """Write your keyring to a file, for a drawer or a safe.

    The file has a password of its own.

    Whoever has the file and the password can open your account until your vault key changes, and can read the archive
    of today for ever. Deleting one copy deletes no other. To use the file: holdfast recover import.
    """
    shell = shell_of(context)
    with shell.account() as account:
        chosen = password(password_file, "Password of this file (14 characters or more)", confirm=True)
        with shell.working("Writing the file"):
            data = export.write(account, password=chosen)
            files.write_whole(out, data)
    shell.show({"file": out, "size": len(data)}, f"[bold green]✓[/] {plain(str(out))}: {len(data)} bytes.")


@command(
    app,
    "remove",
    changes="the vault on the server no longer has that door.",
    examples=[("holdfast backup remove password", "Keep only the other ways back.")],
)
def remove(context: typer.Context, kind: Annotated[Removable, typer.Argument(help="Which door.")]) -> None:
    """Remove a way back.

    Whoever copied the door before, and knows its secret, can still open the vault key of that time. To end that:
    holdfast rotate vault. A removed phrase can still sign for your account until another replaces it.
    """
    shell = shell_of(context)
    with shell.account() as account:
        doors.remove(account, kind.value)
    shell.show({"removed": kind.value}, f"[bold green]✓[/] The {kind.value} no longer opens your vault.")


@command(
    app,
    "cancel-phrase",
    changes="your account chain: the phrase that was announced never signs for your account.",
    examples=[("holdfast backup cancel-phrase", "Stop a phrase that you did not make.")],
)
def cancel_phrase(context: typer.Context) -> None:
    """Stop a new phrase before it signs for you.

    You can do this in the week after the phrase was announced.

    Use it when a phrase was announced that you did not make. Somebody may hold one of your devices.
    """
    shell = shell_of(context)
    with shell.account() as account:
        done = doors.cancel_recovery_key(account)
    shell.show({"cancelled": done}, "[bold green]✓[/] It is stopped." if done else "No new phrase is waiting.")


def _proven(shell: Shell, account: Account, phrase: Phrase, before: Phrase | None, beside: SecretBytes | None) -> Door:
    """Show the phrase and ask words of it back, again when they were wrong; then make it count."""
    for tries_left in reversed(range(_TRIES)):
        show_in_private("Your recovery phrase: 24 words, in this order", phrase_rows(phrase.words()))
        places = doors.questions()
        words = ask_in_private("From the paper, please", [f"Word {place}" for place in places])
        answers = dict(zip(places, words, strict=True))
        try:
            with shell.working("Making the door"):
                return doors.confirm_phrase(account, phrase, answers, passphrase=beside, old=before)
        except WrongWords:
            if not tries_left:
                raise
            shell.note("[yellow]Not the words of the phrase. It is shown once more.[/]")
    raise AssertionError("the last try ends in a return or an error")


def _loss_lines(loss: IfAllIsLost) -> list[str]:
    """docs/if_you_lose_everything.md, as of today."""
    lines = ["If you lose every device:"]
    if loss.doors:
        lines.append(f"  comes back by {' or '.join(loss.doors)}: your account, your contacts, your archive keys")
    else:
        lines.append("  [yellow]lost[/]: your account and what you compared with your contacts; both begin anew")
    if loss.by_officers:
        lines.append(f"  comes back by your officers: archive keys of generation {_numbers(loss.by_officers)}")
    if loss.lost:
        lines.append(
            f"  [yellow]lost[/]: archive keys of generation {_numbers(loss.lost)}, and what is encrypted with them"
        )
    return [*lines, "  lost in any case: messages that lie on your devices"]


def _numbers(generations: Sequence[int]) -> str:
    return ", ".join(map(str, generations))


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
    since = f", set {day(door.set_at)}" if door.set_at else ""
    state = "open" if door.is_open else "closed" if door.set_at else "not set"
    return [f"{mark} {door.kind:<9} {state}{since}", *([f"    {plain(door.needs)}"] if door.needs else [])]
