# SPDX-License-Identifier: Apache-2.0
"""`holdfast backup`: keep the keyring where only its owner can get at it, and the ways back to it.

Implements PROTOCOL section 6 (the vault and its doors) at the keyboard of the person who still has a device.
The vault's password is not the profile's passphrase: one opens the account anywhere, one this machine's file.
"""

from __future__ import annotations

from typing import Annotated

import typer

from holdfast.cli.asking import PasswordFile, password
from holdfast.cli.page import command
from holdfast.cli.shell import shell_of
from holdfast.client import vault

app = typer.Typer(help="Ways back to your keys, made while you still have them.", no_args_is_help=True)


@command(
    app,
    "password",
    asks="a new password for your vault (14 characters or more) the first time and with --renew.",
    changes="your vault on the server: a new version of your keyring, which the server cannot read.",
    examples=[
        ("holdfast backup password", "Save your keyring; the first time, set its password."),
        ("holdfast backup password --renew", "Set another password."),
    ],
)
def save(
    context: typer.Context,
    password_file: PasswordFile = None,
    renew: Annotated[bool, typer.Option("--renew", help="Ask for a new password and set it.")] = False,
) -> None:
    """Save your keyring to the server, behind a password of yours.

    The server keeps ciphertext and never sees the password. Whoever knows the password and has a device enrolled in
    your name can open your account, so let it be long, and used nowhere else.
    """
    shell = shell_of(context)
    with shell.account() as account:
        is_asked = password_file or renew or not len(account.state.vault.key)
        new = (
            password(password_file, "New password of your vault (14 characters or more)", confirm=True)
            if is_asked
            else None
        )
        with shell.working("Saving your vault"):
            version = vault.save(account, password=new)
    shell.show({"version": version}, f"[bold green]✓[/] Your vault is saved, version {version}.")
