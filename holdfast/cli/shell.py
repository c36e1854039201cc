# SPDX-License-Identifier: Apache-2.0
"""What every command shares: the profile, the passphrase, the output in words or as JSON.

Implements the rule that secrets come from a prompt, a file or a descriptor, and go nowhere.
Does not decide anything; commands do, one file for each of the client's modules.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO
from uuid import UUID

import platformdirs
import typer
from rich.console import Console
from rich.markup import escape

from holdfast.client import account as accounts
from holdfast.client.account import Account
from holdfast.client.errors import ClientError, ConsentNeeded, Problem, ProfileError
from holdfast.core.secret import SecretBytes

_MAX_SECRET_FILE: Final = 4096


@dataclass
class Shell:
    """One run of the command."""

    profile: Path
    passphrase_file: Path | None
    passphrase_fd: int | None
    is_json: bool

    # Secrets in

    def passphrase(self, *, confirm: bool = False) -> SecretBytes:
        """Return the profile's passphrase, from where the person said, else by asking."""
        if self.passphrase_fd is not None:
            with os.fdopen(self.passphrase_fd, "rb") as file:
                return _first_line(file.read(_MAX_SECRET_FILE))
        if self.passphrase_file is not None:
            return secret_file(self.passphrase_file)
        return ask_secret("Passphrase of this profile", confirm=confirm)

    @contextlib.contextmanager
    def account(self, *, online: bool = True) -> Iterator[Account]:
        """Open the profile for this command and, unless told otherwise, the connection to its server."""
        with accounts.opened(self.profile, passphrase=self.passphrase()) as account:
            if online:
                account.connect()
            yield account

    # Results out

    def show(self, result: Mapping[str, Any], *lines: str) -> None:
        """Print a result: the mapping as JSON, or the lines for people (rich markup; escape what others wrote)."""
        if self.is_json:
            print(json.dumps(result, default=_plain, ensure_ascii=False))
            return
        console = Console(highlight=False, soft_wrap=True)
        for line in lines:
            console.print(line)

    def note(self, line: str) -> None:
        """Say something on the way, on standard error, to people only."""
        if not self.is_json:
            Console(stderr=True, highlight=False, soft_wrap=True).print(line)

    def confirm(self, question: str, *, is_given: bool) -> None:
        """Have a person say yes, by option or by typing it. Raises ConsentNeeded without."""
        if is_given:
            return
        if self.is_json or not sys.stdin.isatty():
            raise ConsentNeeded(f"{question} Nobody answered.", way_out="A person says so with --yes.")
        if not typer.confirm(question):
            raise ConsentNeeded("Not confirmed. Nothing was done.")

    def fail(self, error: Exception, code: int) -> None:
        """Print an error and its way out on standard error."""
        way_out = error.way_out if isinstance(error, ClientError) else ""
        if self.is_json:
            print(json.dumps({"error": _error(error, code, way_out)}, ensure_ascii=False), file=sys.stderr)
            return
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        field = f" ({error.field})" if isinstance(error, Problem) and error.field else ""
        console.print(f"[bold red]✗[/] {escape(str(error) or type(error).__name__)}{escape(field)}")
        if way_out:
            console.print(f"  → {escape(way_out)}")


def default_profile() -> Path:
    """Return the directory of the profile that is used when none is named."""
    return Path(platformdirs.user_data_dir("holdfast")) / "default"


def shell_of(context: typer.Context) -> Shell:
    """Return the run that a command belongs to."""
    shell = context.find_root().obj
    assert isinstance(shell, Shell)
    return shell


def secret_file(path: Path) -> SecretBytes:
    """Read a secret's first line from a file, or from standard input for "-"."""
    if str(path) == "-":
        return _first_line(sys.stdin.buffer.read(_MAX_SECRET_FILE))
    with path.open("rb") as file:
        return _first_line(file.read(_MAX_SECRET_FILE))


def ask_secret(question: str, *, confirm: bool = False) -> SecretBytes:
    """Ask for a secret without echo. Raises ProfileError when there is nobody to ask."""
    if not sys.stdin.isatty():
        raise ProfileError(
            f"{question}: nobody to ask.",
            way_out="Give a file of mode 0600 (--passphrase-file, --password-file) or a descriptor.",
        )
    text = getpass.getpass(f"{question}: ")
    if confirm and getpass.getpass("Once more: ") != text:
        raise ProfileError("The two differ. Nothing was done.")
    return SecretBytes(text.encode())


def words_of(text: str) -> tuple[str, ...]:
    """Split words as a person types them."""
    return tuple(text.lower().split())


def shown(words: Sequence[str]) -> str:
    """Write fingerprint words for people."""
    return f"[bold]{' '.join(words)}[/]"


def quoted(text: str) -> str:
    """Write text that somebody else chose: escaped, without control characters and direction marks, in quotes."""
    safe = "".join(sign if sign.isprintable() else "�" for sign in text)
    return f"“{escape(safe)}”"


def stdout() -> TextIO:
    """Return standard output."""
    return sys.stdout


def _first_line(octets: bytes) -> SecretBytes:
    return SecretBytes(octets.split(b"\n", 1)[0].rstrip(b"\r"))


def _error(error: Exception, code: int, way_out: str) -> dict[str, Any]:
    document: dict[str, Any] = {"message": str(error), "exit": code, "kind": type(error).__name__}
    if way_out:
        document["way_out"] = way_out
    if isinstance(error, Problem):
        document |= {"code": error.code, "status": error.status}
        document["fields"] = [{"field": field, "detail": detail} for field, detail in error.errors]
    return document


def _plain(value: object) -> str:
    if isinstance(value, (UUID, Path)):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not part of a result")
