# SPDX-License-Identifier: Apache-2.0
"""A command and its manual page in one place: what it asks for, what it changes, examples, exit codes.

Implements the help of every command, and the tree that the man page and docs/cli.md are written from.
Does not run anything; `app` does.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

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


class Group(ReadPlainly, TyperGroup):
    """A group of commands."""


def group(*, text: str = "") -> typer.Typer:
    """Make a group of commands. text: its help, where it stands in another group; else the list of commands has it."""
    return typer.Typer(cls=Group, help=text or None, no_args_is_help=True)


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
