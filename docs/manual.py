# SPDX-License-Identifier: Apache-2.0
"""Writes docs/holdfast.1 (the man page) and docs/cli.md from the help texts of the command itself.

Implements `make manual`; with --check it writes nothing, and says which page is not up to date.
Holds no text about any command: that is beside the command, in holdfast/cli/commands.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import typer

from holdfast.cli.app import app
from holdfast.cli.exits import MEANINGS
from holdfast.cli.page import Leaf, leaves

HERE: Final = Path(__file__).resolve().parent
ROOT: Final[Any] = typer.main.get_command(app)


def context_of(command: Any, name: str) -> Any:
    """Return a context in which a command can be asked about itself."""
    return command.make_context(name, [], resilient_parsing=True)


def usage(leaf: Leaf) -> str:
    """Return one line: how the command is called."""
    name = " ".join(("holdfast", *leaf.words))
    return " ".join([name, *leaf.command.collect_usage_pieces(context_of(leaf.command, name))])


def parameters(command: Any, name: str) -> Iterator[tuple[str, str]]:
    """Yield each argument and option with its help, but for --help, which every command has."""
    context = context_of(command, name)
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record and "--help" not in parameter.opts:
            left, text = record
            yield left, text or ""


def paragraphs(text: str) -> list[str]:
    """Split a description into paragraphs of one line each."""
    return [" ".join(one.split()) for one in inspect.cleandoc(text).split("\n\n")]


def root_sections() -> tuple[list[str], list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the command's own description, its options, and its examples."""
    examples = re.findall(r"^  (holdfast .*)\n      (.*)$", ROOT.epilog, re.MULTILINE)
    return paragraphs(ROOT.help), list(parameters(ROOT, "holdfast")), examples


# The man page: roff, with the `man` macros.


def roff(text: str) -> str:
    """Write text so that roff prints it as it is."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("’", "'").replace("|", "|\\:")
    return re.sub(r"^([.'])", r"\\&\1", escaped, flags=re.MULTILINE)


def man_items(pairs: list[tuple[str, str]]) -> Iterator[str]:
    """Write a list of terms and their explanations."""
    for term, text in pairs:
        yield f".TP\n\\fB{roff(term)}\\fR\n{roff(text)}"


def man_command(leaf: Leaf) -> Iterator[str]:
    """Write one command."""
    yield f".SS {roff(usage(leaf))}"
    for paragraph in paragraphs(leaf.description):
        yield f".PP\n{roff(paragraph)}"
    yield from man_items(list(parameters(leaf.command, leaf.words[-1])))
    yield f".PP\n\\fIAsks for:\\fR {roff(leaf.page.asks)}"
    yield f".PP\n\\fIChanges:\\fR {roff(leaf.page.changes)}"
    yield f".PP\n\\fIExit codes:\\fR {roff('; '.join(f'{int(c)} {text}' for c, text in leaf.page.codes.items()))}"
    for line, what in leaf.page.examples:
        yield f".PP\n{roff(what)}\n.PP\n.RS 4\n.nf\n{roff(line)}\n.fi\n.RE"


def man_page() -> str:
    """Write the whole man page."""
    description, options, examples = root_sections()
    lines = [
        '.\\" Written by docs/manual.py from the help of the command; do not edit.',
        '.TH HOLDFAST 1 "" Holdfast "Holdfast manual"\n.ad l\n.nh',
        f".SH NAME\nholdfast \\- {roff(description[0].rstrip('.'))}",
        ".SH SYNOPSIS\n.B holdfast\n[\\fIoptions\\fR] \\fIcommand\\fR [\\fIarguments\\fR]",
        ".SH DESCRIPTION",
        *(f".PP\n{roff(one)}" for one in description[1:]),
        ".SH OPTIONS\nThe options of every command; they may stand anywhere on the line.",
        *man_items(options),
        ".SH COMMANDS",
        *(line for leaf in leaves(ROOT) for line in man_command(leaf)),
        ".SH EXIT STATUS",
        *man_items([(str(int(code)), meaning) for code, meaning in MEANINGS.items()]),
        ".SH ENVIRONMENT\n.TP\n\\fBHOLDFAST_PROFILE\\fR\nThe directory of the profile, where no option names one.\n"
        ".TP\n\\fBHOLDFAST_PASSPHRASE_FILE\\fR\nThe file with its passphrase, where no option names one.",
        ".SH FILES\n.TP\n\\fI~/.local/share/holdfast/default\\fR\nThe profile: a directory of mode 0700 with one "
        "encrypted file of mode 0600.",
        ".SH EXAMPLES",
        *(f".PP\n{roff(what)}\n.PP\n.RS 4\n.nf\n{roff(line)}\n.fi\n.RE" for line, what in examples),
    ]
    return "\n".join(lines) + "\n"


# The page for the web: Markdown.


def cell(text: str) -> str:
    """Write text into a table's cell."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def table(pairs: list[tuple[str, str]], heads: tuple[str, str]) -> list[str]:
    """Write a table of two columns; nothing for no rows."""
    rows = [f"| `{term}` | {cell(text)} |" for term, text in pairs]
    return ["", f"| {heads[0]} | {heads[1]} |", "|---|---|", *rows] if rows else []


def markdown_command(leaf: Leaf) -> list[str]:
    """Write one command."""
    examples = [line for pair in leaf.page.examples for line in (f"# {pair[1]}", pair[0])]
    return [
        "",
        f"### holdfast {' '.join(leaf.words)}",
        "",
        f"    {usage(leaf)}",
        *(line for one in paragraphs(leaf.description) for line in ("", one)),
        *table(list(parameters(leaf.command, leaf.words[-1])), ("option", "meaning")),
        "",
        f"**Asks for** {leaf.page.asks} **Changes** {leaf.page.changes}",
        "",
        "Exit codes: " + "; ".join(f"{int(code)} {text}" for code, text in leaf.page.codes.items()) + ".",
        "",
        "```sh",
        *examples,
        "```",
    ]


def markdown_page() -> str:
    """Write the whole page."""
    description, options, _ = root_sections()
    lines = [
        "# The `holdfast` command",
        "",
        "<!-- Written by docs/manual.py from the help of the command; do not edit. -->",
        *(line for one in description for line in (one, "")),
        "The same page as a man page: `man holdfast`. Completion for bash, zsh and fish:",
        "`holdfast --install-completion`.",
        "",
        "## Options of every command",
        *table(options, ("option", "meaning")),
        "",
        "## Exit codes",
        *table([(str(int(code)), meaning) for code, meaning in MEANINGS.items()], ("code", "meaning")),
        "",
        "With `--json` an error is one line on standard error, an object `error` with `message`, `exit`, `kind`, and",
        "where there are any `way_out`, `fields`, `status` and `code`, one of [problems.md](problems.md).",
        "Whose matter each class of errors is: [errors.md](errors.md).",
    ]
    group = None
    for leaf in leaves(ROOT):
        if leaf.words[0] != group:
            group = leaf.words[0]
            lines += ["", f"## {group}"]
            if len(leaf.words) > 1:
                lines += ["", ROOT.commands[group].help]
        lines += markdown_command(leaf)
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write both pages, or with --check say which is not as it would be written."""
    pages = {HERE / "holdfast.1": man_page(), HERE / "cli.md": markdown_page()}
    if "--check" not in sys.argv[1:]:
        for path, text in pages.items():
            path.write_text(text)
        return
    stale = [path.name for path, text in pages.items() if not path.exists() or path.read_text() != text]
    if stale:
        raise SystemExit(f"not up to date: {', '.join(stale)}; write them again: make manual")


if __name__ == "__main__":
    main()
