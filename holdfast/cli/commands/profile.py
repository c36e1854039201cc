# SPDX-License-Identifier: Apache-2.0
"""`holdfast profile`: the file on this machine that a device's keys are in.

Implements docs/formats/profile.md at the keyboard, as far as a person has a say in it.
Does not change any key that others know; `holdfast rotate` does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from holdfast.cli.asking import ask_secret, secret_file
from holdfast.cli.later import later
from holdfast.cli.page import command, group
from holdfast.cli.shell import shell_of

with later():
    from holdfast.client.profile import account as accounts

app = group()


@command(
    app,
    "key",
    asks="a new passphrase, twice, with --no-keyring; the one so far, where there is one.",
    changes="the profile is encrypted anew under a fresh key; the old one no longer opens it.",
    online=False,
    examples=[
        ("holdfast profile key", "Let this system's keyring keep a fresh key."),
        ("holdfast profile key --no-keyring", "Choose another passphrase."),
    ],
)
def new_key(
    context: typer.Context,
    no_keyring: Annotated[
        bool, typer.Option("--no-keyring", help="From now on open the profile by a passphrase; asks for it.")
    ] = False,
    new_passphrase_file: Annotated[
        Path | None, typer.Option(help="Open it by the passphrase in this file from now on.", metavar="FILE")
    ] = None,
) -> None:
    """Give the profile a new key.

    It is then opened by another passphrase, or by the system's keyring.

    Everything in it is encrypted anew, so that whoever knew the passphrase or the key before cannot open it any more.
    A copy of the file that somebody made earlier still opens as it did: if there may be one, replace the device's own
    keys as well, with holdfast rotate device.
    """
    shell = shell_of(context)
    before = shell.passphrase()
    new = secret_file(new_passphrase_file) if new_passphrase_file else None
    if no_keyring and new is None:
        new = ask_secret("New passphrase of this profile (14 characters or more)", confirm=True)
    with shell.working("Encrypting the profile anew"):
        accounts.change_key(shell.profile, passphrase=before, new=new, wait_seconds=shell.wait_seconds)
    kept = "passphrase" if new is not None else "keyring"
    shell.show({"opened_by": kept}, f"[bold green]✓[/] The profile is encrypted anew, and opened by the {kept}.")
