# SPDX-License-Identifier: Apache-2.0
"""The list of commands, and the `holdfast` command itself, which imports one of them once it is called.

Help, and the completion of the first word, are made of this list alone.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import typer
from typer.core import TyperCommand

from holdfast.cli.page import FLAGS, WITH_VALUE, Group


class Listed(NamedTuple):
    """A command or a group, and where it is.

    module: below `commands`; a group is its `app`, a command is added by its `register`. help: of a group, its help;
    of a command, the first sentence of it.
    """

    module: str
    help: str
    is_group: bool = True


# As a person meets them: one's own device and messages, the ways back, one's contacts, then what officers and
# auditors do, then what one looks into when something is odd.
LISTED: Final = {
    "enrol": Listed("enrol", "Enrol this device with the code an officer gave you.", is_group=False),
    "devices": Listed("devices", "Your devices."),
    "send": Listed("mail", "Send a message to every device of a person.", is_group=False),
    "sent": Listed("mail", "Show what you sent and not every device has confirmed yet.", is_group=False),
    "receive": Listed("mail", "Fetch what was sent to you, and show it once.", is_group=False),
    "maintain": Listed("care", "Do everything that is due, and say what needs you.", is_group=False),
    "rotate": Listed("care", "Replace keys before their time.", is_group=False),
    "backup": Listed("backup", "Ways back to your keys, made while you still have them."),
    "recover": Listed("recover", "Ways back to your keys, on a device that does not hold them."),
    "contacts": Listed("contacts", "The people you write to, and those who trust you."),
    "archive": Listed("archive", "Files under your archive keys."),
    "escrow": Listed("escrow", "Escrow of your archive keys."),
    "officer": Listed("officer", "For security officers: cases and keys."),
    "org": Listed("org", "Administer your organisation: people, roles, devices."),
    "audit": Listed("audit", "The audit log: export and offline verification."),
    "chain": Listed("chain", "Account chains: yours and your contacts'."),
    "bundle": Listed("bundle", "Pre-key bundles: what others need to write to you first."),
    "profile": Listed("profile", "The encrypted file that this device's keys are in."),
    "doctor": Listed("doctor", "Say what this profile trusts, and how the server answers.", is_group=False),
}


class Imported(Mapping[str, Any]):
    """The first words, and behind each its command or group, imported and made when it is asked for."""

    def __getitem__(self, name: str) -> Any:
        listed = LISTED[name]
        module = importlib.import_module(f"holdfast.cli.commands.{listed.module}")
        parent = typer.Typer(cls=Group, rich_markup_mode=None, add_completion=False)
        if listed.is_group:
            parent.add_typer(module.app, name=name, help=listed.help)
        else:
            module.register(parent)
        return typer.main.get_group(parent).commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(LISTED)

    def __len__(self) -> int:
        return len(LISTED)


def hoisted(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with the options of every command first, wherever they stood before a lone `--`."""
    arguments = list(arguments)
    end = arguments.index("--") if "--" in arguments else len(arguments)
    front: list[str] = []
    rest: list[str] = []
    pending = iter(arguments[:end])
    for argument in pending:
        if argument in FLAGS or argument.startswith(tuple(f"{name}=" for name in WITH_VALUE)):
            front.append(argument)
        elif argument in WITH_VALUE:
            front += [argument, *(value for value in [next(pending, None)] if value is not None)]
        else:
            rest.append(argument)
    return [*front, *rest, *arguments[end:]]


class Root(Group):
    """The `holdfast` command itself: takes its options anywhere on the line, also while the shell completes one.

    Imports a command once it is called, and for the list of commands none.
    """

    def __init__(self, **given: Any) -> None:
        super().__init__(**given | {"commands": Imported()})

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the commands in the order in which a person needs them."""
        return list(self.commands)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return what the list says of a command, which is all that help and completion ask for; None for no such."""
        return TyperCommand(cmd_name, help=LISTED[cmd_name].help) if cmd_name in LISTED else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the name of the command that is called, the command, and what is left of the line."""
        name, found, rest = super().resolve_command(ctx, args)
        return name, found and self.commands[str(name)], rest

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options of every command first."""
        if ctx.resilient_parsing and args and args[-1] in WITH_VALUE:
            # The shell completes this option's value: only this group knows what that is.
            args = []
        return super().parse_args(ctx, hoisted(args))
