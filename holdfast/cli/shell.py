# SPDX-License-Identifier: Apache-2.0
"""What every command shares: the profile, the passphrase, the output in words or as JSON.

Implements the rule that secrets come from a prompt, a file or a descriptor, and go nowhere.
Does not decide anything; commands do, one file for each of the client's modules.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO
from uuid import UUID

import typer

from holdfast.cli.asking import ask_secret, secret_descriptor, secret_file
from holdfast.cli.exits import said_of
from holdfast.cli.later import later
from holdfast.cli.output import NotShown, encoding_of, is_terminal, put
from holdfast.cli.progress import Working
from holdfast.client.errors import ConsentNeeded, Problem, WordsNeeded
from holdfast.core.base.text import duration, encodable, is_dangerous, is_encodable, written_out

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from holdfast.client.profile.account import Account
    from holdfast.core.base.secret import SecretBytes

with later():
    from holdfast.client.profile import account as accounts
    from holdfast.client.profile import turns

# A word of a fixed list, as a state is: what else stands in its place is somebody's text.
_ONE_WORD: Final = re.compile(r"[a-z](?:[a-z-]{0,22}[a-z])?", re.ASCII)
_WORDS_IN_A_ROW: Final = 4
_LABEL: Final = re.compile(r" *[A-Z][A-Za-z' -]{1,18}: +", re.ASCII)
_CLOSING: Final = re.compile("”|<U\\+201D>")  # the second is how a terminal shows it that has none
# Rich reads its markup from a whole line, so a bracket of one person's text could be closed by another's. In a line
# they are carried by two controls (SO and SI), which no text brings along: those are written out.
_MARKUP, _CARRIERS = "[\\", "\x0e\x0f"
# By the category of a character: the only control that is left is the tab, which goes to the next column of eight;
# signs of format that some terminals show as a blank; private ones, and those of a newer Unicode than this program's.
_MOST_CELLS: Final = {"Cc": 8, "Cf": 1, "Co": 2, "Cn": 2}
# The mark at the head of a line is ours, with its style. Where the terminal has it not, another says the same.
_MARK: Final = re.compile(r"((?:\[[a-z ]+\]| )*)([✓✗○→┌│└])")
_PLAIN_MARKS: Final = {"✓": "+", "✗": "x", "○": "o", "→": ">", "┌": "|", "│": "|", "└": "|"}


@dataclass
class Shell:
    """One run of the command."""

    named_profile: Path | None
    passphrase_file: Path | None
    passphrase_fd: int | None
    is_json: bool
    wait_seconds: float = 0
    # A pipe gives its secret once, and one command may need it twice.
    _passphrase: SecretBytes | None = None

    @functools.cached_property
    def profile(self) -> Path:
        """The directory of the profile: as it was named, or the one that is used when none is."""
        if self.named_profile is not None:
            return self.named_profile
        import platformdirs

        return Path(platformdirs.user_data_dir("holdfast")) / "default"

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
                account = until_done.enter_context(
                    accounts.open_account(self.profile, passphrase=passphrase, wait_seconds=self.wait_seconds)
                )
            if online:
                account.connect()
            try:
                yield account
            finally:
                if account.is_copy_found:
                    said, way_out = turns.words_of(account.turn)
                    self.note(f"[bold yellow]![/] {plain(said)}")
                    self.note(f"  → {plain(way_out)}")

    # Results out

    def show(self, result: Mapping[str, Any], *lines: str) -> None:
        """Print a result: the mapping as JSON, or the lines for people.

        lines: rich markup, each one line on the screen whatever it holds; what others wrote goes in by `quoted`,
        `one_word` or `plain`. Whoever reads a pipe has it at once: a command may go on to wait for what is done with
        it. Raises NotShown when it was not written whole: what is handed out once is done away with after this.
        """
        if self.is_json:
            put(f"{_json(result)}\n")
        else:
            _print(*lines)

    def note(self, line: str) -> None:
        """Say something on the way, on standard error, to people only.

        Raises NotShown when it was not written, if somebody is there to be asked about it.
        """
        if self.is_json:
            return
        try:
            _print(line, is_error=True)
        except NotShown:
            if self.has_person():
                raise

    def working(self, what: str, *, total: int = 0) -> Working:
        """Show people that something goes on, when it takes more than a second."""
        return Working(what, is_shown=not self.is_json, total=total)

    def has_person(self) -> bool:
        """Tell whether somebody could be asked."""
        return not self.is_json and is_terminal(sys.stdin)

    def ask(self, question: str, *, option: str) -> str:
        """Ask a person for what only they know. Raises ConsentNeeded when there is nobody to ask."""
        if not self.has_person():
            raise ConsentNeeded(f"{question}: nobody to ask.", way_out=f"A person gives it with {option}.")
        return str(typer.prompt(self._asked(question)))

    def confirm(self, question: str, *, is_given: bool) -> None:
        """Have a person say yes, by option or by typing it. Raises ConsentNeeded without."""
        if is_given:
            return
        if not self.has_person():
            raise ConsentNeeded(f"{question} Nobody answered.", way_out="A person says so with --yes.")
        if not self.says_yes(question):
            raise ConsentNeeded("Not confirmed. Nothing was done.")

    def says_yes(self, question: str) -> bool:
        """Ask a person at the terminal; question: a line as in `show`."""
        return typer.confirm(self._asked(question))

    def _asked(self, question: str) -> str:
        return unstyled(question, width=_console(sys.stdout).width, encoding=encoding_of(sys.stdout))

    def fail(self, error: Exception, code: int) -> None:
        """Print an error and its way out on standard error. Where that takes nothing, the exit code alone says it."""
        said, way_out = said_of(error)
        with contextlib.suppress(NotShown):
            if self.is_json:
                document = _json({"error": _error(error, said, code, way_out)}, encoding=encoding_of(sys.stderr))
                put(f"{document}\n", is_error=True)
                return
            field = f" ({one_word(error.field)})" if isinstance(error, Problem) and error.field else ""
            # What the server says why it refused is its text, and no sentence of ours.
            refused = f"Refused: {quoted(said)}" if isinstance(error, Problem) else plain(said)
            _print(f"[bold red]✗[/] {refused}{field}", *([f"  → {plain(way_out)}"] if way_out else []), is_error=True)


def shell_of(context: typer.Context) -> Shell:
    """Return the run that a command belongs to."""
    shell = context.find_root().obj
    assert isinstance(shell, Shell)
    return shell


def shown(words: Sequence[str]) -> str:
    """Write fingerprint words for people."""
    return f"[bold]{' '.join(words)}[/]"


def numbered(words: Sequence[str]) -> list[str]:
    """Write fingerprint words with their places, in rows: whoever reads them out is asked for some of them."""
    cells = [f"{place} [bold]{one}[/]" for place, one in enumerate(words, start=1)]
    return ["   ".join(cells[start : start + _WORDS_IN_A_ROW]) for start in range(0, len(cells), _WORDS_IN_A_ROW)]


def moment(at: int, now: int) -> str:
    """Write UTC seconds that somebody signed, and how far they are from `now`."""
    span = duration(abs(at - now), parts=1)
    return f"{date(at)}, {f'in {span}' if at > now else f'{span} ago' if at < now else 'now'}"


def date(at: int, form: str = "%Y-%m-%d %H:%M:%S UTC") -> str:
    """Write UTC seconds as a date; a number that others gave and that is none, as it is."""
    try:
        return datetime.fromtimestamp(at, UTC).strftime(form)
    except (OverflowError, ValueError, OSError):
        return f"{at} (no date)"


def day(at: int) -> str:
    """Write the day of UTC seconds."""
    return date(at, "%Y-%m-%d")


# What others wrote. Of these three, one stands wherever text goes to a person that this program did not write.


def quoted(text: str) -> str:
    """Write text that somebody else chose, in quotes that it cannot end; what is dangerous in it is written out.

    Nothing else in it is changed: where quotes of its own stand in it, there are more of them around it, ““as “here”””.
    """
    runs = re.findall(f"(?:{_CLOSING.pattern})+", text)
    marks = 1 + max((len(_CLOSING.findall(run)) for run in runs), default=0)
    return f"{'“' * marks}{plain(text)}{'”' * marks}"


def one_word(text: str) -> str:
    """Write what should be one word of a fixed list, as the server gives it; in quotes when it is anything else."""
    return text if _ONE_WORD.fullmatch(text) else quoted(text)


def plain(text: str) -> str:
    """Write text without quotes, for what is no stranger's: a file's name, or a sentence of ours with others' words.

    No markup in it is obeyed, and what is dangerous in it is written out.
    """
    return written_out(text).translate(str.maketrans(_MARKUP, _CARRIERS))


def unstyled(line: str, *, width: int = 0, encoding: str = "utf-8") -> str:
    """Return what a line shows to a screen of `width` cells, without its style; 0 for one without an edge."""
    return "\n".join(part.plain for part in _fitted(line, width, encoding))


def _console(stream: TextIO | None) -> Console:
    """Return what renders lines for a stream, in memory: `put` writes them."""
    from rich.console import Console

    # Colons around a word are not a sign of ours, and no line is cut.
    return Console(
        file=io.StringIO(), force_terminal=is_terminal(stream) or None, highlight=False, soft_wrap=True, emoji=False
    )


def _print(*lines: str, is_error: bool = False) -> None:
    from rich.segment import Segments

    stream = sys.stderr if is_error else sys.stdout
    console = _console(stream)
    width = console.width if console.is_terminal else 0
    with console.capture() as written:
        for line in lines:
            for part in _fitted(line, width, encoding_of(stream)):
                # As it is: printed as a Text, it would have spaces for its tabs.
                console.print(Segments(part.render(console, end="\n")), end="")
    put(written.get(), is_error=is_error)


def _fitted(line: str, width: int, encoding: str) -> list[Text]:
    """Return a line as what the screen shows, in parts of at most `width` cells; 0 for a screen without an edge.

    A terminal begins a part of a long line at its left edge, where our own lines begin: text that somebody else chose
    would look like one of them. Here it goes on below where it began. A line of ours whose one word is longer, a key or
    what a QR code says, stays whole, to be copied. A character that the encoding has not is written out.
    """
    from rich.text import Text

    # What no command may forget: nothing dangerous leaves here, wherever it came from.
    said = written_out(line, keep=_CARRIERS)
    # Before anything is measured: what is written out takes more cells.
    text = Text.from_markup(_encodable(said, encoding), emoji=False)
    text.plain = text.plain.translate(str.maketrans(_CARRIERS, _MARKUP))
    quote, label = text.plain.find(encodable("“", encoding)), _LABEL.match(text.plain)
    # Deeper than any line of ours begins that could follow it.
    least = len(text.plain) - len(text.plain.lstrip()) + 4
    hang = label.end() if label else quote + 1 if 0 <= quote < width // 2 else least
    # Where the screen is too narrow for its own column.
    hang = hang if width > 2 * hang else least
    if width <= 2 * hang or sum(map(_cells, text.plain)) <= width:
        return [text]
    first, rest = text.divide([hang])
    ends = _breaks(rest.plain, width - hang, may_part_words=quote >= 0)
    if ends is None:
        return [text]
    parts = rest.divide(ends)
    return [first.append_text(parts[0]), *(Text(" " * hang).append_text(part) for part in parts[1:])]


def _encodable(line: str, encoding: str) -> str:
    """Return a line in which each character that the encoding has not is written out; the mark at its head is plain."""
    mark = _MARK.match(line)
    if mark and not is_encodable(mark[2], encoding):
        line = mark[1] + _PLAIN_MARKS[mark[2]] + line[mark.end() :]
    return encodable(line, encoding)


def _cells(sign: str) -> int:
    """Return the most cells that a terminal may give a character: by their age, they do not agree on all of them."""
    from rich.cells import get_character_cell_size

    return max(get_character_cell_size(sign), _MOST_CELLS.get(unicodedata.category(sign), 0))


def _breaks(text: str, width: int, *, may_part_words: bool) -> list[int] | None:
    """Return where to part a text so that each part has at most `width` cells, after spaces where there are any.

    None when a word is longer and may not be parted.
    """
    ends, used, space = [], 0, 0
    start = 0
    for at, sign in enumerate(text):
        used += _cells(sign)
        if used > width:
            end = space if space > start else at
            if end == at and not may_part_words:
                return None
            ends.append(end)
            start, used = end, sum(map(_cells, text[end : at + 1]))
        if sign.isspace():
            space = at + 1
    return ends


def _json(document: Mapping[str, Any], *, encoding: str = "") -> str:
    """Write a document in one line, for standard output or a stream of another encoding.

    What is dangerous, or not in the encoding, is escaped: the same for a program, and harmless on a screen.
    """
    text, encoding = json.dumps(document, default=_identified, ensure_ascii=False), encoding or encoding_of(sys.stdout)
    return "".join(
        json.dumps(sign)[1:-1] if is_dangerous(sign) or not is_encodable(sign, encoding) else sign for sign in text
    )


def _error(error: Exception, said: str, code: int, way_out: str) -> dict[str, Any]:
    document: dict[str, Any] = {"message": said, "exit": code, "kind": type(error).__name__}
    if way_out:
        document["way_out"] = way_out
    if isinstance(error, WordsNeeded):
        document["places"] = list(error.places)
    if isinstance(error, Problem):
        document |= {"code": error.code, "status": error.status}
        document["fields"] = [{"field": field, "detail": detail} for field, detail in error.errors]
    return document


def _identified(value: object) -> str:
    if isinstance(value, (UUID, Path)):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not part of a result")
