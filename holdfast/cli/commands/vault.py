# SPDX-License-Identifier: Apache-2.0
"""`holdfast vault`: keep the keyring on the server, encrypted, and bring it to another device.

Implements PROTOCOL section 6 (password door) at the keyboard.
The vault's password is not the profile's passphrase: one opens the account anywhere, one this machine's file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from holdfast.cli.shell import ask_secret, secret_file, shell_of
from holdfast.client import prekeys, vault

app = typer.Typer(help="Your keyring on the server, which only you can open.", no_args_is_help=True)

PasswordFile = Annotated[
    Path | None, typer.Option(help="Read the vault's password from this file; - is stdin.", metavar="FILE")
]


@app.command("save")
def save(
    context: typer.Context,
    password_file: PasswordFile = None,
    renew: Annotated[bool, typer.Option("--renew", help="Ask for a new password and set it.")] = False,
) -> None:
    """Write your keyring to the server. The first time this sets the vault's password."""
    shell = shell_of(context)
    with shell.account() as account:
        password = secret_file(password_file) if password_file else None
        if password is None and (renew or not len(account.state.vault.key)):
            password = ask_secret("New password of your vault (14 characters or more)", confirm=True)
        version = vault.save(account, password=password)
    shell.show({"version": version}, f"[bold green]✓[/] Your vault is saved, version {version}.")


@app.command("open")
def open_vault(context: typer.Context, password_file: PasswordFile = None) -> None:
    """Bring your keyring to this device, by the vault's password."""
    shell = shell_of(context)
    with shell.account() as account:
        password = secret_file(password_file) if password_file else ask_secret("Password of your vault")
        version = vault.open_with_password(account, password=password)
        prekeys.publish(account)
    shell.show(
        {"version": version, "generations": [one.number for one in account.state.generations]},
        f"[bold green]✓[/] This device holds your account now (vault version {version}); its pre-keys are published.",
    )
