# SPDX-License-Identifier: Apache-2.0
"""`holdfast recover`: bring the keyring to a device that does not hold it, by one of the doors made beforehand.

Implements PROTOCOL section 6 (doors) at the keyboard of a new device; `recover escrow` goes through the officers.
Does not make a door; `holdfast backup` does.
"""

from __future__ import annotations

import typer

from holdfast.cli.asking import PasswordFile, password
from holdfast.cli.commands import recover_escrow
from holdfast.cli.exits import Exit
from holdfast.cli.page import command
from holdfast.cli.shell import shell_of
from holdfast.client import doors, prekeys

app = typer.Typer(help="Ways back to your keys, on a device that does not hold them.", no_args_is_help=True)
app.add_typer(recover_escrow.app, name="escrow")


@command(
    app,
    "password",
    asks="the password of your vault, unless --password-file names it.",
    changes="this profile: it holds your identity key, your archive keys and your contacts; publishes its pre-keys.",
    exits={Exit.UNTRUSTED: "the password does not open the vault, or the vault is not your account's"},
    examples=[("holdfast recover password", "Bring your keys to a device that another device of yours approved.")],
)
def by_password(context: typer.Context, password_file: PasswordFile = None) -> None:
    """Bring your keyring to this device, by your vault's password.

    The vault is opened here, on this device; the server sees neither the password nor a key. It must be signed by
    your account's own key and be no older than one seen before.
    """
    shell = shell_of(context)
    with shell.account() as account:
        typed = password(password_file, "Password of your vault")
        with shell.working("Opening your vault"):
            version = doors.open_with_password(account, password=typed).version
        with shell.working("Publishing pre-keys"):
            prekeys.publish(account)
    shell.show(
        {"version": version, "generations": [one.number for one in account.state.generations]},
        f"[bold green]✓[/] This device holds your account now (vault version {version}); its pre-keys are published.",
    )
