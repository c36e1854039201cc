# SPDX-License-Identifier: Apache-2.0
"""Messages at the keyboard: each is shown as it was written, and destroyed only after all of it has left the process.

Implements FAULTS P13 and "handed out once" of docs/formats/messages.md, on streams of several encodings, and on many
that fail.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import itertools
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

import pytest
import typer

from holdfast.cli.app import app, main
from holdfast.cli.exits import Exit
from holdfast.client import standing
from holdfast.client.messages import inbox, messages, reports
from holdfast.client.messages.inbox_rows import Kept
from holdfast.client.messages.reports import ReportKind
from holdfast.client.profile.account import Account
from holdfast.client.sessions.sessions import Address
from holdfast.client.vault import doors
from holdfast.core.base.encoding import b64u
from holdfast.core.messages.content import LargeReference, seal_large
from tests.cast.lying_server import NOW
from tests.cast.members import ALICE, BOB, Members
from tests.cast.texts import ESCAPED, SHOWN_WHOLE

ALL: Final = (*SHOWN_WHOLE, *ESCAPED)
NO_TEXT: Final = b"\xff\xfe\x00 no text"


@dataclass
class Reader:
    """Alice at her keyboard: what stands in her inbox, and what a command writes to the streams that she gave it."""

    account: Account

    def holds(self, *bodies: bytes | LargeReference) -> None:
        """Let these messages, and no others, wait here, in this order."""
        for key in self.account.store.keys(inbox.INBOX):
            self.account.store.delete(inbox.INBOX, key)
        for number, said in enumerate(bodies, start=1):
            kept = Kept(
                received_at=NOW + number,
                sender=Address(BOB, b"bobs-device-----"),
                message_id=number.to_bytes(16, "big"),
                sent_at=NOW,
                conversation=BOB,
                is_last_resort=False,
                body=said if isinstance(said, bytes) else b"",
                reference=said if isinstance(said, LargeReference) else None,
            )
            self.account.store.put(inbox.INBOX, BOB + kept.message_id, kept.to_secret())

    @property
    def left(self) -> list[bytes | LargeReference]:
        """What waits here still."""
        return [one.reference or one.body for one in messages.waiting(self.account)]

    def types(self, *line: str, out: TextIO | None, error: TextIO | None = None, stdin: TextIO | None = None) -> int:
        """Type a line whose output goes to `out`; returns the exit code."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", error or io.StringIO())
            patch.setattr(sys, "stdin", stdin or io.StringIO())
            with pytest.raises(SystemExit) as ended:
                main(["--profile", "/nowhere", *line])
        assert isinstance(ended.value.code, int)
        return ended.value.code

    def reads(self, *line: str, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Type a line at a stream of an encoding, and return what came there."""
        octets = io.BytesIO()
        assert self.types(*line, out=io.TextIOWrapper(octets, encoding=encoding, errors=errors)) == 0
        return octets.getvalue().decode(encoding)


@pytest.fixture(scope="module")
def profile() -> Account:
    from tests.cast.lying_server import LyingServer, Tenant

    world = Members(LyingServer(Tenant()))
    world.published(BOB)
    return world.enrolled(ALICE)


@pytest.fixture
def reader(profile: Account, monkeypatch: pytest.MonkeyPatch) -> Reader:
    @contextlib.contextmanager
    def opened(_directory: Path, **_how: object) -> Iterator[Account]:
        yield profile

    monkeypatch.setattr(profile, "connect", lambda *_args, _api=profile.api, **_more: _api)
    # Built once: typer builds all commands at each call.
    monkeypatch.setattr("holdfast.cli.app.app", typer.main.get_command(app))
    monkeypatch.setattr("holdfast.client.profile.account.open_account", opened)
    monkeypatch.setattr("holdfast.client.profile.account.asks_for_passphrase", lambda _directory: False)
    return Reader(profile)


def bodies_of(shown: str) -> list[str]:
    """Return what stands in quotes below each head of a message; the quotes are as many as nothing in it has."""
    rows = [row for row in shown.split("\n") if row.startswith("  ")]
    found = []
    for row in rows:
        marks = len(row) - 2 - len(row[2:].lstrip("“"))
        found.append(row[2:])
        assert marks, row
    return found


def in_quotes(text: str, said: str) -> str:
    most = max((len(re.findall("”", run)) for run in re.findall("”+", text)), default=0)
    return f"{'“' * (most + 1)}{said}{'”' * (most + 1)}"


# Texts on the screen


def test_every_text_is_shown_as_it_was_written_and_what_a_terminal_obeys_as_an_escape(reader: Reader) -> None:
    reader.holds(*(text.encode() for text in ALL))
    shown = reader.reads("receive")
    assert bodies_of(shown) == [in_quotes(text, ESCAPED.get(text, text)) for text in ALL]
    assert reader.left == []


def test_every_text_is_the_same_for_a_program_and_one_line(reader: Reader) -> None:
    for encoding in ("utf-8", "latin-1", "ascii", "cp1252", "utf-16"):
        reader.holds(*(text.encode() for text in ALL))
        shown = reader.reads("receive", "--json", encoding=encoding)
        assert len(shown.splitlines()) == 1
        assert not set(shown) & {chr(number) for number in (*range(10), *range(11, 32), 0x7F, 0x85, 0x9B, 0x202E)}
        assert [one["text"] for one in json.loads(shown)["messages"]] == list(ALL), encoding
        assert reader.left == []


@pytest.mark.parametrize(
    ("encoding", "errors"),
    [
        ("ascii", "strict"),
        ("ascii", "surrogateescape"),
        ("latin-1", "strict"),
        ("cp1252", "strict"),
        ("koi8-r", "strict"),
    ],
)
def test_terminal_that_cannot_show_a_character_writes_it_out_and_keeps_its_message(
    reader: Reader, encoding: str, errors: str
) -> None:
    def can(text: str) -> bool:
        return text.encode(encoding, "ignore").decode(encoding) == text

    def fits(text: str) -> str:
        return "".join(sign if can(sign) else f"<U+{ord(sign):04X}>" for sign in text)

    reader.holds(*(text.encode() for text in ALL))
    shown = reader.reads("receive", encoding=encoding, errors=errors)
    for text in ALL:
        assert f"  {fits(in_quotes(text, ESCAPED.get(text, text)))}\n" in shown, text
    assert reader.left == [text.encode() for text in ALL if not can(text)]
    assert "holdfast receive --out DIR" in shown
    # Named again, and whole on a terminal that has them all.
    assert reader.reads("receive").count(" from ") == len(reader.left) or reader.left == []


def test_lines_of_a_body_are_its_writers_and_each_begins_below_ours(reader: Reader) -> None:
    reader.holds(b"one\ntwo\r\nthree\n\n  four\n")
    assert bodies_of(reader.reads("receive")) == ["“one”", "“two”", "“three”", "“”", "“  four”"]
    reader.holds(b"")
    assert bodies_of(reader.reads("receive")) == ["“”"]


def test_halves_of_pairs_are_written_out_on_every_stream(reader: Reader) -> None:
    from holdfast.cli.shell import unstyled

    assert unstyled("said \udc9b and \ud800") == "said <U+DC9B> and <U+D800>"
    assert unstyled("said \udc9b", encoding="ascii") == "said <U+DC9B>"


# What cannot be shown is kept


def test_what_is_no_text_or_a_reference_is_kept_until_it_is_written_whole(reader: Reader, tmp_path: Path) -> None:
    reference, _ = seal_large(b"elsewhere")
    waits: list[bytes | LargeReference] = [b"plain", NO_TEXT, reference]
    reader.holds(*waits)
    shown = reader.reads("receive")
    assert f"{len(NO_TEXT)} bytes that are no text" in shown
    assert "A reference to 9 bytes of content elsewhere" in shown
    assert reader.left == [NO_TEXT, reference]
    assert "no text" in reader.reads("receive")
    assert reader.left == [NO_TEXT, reference]

    for no_place in (tmp_path / "file" / "below", Path("/dev/full/x"), Path("/proc/1/x")):
        (tmp_path / "file").touch()
        assert reader.types("receive", "--out", str(no_place), out=io.StringIO()) != Exit.DONE
        assert reader.left == [NO_TEXT, reference]
    (tmp_path / "file").unlink()
    files = reader.reads("receive", "--out", str(tmp_path))
    assert reader.left == []
    written = sorted(tmp_path.iterdir())
    assert len(written) == 2
    assert all(str(path) in files for path in written)
    assert written[0].read_bytes() == NO_TEXT
    kept = json.loads(written[1].read_bytes())
    assert kept == {"key": b64u(reference.key.reveal()), "hash": b64u(reference.hash), "size": 9}

    reader.holds(*waits)
    said = json.loads(reader.reads("receive", "--json"))["messages"]
    assert [one.get("text") for one in said] == ["plain", None, None]
    assert [one.get("content") for one in said] == [b64u(b"plain"), b64u(NO_TEXT), None]
    assert said[2]["reference"] == kept
    assert reader.left == []


def test_message_kept_is_named_once_while_it_is_followed(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = itertools.count(step=5)
    monkeypatch.setattr("time.monotonic", lambda: next(looks))
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    reader.holds(NO_TEXT)
    assert reader.reads("receive", "--follow", "30").count("no text") == 1
    assert next(looks) >= 30
    assert reader.left == [NO_TEXT]


# Outputs that fail


def closed_pipe() -> int:
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def closed_socket() -> int:
    ours, theirs = socket.socketpair()
    theirs.close()
    return ours.detach()


def terminal_that_has_gone() -> int:
    ours, theirs = os.openpty()
    os.close(ours)
    return theirs


def full_pipe() -> int:
    """A pipe that nobody empties, of a program that would not wait for it."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETFL, os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(65536))
    LEAKED.append(reading)
    return writing


def sealed_file() -> int:
    made = os.memfd_create("sealed", os.MFD_ALLOW_SEALING)
    fcntl.fcntl(made, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    return made


def file_that_may_not_grow() -> int:
    """Some of what is written finds room."""
    made = os.memfd_create("small", os.MFD_ALLOW_SEALING)
    os.ftruncate(made, 30)
    fcntl.fcntl(made, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
    return made


LEAKED: Final[list[int]] = []
DESCRIPTORS: Final[dict[str, Callable[[], int]]] = {
    "closed pipe": closed_pipe,
    "closed socket": closed_socket,
    "full disk": lambda: os.open("/dev/full", os.O_WRONLY),
    "terminal that has gone": terminal_that_has_gone,
    "for reading only": lambda: os.open("/dev/null", os.O_RDONLY),
    "full pipe": full_pipe,
    "sealed file": sealed_file,
    "file that may not grow": file_that_may_not_grow,
}


class Failing(io.RawIOBase):
    """A descriptor that takes some octets and then answers with an error."""

    def __init__(self, takes: int, number: int) -> None:
        self._left, self._number = takes, number

    def takes_all(self) -> None:
        self._left = sys.maxsize

    def writable(self) -> bool:
        return True

    def write(self, octets: Any) -> int:
        if not self._left:
            raise OSError(self._number, os.strerror(self._number))
        taken = min(self._left, len(octets))
        self._left -= taken
        return taken


def failing(kind: str) -> TextIO | None:
    """Return a standard output that fails in one way; None is what Python has for one that was closed at the start."""
    if kind == "closed at the start":
        return None
    if kind == "closed meanwhile":
        made = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        made.close()
        return made
    if kind in DESCRIPTORS:
        return os.fdopen(DESCRIPTORS[kind](), "w", encoding="utf-8")
    takes, _, name = kind.partition(" octets, then ")
    raw = Failing(int(takes), getattr(errno, name))
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8")


def close(out: TextIO | None) -> None:
    if isinstance(out, io.TextIOWrapper) and not out.closed:
        raw = out.buffer.raw if isinstance(out.buffer, io.BufferedWriter) else None
        if isinstance(raw, Failing):
            raw.takes_all()
        out.close()


KINDS: Final = (
    *DESCRIPTORS,
    "closed at the start",
    "closed meanwhile",
    "0 octets, then EIO",
    "40 octets, then EIO",
    "100 octets, then ENOSPC",
    "0 octets, then EDQUOT",
    "7 octets, then EFBIG",
)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.replace(" ", "-"))
@pytest.mark.parametrize("line", [(), ("--json",), ("--out", "DIR")], ids=["screen", "json", "out"])
def test_message_is_there_still_after_its_output_failed(
    reader: Reader, kind: str, line: tuple[str, ...], tmp_path: Path
) -> None:
    waits = [b"first", "second, 10\u00a0000 €".encode(), b"third" * 20_000]
    reader.holds(*waits)
    error, out = io.StringIO(), failing(kind)
    code = reader.types("receive", *(str(tmp_path) if one == "DIR" else one for one in line), out=out, error=error)
    assert code == Exit.MACHINE
    assert "could not be written" in error.getvalue()
    assert reader.left == waits
    # What a descriptor's stream still holds does not fail anew when Python closes it at the end.
    close(out)
    while LEAKED:
        os.close(LEAKED.pop())
    assert reader.reads("receive").count("“") >= len(waits)
    assert reader.left == []


@pytest.mark.parametrize("line", ["maintain", "contacts list", "doctor", "devices list", "bundle publish"])
def test_no_command_ends_with_a_traceback_or_in_silence_when_its_output_fails(reader: Reader, line: str) -> None:
    for kind in ("full disk", "closed pipe", "closed at the start"):
        for more in ((), ("--json",)):
            error, out = io.StringIO(), failing(kind)
            assert reader.types(*line.split(), *more, out=out, error=error) == Exit.MACHINE
            close(out)
            assert "could not be written" in error.getvalue()


# Warnings are shown, too, before they are put away


def test_warning_is_put_away_after_it_was_shown_and_none_that_came_since(reader: Reader) -> None:
    account = reader.account

    def happens(number: int) -> None:
        with account.store.transaction():
            reports.add(account, ReportKind.NOT_SENT, f"Warning {number}.", way_out="Read it.")

    def seen() -> int:
        found = json.loads(reader.reads("maintain", "--seen", "--json"))
        assert isinstance(found["put_away"], int)
        return found["put_away"]

    reader.reads("maintain")
    seen()
    for line in ("receive", "maintain"):
        happens(1)
        for kind in ("full disk", "closed pipe", "closed at the start"):
            out = failing(kind)
            assert reader.types(line, out=out) == Exit.MACHINE
            close(out)
            assert standing.put_away_seen(account) == 0
        assert "Warning 1." in reader.reads(line)
        happens(2)
        assert seen() == 1
        assert [report.text for report in messages.reports(account)] == ["Warning 2."]
        # What was shown beside the number put away is seen now.
        assert seen() == 1
        assert messages.reports(account) == []


# What is shown once counts after somebody has seen it


class Screen(io.StringIO):
    """A terminal, which may have fewer characters, and may be gone when what it was opened for is written to it."""

    def __init__(self, encoding: str, *, fails_at: str = "nothing") -> None:
        super().__init__()
        self._encoding, self._fails_at = encoding, fails_at

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self._fails_at in text:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().write(text)


class Keyboard(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("line", ["backup password --generate", "backup phrase --language japanese"])
@pytest.mark.parametrize(
    ("screen", "typed", "code"),
    [
        (lambda: Screen("utf-8", fails_at="\x1b["), "\n" * 9, Exit.MACHINE),
        (lambda: Screen("utf-8", fails_at="Press Enter"), "\n" * 9, Exit.MACHINE),
        (lambda: Screen("utf-8"), "", Exit.ASK_PERSON),
    ],
    ids=["failing at once", "failing before the end", "closed before it was written down"],
)
def test_secret_that_nobody_has_seen_opens_nothing(
    reader: Reader, line: str, screen: Callable[[], Screen], typed: str, code: Exit
) -> None:
    assert reader.types(*line.split(), out=screen(), stdin=Keyboard(typed)) == code
    assert not any(door.is_open for door in doors.status(reader.account))


def test_phrase_that_a_terminal_cannot_show_is_not_made(reader: Reader) -> None:
    error = io.StringIO()
    screen = Screen("latin-1")
    code = reader.types("backup", "phrase", "--language", "japanese", out=screen, error=error, stdin=Keyboard("\n" * 9))
    assert code == Exit.ASK_PERSON
    assert "This terminal cannot show every character of it" in error.getvalue()
    assert not any(door.is_open for door in doors.status(reader.account))


# The process itself

ENVIRONMENT: Final = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}


def run(line: str, redirected: str = "", **environment: str) -> subprocess.CompletedProcess[bytes]:
    python = f"'{sys.executable}' -m holdfast.cli {line} {redirected}"
    return subprocess.run(
        ["/bin/sh", "-c", python], env={**os.environ, **environment}, capture_output=True, timeout=60, check=False
    )


def test_process_whose_output_fails_says_so_in_one_sentence_and_ends_with_an_exit_code(tmp_path: Path) -> None:
    (tmp_path / "export").write_text("no log\n")
    line = f"audit verify {tmp_path}/export"
    for redirected in (">/dev/full", ">&-", ">/dev/full 2>&1"):
        ended = run(line, redirected)
        assert ended.returncode == Exit.MACHINE, redirected
        assert b"Traceback" not in ended.stderr
        assert b"Exception" not in ended.stderr
        if "2>&1" not in redirected:
            assert ended.stderr.count("✗ What this command says could not be written".encode()) == 1


def test_process_outside_utf_8_writes_help_errors_and_results_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "export").write_text("no log\n")
    for line, encoding in (("org people --help", "latin-1"), ("--profile /nowhere doctor", "ascii")):
        ended = run(line, PYTHONIOENCODING=encoding)
        assert b"Traceback" not in ended.stderr, ended.stderr
        assert ended.stdout + ended.stderr
    ended = run(f"audit verify {tmp_path}/export", **ENVIRONMENT)
    assert ended.stdout.startswith(b"x Broken."), ended
