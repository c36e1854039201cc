# SPDX-License-Identifier: Apache-2.0
"""`holdfast archive`: files encrypted under this month's archive key, and opened under the key they name.

Implements the archive records of docs/formats at the keyboard.
Does not deposit the key; `holdfast escrow deposit` does, with the person's consent.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from holdfast.cli.exits import Exit
from holdfast.cli.page import command
from holdfast.cli.shell import plain, shell_of
from holdfast.client.escrow import archive

app = typer.Typer(help="Files under your archive keys.", no_args_is_help=True)

Source = Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True)]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Where to write; refuses to overwrite.")]


@command(
    app,
    "encrypt",
    changes="writes one new file; once a month it also makes the month's archive key, and your account chain names it.",
    exits={Exit.ASK_PERSON: "your organisation wants the key in escrow first: holdfast escrow deposit"},
    examples=[
        ("holdfast archive encrypt letter.txt", "Write letter.txt.holdfast."),
        ("holdfast archive encrypt letter.txt --out kept/letter", "Write it somewhere else."),
    ],
)
def encrypt(context: typer.Context, file: Source, out: Out = None) -> None:
    """Encrypt a file under this month's archive key.

    The file can be opened again by every device of yours that holds the key, and through escrow where you agreed to
    it. It is written whole or not at all, readable by you alone; nothing is overwritten.
    """
    shell = shell_of(context)
    target = out or file.with_name(f"{file.name}.holdfast")
    with shell.account() as account, shell.working("Encrypting", total=file.stat().st_size) as advance:
        done = archive.encrypt_file(account, file, target, advance=advance)
    shell.show(
        {"file": target, "generation": done.generation, "size": done.size, "seconds": round(done.seconds, 3)},
        f"[bold green]✓[/] {plain(str(target))}: {done.size} bytes under the key of generation {done.generation}.",
    )


@command(
    app,
    "decrypt",
    changes="writes one new file.",
    exits={
        Exit.PROFILE: "this device does not hold the key that the file names",
        Exit.UNTRUSTED: "the file was changed; nothing of it was written",
    },
    online=False,
    examples=[("holdfast archive decrypt letter.txt.holdfast", "Write letter.txt.")],
)
def decrypt(context: typer.Context, file: Source, out: Out = None) -> None:
    """Decrypt a file under the archive key that it names.

    Works without the server. The new file is kept only if every byte was authentic.
    """
    shell = shell_of(context)
    target = out or file.with_suffix("")
    with shell.account(online=False) as account, shell.working("Decrypting", total=file.stat().st_size) as advance:
        done = archive.decrypt_file(account, file, target, advance=advance)
    shell.show(
        {"file": target, "generation": done.generation, "size": done.size, "seconds": round(done.seconds, 3)},
        f"[bold green]✓[/] {plain(str(target))}: {done.size} bytes, from generation {done.generation}.",
    )
