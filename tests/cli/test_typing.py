# SPDX-License-Identifier: Apache-2.0
"""What is typed at a terminal, pasted over several lines, or lies in a file, at every door of the command."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast.cli import asking
from holdfast.cli.exits import Exit, exit_for
from holdfast.core.base import typed
from holdfast.core.base.errors import Mistyped
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.stretching import canonical
from holdfast.core.signed.enrolment import EnrolmentCode
from tests.core.base.test_typed import CODE, COPIED, LISTED, ON_THE_WAY, PASSWORD, PHRASES

PHRASE = next(iter(PHRASES.values()))


def written(directory: Path, octets: bytes) -> Path:
    path = directory / "given"
    path.write_bytes(octets)
    path.chmod(0o600)
    return path


def code_in(path: Path) -> EnrolmentCode:
    return EnrolmentCode.parse(asking.code_from(path, "Enrolment code", EnrolmentCode.is_one, option="--code-file"))


@pytest.mark.parametrize("spelling", ON_THE_WAY)
def test_every_file_of_a_secret_is_read_in_every_spelling(tmp_path: Path, spelling: str) -> None:
    spell = ON_THE_WAY[spelling]
    if "\n" not in spell(PASSWORD).decode("utf-8", "replace").strip():
        assert canonical(asking.secret_file(written(tmp_path, spell(PASSWORD)))) == canonical(
            SecretBytes(PASSWORD.encode())
        )
    assert code_in(written(tmp_path, spell(CODE.text()))) == CODE
    words = " ".join(PHRASE.words())
    assert asking.ask_phrase("Phrase", written(tmp_path, spell(words))).entropy == PHRASE.entropy


@pytest.mark.parametrize("copied", COPIED)
def test_file_of_a_code_is_read_however_a_mail_program_left_it(tmp_path: Path, copied: str) -> None:
    assert code_in(written(tmp_path, COPIED[copied](CODE.text()).encode())) == CODE


@pytest.mark.parametrize("listed", LISTED)
def test_file_of_a_phrase_is_read_in_every_kind_of_list(tmp_path: Path, listed: str) -> None:
    path = written(tmp_path, LISTED[listed](list(PHRASE.words())).encode())
    assert asking.ask_phrase("Phrase", path).entropy == PHRASE.entropy


@pytest.mark.parametrize("octets", [b"Gr\xf6\xdfe nee 12345678", b"\xff\xfe\x00", b"\x80" * 20])
def test_file_in_another_encoding_is_a_slip_and_no_attack(tmp_path: Path, octets: bytes) -> None:
    path = written(tmp_path, octets)
    for read in (asking.secret_file, code_in, lambda path: asking.ask_phrase("Phrase", path)):
        with pytest.raises(Mistyped, match="UTF-8") as caught:
            read(path)
        assert exit_for(caught.value) is Exit.INPUT


def test_slip_in_a_code_or_a_phrase_is_a_slip_and_no_attack(tmp_path: Path) -> None:
    for read, text in (
        (code_in, CODE.text()[:-1] + "A"),
        (code_in, "hf1.AbCdEf"),
        (code_in, "no code at all"),
        (lambda path: asking.ask_phrase("Phrase", path), "silver " * 24),
        (lambda path: asking.ask_phrase("Phrase", path), "silvre " * 24),
    ):
        with pytest.raises(Mistyped) as caught:
            read(written(tmp_path, text.encode()))
        assert exit_for(caught.value) is Exit.INPUT


# At a terminal

ASKED = {
    "code": "asking.code_from(None, 'Enrolment code', EnrolmentCode.is_one, option='--code-file')",
    "secret": "asking.ask_secret('Password').reveal().decode()",
}


def at_a_terminal(kind: str, pasted: bytes) -> tuple[str, str]:
    """Run one question at a terminal of its own; returns what was read, and what stood on the screen meanwhile."""
    program = (
        "import sys\n"
        "from holdfast.cli import asking\n"
        "from holdfast.core.base.errors import HoldfastError\n"
        "from holdfast.core.signed.enrolment import EnrolmentCode\n"
        f"try:\n    said = {ASKED[kind]}\n"
        "except HoldfastError as error:\n    said = f'refused: {error}'\n"
        "print('READ', repr(said), flush=True)\n"
    )
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    screen: list[bytes] = []
    asked = threading.Event()

    def watch() -> None:
        while True:
            try:
                screen.append(os.read(ours, 4096))
            except OSError:
                return
            if b": " in b"".join(screen):
                asked.set()

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    assert asked.wait(120), "nothing was asked"
    # The echo is off before the question stands there: what is pasted now is shown nowhere.
    os.write(ours, pasted)
    said = child.communicate(timeout=120)[0].decode()
    os.close(ours)
    return said, b"".join(screen).decode()


@pytest.mark.parametrize(
    "spell",
    [
        lambda text: f"{text}\n",
        lambda text: "\n".join(textwrap.wrap(text, 76, break_on_hyphens=False)) + "\n",
        lambda text: f"\n\n   {text}\n",
        lambda text: "".join(f"> {line}\n" for line in textwrap.wrap(text, 40, break_on_hyphens=False)),
    ],
)
def test_code_pasted_over_several_lines_is_taken_to_its_end_and_shown_nowhere(spell: Callable[[str], str]) -> None:
    said, screen = at_a_terminal("code", spell(CODE.text()).encode())
    assert said.startswith("READ ")
    text = said.removeprefix("READ ").strip()[1:-1].encode().decode("unicode_escape")
    assert EnrolmentCode.parse(text) == CODE
    assert CODE.text()[20:40] not in screen


def test_code_with_a_slip_asks_for_the_rest_and_ends_at_an_empty_line() -> None:
    said, screen = at_a_terminal("code", f"{CODE.text()[:-1]}\n\n".encode())
    assert "Not the whole code yet" in screen
    with pytest.raises(Mistyped):
        EnrolmentCode.parse(said)


def test_password_typed_in_another_encoding_is_a_slip() -> None:
    said, _screen = at_a_terminal("secret", b"Gr\xf6\xdfe nee\n")
    assert "refused: Password: not text in UTF-8" in said


def test_first_line_that_shows_anything_is_the_secret() -> None:
    for octets in (b"\n\nsecret\nmore", b"\xef\xbb\xbf\r\n\r\nsecret\r\n", "\u200b\nsecret\n".encode()):
        assert typed.first_line(octets, "secret").decode().endswith("secret")
