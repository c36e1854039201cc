# SPDX-License-Identifier: Apache-2.0
"""Every command against text that others wrote to be obeyed: what reaches the terminal is looked at, byte for byte.

Implements FAULTS P13 at the keyboard. Server, peers, requester and officers write line ends, escape sequences, marks of
direction and markup wherever they may write; nothing of it turns, hides, colours or begins a line.
"""

from __future__ import annotations

import contextlib
import getpass
import io
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import typer
from rich.cells import cell_len
from typer.core import TyperGroup

from holdfast.cli import progress
from holdfast.cli.app import app, main
from holdfast.cli.shell import date
from holdfast.client.identity import contacts
from holdfast.client.messages import messages
from holdfast.client.officers import acts, hearing
from holdfast.client.profile.account import Account
from holdfast.client.profile.private_files import write_private
from holdfast.client.recovery import by_case
from holdfast.client.vault import doors, share_requests, trusted
from holdfast.core.base.text import is_dangerous
from holdfast.core.identity.cases import Case
from tests.cast import lying_server
from tests.cast.lying_server import NOW, LyingServer, Tenant, text
from tests.cast.members import ALICE, BOB, CHEAP, PASSWORD, Members

MARK = "FORGED"
# Line ends of several kinds, a screen cleared, a link, a bell, one byte for ESC [, directions turned, nothing at all,
# markup that colours and links, quotes that end ours, and a bracket and a backslash left open.
HOSTILE = (
    f"\n{MARK}\r\x1b[2J\x1b]8;;http://x\x07\x07\x9b1m\u202e\u2066\u2069\u200b\u2028\ufeff\u3164"
    f"[red]{MARK}[/red][link=http://x]a[/link][/]”“ :skull: [\\"
)
# As long as a screen is wide, so that the terminal itself begins a line with what follows.
LONG = f"{'x ' * 33}{' ' * 20}{MARK}{' ' * 74}{MARK} {'y' * 170}{MARK}{HOSTILE}"
SHORT = f"\n{MARK}\x1b[2J\u202e\u200b[red]{MARK}[/]”[\\"  # a purpose has 64 characters
WIDTH = 80
STYLE = re.compile(r"\x1b\[([0-9;]*)m")
# The second screen, on which secrets are shown: there and back, and the cursor.
SECOND_SCREEN = re.compile(r"\x1b\[\?(?:1049|25)[hl]|\x1b\[H")
OURS = {"", "0", "1", "2", "31", "32", "33", "1;31", "1;32", "1;33", "1;2"} - {"31"}

NOT_RUN = {
    "enrol": "makes a profile; what it shows is its own",
    "officer join": "makes a profile, and does what officer init does",
    "profile key": "speaks to no server and shows nothing of others'",
    "backup phrase": "asks for words of a phrase that it has made; what it shows is its own",
    "backup export": "stretches a password at its full cost; what it shows is its own",
    "recover import": "opens such a file",
    "devices pair": "waits for another device",
}


class Screen(io.StringIO):
    """A terminal of 80 columns: what is written to it stays, and what is asked there is answered."""

    def isatty(self) -> bool:
        return True


class Person(io.StringIO):
    """Whoever sits at the keyboard: says yes to every question, and hears the same word each time."""

    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self._screen = screen

    def isatty(self) -> bool:
        return True

    def readline(self, _size: int | None = -1, /) -> str:  # type: ignore[override]
        return "zoo\n" if "Word" in self._screen.getvalue().splitlines()[-1] else "y\n"


@dataclass
class Scene:
    """People whose profiles hold others' text already, and the lines that each of them types."""

    world: Members
    people: dict[str, Account]
    lines: list[tuple[str, list[str]]]


def commands() -> set[str]:
    """Return every command there is, in its words."""

    def below(group: Any, words: list[str]) -> Iterator[str]:
        for name, command in group.commands.items():
            if isinstance(command, TyperGroup):
                yield from below(command, [*words, name])
            else:
                yield " ".join([*words, name])

    return set(below(typer.main.get_command(app), []))


@pytest.fixture(scope="module")
def hostile_tenant() -> Tenant:
    """A tenant whose officers signed a policy with a purpose that is no word, and a text that would be our own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lying_server, "PURPOSES", frozenset({"recovery", SHORT}))
        return Tenant(terms={"text": "".join(sign for sign in LONG if sign >= " ")[:600]})


@pytest.fixture
def scene(hostile_tenant: Tenant, tmp_path: Path) -> Scene:
    fresh = Tenant.__new__(Tenant)
    lists = {name: [*getattr(hostile_tenant, name)] for name in ("policies", "keys", "roles")}
    fresh.__dict__.update(hostile_tenant.__dict__ | lists)
    world = Members(LyingServer(fresh))
    alice, bob = world.depositor(tmp_path), world.published(BOB)
    carol, dan = (world.enrolled(one.person, one) for one in fresh.officers[:2])
    from holdfast.client.messages import prekeys

    prekeys.publish(alice)
    contacts.refresh(alice, BOB)
    messages.send(bob, ALICE, LONG.encode())
    messages.send(bob, ALICE, HOSTILE.encode())
    world.server.notice(text(ALICE), {"event": HOSTILE, "device_id": LONG, HOSTILE: LONG})
    doors.set_password(alice, PASSWORD, cost=CHEAP)
    trusted.choose(alice, [BOB, carol.user], k=2)
    tablet = world.enrolled(ALICE)
    opened = by_case.open_case(tablet, reason=LONG, purpose=SHORT, reference=HOSTILE, subject=ALICE)
    phone = world.enrolled(ALICE)
    request = share_requests.open_request(phone)
    said = acts.sign_decision(dan, acts.propose_return(dan, "3"))
    (tmp_path / "out").mkdir()
    (tmp_path / "export").write_text(json.dumps({"origin": LONG, "entry": HOSTILE}) + f"\n{LONG}\n")
    write_private(tmp_path / "password", "the password of a vault")
    case, b = str(opened.case_id), text(BOB)
    sealed = str(tmp_path / "letter.holdfast")
    lines = [
        ("alice", "doctor"),
        ("alice", "devices list"),
        ("alice", f"devices approve {tablet.device_text} --words {'zoo ' * 7}zoo"),
        ("alice", "contacts list"),
        ("alice", f"contacts show {b}"),
        ("alice", f"contacts verify {b} --number 1"),
        ("alice", f"contacts confirm {b} --words {'zoo ' * 7}zoo"),
        ("alice", "contacts held"),
        ("bob", "contacts held"),
        ("bob", "contacts requests"),
        ("alice", "contacts requests"),
        ("bob", f"contacts give {request.request_id} --code-heard 1"),
        ("alice", f"contacts veto {request.request_id}"),
        ("alice", f"chain show {b}"),
        ("alice", "chain show"),
        ("alice", f"bundle claim {b}"),
        ("alice", "bundle publish"),
        ("alice", "backup status"),
        ("alice", f"backup password --password-file {tmp_path}/password"),
        ("alice", "backup contacts"),
        ("alice", "backup remove phrase"),
        ("alice", "backup cancel-phrase"),
        ("alice", "escrow status"),
        ("alice", "escrow refuse"),
        ("alice", "escrow deposit"),
        ("alice", f"archive encrypt {tmp_path}/letter --out {tmp_path}/again"),
        ("alice", f"archive decrypt {sealed} --out {tmp_path}/back"),
        ("alice", f"archive decrypt {sealed} --out {tmp_path}/back2 --case {case}"),
        ("alice", f"archive disclosures --end {case}"),
        ("alice", f"archive custody {case} --out {tmp_path}/manifest"),
        ("alice", f"archive verify {tmp_path}/export"),
        ("alice", "receive --keep"),
        ("alice", f"receive --keep --out {tmp_path}/out"),
        ("alice", f"send {b} --file {tmp_path}/letter"),
        ("alice", "sent"),
        ("alice", "maintain"),
        ("alice", f"recover escrow veto {case} --reason Mine."),
        ("phone", "recover contacts --none-lost"),
        ("phone", f"recover password --password-file {tmp_path}/password"),
        ("phone", "recover device"),
        ("phone", f"recover phrase --phrase-file {tmp_path}/password"),
        ("phone", "recover finish"),
        ("tablet", "recover escrow status"),
        ("tablet", "recover escrow collect"),
        ("tablet", f"recover escrow finish --new-password-file {tmp_path}/password"),
        ("tablet", "recover escrow cancel --reason Found."),
        ("tablet", "recover escrow open --reason Again."),
        ("carol", f"officer init --passphrase-to {tmp_path}/officer --phrase-to {tmp_path}/words"),
        ("carol", "officer doors"),
        ("carol", f"officer set-door passphrase --write-to {tmp_path}/officer"),
        ("carol", f"officer prove-door phrase --phrase-file {tmp_path}/words"),
        ("carol", f"officer restore --password-file {tmp_path}/officer"),
        ("carol", "officer remove-door passphrase"),
        ("carol", f"officer new-keys --yes --passphrase-to {tmp_path}/officer-2 --phrase-to {tmp_path}/words-2"),
        ("carol", f"officer code {b} --out {tmp_path}/code"),
        ("carol", f"officer confirm-code {case} {b}"),
        ("carol", "officer cases"),
        ("carol", f"officer show {case}"),
        ("carol", f"officer approve {case} --identity-check"),
        ("carol", f"officer deny {case} --reason"),
        ("carol", f"officer attest {case}"),
        ("carol", "officer away"),
        ("carol", "officer back"),
        ("carol", f"officer suspend {text(dan.user)} --reason"),
        ("carol", f"officer remove {text(dan.user)} --reason"),
        ("carol", "officer resolutions --all"),
        ("carol", f"officer sign {said.hash.hex()[:8]}"),
        ("carol", "officer resolve withdraw-version 2"),
        ("carol", f"officer resolve return-officer {text(dan.user)}"),
        ("carol", f"officer resolve suspend-device {text(tablet.device.id)}"),
        ("carol", "officer resolve acknowledge-leaf 3"),
        ("carol", "officer resolve accept-log"),
        ("carol", "officer policy show"),
        ("carol", "officer policy propose --delay 48h --yes"),
        ("carol", "officer policy sign"),
        ("carol", "officer policy answers"),
        ("carol", "officer policy cancel"),
        ("carol", "officer key sign"),
        ("carol", f"audit export --out {tmp_path}/audit.jsonl"),
        ("carol", f"audit verify {tmp_path}/export"),
        ("carol", f"audit transcript {tmp_path}/export {tmp_path}/export --trust {tmp_path}/export"),
        ("bob", f"devices revoke {tablet.device_text}"),
        ("bob", "rotate archive"),
    ]
    people = {"alice": alice, "bob": bob, "carol": carol, "tablet": tablet, "phone": phone}
    world.server.list_person(b, "bob@acme.test", state=HOSTILE, name=LONG)
    waits = world.server.propose("person-factors", b, text(ALICE))
    (tmp_path / "people.csv").write_text(f"Ivy,ivy@acme.test\n{LONG}\n{SHORT}", encoding="utf-8")
    (tmp_path / "nobody.csv").write_text(LONG, encoding="utf-8")
    given = world.server.keep_file("Ivy,ivy@acme.test")
    lines += [
        ("alice", "contacts pinned"),
        ("alice", "contacts forget bob@acme.test"),
        ("carol", "org people"),
        ("carol", "org acts"),
        ("carol", "org pending"),
        ("carol", "org invite ivy@acme.test --name Ivy"),
        ("carol", f"org invite ivy@acme.test --name Ivy --shown --out {tmp_path}/link"),
        ("carol", "org invite ivy@acme.test --name Ivy --shown"),
        ("carol", f"org import {tmp_path}/people.csv --look"),
        ("carol", f"org import {tmp_path}/people.csv"),
        ("carol", f"org import {tmp_path}/nobody.csv"),
        ("carol", f"org import --status {given}"),
        ("carol", f"org import --status {given} --wait 1"),
        ("carol", "org code bob@acme.test"),
        ("carol", f"org code bob@acme.test --shown --out {tmp_path}/enrolment"),
        ("carol", "org rename bob@acme.test Robert"),
        ("carol", "org address bob@acme.test robert@acme.test"),
        ("carol", "org role bob@acme.test officer --look"),
        ("carol", f"org suspend {b}"),
        ("carol", "org resume bob@acme.test"),
        ("carol", "org reset-sign-in bob@acme.test"),
        ("carol", f"org device suspend {tablet.device_text}"),
        ("carol", f"org device resume {tablet.device_text}"),
        ("carol", "org act person-role bob@acme.test --set role=officer"),
        ("carol", f"org confirm {waits}"),
        ("carol", f"org withdraw {waits}"),
    ]
    split = []
    for who, line in lines:
        words = line.split(" ")
        if words[-1] in ("--reason", "--identity-check"):
            words.append(LONG[-150:])
        if "--words" in words:
            at = words.index("--words") + 1
            words[at:] = [" ".join(words[at:])]
        split.append((who, words))
    return Scene(world, people, split)


def test_every_command_is_run_here_or_says_why_not(scene: Scene) -> None:
    run = {name for name in commands() for _, line in scene.lines if line[: len(name.split())] == name.split()}
    assert run | NOT_RUN.keys() == commands()
    assert not run & NOT_RUN.keys()


@pytest.fixture
def typed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Have a person of the scene type a line at a terminal, and return all that the terminal got."""

    @contextlib.contextmanager
    def opened(directory: Path, **_how: object) -> Iterator[Account]:
        yield scene.people[directory.name]

    for account in scene.people.values():
        monkeypatch.setattr(account, "connect", lambda *_args, _api=account.api, **_more: _api)
    # Built once: typer builds all commands at each call.
    monkeypatch.setattr("holdfast.cli.app.app", typer.main.get_command(app))
    monkeypatch.setattr("holdfast.client.profile.account.open_account", opened)
    monkeypatch.setattr("holdfast.client.profile.account.asks_for_passphrase", lambda _directory: False)
    monkeypatch.setattr(progress, "PATIENCE_SECONDS", 1000.0)
    monkeypatch.setattr(getpass, "getpass", lambda _question: "the password of a vault")
    for name, value in {"COLUMNS": str(WIDTH), "LINES": "24", "TERM": "xterm-256color", "COLORTERM": ""}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)

    def typed(who: str, line: list[str], *more: str) -> str:
        screen = Screen()
        # Typed again, a line would get no further than that nothing is overwritten.
        for out in (Path(after) for before, after in itertools.pairwise(line) if before == "--out"):
            if out.is_file():
                out.unlink()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdout", screen)
            patch.setattr(sys, "stderr", screen)
            patch.setattr(sys, "stdin", Person(screen))
            with contextlib.suppress(SystemExit):
                main(["--profile", f"/nowhere/{who}", *line, *more])
        return screen.getvalue()

    return typed


def require_harmless(shown: str, line: list[str]) -> None:
    """Look at what a terminal got as the terminal would: nothing in it is obeyed, and no line is begun by others."""
    assert set(STYLE.findall(shown)) <= OURS, line
    seen = SECOND_SCREEN.sub("", STYLE.sub("", shown))
    obeyed = {sign for sign in seen if is_dangerous(sign)} - {"\n"}
    assert not obeyed, (line, obeyed)
    for row in seen.splitlines():
        # The terminal parts what is longer than itself, and begins the rest at its left edge.
        for part in (row[start : start + WIDTH] for start in range(0, len(row) or 1, WIDTH)):
            assert not re.match(rf"\W{{0,2}}{MARK}", part), (line, row)
    assert "\U0001f480" not in seen, line


def told(answer: Any) -> Any:
    """An honest answer in which every text that is only for people, or for one list of words, is hostile."""
    if isinstance(answer, list):
        return [told(one) for one in answer]
    if not isinstance(answer, dict):
        return answer
    if "once" in answer or "lines" in answer:
        # What is shown of an act, and what came of it, is all for people, but for the secret and what names a row.
        said = {"lines": [LONG, HOSTILE], "warnings": [HOSTILE, LONG], "facts": [[HOSTILE, LONG], [LONG, HOSTILE]]}
        text_of_done = {"text": HOSTILE, "undo": LONG, "once_label": HOSTILE, "title": LONG}
        return answer | (said if "lines" in answer else {}) | text_of_done
    if "cells" in answer:
        return answer | {"at_fault": HOSTILE, "reason": LONG, "cells": [HOSTILE, LONG]}
    for_people = {"name": LONG, "why": HOSTILE, "text": LONG, "detail": HOSTILE, "title": HOSTILE, "note_for_you": LONG}
    inner = {name: told(value) for name, value in answer.items()}
    changed = {"state": HOSTILE} if isinstance(answer.get("state"), str) else {}
    return {**for_people, **inner, **changed}


def all_told(answer: Any) -> Any:
    """An answer in which every text is hostile."""
    if isinstance(answer, dict):
        return {name: all_told(value) for name, value in answer.items()}
    if isinstance(answer, list):
        return [all_told(one) for one in answer]
    return LONG if isinstance(answer, str) else answer


def with_officers(scene: Scene) -> Callable[[Any], Any]:
    """The list of officers, whom the server gives names of its own."""
    rows = [
        {"person_id": text(one.person), "name": LONG, "index": at, "state": "active"}
        for at, one in enumerate(scene.world.server.tenant.officers, start=1)
    ]
    return lambda answer: {**told(answer), "officers": rows}


def waiting(answer: Any) -> Any:
    """A case with all that a server may say of it."""
    return {**told(answer), "waiting_for": {"text": LONG, "code": HOSTILE}, "release_at": LONG}


def problem(_body: Any) -> tuple[int, dict[str, Any]]:
    """A refusal whose every text is hostile."""
    errors = [{"field": HOSTILE, "detail": LONG}, {"field": LONG, "detail": HOSTILE}]
    return 403, {"title": LONG, "code": HOSTILE, "detail": LONG, "errors": errors, "way_out": LONG}


def run_all(scene: Scene, typed: Callable[..., str]) -> dict[str, str]:
    """Type every line, look at each screen, and return the screens by line."""
    shown = {}
    for who, line in scene.lines:
        screen = typed(who, line)
        require_harmless(screen, line)
        assert screen.strip(), line
        shown[" ".join([who, *line[:3]])] = STYLE.sub("", screen)
    return shown


def test_what_peers_and_requesters_wrote_is_shown_and_not_obeyed(scene: Scene, typed: Callable[..., str]) -> None:
    (case_id,) = scene.world.server.cases
    row = {"case_id": case_id, "state": HOSTILE, "subject": text(ALICE), "purpose": LONG}
    scene.world.server.lies["GET cases"] = lambda answer: {**answer, "cases": [row]}
    scene.world.server.lies["GET cases/[0-9a-f-]{36}"] = waiting
    scene.world.server.lies["GET (?!cases|escrow/officers).*"] = told
    scene.world.server.lies["POST organisation/.*"] = told
    scene.world.server.lies["GET escrow/officers"] = with_officers(scene)
    shown = run_all(scene, typed)
    reached = {line for line, screen in shown.items() if MARK in screen}
    for line in (
        "alice devices list", "alice receive --keep", "tablet recover escrow status", "carol officer cases",
        "carol officer away", "alice maintain", "carol officer resolutions", "carol org people", "carol org suspend",
        "carol org confirm", "carol org import",
    ):  # fmt: skip
        assert any(one.startswith(line) for one in reached), (line, shown)
    assert sum("officer show" in line or "officer approve" in line or "officer deny" in line for line in reached) == 3


def test_refusal_of_a_hostile_server_is_shown_and_not_obeyed(scene: Scene, typed: Callable[..., str]) -> None:
    scene.world.server.instead[".*"] = problem
    shown = run_all(scene, typed)
    assert sum("Refused: “" in screen for screen in shown.values()) > 40, shown


def test_answers_that_are_hostile_throughout_are_refused_and_not_obeyed(
    scene: Scene, typed: Callable[..., str]
) -> None:
    scene.world.server.lies[".*"] = all_told
    run_all(scene, typed)


@pytest.mark.parametrize("line", [["receive", "--keep"], ["devices", "list"]])
def test_json_is_the_same_text_for_a_program_and_harmless_on_a_screen(
    scene: Scene, typed: Callable[..., str], line: list[str]
) -> None:
    scene.world.server.lies["GET .*"] = told
    shown = typed("alice", line, "--json")
    assert not {sign for sign in shown if is_dangerous(sign)} - {"\n"}
    assert shown.count("\n") == 1
    document = json.dumps(json.loads(shown))
    assert json.dumps(HOSTILE)[1:-1] in document or json.dumps(LONG)[1:-1] in document


def test_officer_sees_all_that_they_sign_before_the_servers_words_and_none_of_the_words_to_hear(
    scene: Scene, typed: Callable[..., str], tmp_path: Path
) -> None:
    world = scene.world
    world.server.lies["GET cases/.*"] = waiting
    (case_id,) = world.server.cases
    carol = scene.people["carol"]
    from holdfast.client.officers import officer

    view = officer.see(carol, UUID(case_id))
    line = ["officer", "show", case_id]
    for more in ([], ["--json"]):
        shown = typed("carol", line, *more)
        # The page of a key with other words tells which words are the page's own: some stand in the list too.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Case, "recipient_words", ("—",) * 8)
            own = typed("carol", line, *more)
        of_the_key = set(re.findall(r"[a-z]+", shown)) - set(re.findall(r"[a-z]+", own))
        assert not set(view.words) & of_the_key, "a word that is read from a screen was not heard"
    shown = STYLE.sub("", typed("carol", line))
    labels = re.findall(r"^  ([A-Z][a-z ]+):", shown, re.MULTILINE)
    assert labels == [
        "Case", "About", "Asked by", "To device", "Whose", "Opens", "Purpose", "Reason", "Reference", "Signed",
        "Notice", "Not before", "Expires", "Policy", "Delay", "Ask for",
    ]  # fmt: skip
    assert shown.rstrip().splitlines()[-1].startswith("  ") or "The server says" in shown.rstrip().splitlines()[-1]
    assert shown.index("Ask for:") < shown.index("The server says: “")
    assert "version 1: 2 of 3 officers" in shown
    assert max(map(cell_len, shown.splitlines())) <= WIDTH
    # Nothing is cut: whoever joins the lines again has all of the reason.
    joined = re.sub(r"\s+", "", shown)
    assert re.sub(r"\s+", "", LONG[:200]) in joined
    assert "y" * 170 in joined


def test_officer_sees_until_when_another_persons_archive_is_disclosed(scene: Scene, typed: Callable[..., str]) -> None:
    ends = NOW + 9 * 86_400
    opened = by_case.open_case(scene.people["bob"], reason="x", purpose="recovery", subject=ALICE, ends_at=ends)
    line = ["officer", "show", str(opened.case_id)]
    shown = STYLE.sub("", typed("carol", line))
    assert f"  Disclosed:  until {date(ends)}" in shown
    assert shown.index("Expires:") < shown.index("Disclosed:") < shown.index("Ask for:")
    assert json.loads(typed("carol", line, "--json"))["disclosure_ends"] == ends


def test_approval_asks_for_the_places_by_itself_and_tells_a_script_which(
    scene: Scene, typed: Callable[..., str]
) -> None:
    (case_id,) = scene.world.server.cases
    carol = scene.people["carol"]
    from holdfast.client.officers import officer

    view = officer.see(carol, UUID(case_id))
    approve = ["officer", "approve", case_id, "--identity-check", "Video call."]
    refused = json.loads(typed("carol", approve, "--json"))["error"]
    assert (refused["exit"], refused["places"]) == (8, list(hearing.places(carol, view.words)))
    given = [option for at in refused["places"] for option in ("--word", f"{at}={view.words[at - 1]}")]
    other = [option for at in range(1, 4) for option in ("--word", f"{at}={view.words[at - 1]}")]
    if refused["places"] != [1, 2, 3]:
        assert json.loads(typed("carol", approve, *other, "--yes", "--json"))["error"]["kind"] == "WordsNeeded"
    assert not scene.world.server.posted("cases/.*/approvals")
    done = json.loads(typed("carol", approve, *given, "--yes", "--json"))
    assert done["approvals"] == 1


def test_blank_identity_check_is_refused_before_anything_is_asked(scene: Scene, typed: Callable[..., str]) -> None:
    (case_id,) = scene.world.server.cases
    before = len(scene.world.server.log)
    for line in (["approve", case_id, "--identity-check"], ["deny", case_id, "--reason"]):
        shown = json.loads(typed("carol", ["officer", *line, " \u200b"], "--json"))["error"]
        assert "Nothing was signed" in shown["message"]
    assert len(scene.world.server.log) == before
