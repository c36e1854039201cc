# SPDX-License-Identifier: Apache-2.0
"""`holdfast recover`: bring the account to a device that does not hold it, by one of the doors made beforehand.

Implements PROTOCOL section 6 (doors; after any recovery) at the keyboard of a new device; `recover escrow` goes
through the officers. Does not make a door; `holdfast backup` does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from uuid import UUID

import typer

from holdfast.cli.asking import PassphraseOfPhrase, PasswordFile, PhraseFile, ask_phrase, ask_secret, password
from holdfast.cli.commands.devices import show_joined
from holdfast.cli.exits import Exit
from holdfast.cli.later import later
from holdfast.cli.output import is_terminal
from holdfast.cli.page import command, group
from holdfast.cli.shell import Shell, quoted, shell_of, shown
from holdfast.client.errors import ConsentNeeded

if TYPE_CHECKING:
    from holdfast.client.profile.account import Account
    from holdfast.client.recovery.by_door import KnownDevice, OpenedDoor, Recovered
    from holdfast.client.vault.share_requests import OpenRequest

with later():
    from holdfast.client.messages import prekeys
    from holdfast.client.officers import joining
    from holdfast.client.recovery import by_door
    from holdfast.client.vault import pairing, share_requests

app = group()

_MAX_EXPORT: Final = 4 * 1024 * 1024
_ASKS_WHICH: Final = "which of your devices are lost, unless --lost, --all-lost or --none-lost says so."
_CHANGES: Final = (
    "this device is part of your account; identity, vault and archive key are replaced, lost devices revoked, your "
    "contacts told."
)
_ASK_PERSON: Final = "which devices are lost was not said: say it with holdfast recover finish"
_DEVICE: Final = "7d0c2f6e-6b7e-4a55-9a3b-2a4a3c1f9f10"

Lost = Annotated[list[UUID] | None, typer.Option("--lost", help="A device that is lost; repeat for each one.")]
AllLost = Annotated[bool, typer.Option("--all-lost", help="Every other device of yours is lost.")]
NoneLost = Annotated[bool, typer.Option("--none-lost", help="You still have all your other devices.")]
WithoutVault = Annotated[
    bool, typer.Option("--without-vault", help="Go on although the vault on the server is lost; a new one replaces it.")
]
Wait = Annotated[int, typer.Option(help="Wait up to this many seconds.", min=0)]


@command(
    app,
    "password",
    asks=f"the password of your vault, unless --password-file names it; {_ASKS_WHICH}",
    changes=_CHANGES,
    exits={
        Exit.INPUT: "the password does not open the vault",
        Exit.UNTRUSTED: "the vault is not your account's",
        Exit.ASK_PERSON: _ASK_PERSON,
    },
    examples=[
        ("holdfast recover password", "Ask for the password, then which devices you lost."),
        ("holdfast recover password --all-lost", "When everything was stolen."),
    ],
)
def by_password(
    context: typer.Context,
    password_file: PasswordFile = None,
    lost: Lost = None,
    all_lost: AllLost = False,
    none_lost: NoneLost = False,
) -> None:
    """Bring your account here by your vault's password.

    The vault is opened here, on this device; the server sees neither the password nor a key. The vault must be signed
    by your account's own key, and be no older than one seen before.

    Everything the password could have opened is then replaced, even if you lost nothing, because the password has been
    typed.
    """
    shell, which = shell_of(context), _Which(lost, all_lost, none_lost)
    with shell.account() as account:
        typed = password(password_file, "Password of your vault")
        with shell.working("Opening your vault"):
            opened = by_door.by_password(account, typed)
        _finish(shell, account, opened, which)


@command(
    app,
    "phrase",
    asks=f"the 24 words of your recovery phrase, unless --phrase-file names them; {_ASKS_WHICH}",
    changes=_CHANGES,
    exits={
        Exit.INPUT: "the phrase does not open the vault, or these are not 24 words of one",
        Exit.UNTRUSTED: "the vault is not your account's",
        Exit.ASK_PERSON: _ASK_PERSON,
    },
    examples=[
        ("holdfast recover phrase", "Type the words from the paper, then say which devices you lost."),
        ("holdfast recover phrase --phrase-file - --all-lost", "Take the words from another program."),
    ],
)
def by_phrase(  # noqa: PLR0917 — options by name, for typer
    context: typer.Context,
    phrase_file: PhraseFile = None,
    passphrase_of_phrase: PassphraseOfPhrase = False,
    without_vault: WithoutVault = False,
    lost: Lost = None,
    all_lost: AllLost = False,
    none_lost: NoneLost = False,
) -> None:
    """Bring your account here by your recovery phrase.

    The words are typed on a screen of their own, which leaves nothing in the scrollback; a mistyped word is named, and
    asked for again. If the vault on the server is lost, --without-vault goes on with the phrase alone. The phrase signs
    a new identity key for you; your archive keys come back from escrow, or not at all.

    Everything the phrase could have opened is then replaced. Make a new phrase afterwards: holdfast backup phrase.
    """
    shell, which = shell_of(context), _Which(lost, all_lost, none_lost)
    with shell.account() as account:
        phrase = ask_phrase("Your recovery phrase", phrase_file)
        beside = ask_secret("Passphrase beside the phrase") if passphrase_of_phrase else None
        with shell.working("Opening your vault"):
            opened = by_door.by_phrase(account, phrase, passphrase=beside, without_vault=without_vault)
        _finish(shell, account, opened, which)


@command(
    app,
    "device",
    changes="this device holds your keys, and publishes its pre-keys.",
    exits={Exit.NOT_YET: "no device of yours has brought this one in yet"},
    examples=[("holdfast recover device --wait 60", "After holdfast devices approve on the other device.")],
)
def by_device(context: typer.Context, wait: Wait = 0) -> None:
    """Take the keys that another device of yours sent.

    It sent them when it approved this one.

    The letter must come from a device that your account lists, and be sealed to this one.
    """
    shell = shell_of(context)
    with shell.account() as account, shell.working("Waiting for your other device"):
        joined = pairing.complete(account, wait_seconds=wait)
        prekeys.publish(account)
        joining.take(account)
    show_joined(shell, joined)


@command(
    app,
    "contacts",
    asks=_ASKS_WHICH,
    changes=f"your contacts, your devices and you are told that you ask; then {_CHANGES}",
    exits={
        Exit.NOT_YET: "too few contacts have given their share, or the delay runs: run it again later",
        Exit.ASK_PERSON: _ASK_PERSON,
    },
    examples=[
        ("holdfast recover contacts", "Ask your contacts, and show the code that you read to each of them."),
        ("holdfast recover contacts --wait 3600", "Wait for their shares, then go on."),
    ],
)
def by_contacts(  # noqa: PLR0917 — options by name, for typer
    context: typer.Context,
    wait: Wait = 0,
    again: Annotated[bool, typer.Option("--again", help="Withdraw your open request, and ask anew.")] = False,
    lost: Lost = None,
    all_lost: AllLost = False,
    none_lost: NoneLost = False,
) -> None:
    """Bring your account here by your trusted contacts.

    Call each contact and read the code out, six groups of five digits: your voice says who asks, the digits say which
    device. They run holdfast contacts give. After your organisation's delay the shares are put together here. Any
    device of yours can stop the request meanwhile.
    """
    shell, which = shell_of(context), _Which(lost, all_lost, none_lost)
    with shell.account() as account:
        if again:
            share_requests.cancel_request(account)
        asked = share_requests.open_request(account)
        _show_request(shell, asked)
        with shell.working("Waiting for your contacts"):
            opened = by_door.by_contacts(account, wait_seconds=wait)
        _finish(shell, account, opened, which)


def _show_request(shell: Shell, asked: OpenRequest) -> None:
    shell.show(
        {
            "request_id": asked.request_id,
            "code": list(asked.code),
            "needed": asked.k,
            "contacts": [UUID(bytes=contact) for contact in asked.contacts],
            "state": asked.state,
            "answered": asked.answered,
            "not_before": asked.not_before,
            "expires_at": asked.expires_at,
        },
        f"Read this code to {asked.k} of your {len(asked.contacts)} contacts:  [bold]{' '.join(asked.code)}[/]",
        *(f"  {UUID(bytes=contact)}" for contact in asked.contacts),
        f"{asked.answered} have answered.",
    )


@command(
    app,
    "import",
    asks=f"the password of the file, unless --password-file names it; {_ASKS_WHICH}",
    changes=_CHANGES,
    exits={
        Exit.FAILED: "the vault on the server has another key",
        Exit.INPUT: "this is no export file, or another person's, or the password does not open it",
        Exit.UNTRUSTED: "no identity key of your account has signed the file, or the vault is not your account's",
        Exit.ASK_PERSON: _ASK_PERSON,
    },
    examples=[
        ("holdfast recover import /media/safe/holdfast.export", "Open the file that holdfast backup export wrote.")
    ],
)
def by_import(  # noqa: PLR0917 — options by name, for typer
    context: typer.Context,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True)],
    password_file: PasswordFile = None,
    without_vault: WithoutVault = False,
    lost: Lost = None,
    all_lost: AllLost = False,
    none_lost: NoneLost = False,
) -> None:
    """Bring your account here by an export file.

    If the file opens the vault on the server, that vault is used, because it is newer. If there is none, the file
    itself is used.
    """
    shell, which = shell_of(context), _Which(lost, all_lost, none_lost)
    with shell.account() as account:
        typed = password(password_file, "Password of the file")
        with file.open("rb") as opened_file:
            data = opened_file.read(_MAX_EXPORT)
        with shell.working("Opening the file"):
            opened = by_door.by_export(account, data, password=typed, without_vault=without_vault)
        _finish(shell, account, opened, which)


@command(
    app,
    "finish",
    asks=_ASKS_WHICH,
    changes=_CHANGES,
    exits={Exit.FAILED: "no door was opened on this device", Exit.ASK_PERSON: _ASK_PERSON},
    examples=[(f"holdfast recover finish --lost {_DEVICE}", "Go on where a recovery was interrupted.")],
)
def finish(context: typer.Context, lost: Lost = None, all_lost: AllLost = False, none_lost: NoneLost = False) -> None:
    """Carry on with a recovery that was interrupted.

    Use it when a door was opened, and not all keys were replaced yet.

    Each finished step is kept, and none is taken twice.
    """
    shell, which = shell_of(context), _Which(lost, all_lost, none_lost)
    with shell.account() as account:
        _conclude(shell, account, by_door.devices(account), which)


class _Which:
    """Which devices are lost, as the options say it."""

    def __init__(self, lost: Sequence[UUID] | None, all_lost: bool, none_lost: bool) -> None:
        if sum((bool(lost), all_lost, none_lost)) > 1:
            raise typer.BadParameter("one of --lost, --all-lost and --none-lost")
        self._lost = list(lost or [])
        self._all = all_lost
        self._is_said = bool(lost) or all_lost or none_lost

    def of(self, devices: Sequence[KnownDevice], ask: Callable[[KnownDevice], bool]) -> list[UUID]:
        """Return the lost ones among the account's devices, asking about each where nothing was said."""
        if self._is_said or not devices:
            return [device.device for device in devices] if self._all else self._lost
        if not is_terminal(sys.stdin):
            raise ConsentNeeded(
                "The door is open. Which of your devices are lost was not said, so nothing was replaced yet.",
                way_out="Say it: holdfast recover finish with --lost DEVICE, --all-lost or --none-lost.",
            )
        return [device.device for device in devices if not ask(device)]


def _finish(shell: Shell, account: Account, opened: OpenedDoor, which: _Which) -> None:
    for contact in opened.blamed:
        shell.note(f"[yellow]The share of {UUID(bytes=contact)} was wrong and was not used.[/]")
    _conclude(shell, account, opened.devices, which)


def _conclude(shell: Shell, account: Account, devices: Sequence[KnownDevice], which: _Which) -> None:
    def has(device: KnownDevice) -> bool:
        name = quoted(device.name) if device.name else "a device without a name"
        return shell.says_yes(f"Do you still have {name} ({device.device})?")

    lost = which.of(devices, has)
    with shell.working("Replacing keys, and telling your contacts"):
        done = by_door.finish(account, lost=lost)
    shell.show(_document(done), *_lines(done))


def _document(done: Recovered) -> dict[str, object]:
    return {
        "identity_words": list(done.words),
        "revoked": done.revoked,
        "needs": [{"kind": door.kind, "needs": door.needs} for door in done.needs],
        "missing_generations": done.missing,
    }


def _lines(done: Recovered) -> list[str]:
    return [
        "[bold green]✓[/] Your account is on this device, under new keys.",
        f"  Your identity key: {shown(done.words)}",
        *(f"  Revoked: {device}" for device in done.revoked),
        *(
            f"  [yellow]The archive key of generation {generation} did not come back;[/] escrow may have it."
            for generation in done.missing
        ),
        *(f"  [yellow]Your {door.kind} is not set:[/] {door.needs}" for door in done.needs),
    ]
