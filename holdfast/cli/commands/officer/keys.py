# SPDX-License-Identifier: Apache-2.0
"""`holdfast officer join`, `init`, `doors`, `restore`: an officer's keys on their own machine, and the ways back.

Implements ORGANISATION "Devices" and ESCROW "Policy and officers" at the keyboard.
Does not make anybody an officer: a policy that the officers sign does.
"""

from __future__ import annotations

import contextlib
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from uuid import UUID

import typer

from holdfast.cli.asking import (
    PasswordFile,
    PhraseFile,
    Yes,
    ask_in_private,
    ask_phrase,
    password,
    phrase_rows,
    require_person,
    secret_file,
    show_in_private,
)
from holdfast.cli.commands import enrol
from holdfast.cli.commands.officer.cases import app
from holdfast.cli.exits import Exit
from holdfast.cli.later import later
from holdfast.cli.page import command
from holdfast.cli.shell import Shell, day, plain, shell_of, shown
from holdfast.client.errors import ProfileError, WrongWords
from holdfast.core.base import typed

if TYPE_CHECKING:
    from holdfast.client.officers.joining import Joined
    from holdfast.client.officers.section_doors import SectionDoor
    from holdfast.client.profile.account import Account
    from holdfast.core.base.secret import SecretBytes

with later():
    from holdfast import files
    from holdfast.client.officers import joining, officer_keys, section_doors
    from holdfast.client.profile import private_files
    from holdfast.client.vault import doors
    from holdfast.core.crypto import phrase as phrases
    from holdfast.core.vault import password_door

__all__ = ["app"]  # the group of `officer`, with these commands in it
_TRIES: Final = 3


class Kind(StrEnum):
    """The doors that a person sets at a keyboard."""

    PASSPHRASE = "passphrase"  # noqa: S105 — the name of a door
    PHRASE = "phrase"


PassphraseTo = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-to",
        help="Write the generated passphrase into this new file of mode 0600, for a script; it is shown on a terminal "
        "otherwise.",
        metavar="FILE",
    ),
]
PhraseTo = Annotated[
    Path | None,
    typer.Option(help="Write the 24 words into this new file of mode 0600, for a script.", metavar="FILE"),
]
_ASKS: Final = (
    "the generated passphrase back, and four of the 24 words; not where --passphrase-to and --phrase-to name files."
)
_ASK_PERSON: Final = "nobody was at a terminal to write them down, or what was given back was wrong: run it again"


@command(
    app,
    "join",
    asks=f"the enrolment code, unless --code-file names it; {_ASKS}",
    changes="makes the profile on this machine; on the server, your device, your account, your vault with your "
    "officer's keys in a section of its own, two ways back to it, and your account's word on which keys are yours.",
    exits={Exit.ASK_PERSON: _ASK_PERSON, Exit.UNTRUSTED: "the server is not the one that the code pins: do not go on"},
    examples=[
        ("holdfast officer join --server https://holdfast.example --code-file code", "Enrol, and become an officer."),
        (
            "holdfast officer join --server https://holdfast.example --code-file code --json "
            "--passphrase-to door.passphrase --phrase-to door.phrase",
            "The same in a script, which keeps the two files safe.",
        ),
    ],
)
def join(  # noqa: PLR0917 — options by name, for typer
    context: typer.Context,
    server: Annotated[str, typer.Option(help="Address of the server, as https://holdfast.example.")],
    code_file: Annotated[
        Path | None,
        typer.Option(help="Read the enrolment code from this file of mode 0600; - is stdin.", metavar="FILE"),
    ] = None,
    name: Annotated[str, typer.Option(help="What to call this device.", show_default="this machine's name")] = "",
    suite: Annotated[str, typer.Option(help="Key suite, as for holdfast enrol.")] = "hybrid",
    development: Annotated[
        bool, typer.Option("--development", help="Accept a development tenant, whose HSM is software.")
    ] = False,
    no_keyring: Annotated[
        bool, typer.Option("--no-keyring", help="Open the profile by a passphrase, not by this system's keyring.")
    ] = False,
    passphrase_to: PassphraseTo = None,
    phrase_to: PhraseTo = None,
) -> None:
    """Become an officer on this machine.

    With the enrolment code that you were given. Does what holdfast enrol does, and then holdfast officer init: your
    officer's keys are made here and never leave this machine but encrypted. They lie in a section of your vault, with
    a key and two ways back of its own.

    You count as an officer once a policy signed by the officers lists these keys.

    After a lost connection or a crash, run the same command again: it goes on where it was.
    """
    shell = shell_of(context)
    _require_somebody(shell, passphrase_to, phrase_to)
    name = enrol.named(shell, name)
    start = enrol.begin(shell, server, code_file, suite=suite, is_by_passphrase=no_keyring)
    with shell.account(online=False) as account:
        done = start.enrol(account, name=name, is_development=development)
        if not done.is_active:
            raise ProfileError(
                "This device waits to become part of your account, which has others.",
                way_out=f"There: holdfast devices approve {done.device}. Then here: holdfast officer restore",
            )
        joined = _become(shell, account, passphrase_to, phrase_to)
        words = done.words
    document = {
        **_document(joined),
        "device_id": done.device,
        "device_words": list(words),
        "root_words": list(done.trust.pin_words),
        "trust": enrol.trust_of(done),
    }
    shell.show(
        document,
        f"[bold green]✓[/] Device {plain(name)} is registered as {done.device}.",
        f"  Words of this device:   {shown(words)}",
        f"  Words of your tenant:   {shown(done.trust.pin_words)}  ({enrol.anchor_of(done)})",
        *_lines(joined),
    )


@command(
    app,
    "init",
    asks=_ASKS,
    changes="your vault has a section for your officer's keys, with two ways back to it; your account states the keys.",
    exits={Exit.ASK_PERSON: _ASK_PERSON},
    examples=[
        ("holdfast officer init", "Make your officer's keys, or move those of this profile into your vault."),
        (
            "holdfast officer init --json --passphrase-to door.passphrase --phrase-to door.phrase",
            "The same in a script.",
        ),
    ],
)
def init(context: typer.Context, passphrase_to: PassphraseTo = None, phrase_to: PhraseTo = None) -> None:
    """Make your officer's keys, in a section of your vault.

    For somebody who is enrolled already. The section has a key of its own, which no other way back to your account
    opens: a generated passphrase, and a phrase of 24 words. Each also opens your vault where that has no such way yet.

    Keys that this profile holds from before are moved into the section; they stay yours, and policies go on naming
    them. Prints the public halves for the policy. You count once a policy signed by the officers lists these keys.

    Run again, it goes on where it was, and changes nothing when all is done.
    """
    shell = shell_of(context)
    _require_somebody(shell, passphrase_to, phrase_to)
    with shell.account() as account:
        joined = _become(shell, account, passphrase_to, phrase_to)
    shell.show(_document(joined), *_lines(joined))


@command(
    app,
    "doors",
    examples=[
        (
            "holdfast officer doors",
            "See which ways back to your officer's keys are open, and when each was last proven.",
        )
    ],
)
def show_doors(context: typer.Context) -> None:
    """Say which ways back to your officer's keys are open.

    Each was opened once when it was set; prove it again now and then, since papers fade and are mislaid.
    """
    shell = shell_of(context)
    with shell.account() as account, shell.working("Asking for your doors"):
        found, now = section_doors.status(account), account.api.clock.now()
    shell.show({"doors": [_door(door) for door in found]}, *(_door_line(door, now) for door in found))


@command(
    app,
    "set-door",
    asks=_ASKS,
    changes="your officer's keys open by the new passphrase or phrase, and by no earlier one of that kind.",
    exits={Exit.ASK_PERSON: _ASK_PERSON},
    examples=[("holdfast officer set-door phrase", "Make a new phrase in place of one that is lost.")],
)
def set_door(
    context: typer.Context,
    kind: Annotated[Kind, typer.Argument(help="Which door.")],
    write_to: Annotated[
        Path | None, typer.Option("--write-to", help="Write it into this new file of mode 0600.", metavar="FILE")
    ] = None,
) -> None:
    """Set a way back to your officer's keys anew.

    The other one stays as it is. Whoever copied the door before, and knows its secret, can still open what was in the
    section then.
    """
    shell = shell_of(context)
    if write_to is None:
        require_person(is_json=shell.is_json)
    with shell.account() as account:
        if kind is Kind.PASSPHRASE:
            _set_passphrase(shell, account, write_to)
        else:
            _set_phrase(shell, account, write_to)
    shell.show({"kind": kind.value}, f"[bold green]✓[/] The {kind.value} opens your officer's keys.", f"  {_KEEP}")


@command(
    app,
    "prove-door",
    asks="the passphrase, unless --password-file names it; or the 24 words, unless --phrase-file does.",
    changes="the server keeps your account's word that the door opened today.",
    exits={Exit.INPUT: "it does not open your officer's keys"},
    examples=[("holdfast officer prove-door phrase", "Type the words from the paper, to know that they still open.")],
)
def prove_door(
    context: typer.Context,
    kind: Annotated[Kind, typer.Argument(help="Which door.")],
    password_file: PasswordFile = None,
    phrase_file: PhraseFile = None,
) -> None:
    """See that a way back to your officer's keys still opens."""
    shell = shell_of(context)
    with shell.account() as account:
        _open(shell, account, kind, password_file, phrase_file)
    shell.show({"kind": kind.value}, f"[bold green]✓[/] The {kind.value} opens your officer's keys.")


@command(
    app,
    "remove-door",
    changes="your officer's keys no longer open by it.",
    exits={Exit.REFUSED: "you are in office, and fewer than two proven doors would remain"},
    examples=[("holdfast officer remove-door passphrase", "Close a door whose secret somebody may have seen.")],
)
def remove_door(context: typer.Context, kind: Annotated[Kind, typer.Argument(help="Which door.")]) -> None:
    """Close a way back to your officer's keys.

    Whoever copied it before, and knows its secret, can still open what was in the section then.
    """
    shell = shell_of(context)
    with shell.account() as account:
        section_doors.remove(account, section_doors.PASSWORD if kind is Kind.PASSPHRASE else section_doors.PHRASE)
    shell.show({"removed": kind.value}, f"[bold green]✓[/] The {kind.value} no longer opens your officer's keys.")


@command(
    app,
    "restore",
    asks="the passphrase, unless --password-file names it; or with --phrase the 24 words, unless --phrase-file does; a "
    "yes where your account stated other keys before, unless --yes is given.",
    changes="this profile leads to your officer's keys; your account states them again where its identity key is new.",
    exits={Exit.INPUT: "it does not open your officer's keys", Exit.UNTRUSTED: "they are not yours"},
    examples=[
        ("holdfast officer restore", "On a new device of your account, by the passphrase."),
        ("holdfast officer restore --phrase", "By the 24 words."),
    ],
)
def restore(
    context: typer.Context,
    phrase: Annotated[bool, typer.Option("--phrase", help="By the 24 words, and not by the passphrase.")] = False,
    password_file: PasswordFile = None,
    phrase_file: PhraseFile = None,
    yes: Yes = False,
) -> None:
    """Bring your officer's keys to this device.

    First bring your account here: holdfast recover --help. A device that is lost, and may be in somebody's hands, is
    revoked as lost; then your officer's keys count no more until a policy names others. Keys for which nothing vouches
    but an identity key that your account has left are not taken: whoever has the lost device can have put them there.
    """
    shell = shell_of(context)
    kind = Kind.PHRASE if phrase or phrase_file else Kind.PASSPHRASE
    with shell.account() as account:
        _open(shell, account, kind, password_file, phrase_file)
        if officer_keys.has_keys(account) and (replaces := joining.stated_otherwise(account)):
            own, others = (shown(joining.words_of(keys)) for keys in replaces)
            shell.note(f"Your account stated other keys, under an identity key that it has left: {others}")
            shell.note(f"The keys that came back here: {own}")
            shell.confirm("State those that came back in place of the others?", is_given=yes)
        with shell.working("Stating your keys"):
            joined = joining.finish(account)
    shell.show(
        _document(joined), "[bold green]✓[/] This device leads to your officer's keys.", *_lines(joined, is_new=False)
    )


@command(
    app,
    "new-keys",
    asks=f"a yes, unless --yes is given; {_ASKS}",
    changes="your officers' section lies under another key, with another pair of keys and two new ways back; your "
    "account states the new pair.",
    exits={Exit.ASK_PERSON: _ASK_PERSON, Exit.REFUSED: "this device does not hold the key of your officers' section"},
    examples=[
        ("holdfast officer new-keys", "After a theft: other keys, and other ways back to them."),
        (
            "holdfast officer new-keys --yes --json --passphrase-to new.passphrase --phrase-to new.phrase",
            "The same in a script.",
        ),
    ],
)
def new_keys(
    context: typer.Context, passphrase_to: PassphraseTo = None, phrase_to: PhraseTo = None, yes: Yes = False
) -> None:
    """Make other officer's keys, after a device was lost.

    First revoke the device as lost, and bring your keys of before here: holdfast officer restore. The new pair goes
    into your officers' section under a new key, which the lost device never knew; the earlier ones stay in it, for what
    was sealed to them. The ways back of before open it no more, so both are set anew. Until they are, this device alone
    leads to your keys: do not stop in between. Run again, it goes on where it was.

    You count with the new keys once a policy names them: holdfast officer policy propose --add, with your person's id.
    """
    shell = shell_of(context)
    _require_somebody(shell, passphrase_to, phrase_to)
    shell.confirm(
        "Make other officer's keys? Those of now stop counting when a policy names the new ones.", is_given=yes
    )
    with shell.account() as account:
        with shell.working("Making other officer's keys"):
            missing = joining.begin_anew(account)
        joined = _set_missing(shell, account, missing, passphrase_to, phrase_to)
        person = account.user_text
    shell.show(
        _document(joined), *_lines(joined), f"  Have a version proposed: holdfast officer policy propose --add {person}"
    )


def _require_somebody(shell: Shell, passphrase_to: Path | None, phrase_to: Path | None) -> None:
    if passphrase_to is None or phrase_to is None:
        require_person(is_json=shell.is_json)


def _become(shell: Shell, account: Account, passphrase_to: Path | None, phrase_to: Path | None) -> Joined:
    with shell.working("Making your officer's keys"):
        missing = joining.begin(account)
    return _set_missing(shell, account, missing, passphrase_to, phrase_to)


def _set_missing(
    shell: Shell, account: Account, missing: list[str], passphrase_to: Path | None, phrase_to: Path | None
) -> Joined:
    if section_doors.PASSWORD in missing:
        _set_passphrase(shell, account, passphrase_to)
    if section_doors.PHRASE in missing:
        _set_phrase(shell, account, phrase_to)
    with shell.working("Stating your keys"):
        return joining.finish(account)


def _set_passphrase(shell: Shell, account: Account, write_to: Path | None) -> None:
    if write_to is None:
        made = _given_back_passphrase(shell)
    else:
        # Read back, as it would be on the day that it is needed; of a run that was stopped or faster, it is the same.
        with contextlib.suppress(files.NameTaken):
            private_files.write_private(write_to, f"{password_door.generate_password().reveal().decode()}\n")
        made = secret_file(write_to)
    with shell.working("Making the door"):
        joining.set_passphrase(account, made)


def _given_back_passphrase(shell: Shell) -> SecretBytes:
    made = password_door.generate_password()
    for tries_left in reversed(range(_TRIES)):
        show_in_private("The passphrase of your officer's keys: write it down", [made.reveal().decode()])
        (said,) = ask_in_private("From the paper, please", ["The passphrase"])
        if typed.password(said).lower().encode() == made.reveal():
            return made
        if tries_left:
            shell.note("[yellow]Not the passphrase. It is shown once more.[/]")
    raise WrongWords("Not the passphrase that was shown. Nothing was set.", way_out="Run the command again.")


def _set_phrase(shell: Shell, account: Account, write_to: Path | None) -> None:
    if write_to is not None:
        with contextlib.suppress(files.NameTaken):
            private_files.write_private(write_to, f"{phrases.Phrase.generate().text().reveal().decode()}\n")
        phrase = ask_phrase("The phrase of your officer's keys", write_to)
        with shell.working("Making the door"):
            joining.set_phrase(account, phrase, dict(enumerate(phrase.words(), start=1)))
        return
    phrase = phrases.Phrase.generate()
    for tries_left in reversed(range(_TRIES)):
        show_in_private("The phrase of your officer's keys: 24 words, in this order", phrase_rows(phrase.words()))
        places = doors.questions()
        words = ask_in_private("From the paper, please", [f"Word {place}" for place in places])
        answers = dict(zip(places, words, strict=True))
        try:
            with shell.working("Making the door"):
                joining.set_phrase(account, phrase, answers)
        except WrongWords:
            if not tries_left:
                raise
            shell.note("[yellow]Not the words of the phrase. It is shown once more.[/]")
        else:
            return


def _open(shell: Shell, account: Account, kind: Kind, password_file: Path | None, phrase_file: Path | None) -> None:
    if kind is Kind.PHRASE:
        phrase = ask_phrase("The phrase of your officer's keys", phrase_file)
        with shell.working("Opening your officer's section"):
            section_doors.open_with_phrase(account, phrase)
        return
    given = password(password_file, "Passphrase of your officer's keys")
    with shell.working("Opening your officer's section"):
        section_doors.open_with_passphrase(account, given)


_KEEP: Final = (
    "Keep the passphrase and the 24 words on paper, in two places, where nobody but you comes by: whoever has one of "
    "them and a device in your name can act as you."
)


def _lines(joined: Joined, *, is_new: bool = True) -> list[str]:
    return [
        "[bold green]✓[/] Your officer's keys lie in your vault. You count once a policy of the officers lists them.",
        f"  Signing key: {shown(joined.signing_key.fingerprint('officer'))}",
        *(
            [f"  {_KEEP}", "  This machine needs neither of them: it is for the day on which it is gone."]
            if is_new
            else []
        ),
    ]


def _document(joined: Joined) -> dict[str, object]:
    return {
        "person_id": UUID(bytes=joined.person),
        "signing_key": joined.signing_key.encoded.hex(),
        "sealing_key": joined.sealing_key.encoded.hex(),
        "signing_words": list(joined.signing_key.fingerprint("officer")),
        "doors": [_door(door) for door in joined.doors],
    }


def _door(door: SectionDoor) -> dict[str, object]:
    return {"kind": section_doors.NAMES[door.kind], "open": door.is_open, "proved_at": door.proved_at or None}


def _door_line(door: SectionDoor, now: int) -> str:
    name = section_doors.NAMES[door.kind]
    if not door.is_open:
        return f"[yellow]○[/] {name:<10} not set: holdfast officer set-door {name}"
    stale = f"; a year ago or more: holdfast officer prove-door {name}" if door.is_stale(now) else ""
    return f"[green]✓[/] {name:<10} open, proven {day(door.proved_at)}{stale}"
