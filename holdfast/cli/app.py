# SPDX-License-Identifier: Apache-2.0
"""The command's frame: options that every command takes, the list of commands, errors to exit codes.

Implements the exit codes of `exits` and lets the common options stand anywhere on the line.
Holds no command itself; those are in `commands`, one file for each group.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from holdfast.cli.commands import (
    archive,
    audit,
    bundle,
    chain,
    devices,
    doctor,
    enrol,
    escrow,
    officer,
    recovery,
    vault,
)
from holdfast.cli.exits import MEANINGS, Exit, exit_for
from holdfast.cli.shell import Shell, default_profile

_FLAGS: Final = ("--json",)
_WITH_VALUE: Final = ("--profile", "--passphrase-file", "--passphrase-fd")
_EXIT_TABLE: Final = "\n\n".join(f"{code.value}  {meaning}" for code, meaning in MEANINGS.items())
_HELP: Final = f"""Keys that stay yours, and come back when everything is lost.

Holdfast keeps this device's keys in an encrypted profile. No command takes a secret as an argument, and none
prints one: passphrases, passwords and enrolment codes come from a prompt, a file or a descriptor.

Exit codes:

{_EXIT_TABLE}
"""

app = typer.Typer(
    help=_HELP, no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False
)
app.command("enrol")(enrol.enrol)
app.command("doctor")(doctor.doctor)
for name, group in (
    ("devices", devices.app),
    ("bundle", bundle.app),
    ("vault", vault.app),
    ("archive", archive.app),
    ("escrow", escrow.app),
    ("recovery", recovery.app),
    ("officer", officer.app),
    ("chain", chain.app),
    ("audit", audit.app),
):
    app.add_typer(group, name=name)


@app.callback()
def common(
    context: typer.Context,
    profile: Annotated[
        Path | None, typer.Option(help="Directory of the profile.", envvar="HOLDFAST_PROFILE", metavar="DIR")
    ] = None,
    passphrase_file: Annotated[
        Path | None, typer.Option(help="Read the profile's passphrase from this file; - is stdin.", metavar="FILE")
    ] = None,
    passphrase_fd: Annotated[
        int | None, typer.Option(help="Read the profile's passphrase from this descriptor.", metavar="N")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print results and errors as JSON.")] = False,
) -> None:
    context.obj = Shell(profile or default_profile(), passphrase_file, passphrase_fd, json)


def hoisted(arguments: list[str]) -> list[str]:
    """Return the arguments with the common options first, wherever they stood before a lone `--`."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    front: list[str] = []
    rest: list[str] = []
    pending = iter(arguments[:end])
    for argument in pending:
        if argument in _FLAGS or argument.startswith(tuple(f"{name}=" for name in _WITH_VALUE)):
            front.append(argument)
        elif argument in _WITH_VALUE:
            front += [argument, *(value for value in [next(pending, None)] if value is not None)]
        else:
            rest.append(argument)
    return [*front, *rest, *arguments[end:]]


def main(arguments: list[str] | None = None) -> None:
    """Run one command and end the process with its exit code."""
    line = hoisted(sys.argv[1:] if arguments is None else arguments)
    shell = Shell(default_profile(), None, None, "--json" in line)
    try:
        app(args=line, prog_name="holdfast")
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except Exception as error:  # noqa: BLE001 — exit_for re-raises whatever no person should have to read
        code = exit_for(error)
        shell.fail(error, code)
        raise SystemExit(code) from None
    raise SystemExit(Exit.DONE)
