# SPDX-License-Identifier: Apache-2.0
"""Cases kept from their subject until a date: a subject with an oversight role reads of them nowhere before it."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from django.core import mail
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit import sequencer, services
from audit.models import Entry
from escrow.models import Deposit
from holdfast.client.auditor.auditor import Verdict, verify_export
from holdfast.core.base.encoding import unb64u
from kernel.scope import tenant_scope
from recovery import tasks
from tests.cast.browsers import signed_in, text_of
from tests.cast.founded import Hsm
from tests.cast.phones import Phone, now
from tests.cast.statements import DAY
from tests.cast.tenants import make_person
from tests.cast.world import OpenCase, World, as_superuser
from tests.recovery.release.test_forged_rows import key


@pytest.fixture
def hidden(found: Callable[..., World]) -> tuple[World, OpenCase]:
    """A case about officer carol that alice opened and dan approved; carol is told of it in half an hour."""
    world = found(max_notice_delay_seconds=3600, purposes=frozenset({"device-loss", "legal"}))
    with tenant_scope(world.tenant_id):
        world.cast.people["frank"] = make_person("frank", "officer")
    world.add_founder("frank")
    names = ["carol", "dan", "erin", "frank"]
    world.publish(world.policy(m=2, names=names), signers=list(world.founders.values())[:2])
    deposit, later = world.deposit("carol"), int((timezone.now() + timedelta(minutes=30)).timestamp())
    assert world.directory.phone("carol").send("GET", _deposit_path(deposit)).status_code == 200
    case = world.opened(deposit, phone=world.directory.phone("alice"), purpose="legal", notice_at=later)
    assert world.directory.phone("dan").send("GET", _deposit_path(deposit)).status_code == 200
    assert world.approve(case, "dan", deposit).status_code == 201
    sequencer.sequence(world.tenant_id, "audit")
    return world, case


def _deposit_path(deposit: Any) -> str:
    return f"/api/v1/escrow/deposits/{UUID(bytes=deposit.header.deposit_id)}"


def entries(phone: Phone, query: str = "") -> list[dict[str, Any]]:
    answer = phone.send("GET", f"/api/v1/audit/entries?limit=200{query}")
    assert answer.status_code == 200, answer.content
    found: list[dict[str, Any]] = answer.json()["entries"]
    return found


def export(phone: Phone, path: Path) -> Path:
    answer = phone.send("GET", "/api/v1/audit/export")
    assert answer.status_code == 200, answer.content
    path.write_bytes(b"".join(answer.streaming_content))
    return path


def test_export_in_pieces_withholds_what_the_subject_may_not_see_yet(
    hidden: tuple[World, OpenCase], tmp_path: Path
) -> None:
    world, case = hidden
    withheld = {}
    for name in ("carol", "dan"):
        phone = world.directory.phone(name)
        asked = phone.send("POST", "/api/v1/audit/exports", {"log": "audit"})
        assert asked.status_code == 202, asked.content
        world.work()
        place = f"/api/v1/audit/exports/{asked.json()['id']}"
        pieces = [
            phone.send("GET", f"{place}/pieces/{at}") for at in range(len(phone.send("GET", place).json()["ends"]))
        ]
        path = tmp_path / name
        path.write_bytes(gzip.decompress(b"".join(piece.content for piece in pieces)))
        report = verify_export(path)
        assert report.verdict is Verdict.NOT_ANCHORED, report
        withheld[name] = report.withheld
        assert (str(case.id) in path.read_text()) == (name == "dan")
        assert asked.json()["withheld"] == report.withheld
    assert withheld["carol"] >= 4
    assert withheld["dan"] == 0


def index_of(world: World, tag: str, person: Any) -> int:
    row = Entry.unscoped.get(tenant_id=world.tenant_id, tag=tag, person_id=person.pk)
    return int(row.leaf_index)


def test_subject_who_reads_the_log_reads_of_their_case_when_it_says(
    hidden: tuple[World, OpenCase], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, case = hidden
    carol, dan = world.directory.phone("carol"), world.directory.phone("dan")
    secret = str(case.id)
    read_by_dan = index_of(world, "escrow:deposit:read", world.cast.dan)
    seen = entries(dan)
    about = {entry["index"] for entry in seen if entry["subject"] == secret} | {read_by_dan}
    assert {entry["tag"] for entry in seen if entry["index"] in about} >= {
        "recovery:case:open",
        "recovery:case:approve",
        "recovery:notice:hand-over",
        "escrow:deposit:read",
    }

    # Over REST, by every filter.
    read = entries(carol)
    assert secret not in json.dumps(read)
    assert not about & {entry["index"] for entry in read}
    assert entries(carol, f"&subject={secret}") == entries(carol, "&tag=recovery:case:open") == []
    assert index_of(world, "escrow:deposit:read", world.cast.carol) in {entry["index"] for entry in read}

    # In the console.
    window = signed_in(world.cast.carol)
    pages = ["/console/", "/console/audit/", f"/console/audit/?about={secret}", "/console/cases/?group=all"]
    pages += [f"/console/people/{world.cast.alice.pk}/", f"/console/people/{world.cast.carol.pk}/"]
    shown = [window.get(path).content.decode() for path in pages]
    assert secret not in shown[0] + shown[1] + shown[3] + shown[4] + shown[5]
    assert "Case opened" not in shown[2]
    assert "wait for a release 0 of 10" in text_of(window.get(pages[4])), "what the list hides, no number tells"
    assert "wait for a release 1 of 10" in text_of(signed_in(world.cast.dan).get(pages[4]))
    for index in about:
        assert window.get(f"/console/audit/{index}/").status_code == 404
        assert signed_in(world.cast.dan).get(f"/console/audit/{index}/").status_code == 200

    # In an export: proven, counted, and the record of the export says so to everybody else.
    sequencer.sequence(world.tenant_id, "audit")
    mine = export(carol, tmp_path / "carol.jsonl")
    assert secret.encode() not in mine.read_bytes()
    vkey = verify_export(mine).vkey
    report = verify_export(mine, vkey)
    assert (report.verdict, report.withheld) == (Verdict.WITHHELD, len(about))
    lines = [json.loads(line) for line in mine.read_bytes().splitlines()[1:-1]]
    assert {line["index"] for line in lines if "withheld" in line} == about
    assert entries(dan, "&tag=audit:entries:exported") == []  # not numbered yet
    sequencer.sequence(world.tenant_id, "audit")
    assert entries(dan, "&tag=audit:entries:exported")[0]["body"]["withheld"] == len(about)
    whole = verify_export(export(dan, tmp_path / "dan.jsonl"), vkey)
    assert (whole.verdict, whole.withheld) == (Verdict.VERIFIED, 0)

    # On the day, all of it.
    day = timezone.now() + timedelta(hours=1)
    monkeypatch.setattr("recovery.access.timezone", SimpleNamespace(now=lambda: day))
    assert {entry["index"] for entry in entries(carol)} >= about
    assert verify_export(export(carol, tmp_path / "later.jsonl"), vkey).verdict is Verdict.VERIFIED


def test_subject_is_told_nothing_early_by_what_the_requester_is_told(hidden: tuple[World, OpenCase]) -> None:
    world, case = hidden
    seen = {name: world.directory.phone(name).send("GET", "/api/v1/messages").json() for name in ("alice", "carol")}
    told = {name: b"".join(unb64u(row["message"]) for row in page["messages"]) for name, page in seen.items()}
    secret = str(case.id)
    assert secret.encode() in told["alice"]
    assert secret.encode() not in told["carol"]
    by_mail = {sent.to[0] for sent in mail.outbox if secret in sent.body}
    assert "alice@acme.test" in by_mail
    assert "carol@acme.test" not in by_mail
    assert world.directory.phone("carol").send("GET", "/api/v1/notices").json()["notices"] == []


def test_count_of_an_hours_reads_is_withheld_like_the_reads(
    hidden: tuple[World, OpenCase], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, _ = hidden
    carol, dan = world.directory.phone("carol"), world.directory.phone("dan")
    deposit_id = Deposit.unscoped.get(user_id=world.cast.carol.pk).id
    for _ in range(2):
        assert dan.send("GET", f"/api/v1/escrow/deposits/{deposit_id}").status_code == 200
    assert entries(dan, "&tag=audit:entries:counted") == []
    later = timezone.now() + timedelta(hours=1)
    with monkeypatch.context() as patch:
        patch.setattr("audit.services.timezone", SimpleNamespace(now=lambda: later))
        assert services.conclude_hours() >= 1
    sequencer.sequence(world.tenant_id, "audit")
    counted = entries(dan, "&tag=audit:entries:counted")
    assert "escrow:deposit:read" in {entry["body"]["tag"] for entry in counted}
    seen = entries(carol, "&tag=audit:entries:counted")
    assert "escrow:deposit:read" not in {entry["body"]["tag"] for entry in seen}


def test_log_asks_once_whether_something_is_to_be_withheld(hidden: tuple[World, OpenCase]) -> None:
    world, _ = hidden
    counts = []
    for name in ("dan", "carol"):
        phone = world.directory.phone(name)
        with CaptureQueriesContext(connection) as asked:
            entries(phone)
        counts.append(len(asked))
        assert sum('"recovery_case"' in query["sql"] for query in asked.captured_queries) == 1
    assert counts[0] == counts[1]


@pytest.mark.parametrize(("ahead", "status"), [(5, 201), (55, 201), (120, 422)])
def test_clock_that_is_a_little_ahead_puts_no_notice_off(found: Callable[..., World], ahead: int, status: int) -> None:
    """Where every notice is sent at once, a device whose clock is as far off as its requests may be opens a case."""
    world = found()
    answer = world.open(world.case(world.new_phone(), world.deposit(), notice_at=now() + ahead))
    assert answer.status_code == status, answer.content
    assert status == 201 or "delayed longer" in answer.json()["detail"]


def test_clock_that_is_ahead_takes_no_case_out_of_the_count(found: Callable[..., World], settings: Any) -> None:
    """What tells its subject and every officer is counted, whichever date within the bounds of a clock it names."""
    settings.HOLDFAST_CASES_PER_DAY = 2
    world = found()
    deposit = world.deposit()
    phones = [world.directory.phone(name) for name in ("bob", "carol", "dan")]
    answers = [world.open(world.case(phone, deposit, notice_at=now() + 40)).status_code for phone in phones]
    assert answers == [201, 201, 429]


def test_count_of_cases_about_a_person_tells_of_no_hidden_one(found: Callable[..., World], settings: Any) -> None:
    settings.HOLDFAST_CASES_PER_DAY = 3
    world = found(max_notice_delay_seconds=90 * DAY)
    deposit, dates = world.deposit(), {"notice_at": now() + 30 * DAY, "expiry": now() + 60 * DAY}
    assert world.open(world.case(world.directory.phone("carol"), deposit, **dates)).status_code == 201
    friend = world.directory.phone("bob")
    answers = [world.open(world.case(friend, deposit)).status_code for _ in range(3)]
    assert answers == [201, 201, 201]
    # Those that the person is told of are counted together, and a hidden one is its requester's own all the same.
    refused = world.open(world.case(world.directory.phone("dan"), deposit))
    assert (refused.status_code, refused.json()["code"]) == (429, "too-many-requests")
    assert [world.open(world.case(world.directory.phone("erin"), deposit, **dates)).status_code for _ in range(4)] == [
        201,
        201,
        201,
        429,
    ]


@pytest.mark.django_db(transaction=True)
def test_hidden_case_is_sealed_once_its_subject_is_told(found: Callable[..., World], hsm: Hsm) -> None:
    """What is sealed shows in its owner's list, and refuses their deposits."""
    world = found(max_notice_delay_seconds=90 * DAY)
    dates = {"notice_at": now() + 30 * DAY, "expiry": now() + 60 * DAY}
    case, _ = world.approved("carol", "dan", phone=world.directory.phone("bob"), **dates)
    world.tick()
    assert world.collect(case).status_code == 200
    account, phone = world.directory.account("alice"), world.directory.phone("alice")
    assert account.revoke(phone, by=phone).status_code == 201
    new = world.new_phone()
    for state, exposed in (("collected", False), ("sealed", True)):
        tasks.follow_rotations()
        rows = new.send("GET", "/api/v1/escrow/deposits").json()["deposits"]
        assert (world.state(case), [row["exposed"] for row in rows]) == (state, [exposed])
        with as_superuser("recovery_case") as cursor:
            cursor.execute("UPDATE recovery_case SET notice_at = opened_at WHERE id = %s", [key(case.id)])
