# SPDX-License-Identifier: Apache-2.0
"""A command and its manual page in one place: what it asks for, what it changes, examples, exit codes.

Implements the help of every command, and the tree that the man page and docs/cli.md are written from.
Does not run anything; `app` does.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from holdfast.cli import commands
from holdfast.cli.commands import LISTED
from holdfast.cli.exits import SHORT, Exit
from holdfast.cli.values import ReadPlainly

FLAGS: Final = ("--json",)
WITH_VALUE: Final = ("--profile", "--passphrase-file", "--passphrase-fd", "--profile-wait")
_ALWAYS: Final = (Exit.DONE, Exit.FAILED, Exit.USAGE, Exit.INPUT, Exit.MACHINE)
_PROFILE: Final = (Exit.PROFILE, Exit.AGAIN)
_ONLINE: Final = (Exit.REFUSED, Exit.UNREACHABLE, Exit.UNTRUSTED, Exit.SERVER)

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Page:
    """What a command's help says beyond its description and its options.

    asks: what the person is asked for. changes: what is different afterwards, here and on the server.
    examples: (command line, what it is for). exits: what a code means here, where that is more than its usual
    meaning. usual: the codes that this command can end with in their usual meaning.
    """

    asks: str
    changes: str
    examples: Sequence[tuple[str, str]]
    exits: Mapping[Exit, str] = field(default_factory=dict)
    usual: Sequence[Exit] = ()

    @property
    def codes(self) -> dict[Exit, str]:
        """Every code that the command can end with, and what it means there."""
        return {code: self.exits.get(code) or SHORT[code] for code in sorted({*self.usual, *self.exits})}

    def epilog(self) -> str:
        """Return the end of the command's help. A line \\b keeps the lines after it as they are."""
        codes = "\n".join(f"  {code.value}  {meaning}" for code, meaning in self.codes.items())
        examples = "\n".join(f"  {line}\n      {what}" for line, what in self.examples)
        return (
            f"Asks for: {self.asks}\n\nChanges: {self.changes}\n\n\b\nExit codes:\n{codes}\n\n\b\nExamples:\n{examples}"
            "\n\nTakes, anywhere on the line, the options of every command: "
            f"{', '.join(WITH_VALUE + FLAGS)} (holdfast --help)."
        )


@dataclass(frozen=True)
class Leaf:
    """One command of the tree: the words that call it, its typer command, and its page."""

    words: tuple[str, ...]
    command: TyperCommand
    page: Page

    @property
    def description(self) -> str:
        """The command's docstring."""
        return inspect.cleandoc(self.command.help or "")


_PAGES: Final[dict[Callable[..., Any], Page]] = {}


def command(
    app: typer.Typer,
    name: str,
    *,
    asks: str = "nothing.",
    changes: str = "nothing.",
    examples: Sequence[tuple[str, str]],
    exits: Mapping[Exit, str] | None = None,
    online: bool = True,
    profile: bool = True,
) -> Callable[[Function], Function]:
    """Make a function a command of `app`, with its whole manual page.

    online: it speaks to the server. profile: it opens the profile, asking for its passphrase where it has one.
    """

    def register(function: Function) -> Function:
        usual = (*_ALWAYS, *(_PROFILE if profile else ()), *(_ONLINE if online else ()))
        page = Page(asks=asks, changes=changes, examples=examples, exits=exits or {}, usual=usual)
        _PAGES[function] = page
        app.command(name, cls=Command, epilog=page.epilog())(function)
        return function

    return register


def leaves(root: Any, words: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """Yield every command below a group, in the order of the help."""
    for name in root.list_commands(None):
        below = root.commands[name]
        if isinstance(below, TyperGroup):
            yield from leaves(below, (*words, name))
        else:
            yield Leaf((*words, name), below, _PAGES[inspect.unwrap(below.callback)])


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


class Group(ReadPlainly, TyperGroup):
    """A group of commands."""


def group(*, text: str = "") -> typer.Typer:
    """Make a group of commands. text: its help, where it stands in another group; else the list of commands has it."""
    return typer.Typer(cls=Group, help=text or None, no_args_is_help=True)


class Imported(Mapping[str, Any]):
    """The first words, and behind each its command or group, imported and made when it is asked for."""

    def __getitem__(self, name: str) -> Any:
        listed = LISTED[name]
        module = importlib.import_module(f"{commands.__name__}.{listed.module}")
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


class Command(ReadPlainly, TyperCommand):
    """A command whose completion offers the options of every command beside its own."""

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Return what the shell may put for the word under the cursor."""
        found = super().shell_complete(ctx, incomplete)
        if incomplete.startswith("-"):
            common = ctx.find_root().command.shell_complete(ctx.find_root(), incomplete)
            known = {item.value for item in found}
            found += [item for item in common if item.value in (*WITH_VALUE, *FLAGS) and item.value not in known]
        return found
