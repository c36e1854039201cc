# SPDX-License-Identifier: Apache-2.0
"""What people tell the command and what only they may see: secrets in, the recovery phrase out.

Implements the rule that a secret comes from a prompt, a file or a descriptor, and is shown on a terminal or not at all.
Does not keep anything it was told.
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from holdfast.client.errors import ConsentNeeded, ProfileError
from holdfast.core.secret import SecretBytes

_MAX_SECRET: Final = 4096

PasswordFile = Annotated[
    Path | None, typer.Option(help="Read the password from this file; - is standard input.", metavar="FILE")
]
Yes = Annotated[bool, typer.Option("--yes", help="Say yes beforehand, instead of being asked.")]


def secret_file(path: Path) -> SecretBytes:
    """Read a secret's first line from a file, or from standard input for "-"."""
    if str(path) == "-":
        return _first_line(sys.stdin.buffer.read(_MAX_SECRET))
    with path.open("rb") as file:
        return _first_line(file.read(_MAX_SECRET))


def secret_descriptor(descriptor: int) -> SecretBytes:
    """Read a secret's first line from an open descriptor, and close it."""
    with os.fdopen(descriptor, "rb") as file:
        return _first_line(file.read(_MAX_SECRET))


def ask_secret(question: str, *, confirm: bool = False, way_out: str = "") -> SecretBytes:
    """Ask for a secret without echo. Raises ProfileError when there is nobody to ask."""
    if not sys.stdin.isatty():
        raise ProfileError(
            f"{question}: nobody to ask.",
            way_out=way_out or "Give a file of mode 0600 (--passphrase-file, --password-file) or a descriptor.",
        )
    text = getpass.getpass(f"{question}: ")
    if confirm and getpass.getpass("Once more: ") != text:
        raise ProfileError("The two differ. Nothing was done.")
    return SecretBytes(text.encode())


def password(file: Path | None, question: str, *, confirm: bool = False) -> SecretBytes:
    """Return a password from a file when one is named, else by asking."""
    return secret_file(file) if file else ask_secret(question, confirm=confirm, way_out="Name a file: --password-file")


def show_in_private(title: str, lines: Sequence[str], *, is_json: bool) -> None:
    """Show secret lines on the terminal's second screen until Enter, so that they stay in no scrollback and no file.

    Raises ConsentNeeded unless a person looks at a terminal on both ends.
    """
    if is_json or not (sys.stdout.isatty() and sys.stdin.isatty()):
        raise ConsentNeeded(
            "This is shown to a person at a terminal only; it is not written into pipes, files or JSON.",
            way_out="Run the command in a terminal, without --json.",
        )
    console = Console(highlight=False, soft_wrap=True)
    with console.screen(hide_cursor=False):
        console.print(f"[bold]{title}[/]\n")
        for line in lines:
            console.print(line)
        console.print("\nPress Enter when you have written it down. It is then gone from the screen.")
        sys.stdin.readline()


def words_of(text: str) -> tuple[str, ...]:
    """Split words as a person types them."""
    return tuple(text.lower().split())


def _first_line(octets: bytes) -> SecretBytes:
    return SecretBytes(octets.split(b"\n", 1)[0].rstrip(b"\r"))
