# SPDX-License-Identifier: Apache-2.0
"""`holdfast org` at a terminal and without one: what is shown before the code is asked for, and where secrets go.

What the commands do on a server is tested in tests/journeys/test_administration.py.
"""

from __future__ import annotations

import contextlib
import errno
import getpass
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from holdfast.cli.app import main
from holdfast.client.profile.account import Account
from tests.cast.lying_organisation import LINK
from tests.cast.lying_server import LyingServer, Tenant, text
from tests.cast.members import ALICE, BOB, MALLORY, Members

STYLE = re.compile(r"\x1b\[[0-9;]*m")
CODE = "123456"
BOB_ID = text(BOB)


class Stream(io.StringIO):
    """What one run wrote; a terminal when a person sits there."""

    def __init__(self, is_terminal: bool) -> None:
        super().__init__("\n" if is_terminal else "")
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


@dataclass
class Run:
    """What one command ended with, and all that it wrote."""

    exit: int
    out: str
    err: str

    @property
    def answer(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.out or self.err)
        return document


@pytest.fixture
def world() -> Members:
    made = Members(LyingServer(Tenant()))
    made.server.list_person(BOB_ID, "bob@acme.test")
    return made


@pytest.fixture
def run(world: Members, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    olivia = world.enrolled(ALICE)
    profile = tmp_path / "olivia"
    profile.mkdir(mode=0o700)

    @contextlib.contextmanager
    def opened(_directory: Path, **_how: object) -> Iterator[Account]:
        yield olivia

    monkeypatch.setattr(olivia, "connect", lambda *_args, **_more: olivia.api)
    monkeypatch.setattr("holdfast.client.profile.account.open_account", opened)
    monkeypatch.setattr("holdfast.client.profile.account.asks_for_passphrase", lambda _directory: False)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*line: str, at_terminal: bool = False, screen: Stream | None = None, is_closed: bool = False) -> Run:
        out, err, typed = screen or Stream(at_terminal), Stream(at_terminal), Stream(at_terminal)
        if is_closed:
            typed = Stream(at_terminal)
            typed.truncate(0)
        out.truncate(0)
        err.truncate(0)

        def asked(question: str) -> str:
            err.write(f"[{question}]")
            return CODE

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            patch.setattr(sys, "stdin", typed)
            patch.setattr(getpass, "getpass", asked)
            ended = 0
            try:
                main(["--profile", str(profile), "org", *line])
            except SystemExit as end:
                ended = int(end.code or 0)
        return Run(ended, STYLE.sub("", out.getvalue()), STYLE.sub("", err.getvalue()))

    return run


@pytest.fixture
def code_file(tmp_path: Path) -> str:
    path = tmp_path / "code"
    path.touch(mode=0o600)
    path.write_text(f"{CODE}\n")
    return str(path)


def test_person_reads_what_they_asked_for_and_the_servers_words_before_the_code(
    world: Members, run: Callable[..., Run]
) -> None:
    done = run("role", "bob@acme.test", "officer", at_terminal=True)
    assert done.exit == 0
    places = [
        done.err.index(one)
        for one in (
            f"You ask for person-role about bob@acme.test ({BOB_ID}), with role = “officer”.",
            "Your organisation's server says what it would do:",
            "“This is person-role”",
            f"“About {BOB_ID}.”",
            "“Given” is “officer”",
            "! “Nobody can take this back.”",
            "[Your authenticator's code",
        )
    ]
    assert places == sorted(places)
    assert "✓ “It is done.”" in done.out
    assert "To undo it: “Do it again.”" in done.out
    assert [one["code"] for one in world.server.performed] == [CODE]


def test_words_of_another_act_stand_beside_what_was_asked_for(world: Members, run: Callable[..., Run]) -> None:
    """The server's words prove nothing: what was typed here is said first, in words of ours."""
    lie = {"title": "Suspend Mallory", "lines": ["It stops Mallory."], "facts": []}
    world.server.lies["POST organisation/acts/person-resume/words"] = lambda answer: {**answer, **lie}
    shown = run("resume", "bob@acme.test", "--look").out
    assert shown.index(f"You ask for person-resume about bob@acme.test ({BOB_ID}).") < shown.index("“Suspend Mallory”")


def test_nothing_is_done_where_nobody_could_give_the_code(world: Members, run: Callable[..., Run]) -> None:
    for line in (("suspend", BOB_ID), ("suspend", BOB_ID, "--json")):
        assert run(*line).exit == 8
    assert world.server.performed == []


def test_look_shows_the_words_and_does_nothing(world: Members, run: Callable[..., Run]) -> None:
    looked = run("suspend", BOB_ID, "--look", "--json").answer
    assert (looked["title"], looked["warnings"]) == ("This is person-suspend", ["Nobody can take this back."])
    assert looked["done"] is False
    assert world.server.performed == []


def test_code_comes_from_a_file_of_ones_own_or_a_descriptor(
    world: Members, run: Callable[..., Run], code_file: str
) -> None:
    assert run("suspend", BOB_ID, "--code-file", code_file).exit == 0
    reading, writing = os.pipe()
    os.write(writing, f"{CODE}\n".encode())
    os.close(writing)
    assert run("suspend", BOB_ID, "--code-fd", str(reading)).exit == 0
    assert [one["code"] for one in world.server.performed] == [CODE, CODE]
    Path(code_file).chmod(0o644)
    open_to_others = run("suspend", BOB_ID, "--code-file", code_file)
    assert open_to_others.exit == 11
    assert "open to others" in open_to_others.err
    assert len(world.server.performed) == 2


INVITE = ("invite", "ivy@acme.test", "--name", "Ivy", "--shown")


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_secret_shown_once_is_printed_into_no_pipe_and_is_not_lost(
    run: Callable[..., Run], code_file: str, tmp_path: Path, more: tuple[str, ...]
) -> None:
    done = run(*INVITE, "--code-file", code_file, *more)
    assert done.exit == 0
    assert LINK not in done.out + done.err
    (kept,) = (tmp_path / "olivia").glob("shown-once-*")
    assert str(kept) in done.out
    assert kept.read_text() == f"{LINK}\n"
    assert kept.stat().st_mode & 0o777 == 0o600


def test_secret_goes_into_the_file_that_is_named_which_must_be_new(
    world: Members, run: Callable[..., Run], code_file: str, tmp_path: Path
) -> None:
    out = str(tmp_path / "link")
    assert run(*INVITE, "--code-file", code_file, "--out", out, "--json").answer["once_file"] == out
    assert Path(out).read_text() == f"{LINK}\n"
    assert run(*INVITE, "--code-file", code_file, "--out", out).exit == 10
    assert len(world.server.performed) == 1, "found before the act, not after it"


def test_secret_that_the_disk_of_its_file_refuses_is_kept_beside_the_profile(
    run: Callable[..., Run], code_file: str, tmp_path: Path
) -> None:
    done = run(*INVITE, "--code-file", code_file, "--out", "/proc/none/link")
    assert done.exit == 0
    assert "kept beside your profile" in done.err
    (kept,) = (tmp_path / "olivia").glob("shown-once-*")
    assert kept.read_text() == f"{LINK}\n"
    assert str(kept) in done.out


class Gone(Stream):
    """A terminal that has gone when the secret is to be shown on it."""

    def write(self, said: str) -> int:
        if "Shown once: keep it" in said or "\x1b[?1049h" in said:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().write(said)


@pytest.mark.parametrize("is_closed", [True, False], ids=["closed before Enter", "gone"])
def test_secret_of_an_act_that_is_done_is_not_lost_with_the_terminal(
    world: Members, run: Callable[..., Run], tmp_path: Path, is_closed: bool
) -> None:
    screen = None if is_closed else Gone(is_terminal=True)
    done = run(*INVITE, at_terminal=True, screen=screen, is_closed=is_closed)
    assert len(world.server.performed) == 1
    (kept,) = (tmp_path / "olivia").glob("shown-once-*")
    assert kept.read_text() == f"{LINK}\n"
    assert str(kept) in "".join(done.out.split())


def test_secret_at_a_terminal_stays_on_its_second_screen(run: Callable[..., Run], tmp_path: Path) -> None:
    done = run(*INVITE, at_terminal=True)
    there, _, after = done.out.partition("\x1b[?1049l")
    assert LINK in there.partition("\x1b[?1049h")[2]
    assert LINK not in after + done.err
    assert list((tmp_path / "olivia").iterdir()) == []


def test_second_person_reads_who_proposed_what(world: Members, run: Callable[..., Run], code_file: str) -> None:
    waits = world.server.propose("person-factors", BOB_ID, text(MALLORY))
    listed = run("pending").out
    assert waits in listed
    assert text(MALLORY) in listed
    done = run("confirm", waits, "--code-file", code_file)
    assert f"You confirm person-factors, which {UUID(bytes=MALLORY)} proposed on" in done.err
    assert done.exit == 0
    again = run("reset-sign-in", BOB_ID, "--code-file", code_file, "--json").answer
    assert (again["done"], again["seconds"]) == (False, [str(UUID(int=9))])
    assert run("withdraw", again["pending_id"]).exit == 0
    assert run("withdraw", again["pending_id"]).exit == 4


def test_any_act_the_server_lists_is_done_by_its_name(world: Members, run: Callable[..., Run], code_file: str) -> None:
    done = run("act", "person-role", "bob@acme.test", "--set", "role=a=b", "--code-file", code_file)
    assert done.exit == 0
    (performed,) = world.server.performed
    assert (performed["subject_id"], performed["given"]) == (BOB_ID, {"role": "a=b"})


@pytest.mark.parametrize(
    ("line", "exit_code"),
    [
        (("act", "person-role", BOB_ID, "--set", "role"), 2),
        (("act", "person-role", BOB_ID, "--set", "role=a", "--set", "role=b"), 2),
        (("act", "device-suspend", "bob@acme.test"), 10),
        (("act", "device-suspend", "bob"), 10),
        (("act", "../devices", BOB_ID), 10),
        (("act", "no-such-act", BOB_ID), 4),
        (("suspend", "bob"), 2),
        (("suspend", "nobody@acme.test"), 10),
    ],
)
def test_act_that_was_typed_wrongly_is_not_done(
    world: Members, run: Callable[..., Run], code_file: str, line: tuple[str, ...], exit_code: int
) -> None:
    assert run(*line, "--code-file", code_file).exit == exit_code
    assert world.server.performed == []


def test_people_and_acts_are_listed(run: Callable[..., Run]) -> None:
    (bob,) = run("people", "--json").answer["people"]
    assert (bob["id"], bob["email"], bob["state"]) == (BOB_ID, "bob@acme.test", "active")
    assert "“bob@acme.test”" in run("people").out
    assert run("people", "--search", "nobody").out == "Nobody is found.\n"
    assert "--set role=member|officer" in run("acts").out
    assert "person-factors  on: person, with a second person" in run("acts").out


@pytest.fixture
def people_file(tmp_path: Path) -> Path:
    path = tmp_path / "people.csv"
    path.write_text("Ivy,ivy@acme.test\nNobody\nJürgen,juergen@acme.test\n[red]\u202e\n", encoding="utf-8")
    return path


def test_every_bad_line_is_read_before_the_code_and_then_people_are_invited(
    world: Members, run: Callable[..., Run], people_file: Path
) -> None:
    world.server.bad_lines_page = 1
    done = run("import", str(people_file), at_terminal=True)
    assert done.exit == 0
    places = [
        done.err.index(one)
        for one in (
            f"You ask to invite the people of {people_file}",
            "2 would be invited; 2 bad lines are left out:",
            "! Line 2, email: “An e-mail address is needed.”",
            "“Nobody”",
            "! Line 4, email: “An e-mail address is needed.”",
            "“[red]<U+202E>”",
            "“This is people-import”",
            "[Your authenticator's code",
        )
    ]
    assert places == sorted(places)
    (performed,) = world.server.performed
    assert (performed["act"], performed["code"]) == ("people-import", CODE)
    assert f"holdfast org import --status {performed['subject_id']}" in done.out
    assert "in the background" in done.out


def test_look_at_a_file_invites_nobody_and_names_every_bad_line_to_a_script(
    world: Members, run: Callable[..., Run], people_file: Path, code_file: str
) -> None:
    looked = run("import", str(people_file), "--look", "--json").answer
    assert (looked["good"], looked["bad"], looked["done"]) == (2, 2, False)
    assert [(one["line"], one["field"], one["cells"]) for one in looked["bad_lines"]] == [
        (2, "email", ["Nobody"]),
        (4, "email", ["[red]\u202e"]),
    ]
    assert "! Line 2, email" in run("import", str(people_file), "--look").out
    assert run("import", str(people_file), "--json").exit == 8
    assert world.server.performed == []
    assert run("import", str(people_file), "--code-file", code_file, "--json").answer["done"] is True


def test_progress_of_a_file_is_shown_and_waited_for(
    world: Members, run: Callable[..., Run], people_file: Path, code_file: str
) -> None:
    given = run("import", str(people_file), "--code-file", code_file, "--json").answer["import_id"]
    first = run("import", "--status", given)
    assert f"○ {given} is running: 1 of 2 lines done." in first.out
    assert "1 invited by it; 0 were here already; 2 bad lines were left out." in first.out
    ended = run("import", "--status", given, "--wait", "5", "--json").answer
    assert (ended["state"], ended["lines_done"], ended["created"]) == ("done", 2, 2)
    world.server.files[given]["state"] = "stopped"
    stopped = run("import", "--status", given, "--wait", "5")
    assert (stopped.exit, "is stopped" in stopped.out) == (1, True)
    world.server.files[given]["state"] = "read"
    unconfirmed = run("import", "--status", given, "--wait", "1")
    assert (unconfirmed.exit, "Nobody has confirmed" in unconfirmed.err) == (9, True)


@pytest.mark.parametrize(
    ("octets", "said"),
    [
        (b"a" * (2 * 1024 * 1024 + 1), "is too large: at most 2,097,152 bytes."),
        ("ü".encode() * 400_000, "The file is too large"),
        (b"Ivy,ivy@acme.test\nJ\xfcrgen,juergen@acme.test\n", "is not UTF-8, as line 2 shows."),
    ],
    ids=["too large", "too large as it is sent", "Latin-1"],
)
def test_file_that_the_server_would_not_take_is_not_sent(
    world: Members, run: Callable[..., Run], tmp_path: Path, octets: bytes, said: str
) -> None:
    path = tmp_path / "people.csv"
    path.write_bytes(octets)
    refused = run("import", str(path), "--look")
    assert (refused.exit, said in refused.err) == (10, True)
    assert world.server.posted("organisation/imports") == []


def test_file_that_invites_nobody_asks_for_no_code(
    world: Members, run: Callable[..., Run], tmp_path: Path, code_file: str
) -> None:
    path = tmp_path / "people.csv"
    path.write_text("Nobody\n")
    refused = run("import", str(path), "--code-file", code_file)
    assert refused.exit == 1
    assert "0 would be invited; 1 bad line is left out:" in refused.out
    assert "! Line 1, email" in refused.out
    assert world.server.performed == []


@pytest.mark.parametrize(
    "line",
    [(), ("people.csv", "--status", BOB_ID), ("people.csv", "--wait", "5"), ("--status", BOB_ID, "--look")],
    ids=["neither", "both", "waits for a file", "looks at its progress"],
)
def test_file_or_its_progress_is_asked_for(run: Callable[..., Run], line: tuple[str, ...]) -> None:
    assert run("import", *line).exit == 2


def test_enrolment_code_goes_by_mail_or_into_a_file(
    world: Members, run: Callable[..., Run], code_file: str, tmp_path: Path
) -> None:
    assert run("code", "bob@acme.test", "--code-file", code_file).exit == 0
    out = tmp_path / "enrolment"
    assert run("code", "bob@acme.test", "--shown", "--out", str(out), "--code-file", code_file).exit == 0
    assert out.read_text() == f"{LINK}\n"
    assert [(one["act"], one["subject_id"], one["given"]) for one in world.server.performed] == [
        ("code-issue", BOB_ID, {"how": "mail"}),
        ("code-issue", BOB_ID, {"how": "shown"}),
    ]
