# SPDX-License-Identifier: Apache-2.0
"""Console pages over real rows: what is shown is what is signed, to whom, and at what cost in queries."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import unquote

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import URLResolver, get_resolver
from django.utils import timezone

from console.frame import NAVIGATION
from console.people import pages
from escrow.services import withdraw_policy
from holdfast.core.identity.acts import Act, Standing
from holdfast.core.identity.cases import Case as Asked
from kernel.clock import database_now
from kernel.scope import tenant_scope
from keys import services as keys
from keys.models import Device
from recovery.models import Case
from tenants import access as people
from tenants import services as tenants
from tenants.permissions import session_permissions
from tests.cast.browsers import signed_in, text_of
from tests.cast.founded import Hsm
from tests.cast.tenants import make_person
from tests.cast.world import OpenCase, World, as_superuser
from tests.recovery.cases.test_shares import awaiting

pytestmark = pytest.mark.django_db(transaction=True)

SIGN_IN = "/console/sign-in/"
UNKNOWN = uuid.UUID(int=7)
# Pages with forms, and the file of people, which is asked for by one; each has its own tests.
BEHIND_FORMS = ("sign-", "invitation/", "password-reset/", "acts/", "people/import/", "people/export/")


def console_routes() -> list[Any]:
    """Every page below /console/ that is only looked at."""
    found = []
    for resolver in get_resolver().url_patterns:
        if isinstance(resolver, URLResolver) and str(resolver.pattern) == "console/":
            found += [one for one in resolver.url_patterns if not str(one.pattern).startswith(BEHIND_FORMS)]
    return found


def address(route: Any) -> str:
    path = str(route.pattern)
    for name, value in {
        "<uuid:case_id>": UNKNOWN,
        "<uuid:person_id>": UNKNOWN,
        "<uuid:device_id>": UNKNOWN,
        "<uuid:export_id>": UNKNOWN,
    }.items():
        path = path.replace(name, str(value))
    return "/console/" + path.replace("<int:index>", "0" if path.startswith("audit/") else "1")


def forge(case: OpenCase, **columns: Any) -> None:
    with as_superuser("recovery_case"):
        Case.unscoped.filter(id=case.id).update(**columns)


def queries(client: Client, path: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert client.get(path).status_code == 200
    return len(captured)


def test_every_page_is_guarded_and_only_looked_at(world: World, client: Client) -> None:
    routes = console_routes()
    assert len(routes) >= 9
    erin = signed_in(world.cast.erin)
    for route in routes:
        assert hasattr(route.callback, "permission_name"), route
        assert client.get(address(route))["location"] == SIGN_IN, route
        # But for the page that an export is asked for on: tests/console/test_log_exports.py.
        assert erin.post(address(route)).status_code == (409 if route.name == "console-log-exports" else 405), route


def test_navigation_leads_to_pages_that_are_there(world: World) -> None:
    owner = signed_in(world.cast.olivia)
    for _, path, _ in NAVIGATION:
        assert owner.get(path).status_code == 200, path


@pytest.mark.parametrize("name", ["olivia", "carol", "rex", "otto", "alice"])
def test_role_sees_the_pages_that_the_matrix_gives_it(name: str, world: World) -> None:
    person = world.cast.people[name]
    client, granted = signed_in(person), session_permissions(person.role)
    for route in console_routes():
        status = client.get(address(route)).status_code
        assert (status == 403) == (route.callback.permission_name not in granted), route


def test_support_sees_people_and_devices_and_nothing_of_cases(world: World) -> None:
    with tenant_scope(world.tenant_id):
        sam = make_person("sam", "support")
    phone, client = world.directory.phone("alice"), signed_in(sam)
    for path in (
        "/console/",
        "/console/people/",
        f"/console/people/{world.cast.alice.pk}/",
        f"/console/devices/{phone.id}/",
    ):
        page = text_of(client.get(path))
        assert "Cases" not in page
        assert "Deposits" not in page
    for path in ("/console/cases/", "/console/escrow/", "/console/audit/"):
        assert client.get(path).status_code == 403


def test_foreign_ids_get_the_page_of_unknown_ones_byte_for_byte(world: World) -> None:
    case, _ = world.approved()
    phone = world.directory.phone("alice")
    mallory = signed_in(world.cast.people["mallory"])
    for path, owned in (("cases", case.id), ("people", world.cast.alice.pk), ("devices", phone.id), ("audit", 0)):
        foreign = mallory.get(f"/console/{path}/{owned}/")
        unknown = mallory.get(f"/console/{path}/{UNKNOWN if path != 'audit' else 10**6}/")
        assert (foreign.status_code, unknown.status_code) == (404, 404)
        assert foreign.content == unknown.content
    assert "Alice" not in text_of(mallory.get("/console/people/"))
    assert str(case.id) not in mallory.get("/console/cases/?group=all").content.decode()


def test_case_shows_what_is_signed(world: World) -> None:
    case, deposit = world.approved("carol", reason="Lost <both> & all", reference="T-17")
    asked = Asked.from_payload(case.statement.payload)
    page = signed_in(world.cast.dan).get(f"/console/cases/{case.id}/")
    text = text_of(page)
    for said in (
        str(world.cast.alice.pk), "alice@acme.test", "Lost <both> & all", "T-17", "device-loss", "seen in person",
        case.statement.payload_hash.hex(), asked.policy_hash.hex(), str(uuid.UUID(bytes=deposit.header.deposit_id)),
        "1 of 2 approvals", "5 checks hold", "signature holds", f"holdfast officer approve {case.id}",
    ):  # fmt: skip
        assert said in text, said
    # What can be copied is not heard: the person reads the words of the receiving key, and no page shows them.
    assert not any(f"<li>{word}</li>" in page.content.decode() for word in asked.recipient_words)
    shown = world.directory.phone("dan").send("GET", f"/api/v1/cases/{case.id}").json()
    assert not set(asked.recipient_words) & {value for value in shown.values() if isinstance(value, str)}
    assert "recipient_words" not in shown
    words = world.founders["carol"].signing_key.public.fingerprint("officer")
    assert all(f"<li>{word}</li>" in page.content.decode() for word in words)


def test_case_shows_the_statement_and_an_alarm_when_a_row_says_otherwise(world: World) -> None:
    case, _ = world.approved("carol")
    forge(case, purpose="legal", subject_id=world.cast.bob.pk)
    text = text_of(signed_in(world.cast.dan).get(f"/console/cases/{case.id}/"))
    assert "They differ in: subject, purpose." in text
    assert "Purpose device-loss" in text
    assert str(world.cast.alice.pk) in text
    assert "officer approve" not in text


def test_case_says_so_when_its_statement_was_replaced(world: World) -> None:
    case, deposit = world.approved("carol")
    other = world.case(case.phone, deposit, reason="Another reason.")
    forge(case, statement=other.statement.encode())
    text = text_of(signed_in(world.cast.dan).get(f"/console/cases/{case.id}/"))
    assert "They differ in: case id, q" in text
    assert "the case was changed after it" in text  # carol signed for the other
    forge(case, statement=b"\x00nonsense")
    text = text_of(signed_in(world.cast.erin).get(f"/console/cases/{case.id}/"))
    assert "The stored statement cannot be read" in text
    assert "officer approve" not in text


def test_case_tells_an_officer_what_they_can_do_and_why_not(world: World) -> None:
    deposit = world.deposit()
    case = world.opened(deposit, phone=world.new_phone("erin"), purpose="legal")
    path = f"/console/cases/{case.id}/"
    erin = text_of(signed_in(world.cast.erin).get(path))
    assert "an officer who opened the case does not count" in erin
    assert "officer approve" not in erin
    assert "on a device of another : Erin" in erin
    assert "officer approve" in text_of(signed_in(world.cast.dan).get(path))
    assert "You can only look. Officers of the policy decide." in text_of(signed_in(world.cast.otto).get(path))
    world.stand("dan", Standing.SUSPENDED, by="carol")
    assert "an officer who is suspended or removed does not count" in text_of(signed_in(world.cast.dan).get(path))


def test_case_says_before_anybody_signs_that_its_subject_cannot_object(world: World) -> None:
    case = world.opened(world.deposit(), phone=world.directory.phone("bob"))
    carol = signed_in(world.cast.carol)
    assert "long delay" not in text_of(carol.get(f"/console/cases/{case.id}/"))
    with tenant_scope(world.tenant_id):
        tenants.suspend_person(person=people.person(world.cast.people["alice"].pk), actor=world.ceremony)
    text = text_of(carol.get(f"/console/cases/{case.id}/"))
    assert "1 hour after the quorum long delay The subject cannot object" in text


def test_overview_lists_a_case_for_the_officer_until_they_have_decided(world: World) -> None:
    case, deposit = world.approved("carol")
    path = f"/console/cases/{case.id}/"
    waiting = "Open a case for the command that answers it"
    dan, carol = signed_in(world.cast.dan), signed_in(world.cast.carol)
    assert waiting in text_of(dan.get("/console/"))
    assert waiting not in text_of(carol.get("/console/"))
    assert carol.get("/console/").content.decode().count(path) == 1
    assert world.approve(case, "dan", deposit).status_code == 201
    assert waiting not in text_of(dan.get("/console/"))


def test_case_that_awaits_a_share_asks_those_who_may_give_one(world: World, hsm: Hsm) -> None:
    case, deposit = awaiting(world, hsm)
    # Carol's share was wrong, dan's is right, and erin has given none. Nobody denies what was released.
    for name, is_asked in {"carol": True, "dan": False, "erin": True}.items():
        browser = signed_in(world.cast.people[name])
        asks = "Open a case for the command that answers it" in text_of(browser.get("/console/"))
        shown = text_of(browser.get(f"/console/cases/{case.id}/"))
        assert (asks, f"holdfast officer approve {case.id}" in shown) == (is_asked, is_asked), name
        assert f"holdfast officer deny {case.id}" not in shown
    assert world.approve(case, "erin", deposit).status_code == 201
    assert "Open a case" not in text_of(signed_in(world.cast.people["erin"]).get("/console/"))


def test_officer_whose_approval_ended_is_asked_again(world: World) -> None:
    case, _ = world.approved("dan")
    path = f"/console/cases/{case.id}/"
    dan = signed_in(world.cast.dan)
    assert "You have approved this case." in text_of(dan.get(path))
    world.stand("dan", Standing.SUSPENDED, by="erin")
    made = world.resolution(Act.RETURN_OFFICER, world.cast.dan.pk.bytes)
    for name in ("carol", "erin"):
        world.resolve(made, name)
    text = text_of(dan.get(path))
    for said in ("0 of 2 approvals", "has ended", "approved before", f"holdfast officer approve {case.id}"):
        assert said in text, said
    assert "0 of 2" in text_of(dan.get("/console/cases/"))
    assert "Open a case for the command that answers it" in text_of(dan.get("/console/"))


def test_subject_who_looks_at_the_console_learns_of_a_case_when_it_says(found: Callable[..., World]) -> None:
    world = found(max_notice_delay_seconds=3600, purposes=frozenset({"device-loss", "legal"}))
    deposit, later = world.deposit("carol"), int((timezone.now() + timedelta(minutes=30)).timestamp())
    for name in ("frank",):
        with tenant_scope(world.tenant_id):
            world.cast.people[name] = make_person(name, "officer")
        world.add_founder(name)
    names = ["carol", "dan", "erin", "frank"]
    world.publish(world.policy(m=2, names=names), signers=list(world.founders.values())[:2])
    case = world.opened(deposit, phone=world.new_phone("bob"), purpose="legal", notice_at=later)
    carol = signed_in(world.cast.carol)
    assert carol.get(f"/console/cases/{case.id}/").status_code == 404
    assert str(case.id) not in carol.get("/console/").content.decode()
    assert str(case.id) not in carol.get("/console/cases/?group=all").content.decode()
    assert signed_in(world.cast.dan).get(f"/console/cases/{case.id}/").status_code == 200


def test_pages_ask_as_often_for_many_as_for_one(world: World) -> None:
    case, _ = world.approved("carol")
    dan = signed_in(world.cast.dan)
    paths = [
        "/console/",
        "/console/cases/",
        "/console/people/",
        "/console/audit/",
        f"/console/people/{world.cast.alice.pk}/",
    ]
    before = {path: queries(dan, path) for path in paths}
    for name in ("alice", "bob"):
        world.opened(world.deposit(name), phone=world.new_phone(name))
    with tenant_scope(world.tenant_id):
        for number in range(12):
            make_person(f"member-{number}", "member")
    world.sequence()
    after = {path: queries(dan, path) for path in paths}
    # Fewer where a page was read before within the hour: that is no second entry.
    assert all(after[path] <= before[path] for path in paths), (before, after)
    # The overview counts one thing more for each line of what has to be done first.
    assert after.pop("/console/") <= 61
    # The page of a person also asks for their acts, codes, mails, what waits, and which devices are suspended.
    assert max(after.values()) <= 35
    # The last one is whether a veto gives the long delay.
    assert queries(dan, f"/console/cases/{case.id}/") <= 64


def test_person_page_tells_coverage_and_pre_keys(world: World) -> None:
    world.deposit()
    phone = world.directory.phone("alice")
    phone.publish(batches=(5,))
    path, erin = f"/console/people/{world.cast.alice.pk}/", signed_in(world.cast.erin)
    text = text_of(erin.get(path))
    for said in (
        "5 left",
        "Archive generation 1 begins",
        "The account begins",
        "3 could approve, 2 needed",
        "entries, verified",
    ):
        assert said in text, said
    assert "Covered" not in text
    words = world.directory.account("alice").aik.public.fingerprint("aik")
    assert all(f"<li>{word}</li>" in erin.get(path).content.decode() for word in words)
    for name in ("carol", "dan"):
        world.stand(name, Standing.SUSPENDED, by="erin")
    assert "1 could approve, 2 needed cannot open" in text_of(erin.get(path))
    assert "cannot be opened" in text_of(erin.get("/console/people/?q=alice"))
    assert "1 cannot be opened" in text_of(erin.get("/console/"))
    assert "Only 1 of the 2 officers needed can act" in text_of(erin.get("/console/escrow/"))


def test_person_page_shows_what_is_used_of_each_limit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    phone = world.directory.phone("alice")
    phone.publish(batches=(5,))
    path, erin = f"/console/people/{world.cast.alice.pk}/", signed_in(world.cast.erin)
    text = text_of(erin.get(path))
    entries = world.directory.account("alice").chain.seq + 1
    for said in (
        f"Entries of the account chain {entries} of 4000",
        "Devices that wait for the chain 0 of 10",
        "One-time pre-keys of one device 5 of 1000",
        "Signed pre-keys kept of one device 1 of 50",
        "Messages in the fullest mailbox 0 of 2000",
        "MiB of messages in the fullest mailbox 0 of 64",
        "Letters in the fullest mailbox 0 of 500",
        "Deposits of one generation under one policy 0 of 100",
        "Answers to one policy 0 of 100",
        "Cases of theirs that wait for a release 0 of 10",
        "Answers stored to be repeated, of one device 0 of 50000",
    ):
        assert said in text, said
    assert "near its end" not in text
    monkeypatch.setattr(keys, "MAX_UNISSUED", 6)
    assert "5 of 6 near its end" in text_of(erin.get(path))


def test_person_page_says_that_there_is_more_than_it_shows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.directory.phone("alice")
    path, erin = f"/console/people/{world.cast.alice.pk}/", signed_in(world.cast.erin)
    assert "There are more" not in text_of(erin.get(path))
    row = Device.unscoped.get(user_id=world.cast.alice.pk)
    columns = [field for field in row._meta.concrete_fields if not field.primary_key]
    fields = {field.attname: getattr(row, field.attname) for field in columns}
    for number in range(2):
        fresh = {"id": uuid.uuid4(), "statement_hash": bytes([number]) * 32, "name": f"old {number}"}
        Device.unscoped.create(**{**fields, **fresh, "state": "revoked"})
    monkeypatch.setattr(pages, "SHOWN", 1)
    text = text_of(erin.get(path))
    assert "The first 1 devices are shown. There are more, and all of them are revoked." in text
    assert "The newest 1 entries are shown, of 2." in text
    assert (row.name in text, "old 0" in text) == (True, False)


def test_person_page_says_so_when_the_stored_chain_does_not_hold(world: World) -> None:
    world.directory.phone("alice")
    with as_superuser("keys_chainentry") as cursor:
        cursor.execute("UPDATE keys_chainentry SET entry = %s WHERE seq = 1", [b"\x00nonsense"])
    text = text_of(signed_in(world.cast.erin).get(f"/console/people/{world.cast.alice.pk}/"))
    assert "The stored account chain does not hold" in text
    assert "This entry cannot be read" in text


def test_escrow_page_shows_roster_terms_and_pin(world: World) -> None:
    page = signed_in(world.cast.otto).get("/console/escrow/")
    text = text_of(page)
    for said in (
        "2 of 3",
        "leaves one officer to spare",
        "3 can act, 2 needed",
        "policies lead to it",
        "oaep-sha",
        "In force",
    ):
        assert said.lower() in text.lower(), said
    for name in ("carol", "dan", "erin"):
        words = world.founders[name].signing_key.public.fingerprint("officer")
        assert all(f"<li>{word}</li>" in page.content.decode() for word in words)


def test_policy_page_says_what_each_version_changed(world: World) -> None:
    founders = list(world.founders.values())
    world.publish(world.policy(m=2, delay_seconds=86400), signers=founders[:2])
    path, erin = "/console/escrow/policy/", signed_in(world.cast.erin)
    assert "Delay none 1 day The time between quorum and release" in text_of(erin.get(path))
    world.publish(world.policy(m=2, delay_seconds=60), signers=founders[:2])
    assert "Version 3 is published and cools off" in text_of(erin.get("/console/escrow/"))
    text = text_of(erin.get(path))
    assert "Delay 1 day 1 minute weak" in text
    assert "The founding policy, signed by all its officers." in text
    world.add_founder("erin")
    world.publish(world.policy(m=2, delay_seconds=60), signers=founders)
    text = text_of(erin.get(path))
    assert "Version 4: 2 of 3 cooling off Erin has other keys" in text
    assert [text.index(f"Version {number}: 2 of 3") for number in (4, 3, 2, 1)] == sorted(
        text.index(f"Version {number}: 2 of 3") for number in (4, 3, 2, 1)
    )


def test_pages_say_what_is_missing_that_escrow_is_paused_and_what_was_withdrawn(world: World) -> None:
    world.build()
    erin = signed_in(world.cast.erin)
    assert "In use and never deposited: generation 1." in text_of(erin.get(f"/console/people/{world.cast.alice.pk}/"))
    world.upload(world.build_again(world.deposit()))
    assert "1 missing" in text_of(erin.get("/console/people/?q=alice"))
    world.publish(world.policy(m=2, undelivered_delay_seconds=0), signers=world.founders.values())
    with tenant_scope(world.tenant_id), transaction.atomic():
        withdraw_policy(policy_hash=world.policies[1].hash, now=database_now())
    world.stand("carol", Standing.SUSPENDED, by="erin")
    text = text_of(erin.get("/console/escrow/"))
    assert "Escrow is off for new deposits: only 2 officers are active" in text
    assert "Version 2: 2 of 3 withdrawn" in text_of(erin.get("/console/escrow/policy/"))
    assert "cools off" not in text
    assert "Escrow is off for new deposits" in text_of(erin.get("/console/"))


def test_escrow_page_says_how_to_begin_when_there_is_no_policy(world: World) -> None:
    text = text_of(signed_in(world.cast.people["mallory"]).get("/console/escrow/"))
    assert "Escrow is off" in text
    for said in ("holdfast officer join", "holdfast officer policy propose", "manage.py ceremony found"):
        assert said in text
    assert "Escrow is not set up" in text_of(signed_in(world.cast.people["mallory"]).get("/console/"))


@pytest.mark.parametrize(
    "query", ["?page=0", "?page=99999", "?page=-1", "?page=x", "?group=nonsense", "?subject=nonsense"]
)
def test_lists_take_whatever_is_typed(query: str, world: World) -> None:
    erin = signed_in(world.cast.erin)
    for path in ("/console/cases/", "/console/people/", "/console/audit/"):
        assert erin.get(path + query).status_code == 200


@pytest.mark.postgres
@pytest.mark.parametrize("sign", ["%00", "%07", "%1b[31m", "%7f", "%c2%9b"])
def test_control_characters_are_refused_in_every_search_and_form(sign: str, world: World) -> None:
    erin = signed_in(world.cast.erin)
    for path in ("/console/cases/?subject=", "/console/people/?q=", "/console/audit/?tag=", "/console/?x"):
        refused = erin.get(path + sign)
        assert (refused.status_code, "could not be read" in text_of(refused)) == (400, True)
    for field in ("tenant", "email", "password"):
        typed = {"tenant": "acme", "email": "erin@acme.test", "password": "x"} | {field: unquote(sign)}
        assert Client().post("/console/sign-in/", typed).status_code == 400
    answer = Client().get(f"/api/v1/audit/entries?tag={sign}")
    assert (answer.status_code, answer["content-type"]) == (400, "application/problem+json")


@pytest.mark.parametrize("path", ["/console/sign-in/", "/console/nowhere/", "/", "/docs/problems"])
def test_file_of_a_stranger_is_refused_before_it_is_read(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_args: Any) -> Any:
        raise AssertionError("the body was read")

    monkeypatch.setattr("django.http.multipartparser.MultiPartParser.parse", read)
    # A cookie of one's own making is enough for Django to look for the token in the form.
    browser = Client(enforce_csrf_checks=True)
    browser.cookies["csrftoken"] = "a" * 32
    file = SimpleUploadedFile("x", bytes(3_000_000))
    assert browser.post(path, {"file": file}).status_code == 400


def test_escrow_page_says_how_officers_stand_why_and_what_they_resolve(world: World) -> None:
    hostile = "stolen <script>alert(1)</script>\u202e"
    word = world.word("dan", Standing.SUSPENDED, by="carol", reason=hostile)
    assert world.send_word(word, "carol").status_code == 201
    returned = world.resolution(Act.RETURN_OFFICER, world.cast.dan.pk.bytes)
    assert world.resolve(returned, "carol").status_code == 201
    phone = world.directory.phone("alice")
    lost = world.resolution(Act.SUSPEND_DEVICE, phone.person.pk.bytes, phone.id.bytes)
    assert world.resolve(lost, "carol").status_code == 201
    for about in ((42, bytes(range(32))), (43, bytes(32), 7, bytes(32))):
        assert world.resolve(world.resolution(Act.ACCEPT_LOG, *about), "carol").status_code == 201
    otto = signed_in(world.cast.otto)
    page = otto.get("/console/escrow/")
    text = text_of(page)
    for said in (
        "By Carol",
        "stolen <script>alert(1)</script>",
        "2 can act, 2 needed",
        "Return from suspension: Dan 1 of 2 have signed",
        "Accept the log of 42 entries 1 of 2 have signed",
        "Accept the logs of 43 and 7 entries, as after a restored backup 1 of 2 have signed",
        f"Suspend device {phone.id}, so that its veto ends no case, of Alice 1 of 2 have signed",
        "Proposed by Carol",
        "Signed by Carol",
        bytes(range(32)).hex(),
        "holdfast officer sign",
    ):
        assert said in text, said
    assert b"<script>alert" not in page.content
    assert "\u202e" not in page.content.decode()
    assert world.resolve(returned, "erin").json()["state"] == "passed"
    text = text_of(otto.get("/console/escrow/"))
    assert "Return from suspension: Dan passed" in text
    assert "3 can act" in text
    # Who came back is not shown with the reason for which they had gone.
    assert "stolen" not in text
    for standing in (Standing.AWAY, Standing.BACK):
        world.stand("erin", standing)
    assert "By Erin" not in text_of(otto.get("/console/escrow/"))
    world.sequence()
    assert "Officers’ resolution passed" in text_of(otto.get("/console/audit/?tag=escrow:resolution:"))
