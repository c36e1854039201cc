# SPDX-License-Identifier: Apache-2.0
"""`manage.py operator`: who may run it, what it shows once, what it writes down, what it leaves no trace of."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from config.ceremonies.transcript import Transcript
from config.env import ENV
from holdfast.core.base.secret import SecretBytes
from operators.models import Operator
from tests.cast.operators import Desk, admin_mounted, forget_codes

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _ceremony(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.HOLDFAST_CEREMONY_DIR = tmp_path / "ceremony"
    monkeypatch.setattr(ENV, "role", "ceremony")


@pytest.fixture
def _admin() -> Iterator[None]:
    with admin_mounted():
        yield


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("operator", *arguments, stdout=out)
    return out.getvalue()


def shown(text: str) -> tuple[str, SecretBytes]:
    password = re.search(r"^Password: (\S+)$", text, re.MULTILINE)
    uri = re.search(r"^otpauth://totp/Holdfast%20operators:[a-z]+\?secret=([A-Z2-7]{32})&issuer=", text, re.MULTILINE)
    assert password
    assert uri
    return password[1], SecretBytes(base64.b32decode(uri[1]))


@pytest.mark.usefixtures("_admin")
def test_what_is_shown_once_signs_in() -> None:
    said = run("add", "petra")
    password, key = shown(said)
    assert "█" in said or "▀" in said, "the code to scan"
    assert len(password) >= 20
    desk = Desk(Operator.objects.get(name="petra"), key)
    assert desk.give(Client(), password=password).status_code == 302
    again = shown(run("reset", "petra"))
    assert again[0] != password
    forget_codes()
    assert desk.give(Client(), password=password).status_code == 401
    forget_codes()
    assert Desk(desk.operator, again[1]).give(Client(), password=again[0]).status_code == 302
    run("remove", "petra")
    forget_codes()
    assert Desk(desk.operator, again[1]).give(Client(), password=again[0]).status_code == 401


class _Failing(StringIO):
    """An output that takes nothing to its end: the disk is full, or the terminal has gone."""

    def flush(self) -> None:
        raise OSError(28, "No space left on device")


def closed() -> StringIO:
    made = StringIO()
    made.close()
    return made


@pytest.mark.usefixtures("_admin")
@pytest.mark.parametrize("failing", [_Failing, closed])
def test_secrets_that_could_not_be_shown_take_nobodys_place(failing: Callable[[], StringIO]) -> None:
    with pytest.raises(CommandError, match="Nothing was changed"):
        call_command("operator", "add", "petra", stdout=failing())
    assert not Operator.objects.exists()
    password, key = shown(run("add", "petra"))
    with pytest.raises(CommandError, match="Nothing was changed"):
        call_command("operator", "reset", "petra", stdout=failing())
    assert Desk(Operator.objects.get(), key).give(Client(), password=password).status_code == 302
    assert [line.said for line in Transcript().lines()] == ["add petra"]


def test_terminal_without_half_blocks_is_shown_all_but_the_drawing() -> None:
    octets = BytesIO()
    out = TextIOWrapper(octets, encoding="ascii")
    call_command("operator", "add", "petra", stdout=out)
    shown(octets.getvalue().decode())


def test_nothing_that_is_kept_holds_what_was_shown(tmp_path: Path) -> None:
    password, key = shown(run("add", "petra"))
    row = Operator.objects.get(name="petra")
    assert row.password.startswith("argon2$")
    assert password not in row.password
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"petra" in written
    assert password.encode() not in written
    assert base64.b32encode(key.reveal()) not in written
    assert key.reveal().hex().encode() not in written


def test_each_act_is_a_line_of_the_transcript_and_none_without() -> None:
    run("add", "petra")
    run("reset", "petra")
    run("remove", "petra")
    row = Operator.objects.get(name="petra")
    lines = Transcript().lines()
    assert [(line.ceremony, line.said) for line in lines] == [
        ("operator", "add petra"),
        ("operator", "reset petra"),
        ("operator", "remove petra"),
    ]
    assert {line.told for line in lines} == {(f"operator:{row.pk}",)}
    path = Transcript().path
    path.write_bytes(path.read_bytes().replace(b"add petra", b"add paula"))
    with pytest.raises(CommandError, match="was changed at line"):
        run("add", "paul")
    assert not Operator.objects.filter(name="paul").exists()


@pytest.mark.parametrize("role", ["web", "worker", "sequencer", "release", "tool"])
@pytest.mark.parametrize("arguments", [("add", "paul"), ("list",), ("remove", "petra"), ("reset", "petra")])
def test_no_other_role_runs_it(role: str, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    run("add", "petra")
    before = Operator.objects.get(name="petra")
    monkeypatch.setattr(ENV, "role", role)
    with pytest.raises(CommandError, match="HOLDFAST_ROLE=ceremony"):
        run(*arguments)
    after = Operator.objects.get()
    assert (after.state, after.password, after.totp_key) == (before.state, before.password, before.totp_key)


def test_list_names_the_living_and_the_removed_by_their_ids() -> None:
    for name in ("petra", "paul"):
        run("add", name)
    run("remove", "paul")
    rows = {row.name: row for row in Operator.objects.all()}
    assert [line.split() for line in run("list").splitlines()] == [
        ["paul", "removed", f"operator:{rows['paul'].pk}"],
        ["petra", "active", f"operator:{rows['petra'].pk}"],
    ]
    assert rows["paul"].totp_key == ""


@pytest.mark.parametrize("act", ["remove", "reset"])
def test_account_that_there_is_not_is_said(act: str) -> None:
    with pytest.raises(CommandError, match="There is no operator paul"):
        run(act, "paul")


def test_name_in_use_is_said() -> None:
    run("add", "petra")
    with pytest.raises(CommandError, match="Take another name"):
        run("add", "petra")


def test_password_is_typed_twice_and_held_to_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    typed = iter(["one horse one staple", "other horse other staple", "short", "short", *["a longer horse staple"] * 2])
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(typed))
    with pytest.raises(CommandError, match="not the same"):
        run("add", "petra", "--type")
    with pytest.raises(CommandError, match="too short"):
        run("add", "petra", "--type")
    assert not Operator.objects.exists()
    assert "a longer horse staple" not in run("add", "petra", "--type")
