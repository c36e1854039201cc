# SPDX-License-Identifier: Apache-2.0
"""`holdfast enrol`: make this device's keys and register them by a single-use code.

Implements ORGANISATION "Devices" at the keyboard. Prints what was pinned, in words to compare.
Does not take the code as an argument: it is a secret until it is used.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from uuid import UUID

import typer

from holdfast.cli.asking import code_from
from holdfast.cli.exits import Exit
from holdfast.cli.later import later
from holdfast.cli.page import command
from holdfast.cli.shell import Shell, plain, shell_of, shown

if TYPE_CHECKING:
    from holdfast.client.identity.device import Enrolment
    from holdfast.client.profile.account import Account

with later():
    from holdfast.client.identity import device
    from holdfast.client.messages import prekeys
    from holdfast.client.profile import account as accounts
    from holdfast.client.profile import store
    from holdfast.client.server import transport
    from holdfast.core.crypto import suites
    from holdfast.core.signed import enrolment as enrolments

SUITES: Final = ("classical", "hybrid", "classical-p256", "hybrid-p256")


def enrol(  # noqa: PLR0917 — options by name, for typer
    context: typer.Context,
    server: Annotated[str, typer.Option(help="Address of the server, as https://holdfast.example.")],
    code_file: Annotated[
        Path | None,
        typer.Option(help="Read the enrolment code from this file of mode 0600; - is stdin.", metavar="FILE"),
    ] = None,
    name: Annotated[
        str, typer.Option(help="What to call this device, in 64 characters.", show_default="this machine's name")
    ] = "",
    suite: Annotated[str, typer.Option(help=f"Key suite: {', '.join(SUITES)}.")] = "hybrid",
    development: Annotated[
        bool,
        typer.Option("--development", help="Accept a development tenant, whose HSM is software using SHA-1 padding."),
    ] = False,
    no_keyring: Annotated[
        bool, typer.Option("--no-keyring", help="Open the profile by a passphrase, not by this system's keyring.")
    ] = False,
) -> None:
    """Enrol this device with the code an officer gave you.

    Makes this device's keys, registers their public halves, and verifies your organisation from the pin in the code:
    its root, its officers, its escrow key. Your first device begins your account. A later one stays pending until
    another device of yours approves it, or you recover the account on it.

    The profile is encrypted under a key that this system's keyring keeps. Where there is no keyring, for example on a
    server, choose a passphrase instead: --passphrase-file, --passphrase-fd, or --no-keyring to be asked for it.

    The keys are kept before they are sent: after a lost connection, run the same command again.
    """
    shell = shell_of(context)
    name = named(shell, name)
    start = begin(shell, server, code_file, suite=suite, is_by_passphrase=no_keyring)
    with shell.account(online=False) as account:
        done = start.enrol(account, name=name, is_development=development)
    show(shell, account, done, name)


@dataclass(frozen=True)
class Start:
    """A profile that is there, and what it is enrolled by."""

    shell: Shell
    server: str
    code: enrolments.EnrolmentCode
    suite: suites.Suite

    def enrol(self, account: Account, *, name: str, is_development: bool) -> Enrolment:
        """Enrol the device of the open profile, and publish its pre-keys when it is part of the account."""
        account.connect(self.server)
        with self.shell.working("Enrolling this device"):
            done = device.enrol(account, self.code, name=name, suite=self.suite, is_development=is_development)
            if done.is_active:
                prekeys.publish(account)
        return done


def begin(shell: Shell, server: str, code_file: Path | None, *, suite: str, is_by_passphrase: bool) -> Start:
    """Check what was given on the line, read the code, and start the profile unless there is one."""
    if suite not in SUITES:
        raise typer.BadParameter(f"one of {', '.join(SUITES)}", param_hint="--suite")
    try:
        transport.check_server(server)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--server") from error
    code = enrolments.EnrolmentCode.parse(
        code_from(code_file, "Enrolment code", enrolments.EnrolmentCode.is_one, option="--code-file")
    )
    _start_profile(shell, code, is_by_passphrase=is_by_passphrase)
    return Start(shell, server, code, suites.Suite[suite.upper().replace("-", "_")])


def named(shell: Shell, name: str) -> str:
    """Return what the device will be called, this machine's name unless it was said; says when it had to be cut."""
    asked = name or platform.node()
    called = device.device_name(asked)
    if asked and called != asked:
        shell.note(f"The device is called: {plain(called)}. Choose another name with --name.")
    return called


def trust_of(done: Enrolment) -> str:
    """Name how far the tenant is known: founding, tofu or pinned."""
    return "founding" if done.trust.is_founding else "tofu" if done.trust.is_tofu else "pinned"


def anchor_of(done: Enrolment) -> str:
    """Say what the words of the tenant rest on."""
    return _ANCHORS[trust_of(done)]


_ANCHORS: Final = {
    "founding": "its root: compare them with what the operator reads out",
    "tofu": "trusted on first use: compare these words with your officers",
    "pinned": "as your code says",
}


def show(shell: Shell, account: Account, done: Enrolment, name: str) -> None:
    """Say what was enrolled, and what it trusts."""
    standing = (
        ["This device is part of your account, and its pre-keys are published."]
        if done.is_active
        else [
            "This device is pending. On another device of yours run:",
            f"  holdfast devices approve {done.device}",
            "and type the words below; then here: holdfast recover device",
            "With no other device at hand: holdfast recover --help",
        ]
    )
    shell.show(
        {
            "device_id": done.device,
            "user_id": UUID(bytes=account.user),
            "tenant_id": UUID(bytes=account.tenant),
            "state": "active" if done.is_active else "pending",
            "device_words": list(done.words),
            "root_words": list(done.trust.pin_words),
            "trust": trust_of(done),
        },
        f"[bold green]✓[/] Device {plain(name)} is registered as {done.device}.",
        *(f"  {line}" for line in standing),
        f"  Words of this device:   {shown(done.words)}",
        f"  Words of your tenant:   {shown(done.trust.pin_words)}  ({anchor_of(done)})",
    )


def _start_profile(shell: Shell, code: enrolments.EnrolmentCode, *, is_by_passphrase: bool) -> None:
    """Start the profile, unless there is one: an officer's, or that of an enrolment that was interrupted."""
    if (shell.profile / store.PROFILE_FILE).exists():
        return
    passphrase = shell.new_passphrase() if is_by_passphrase else shell.given_passphrase()
    with shell.working("Making the profile"):
        accounts.create(shell.profile, tenant=code.tenant, user=code.person, passphrase=passphrase).close()


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "enrol",
        asks="the enrolment code, without echo, unless --code-file names it; with --no-keyring, a passphrase.",
        changes="makes the profile on this machine; on the server, uses up the code and adds the device.",
        exits={
            Exit.INPUT: "this is no enrolment code, or it was copied wrong, or it is another person's",
            Exit.UNTRUSTED: "the server is not the one that the code pins: do not go on",
        },
        examples=[
            ("holdfast enrol --server https://holdfast.example", "Ask for code and passphrase, and enrol."),
            (
                "holdfast enrol --server https://holdfast.example --code-file code --name laptop --json",
                "Enrol from a script; the code is in a file that only you can read.",
            ),
        ],
    )(enrol)
