# SPDX-License-Identifier: Apache-2.0
"""The command's frame: options that every command takes, the list of commands, errors to exit codes.

Implements the exit codes of `exits` and lets the common options stand anywhere on the line.
Holds no command itself; those are in `commands`, one file or folder for each group, each imported when it is called.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import typer
from typer.exceptions import TyperException

from holdfast.cli.exits import MEANINGS, Exit, exit_for
from holdfast.cli.listed import Root
from holdfast.cli.output import prepare_streams
from holdfast.cli.shell import Shell

_EXIT_TABLE: Final = "\n".join(f"  {code.value}  {meaning}" for code, meaning in MEANINGS.items())
_HELP: Final = """Keys that stay yours, and come back when everything is lost.

Holdfast keeps this device's keys in an encrypted profile. No command takes a secret or the text of a message as an
argument, because other users of this machine could read it there. Secrets come from a prompt, a file, standard input or
a descriptor. No command prints a secret, except a new recovery phrase or a generated password: once, on a terminal.

Text that other people wrote is shown in quotes, without control characters.
"""
_EPILOG: Final = f"""\b
Exit codes:
{_EXIT_TABLE}

\b
Files:
  ~/.local/share/holdfast/default
      The profile, a private directory with one encrypted file; --profile or HOLDFAST_PROFILE names another.
  .holdfast-*.part
      A file that was not finished, beside the one it was to be: a command was killed. Delete it; nothing reads it.

\b
Examples:
  holdfast enrol --server https://holdfast.example
      Make this device's keys and register it; asks for the code an officer gave you.
  holdfast doctor --json
      Say what this profile trusts, for a script.
  holdfast --install-completion
      Have your shell complete commands, options and files.
"""

app = typer.Typer(
    cls=Root, help=_HELP, epilog=_EPILOG, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
)


@app.callback()
def common(
    context: typer.Context,
    profile: Annotated[
        Path | None,
        typer.Option(help="Directory of the profile.", envvar="HOLDFAST_PROFILE", metavar="DIR", file_okay=False),
    ] = None,
    passphrase_file: Annotated[
        Path | None,
        typer.Option(
            help="Read the profile's passphrase from this file of mode 0600; - is stdin.",
            envvar="HOLDFAST_PASSPHRASE_FILE",
            metavar="FILE",
        ),
    ] = None,
    passphrase_fd: Annotated[
        int | None, typer.Option(help="Read the profile's passphrase from this descriptor.", metavar="N")
    ] = None,
    *,
    profile_wait: Annotated[
        float,
        typer.Option(
            help="Wait up to this many seconds while another command uses the profile.",
            envvar="HOLDFAST_PROFILE_WAIT",
            metavar="SECONDS",
            min=0,
        ),
    ] = 10,
    json: Annotated[bool, typer.Option("--json", help="Print results and errors as JSON.")] = False,
) -> None:
    """Take the options of every command."""
    context.obj = Shell(profile, passphrase_file, passphrase_fd, json, profile_wait)


@contextlib.contextmanager
def _tidied_up() -> Iterator[None]:
    """Let what is told to end leave its `with` blocks first: a file that is half written would stay."""

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    # What nohup has set to be ignored stays so.
    taken = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        taken = []  # a program that runs a command in another thread sees to its signals itself
    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


@_tidied_up()
def main(arguments: list[str] | None = None) -> None:
    """Run one command and end the process with its exit code."""
    prepare_streams()
    line = sys.argv[1:] if arguments is None else arguments
    shell = Shell(None, None, None, "--json" in line)
    try:
        # For scripts a mistake on the line is an error like any other; for people typer shows the usage with it.
        code = app(args=line, prog_name="holdfast", standalone_mode=not shell.is_json)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except TyperException as error:
        shell.fail(error, Exit.USAGE)
        raise SystemExit(Exit.USAGE) from None
    except Exception as error:  # noqa: BLE001 — exit_for re-raises whatever no person should have to read
        code = exit_for(error)
        shell.fail(error, code)
        raise SystemExit(code) from None
    raise SystemExit(code or Exit.DONE)
