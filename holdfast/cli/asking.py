# SPDX-License-Identifier: Apache-2.0
"""What people tell the command and what only they may see: secrets in, the recovery phrase out.

Implements the rule that a secret comes from a prompt, a file or a descriptor, and is shown on a terminal or not at all.
Does not keep anything it was told.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shlex
import stat
import sys
import termios
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from holdfast.cli.later import later
from holdfast.cli.output import can_show, is_terminal
from holdfast.client.errors import ConsentNeeded, MachineError, WrongInput
from holdfast.core.base import typed
from holdfast.core.base.errors import Malformed

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from holdfast.core.base.secret import SecretBytes

with later():
    from holdfast.core.crypto import phrase as phrases

_MAX_SECRET: Final = 4096
_WORDS: Final = 24
_COLUMNS: Final = 4
_DESCRIPTORS: Final = ("/dev/stdin", "/dev/fd/", "/proc/self/fd/")  # other names of what this process was given open

PasswordFile = Annotated[
    Path | None,
    typer.Option(help="Read the password from this file of mode 0600; - is standard input.", metavar="FILE"),
]
PhraseFile = Annotated[
    Path | None,
    typer.Option(help="Read the 24 words from this file of mode 0600; - is standard input.", metavar="FILE"),
]
PassphraseOfPhrase = Annotated[
    bool, typer.Option("--passphrase-of-phrase", help="The phrase has a passphrase beside it: ask for it, too.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Say yes beforehand, instead of being asked.")]


def secret_file(path: Path) -> SecretBytes:
    """Read a secret's line from a file, or from standard input for "-": the first that shows anything, in UTF-8.

    Raises MachineError as `_whole`, and Mistyped for a file that is no text.
    """
    return _first_line(_whole(path))


def secret_descriptor(descriptor: int) -> SecretBytes:
    """Read a secret's line from an open descriptor as `secret_file` does, and close it."""
    with os.fdopen(descriptor, "rb") as file:
        return _first_line(file.read(_MAX_SECRET))


def code_from(file: Path | None, question: str, is_whole: Callable[[str], bool], *, option: str) -> str:
    """Return a code as it was copied, from a file when one is named, else by asking without echo.

    is_whole: tells of what was typed so far whether that is all: a mail program may have parted a code into lines, and
    a paste of them is taken to its end. Raises as `secret_file` and `ask_secret` do.
    """
    if file is not None:
        return typed.text_of(_whole(file), question)
    _require_somebody(question, f"Name a file: {option}")
    said = ""
    with _unseen():
        sys.stderr.write(f"{question}: ")
        while True:
            sys.stderr.flush()
            line = typed.text_of(sys.stdin.buffer.readline(), question)
            ends = not line or (not line.strip() and bool(said.strip()))
            said += line
            if ends or len(said) > _MAX_SECRET or is_whole(said):
                sys.stderr.write("\n")
                return said
            if line.strip():
                sys.stderr.write("\nNot the whole code yet. The rest, or Enter to end: ")


def ask_secret(question: str, *, confirm: bool = False, way_out: str = "") -> SecretBytes:
    """Ask for a secret without echo. Raises ConsentNeeded when there is nobody to ask."""
    _require_somebody(
        question, way_out or "Give a file of mode 0600 (--passphrase-file, --password-file) or a descriptor."
    )
    text = _typed_unseen(question, question)
    if confirm and typed.password(_typed_unseen("Once more", question)) != typed.password(text):
        raise WrongInput("The two differ. Nothing was done.", way_out="Type the same one twice.")
    return _kept(text.encode())


def password(file: Path | None, question: str, *, confirm: bool = False) -> SecretBytes:
    """Return a password from a file when one is named, else by asking."""
    return secret_file(file) if file else ask_secret(question, confirm=confirm, way_out="Name a file: --password-file")


def require_person(*, is_json: bool) -> None:
    """Raise ConsentNeeded unless a person sits at a terminal: what follows is shown to nobody else."""
    if is_json or not is_terminal(sys.stdout, sys.stdin):
        raise ConsentNeeded(
            "This is shown to a person at a terminal only; it is not written into pipes, files or JSON.",
            way_out="Run the command in a terminal, without --json.",
        )


def show_in_private(title: str, lines: Sequence[str | Text]) -> None:
    """Show secret lines on the terminal's second screen until Enter, so that they stay in no scrollback.

    What this program did not write is a Text: no markup in it is obeyed.

    `require_person` comes before it, and what the secret is for comes after it. Raises ConsentNeeded when the terminal
    cannot show it, or the person did not press Enter: then nobody has written it down. OSError when the terminal fails.
    """
    if not all(can_show(str(line)) for line in lines):
        raise ConsentNeeded(
            "This terminal cannot show every character of it, so that nobody could write it down.",
            way_out="Run the command in a terminal in UTF-8, or take words of another list: --language",
        )
    console = _console()
    with console.screen(hide_cursor=False):
        console.print(f"[bold]{title}[/]\n")
        for line in lines:
            console.print(line)
        console.print("\nPress Enter when you have written it down. It is then gone from the screen.")
        if not sys.stdin.readline():
            raise ConsentNeeded("The terminal was closed before anybody had written it down.")


def show_given_in_private(title: str, secret: SecretBytes) -> None:
    """Show a secret that somebody else made as `show_in_private` does; no markup in it is obeyed. secret: plain ASCII.

    Raises Malformed for any other, of which nothing is shown.
    """
    text = secret.reveal()
    if not (text.isascii() and text.decode().isprintable()):
        raise Malformed("a secret to be shown is not one line of plain ASCII")
    from rich.text import Text

    show_in_private(title, [Text(f"  {text.decode()}")])


def ask_in_private(title: str, questions: Sequence[str]) -> list[str]:
    """Ask questions on the terminal's second screen, where the person sees what they type and nobody does later."""
    console = _console()
    with console.screen(hide_cursor=False):
        console.print(f"[bold]{title}[/]\n")
        return [console.input(f"{question}: ") for question in questions]


def ask_phrase(title: str, file: Path | None) -> phrases.Phrase:
    """Return a recovery phrase from a file, or by asking until 24 words are there and belong together."""
    if file is not None:
        return _parsed_file(file)
    if not is_terminal(sys.stdout, sys.stdin):
        raise ConsentNeeded(f"{title}: nobody to ask.", way_out="Name a file of mode 0600: --phrase-file")
    words: list[str] = []
    console = _console()
    with console.screen(hide_cursor=False):
        console.print(f"[bold]{title}[/]\n")
        console.print("Type the 24 words in their order, as many to a line as you like.\n")
        while True:
            while len(words) < _WORDS:
                words += phrases.words_in(console.input(f"{len(words) + 1:>2}: "))
            try:
                return _parsed(_kept(" ".join(words).encode()))
            except phrases.UnknownWord as error:
                nearest = f" Did you mean {error.nearest}?" if error.nearest else ""
                console.print(f"Word {error.position} is in no word list.{nearest}")
                words[error.position - 1] = console.input(f"{error.position:>2}: ")
            except phrases.PhraseError as error:
                console.print(f"{error}. Once more, from the first word.", markup=False)
                words = []


def phrase_rows(words: tuple[str, ...]) -> list[str]:
    """Set words in columns, read from left to right, each with its number."""
    width = max(map(len, words)) + 3
    cells = [f"{number:>2} {word:<{width}}" for number, word in enumerate(words, start=1)]
    return ["".join(cells[start : start + _COLUMNS]).rstrip() for start in range(0, len(cells), _COLUMNS)]


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def _parsed(text: SecretBytes) -> phrases.Phrase:
    """Read a phrase; in the rare case that its words are in two lists, in the first of them that it belongs to."""
    try:
        return phrases.Phrase.parse(text)
    except phrases.AmbiguousLanguage as error:
        return phrases.Phrase.parse(text, language=error.languages[0])


def _parsed_file(path: Path) -> phrases.Phrase:
    """Read a phrase from a file; of a word that is in no list, name the nearest to a person at the terminal alone."""
    try:
        return _parsed(_kept(_whole(path)))
    except (phrases.UnknownWord, phrases.WrongWordCount) as error:
        unknown = error if isinstance(error, phrases.UnknownWord) else error.unknown
        # It is nearly a word of the phrase: no log of a script is the place for it.
        if unknown is not None and unknown.nearest and is_terminal(sys.stderr):
            raise phrases.PhraseError(f"{error}. Did you mean {unknown.nearest}?") from error
        raise


def _whole(path: Path) -> bytes:
    """Read at most 4096 bytes of secrets. Raises MachineError for a file that others than this user and root read."""
    if str(path) == "-":
        return sys.stdin.buffer.read(_MAX_SECRET)
    with path.open("rb") as file:
        # Of the open file and not of the path: between a look and an open, the file could be exchanged.
        status = os.fstat(file.fileno())
        # A pipe's mode says nothing: who has its other end wrote the secret. What the shell has opened, it answers for.
        if stat.S_ISREG(status.st_mode) and not str(path).startswith(_DESCRIPTORS):
            _require_private(path, status)
        return file.read(_MAX_SECRET)


def _require_private(path: Path, status: os.stat_result) -> None:
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise MachineError(f"{path} is open to others than its owner.", way_out=f"chmod 600 {shlex.quote(str(path))}")
    # The owner always may read it, and write another secret into it. Root may anyway; so root reads everybody's files.
    if os.geteuid() != 0 and status.st_uid not in (0, os.geteuid()):
        raise MachineError(
            f"{path} belongs to another user, who knows what is in it.",
            way_out="Copy it into a file of your own, of mode 0600.",
        )


def _first_line(octets: bytes) -> SecretBytes:
    return _kept(typed.first_line(octets, "the secret"))


def _kept(octets: bytes) -> SecretBytes:
    from holdfast.core.base.secret import SecretBytes

    return SecretBytes(octets)


def _require_somebody(question: str, way_out: str) -> None:
    if not is_terminal(sys.stdin):
        raise ConsentNeeded(f"{question}: nobody to ask.", way_out=way_out)


def _typed_unseen(question: str, what: str) -> str:
    try:
        text = getpass.getpass(f"{question}: ")
    except UnicodeDecodeError:
        text = "\udcff"
    # A terminal in another encoding: its bytes come as halves of pairs, which no text has.
    return typed.text_of(text.encode("utf-8", "surrogateescape"), what)


@contextlib.contextmanager
def _unseen() -> Iterator[None]:
    """Show nothing of what is typed, and throw nothing away that was pasted along: `getpass` does at every line."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    without_echo = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
    termios.tcsetattr(descriptor, termios.TCSADRAIN, without_echo)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
