# SPDX-License-Identifier: Apache-2.0
"""`holdfast archive`: files encrypted under this month's archive key, and opened under the key they name.

Implements the archive records of docs/formats at the keyboard.
Does not deposit the key; `holdfast escrow deposit` does, with the person's consent.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from holdfast.cli.shell import Shell, shell_of
from holdfast.client import archive

app = typer.Typer(help="Files under your archive keys.", no_args_is_help=True)

Source = Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True)]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Where to write; refuses to overwrite.")]


@app.command("encrypt")
def encrypt(context: typer.Context, file: Source, out: Out = None) -> None:
    """Encrypt a file under this month's archive key."""
    shell = shell_of(context)
    target = out or file.with_name(f"{file.name}.holdfast")
    with shell.account() as account, _bar(shell, file) as advance:
        done = archive.encrypt_file(account, file, target, advance=advance)
    shell.show(
        {"file": target, "generation": done.generation, "size": done.size, "seconds": round(done.seconds, 3)},
        f"[bold green]✓[/] {escape(str(target))}: {done.size} bytes under the key of generation {done.generation}.",
    )


@app.command("decrypt")
def decrypt(context: typer.Context, file: Source, out: Out = None) -> None:
    """Decrypt a file under the archive key that it names, if this device holds that key."""
    shell = shell_of(context)
    target = out or file.with_suffix("")
    with shell.account(online=False) as account, _bar(shell, file) as advance:
        done = archive.decrypt_file(account, file, target, advance=advance)
    shell.show(
        {"file": target, "generation": done.generation, "size": done.size, "seconds": round(done.seconds, 3)},
        f"[bold green]✓[/] {escape(str(target))}: {done.size} bytes, from generation {done.generation}.",
    )


class _bar:  # noqa: N801 — reads as a verb in the `with` line
    """Shows progress on standard error, once an act has lasted a second."""

    def __init__(self, shell: Shell, file: Path) -> None:
        self._total = max(file.stat().st_size, 1)
        self._is_wanted = not shell.is_json
        self._progress: Progress | None = None
        self._clock = archive.Stopwatch()

    def __enter__(self) -> archive.Advance:
        return self._advance

    def __exit__(self, *_exc: object) -> None:
        if self._progress:
            self._progress.stop()

    def _advance(self, done: int) -> None:
        if self._progress is None and self._is_wanted and self._clock.seconds > 1:
            self._progress = Progress(console=Console(stderr=True))
            self._progress.add_task("", total=self._total)
            self._progress.start()
        if self._progress:
            self._progress.update(self._progress.task_ids[0], completed=done)
