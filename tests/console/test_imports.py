# SPDX-License-Identifier: Apache-2.0
"""People by a file in the console and over REST: nothing before it is confirmed, each once, in bounded steps."""

from __future__ import annotations

import csv
import io
import json
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from audit.models import Entry
from kernel import queue
from kernel.clock import database_now
from kernel.scope import close_scope, tenant_scope
from tenants import access
from tenants.imports import services
from tenants.imports.reading import BadLine
from tenants.middleware import UPLOAD
from tenants.models import Import, ImportChunk, Mail, Person, Tenant
from tenants.roles import Role
from tenants.states import ImportState, PersonState, TenantState
from tests.cast.administrators import Administrator, administrator
from tests.cast.browsers import signed_in, text_of
from tests.cast.founded import Hsm
from tests.cast.tenants import Cast, build_world, make_device, sealing

pytestmark = [pytest.mark.urls("tests.tenants.urls"), pytest.mark.postgres]
GOOD = "name,email,role\nIvy,ivy@acme.test,member\nJack,jack@acme.test,auditor\n"


@pytest.fixture
def cast(hsm: Hsm, db: None) -> Cast:
    return sealing(build_world())


@pytest.fixture
def olivia(cast: Cast) -> Administrator:
    return administrator(cast.olivia)


def upload(who: Any, text: str | bytes, name: str = "people.csv") -> Any:
    octets = text.encode() if isinstance(text, str) else text
    return who.client.post(UPLOAD, {"file": SimpleUploadedFile(name, octets, "text/csv")})


def read(who: Any, text: str = GOOD) -> Import:
    answer = upload(who, text)
    assert answer.status_code == 302, text_of(answer)
    row: Import = Import.unscoped.get(pk=answer["location"].rstrip("/").split("/")[-1])
    return row


def run() -> None:
    while queue.run_due("worker"):
        pass
    # A file of more than 500 people comes back to the queue after each of its turns.
    for job_id in queue.due("worker"):
        queue.run_one(job_id)
        run()


def octets(answer: Any) -> str:
    return b"".join(answer.streaming_content).decode()


def test_file_is_read_and_nobody_is_invited(cast: Cast, olivia: Administrator) -> None:
    before = Person.unscoped.count()
    row = read(olivia, GOOD + "Bob,bob@acme.test\nX,nobody\n")
    page = text_of(olivia.client.get(f"{UPLOAD}{row.pk}/"))
    assert (row.good, row.bad, row.state) == (2, 2, ImportState.READ)
    assert "4 email A person with this address is here already. Bob · bob@acme.test" in page
    assert "5 email Must be one e-mail address." in page
    assert Person.unscoped.count() == before
    assert not Mail.unscoped.exists()
    assert "Ivy" in text_of(olivia.client.get(f"{UPLOAD}{row.pk}/?show=good"))


def test_confirmed_file_invites_each_by_mail_with_their_entries(cast: Cast, olivia: Administrator) -> None:
    row = read(olivia, GOOD + "Bob,bob@acme.test\n")
    assert olivia.do("people-import", row)["location"] == f"{UPLOAD}{row.pk}/"
    assert not Person.unscoped.filter(email="ivy@acme.test").exists()
    run()
    ivy, jack = (Person.unscoped.get(email=f"{name}@acme.test") for name in ("ivy", "jack"))
    assert (ivy.state, ivy.role, jack.role) == (PersonState.INVITED, Role.MEMBER, Role.AUDITOR)
    assert set(Mail.unscoped.values_list("kind", "person_id")) == {("invitation", ivy.pk), ("invitation", jack.pk)}
    entries = Entry.unscoped.filter(subject=str(ivy.pk)).order_by("seq")
    assert [(one.tag, one.person_id) for one in entries] == [
        ("tenants:person:create", cast.olivia.pk),
        ("tenants:invitation:promise", cast.olivia.pk),
    ]
    with tenant_scope(cast.acme.pk):
        assert cast.olivia.pk in access.standing_behind(ivy.pk, database_now())
    page = text_of(olivia.client.get(f"{UPLOAD}{row.pk}/"))
    assert "This file is done" in page
    assert "Invited 2" in page
    tags = list(Entry.unscoped.filter(subject=str(row.pk)).order_by("seq").values_list("tag", flat=True))
    assert tags == ["tenants:import:read", "tenants:import:confirm", "tenants:import:finish"]


def test_same_file_again_does_nothing_twice(cast: Cast, olivia: Administrator) -> None:
    first = read(olivia)
    olivia.do("people-import", first)
    # Read and confirmed while the first one waits for the worker.
    early = read(olivia)
    olivia.do("people-import", early)
    run()
    late = read(olivia)
    assert (late.good, late.bad) == (0, 2)
    assert olivia.look("people-import", late).status_code == 409
    assert Mail.unscoped.filter(kind="invitation").count() == 2
    early.refresh_from_db()
    assert (early.state, early.done, early.created) == (ImportState.DONE, 2, 0)
    # The job itself, done again by a worker that was killed before it said so.
    with tenant_scope(cast.acme.pk):
        assert not services.go_on(import_id=first.pk)
    assert Mail.unscoped.filter(kind="invitation").count() == 2


def test_what_is_confirmed_is_what_was_read(cast: Cast, olivia: Administrator) -> None:
    row = read(olivia)
    page = olivia.look("people-import", row)
    assert bytes(row.digest).hex() in text_of(page)
    chunk = ImportChunk.unscoped.get(of=row, is_good=True)
    chunk.lines[0][4] = "owner"
    chunk.save()
    assert olivia.confirm(page, "people-import", row).status_code == 409
    run()
    assert not Person.unscoped.filter(email="ivy@acme.test").exists()


def test_it_is_confirmed_once_and_within_the_hour(cast: Cast, olivia: Administrator) -> None:
    row = read(olivia)
    olivia.do("people-import", row)
    assert olivia.look("people-import", row).status_code == 409
    late = read(olivia, "Kim,kim@acme.test")
    Import.unscoped.filter(pk=late.pk).update(expires_at=database_now() - timedelta(seconds=1))
    assert olivia.look("people-import", late).status_code == 404
    close_scope()
    assert services.sweep() == 1
    assert set(ImportChunk.unscoped.values_list("of_id", flat=True)) == {row.pk}


def test_file_that_nobody_confirmed_is_forgotten_with_the_next(cast: Cast, olivia: Administrator) -> None:
    first = read(olivia)
    second = read(olivia, "Kim,kim@acme.test")
    assert list(Import.unscoped.values_list("pk", flat=True)) == [second.pk]
    assert olivia.client.get(f"{UPLOAD}{first.pk}/").status_code == 404


def test_it_stops_when_whoever_confirmed_it_may_invite_nobody_any_more(cast: Cast, olivia: Administrator) -> None:
    row = read(olivia)
    olivia.do("people-import", row)
    Person.unscoped.filter(pk=cast.olivia.pk).update(role=Role.MEMBER)
    run()
    row.refresh_from_db()
    assert (row.state, row.created) == (ImportState.STOPPED, 0)
    assert not Person.unscoped.filter(email="ivy@acme.test").exists()


@pytest.mark.parametrize("state", [TenantState.LOCKED, TenantState.ENDING, TenantState.SUSPENDED])
def test_it_stops_when_nobody_is_let_in_any_more(cast: Cast, olivia: Administrator, state: TenantState) -> None:
    row = read(olivia)
    olivia.do("people-import", row)
    Tenant.objects.filter(pk=cast.acme.pk).update(state=state)
    run()
    row.refresh_from_db()
    assert (row.state, row.created) == (ImportState.STOPPED, 0)
    assert not Person.unscoped.filter(email="ivy@acme.test").exists()


def test_many_people_go_in_bounded_steps(cast: Cast, olivia: Administrator) -> None:
    text = "".join(f"Person {number},p{number}@acme.test,member\n" for number in range(1, 1501))
    with CaptureQueriesContext(connection) as reading:
        row = read(olivia, text)
    # Three parts of 500 lines, each one question and one row, beside what every request costs.
    assert row.good == 1500
    assert len(reading) < 60
    olivia.do("people-import", row)
    with tenant_scope(cast.acme.pk), CaptureQueriesContext(connection) as first:
        assert services.go_on(import_id=row.pk)
    row.refresh_from_db()
    assert (row.done, row.created) == (500, 500)
    # Two entries for each person; all else is some statements for a hundred.
    assert len(first) <= 500 * 2 + 5 * 25
    run()
    row.refresh_from_db()
    assert (row.state, row.created) == (ImportState.DONE, 1500)


def test_bad_lines_come_as_a_file_that_runs_nothing(cast: Cast, olivia: Administrator) -> None:
    hostile = '=HYPERLINK("http://evil.test")'
    row = read(olivia, f'name;email;role\n"{hostile.replace(chr(34), chr(34) * 2)}";ivy@acme.test;member\n')
    answer = olivia.client.get(f"{UPLOAD}{row.pk}/bad-lines/")
    assert "attachment" in answer["content-disposition"]
    heads, line = csv.reader(io.StringIO(octets(answer).removeprefix("\ufeff"), newline=""))
    assert heads[:3] == ["line", "field", "reason"]
    assert line[:2] == ["2", "name"]
    assert line[3] == "'" + hostile


def test_list_goes_out_as_a_file_that_can_be_read_again(cast: Cast, olivia: Administrator) -> None:
    Person.unscoped.filter(pk=cast.bob.pk).update(name="=1+1")
    answer = olivia.client.post("/console/people/export/")
    text = octets(answer)
    rows = list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))
    assert {row["email"] for row in rows} == {
        one.email for one in cast.people.values() if one.tenant_id == cast.acme.pk
    }
    assert next(row["name"] for row in rows if row["email"] == "bob@acme.test") == "'=1+1"
    assert Entry.unscoped.filter(tag="tenants:people:export", actor=f"person:{cast.olivia.pk}").count() == 1
    row = read(olivia, text)
    assert (row.good, row.bad) == (0, len(rows))
    assert olivia.client.get("/console/people/export/").status_code == 405


@pytest.mark.parametrize("payload", ["<script>alert(1)</script>", "{{ 7*7 }}", "\u202egnp.exe"])
def test_text_of_a_file_is_shown_and_not_obeyed(cast: Cast, olivia: Administrator, payload: str) -> None:
    row = read(olivia, f"name,email,role\n{payload},nobody,{payload}\n{payload},k@acme.test,member\n")
    for show in ("", "?show=good"):
        page = olivia.client.get(f"{UPLOAD}{row.pk}/{show}").content.decode()
        assert "<script>alert" not in page
        assert "\u202e" not in page


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Ada,a@x.test\n".encode("utf-16"), "Line 1: this is UTF-16"),
        ("A,a@x.test\nBöb,b@x.test".encode("latin-1"), "Line 2: this is not UTF-8"),
        (b"", "There is no line"),
    ],
)
def test_refusal_names_the_line_and_keeps_nothing(cast: Cast, olivia: Administrator, text: bytes, says: str) -> None:
    answer = upload(olivia, text)
    assert answer.status_code == 400
    assert says in text_of(answer)
    assert not Import.unscoped.exists()


@pytest.mark.postgres
def test_line_with_a_nul_is_a_bad_line_and_no_failure(cast: Cast, olivia: Administrator) -> None:
    row = read(olivia, "name,email,role\nI\0vy,ivy@acme.test,member\n")
    with tenant_scope(cast.acme.pk):
        (bad,) = services.some_lines(row, is_good=False, start=0, limit=5)
    assert (row.good, row.bad, bad.number) == (0, 1, 2)
    assert isinstance(bad, BadLine)
    assert bad.cells[0] == "I<U+0000>vy"


def test_pasted_text_is_read_and_kept_on_error(cast: Cast, olivia: Administrator) -> None:
    assert olivia.client.post(UPLOAD, {"text": GOOD}).status_code == 302
    answer = olivia.client.post(UPLOAD, {"text": "name,email,salary\nAda,a@x.test,1"})
    assert answer.status_code == 400
    assert "Ada,a@x.test,1" in text_of(answer)


class TestUpload:
    """The one page that takes more than a form."""

    def test_its_address_is_the_one_that_the_middleware_lets_through(self) -> None:
        assert reverse("console-import-form") == UPLOAD

    def test_file_of_many_people_passes_here_and_nowhere_else(self, cast: Cast, olivia: Administrator) -> None:
        text = "".join(f"Person {number},p{number}@acme.test,member\n" for number in range(3000))
        assert len(text) > 64 * 1024
        assert read(olivia, text).good == 3000
        file = SimpleUploadedFile("people.csv", text.encode())
        assert olivia.client.post("/console/acts/person-invite/", {"file": file}).status_code == 400
        assert upload(olivia, b"x" * (5 * 1024 * 1024)).status_code == 400

    @pytest.mark.parametrize("who", ["stranger", "rex", "carol"])
    def test_nothing_is_read_of_whoever_may_not(self, cast: Cast, who: str) -> None:
        client, body = Client(enforce_csrf_checks=True), _Unread()
        if who != "stranger":
            client.cookies = signed_in(cast.people[who]).cookies
        # With a token of their own in the cookie, the same would be looked for in the body.
        client.cookies["csrftoken"] = "t" * 32
        answer = client.generic(
            "POST",
            UPLOAD,
            b"",
            content_type="multipart/form-data; boundary=x",
            CONTENT_LENGTH="4000000",
            **{"wsgi.input": body},  # type: ignore[arg-type]
        )
        assert (answer.status_code, body.asked) == (302 if who == "stranger" else 403, 0)

    @pytest.mark.parametrize("path", ["", "{row}/", "{row}/bad-lines/"])
    def test_others_see_no_file(self, cast: Cast, olivia: Administrator, path: str) -> None:
        row = read(olivia)
        address = UPLOAD + path.format(row=row.pk)
        assert signed_in(cast.carol).get(address).status_code == 403
        expected = 200 if not path else 404
        assert signed_in(cast.mallory).get(address).status_code == expected

    def test_form_needs_the_token_of_its_own_page(self, cast: Cast, olivia: Administrator) -> None:
        strict = Client(enforce_csrf_checks=True)
        strict.cookies = olivia.client.cookies
        assert strict.post(UPLOAD, {"text": GOOD}).status_code == 403


class _Unread:
    """A body that notices when somebody reads it."""

    def __init__(self) -> None:
        self.asked = 0

    def read(self, *_: Any) -> bytes:
        self.asked += 1
        return b""

    readline = read


class TestRest:
    """The same over REST."""

    def post(self, signer: Any, path: str, body: dict[str, Any]) -> Any:
        return signer.send(Client(), "POST", f"/api/v1/organisation/{path}", json.dumps(body).encode())

    def test_file_is_read_confirmed_and_reported_on(self, cast: Cast, olivia: Administrator) -> None:
        signer = make_device(cast.olivia)
        answer = self.post(signer, "imports", {"csv": GOOD + "X,nobody\n"})
        assert answer.status_code == 201, answer.content
        found = answer.json()
        assert (found["good"], found["bad"], found["state"]) == (2, 1, "read")
        assert found["bad_lines"] == [
            {"line": 4, "at_fault": "email", "reason": "Must be one e-mail address.", "cells": ["X", "nobody"]}
        ]
        words = self.post(signer, "acts/people-import/words", {"subject_id": found["id"]}).json()
        given = {"subject_id": found["id"], "token": words["token"], "code": olivia.code()}
        assert self.post(signer, "acts/people-import", given).status_code == 200
        run()
        report = signer.send(Client(), "GET", f"/api/v1/organisation/imports/{found['id']}").json()
        assert (report["state"], report["created"]) == ("done", 2)

    def test_every_bad_line_is_named_page_by_page(self, cast: Cast) -> None:
        signer = make_device(cast.olivia)
        found = self.post(signer, "imports", {"csv": "".join(f"X,bad{number}\n" for number in range(1, 1202))}).json()
        seen = [one["line"] for one in found["bad_lines"]]
        while found["next_start"] is not None:
            path = f"/api/v1/organisation/imports/{found['id']}?start={found['next_start']}"
            found = signer.send(Client(), "GET", path).json()
            seen += [one["line"] for one in found["bad_lines"]]
        assert seen == list(range(1, 1202))

    def test_refusal_names_the_line(self, cast: Cast) -> None:
        answer = self.post(make_device(cast.olivia), "imports", {"csv": "name,email,salary\nAda,a@x.test,1"})
        assert (answer.status_code, answer.json()["code"], answer.json()["line"]) == (422, "import-refused", 1)

    def test_officer_reads_none(self, cast: Cast) -> None:
        assert self.post(make_device(cast.carol), "imports", {"csv": GOOD}).status_code == 403
