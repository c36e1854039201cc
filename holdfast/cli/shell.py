# SPDX-License-Identifier: Apache-2.0
"""What every command shares: the profile, the passphrase, the output in words or as JSON.

Implements the rule that secrets come from a prompt, a file or a descriptor, and go nowhere.
Does not decide anything; commands do, one file for each of the client's modules.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import platformdirs
import typer
from rich.console import Console
from rich.markup import escape

from holdfast.cli.asking import ask_secret, secret_descriptor, secret_file
from holdfast.cli.progress import Working
from holdfast.client.errors import ClientError, ConsentNeeded, Problem
from holdfast.client.profile import account as accounts
from holdfast.client.profile.account import Account
from holdfast.core.base.secret import SecretBytes


@dataclass
class Shell:
    """One run of the command."""

    profile: Path
    passphrase_file: Path | None
    passphrase_fd: int | None
    is_json: bool
    # A pipe gives its secret once, and one command may need it twice.
    _passphrase: SecretBytes | None = None

    # Secrets in

    def given_passphrase(self) -> SecretBytes | None:
        """Return the profile's passphrase from where the person said it is; None when no place was named."""
        if self._passphrase is None and self.passphrase_fd is not None:
            self._passphrase = secret_descriptor(self.passphrase_fd)
        elif self._passphrase is None and self.passphrase_file is not None:
            self._passphrase = secret_file(self.passphrase_file)
        return self._passphrase

    def passphrase(self) -> SecretBytes | None:
        """Return the passphrase of the profile there is, asking if need be; None when the keyring opens it."""
        if not accounts.asks_for_passphrase(self.profile):
            return None
        return self.given_passphrase() or ask_secret("Passphrase of this profile")

    def new_passphrase(self) -> SecretBytes:
        """Return a passphrase for a profile that is about to be made, asking for it twice unless it was given."""
        self._passphrase = self.given_passphrase() or ask_secret(
            "Passphrase for the new profile (14 characters or more)", confirm=True
        )
        return self._passphrase

    @contextlib.contextmanager
    def account(self, *, online: bool = True) -> Iterator[Account]:
        """Open the profile for this command and, unless told otherwise, the connection to its server."""
        passphrase = self.passphrase()
        with contextlib.ExitStack() as until_done:
            with self.working("Opening your profile"):
                account = until_done.enter_context(accounts.open_account(self.profile, passphrase=passphrase))
            if online:
                account.connect()
            yield account

    # Results out

    def show(self, result: Mapping[str, Any], *lines: str) -> None:
        """Print a result: the mapping as JSON, or the lines for people (rich markup; escape what others wrote).

        Whoever reads a pipe has it at once: a command may go on to wait for what is done with it.
        """
        if self.is_json:
            print(json.dumps(result, default=_plain, ensure_ascii=False), flush=True)
            return
        console = Console(highlight=False, soft_wrap=True)
        for line in lines:
            console.print(line)
        sys.stdout.flush()

    def note(self, line: str) -> None:
        """Say something on the way, on standard error, to people only."""
        if not self.is_json:
            Console(stderr=True, highlight=False, soft_wrap=True).print(line)

    def working(self, what: str, *, total: int = 0) -> Working:
        """Show people that something goes on, when it takes more than a second."""
        return Working(what, is_shown=not self.is_json, total=total)

    def ask(self, question: str, *, option: str) -> str:
        """Ask a person for what only they know. Raises ConsentNeeded when there is nobody to ask."""
        if self.is_json or not sys.stdin.isatty():
            raise ConsentNeeded(f"{question}: nobody to ask.", way_out=f"A person gives it with {option}.")
        return str(typer.prompt(question))

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


def shown(words: Sequence[str]) -> str:
    """Write fingerprint words for people."""
    return f"[bold]{' '.join(words)}[/]"


def quoted(text: str) -> str:
    """Write text that somebody else chose: escaped, without control characters and direction marks, in quotes."""
    safe = "".join(sign if sign.isprintable() else "�" for sign in text)
    return f"“{escape(safe)}”"


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
