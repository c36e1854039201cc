# SPDX-License-Identifier: Apache-2.0
"""The pages about oneself: everybody's own, nobody else's, and what is done there needs the code it asks for."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from audit.models import Entry
from console.me import data, factors
from console.urls import me_urlpatterns
from holdfast.core.base.secret import SecretBytes
from kernel.actors import system_actor
from kernel.scope import tenant_scope
from tenants import services, session_store, sign_in
from tenants.models import Authenticator, ConsoleSession, Credential, Person, RecoveryCode
from tenants.permissions import PermissionName
from tenants.roles import Role
from tests.cast.browsers import another_browser, signed_in, signed_in_with, text_of
from tests.cast.contacts import TrustedContacts
from tests.cast.phones import audit_away
from tests.cast.tenants import PASSWORD, forget_codes, give_password, give_totp, make_person
from tests.cast.world import World

pytestmark = pytest.mark.django_db(transaction=True)

HOME, SIGN_IN = "/me/", "/console/sign-in/"
LOOKED_AT = [
    "/me/",
    "/me/devices/",
    "/me/recovery/",
    "/me/keys/",
    "/me/notices/",
    "/me/sessions/",
    "/me/factors/",
    "/me/factors/authenticator/",
    "/me/data/",
]
CONFIRM = "/me/factors/codes/confirm/"
ACTS = ["/me/sessions/end/", "/me/factors/codes/", CONFIRM, "/me/factors/authenticator/", "/me/data/"]


def entries(tag: str, person: Person) -> list[dict[str, Any]]:
    rows = Entry.unscoped.filter(tag=tag, subject=str(person.pk)).order_by("seq")
    return list(rows.values_list("body", flat=True))


def code_of(key: SecretBytes) -> str:
    return sign_in.totp_code(key, at=time.time())


def key_of(person: Person) -> str:
    """The key of a person's authenticator, as the HSM opens it, in hex."""
    with tenant_scope(person.tenant_id):
        device = sign_in.open_authenticator(person)
    assert device is not None
    assert device.opened is not None
    return device.opened.reveal().hex()


def is_in(client: Client) -> bool:
    return bool(client.get(HOME).status_code == 200)


def codes_of(person: Person, world: World) -> tuple[str, ...]:
    with tenant_scope(world.tenant_id):
        return sign_in.make_recovery_codes(person=person, actor=system_actor(world.tenant_id, "ceremony"))


def document(client: Client) -> dict[str, Any]:
    answer: Any = client.post("/me/data/")
    assert answer.status_code == 200
    assert answer["cache-control"] == "no-store"
    found: dict[str, Any] = json.loads(b"".join(answer.streaming_content))
    return found


# Who gets in.


def test_every_page_asks_for_the_one_permission_and_a_sign_in(world: World, client: Client) -> None:
    assert {getattr(route.callback, "permission_name", "") for route in me_urlpatterns} == {PermissionName.ME_READ}
    for path in (*LOOKED_AT, *ACTS):
        assert client.get(path).headers.get("location", SIGN_IN) == SIGN_IN, path
        assert client.post(path).status_code in (302, 405), path
    alice = signed_in(world.cast.alice)
    for path in LOOKED_AT:
        assert alice.get(path).status_code == 200, path
        assert alice.get(path)["cache-control"] == "no-store"
        assert path in ACTS or alice.post(path).status_code == 405, path
    assert alice.get("/me/sessions/end/").status_code == 405
    assert alice.get("/me/factors/codes/").status_code == 405


@pytest.mark.parametrize("role", Role.values)
def test_people_of_every_role_have_their_own_pages(role: str, world: World) -> None:
    with tenant_scope(world.tenant_id):
        client = signed_in(make_person("somebody", role))
    for path in LOOKED_AT:
        assert client.get(path).status_code == 200, path


def test_member_signs_in_to_their_own_pages_and_sees_nothing_else(world: World, client: Client) -> None:
    alice = world.cast.alice
    give_password(alice)
    key = give_totp(alice)
    typed = {"tenant": "acme", "email": alice.email, "password": PASSWORD}
    assert client.post(SIGN_IN, typed).status_code == 302
    assert client.post("/console/sign-in/code/", {"code": code_of(key)})["location"] == HOME
    assert client.get(SIGN_IN)["location"] == HOME
    page = client.get(HOME)
    assert "Alice" in text_of(page)
    links = set(re.findall(r'href="(/[^"]*)"', page.content.decode()))
    assert not [one for one in links if one.startswith("/console/")]
    for path in ("", "cases/", "people/", "escrow/", "escrow/answers/", "audit/", "audit/0/"):
        assert client.get(f"/console/{path}").status_code == 403, path
    assert client.get(f"/console/people/{alice.pk}/").status_code == 403


def test_what_is_posted_from_another_site_is_refused(world: World) -> None:
    alice = Client(enforce_csrf_checks=True)
    alice.cookies = signed_in(world.cast.alice).cookies
    for path in ACTS:
        answer = alice.post(path)
        assert answer.status_code == 403, path
        assert 'href="/me/"' in answer.content.decode()
    assert entries("tenants:data:export", world.cast.alice) == []


def test_control_characters_are_refused_in_every_form(world: World) -> None:
    alice = signed_in(world.cast.alice)
    for path in ACTS:
        assert alice.post(path, {"code": "\x00", "session": "\x1b"}).status_code == 400, path


@pytest.mark.parametrize(
    "typed",
    [
        "",
        " ",
        "9" * 60_000,
        "\u0661\u0662\u0663\u0664\u0665\u0666",
        "\U0001f600",
        "' OR 1=1 --",
        "<script>",
        "-1",
        "1e9",
    ],
)
def test_nonsense_in_every_field_changes_nothing(typed: str, world: World) -> None:
    person = world.cast.alice
    alice = signed_in(person)
    alice.get("/me/factors/authenticator/")
    before = (key_of(person), ConsoleSession.objects.filter(person_id=person.pk).count())
    for path in ACTS[:3]:
        fields = dict.fromkeys(("session", "code", "new_code", "password", "role", "person", "is_staff"), typed[:7_000])
        answer = alice.post(path, fields)
        assert answer.status_code in (302, 400), (path, answer.status_code)
        assert "<script>" not in answer.content.decode()
    assert before == (
        key_of(person),
        ConsoleSession.objects.filter(person_id=person.pk).count(),
    )
    assert RecoveryCode.unscoped.count() == 0


def test_form_of_any_length_is_refused_unread(world: World) -> None:
    alice = signed_in(world.cast.alice)
    for path in ACTS:
        assert alice.post(path, {"code": "9" * 100_000}).status_code in (400, 413), path


def test_suspended_person_is_out_with_the_next_request(world: World) -> None:
    alice = signed_in(world.cast.alice)
    assert is_in(alice)
    with tenant_scope(world.tenant_id):
        services.suspend_person(person=Person.objects.get(pk=world.cast.alice.pk), actor=world.ceremony)
    for path in LOOKED_AT:
        assert alice.get(path)["location"] == SIGN_IN, path
    for path in ACTS:
        assert alice.post(path)["location"] == SIGN_IN, path


# What needs doing.


def test_home_says_what_to_do_first_and_when_nothing_is_left(world: World) -> None:
    alice = signed_in(world.cast.alice)
    text = text_of(alice.get(HOME))
    for said in ("You have no device", "You have no way back", "You never said", "No recovery code is left"):
        assert said in text, said
    world.deposit()  # their device, and their yes to the policy
    codes_of(world.cast.alice, world)
    text = text_of(alice.get(HOME))
    for said in ("You have no device", "You never said", "recovery code"):
        assert said not in text, said
    account, phone = world.directory.account("alice"), world.directory.phone("alice")
    phone.send("PUT", "/api/v1/vault", account.vault(phone, 1), If_Match='"0"')
    for kind in ("password", "phrase"):
        assert "no way back" in text or "one way back" in text
        answer = phone.send("PUT", f"/api/v1/vault/doors/{kind}", {"blob": "oQFBMQ"}, If_Match='"0"')
        assert answer.status_code in (200, 201, 204), answer.content
        text = text_of(alice.get(HOME))
    assert "Nothing waits for you" in text


def test_support_and_auditor_are_not_told_to_do_what_their_role_cannot(world: World) -> None:
    with tenant_scope(world.tenant_id):
        sam = signed_in(make_person("sam", Role.SUPPORT))
    text = text_of(sam.get(HOME))
    assert "no device" not in text
    assert "You never said" not in text
    assert "You never said" not in text_of(signed_in(world.cast.people["otto"]).get(HOME))


def test_stranger_in_ones_name_is_an_alarm(world: World) -> None:
    world.directory.phone("alice")
    pending = world.new_phone("alice")
    alice = signed_in(world.cast.alice)
    assert "A device waits to become one of yours" in text_of(alice.get(HOME))
    page = text_of(alice.get("/me/devices/"))
    assert f"holdfast devices approve {pending.id}" in page


def test_devices_show_last_use_to_the_day_and_which_are_silent(world: World) -> None:
    phone, alice = world.directory.phone("alice"), signed_in(world.cast.alice)
    phone.publish()
    today = timezone.now().date()
    page = alice.get("/me/devices/").content.decode()
    assert f'<time datetime="{today:%Y-%m-%d}">' in page
    assert "silent" not in page
    rows = Credential.unscoped.filter(id=phone.id)
    rows.update(last_used_on=today - timedelta(days=31))
    assert "silent for over 30 days" in text_of(alice.get("/me/devices/"))
    assert "A device of yours is silent" in text_of(alice.get(HOME))
    rows.update(state="suspended")
    assert "suspended" in text_of(alice.get("/me/devices/"))


def test_nobody_sees_anything_of_another_person(world: World) -> None:
    phone = world.directory.phone("alice")
    phone.publish()
    world.deposit()
    for path in LOOKED_AT:
        page = text_of(signed_in(world.cast.bob).get(path))
        for foreign in (str(phone.id), str(world.cast.alice.pk), "alice@acme.test"):
            assert foreign not in page, path
    assert str(phone.id) not in json.dumps(document(signed_in(world.cast.bob)))


def test_ways_back_and_contacts_are_shown(world: World) -> None:
    alice = signed_in(world.cast.alice)
    assert "You have no way back" in text_of(alice.get("/me/recovery/"))
    account, phone = world.directory.account("alice"), world.directory.phone("alice")
    phone.send("PUT", "/api/v1/vault", account.vault(phone, 1), If_Match='"0"')
    phone.send("PUT", "/api/v1/vault/doors/password", {"blob": "oQFBMQ"}, If_Match='"0"')
    for name in ("bob", "carol", "dan"):
        world.directory.phone(name)
    circle = TrustedContacts.of(world.directory, "alice", ["bob", "carol", "dan"])
    assert circle.storing(0).send().status_code in (200, 201, 204)
    text = text_of(alice.get("/me/recovery/"))
    for said in ("Recovery password", "your client proves it and tells nobody", "2 of 3 needed", "bob@acme.test"):
        assert said in text, said
    phone.send("GET", "/api/v1/vault/doors/password")
    world.sequence()
    assert text_of(alice.get("/me/recovery/")).count("Last read never") == 0
    circle.ask(phone)
    assert "A device asked your trusted contacts" in text_of(alice.get("/me/recovery/"))
    bob = signed_in(world.cast.bob)
    assert "They ask you for their share" in text_of(bob.get("/me/recovery/"))
    assert "Somebody asks for the share that you keep" in text_of(bob.get(HOME))


def test_proven_doors_of_an_officer_say_when(world: World) -> None:
    phone = world.directory.phone("erin")
    world.directory.account("erin").keep_officers_section(phone, ("password", "phrase"))
    text = text_of(signed_in(world.cast.erin).get("/me/recovery/"))
    assert "Recovery password, of your officer’s keys proven" in text
    assert "24 words, of your officer’s keys proven" in text


# Keys and cases.


def test_keys_page_shows_who_could_and_who_did(world: World) -> None:
    alice = signed_in(world.cast.alice)
    empty = text_of(alice.get("/me/keys/"))
    assert "Nobody has asked for your keys" in empty
    assert "Nobody read anything of yours" in empty
    case, deposit = world.approved("carol")
    answer = world.directory.phone("carol").send("GET", f"/api/v1/escrow/deposits/{uuid_of(deposit)}")
    assert answer.status_code == 200, answer.content
    world.sequence()
    text = text_of(alice.get("/me/keys/"))
    for said in ("2 of 3 officers", "Carol carol@acme.test", "Generation 1", str(case.id), "1 of 2", "Released no",
                 "Carol read a deposit of yours"):  # fmt: skip
        assert said in text, said
    assert f"/console/cases/{case.id}/" not in alice.get("/me/keys/").content.decode()
    assert f"/console/cases/{case.id}/" in signed_in(world.cast.erin).get("/me/notices/").content.decode()
    assert len(entries("audit:entries:read", world.cast.alice)) == 0  # it has no subject
    assert Entry.unscoped.filter(tag="audit:entries:read", person_id=world.cast.alice.pk).count() == 1


def uuid_of(deposit: Any) -> uuid.UUID:
    return uuid.UUID(bytes=deposit.header.deposit_id)


@pytest.fixture
def delayed(found: Callable[..., World]) -> tuple[World, Any, Any]:
    """A case about carol, who is told of it in half an hour, and a read of her deposit for it."""
    world = found(max_notice_delay_seconds=3600, purposes=frozenset({"device-loss", "legal"}))
    deposit, later = world.deposit("carol"), int((timezone.now() + timedelta(minutes=30)).timestamp())
    with tenant_scope(world.tenant_id):
        world.cast.people["frank"] = make_person("frank", "officer")
    world.add_founder("frank")
    names = ["carol", "dan", "erin", "frank"]
    world.publish(world.policy(m=2, names=names), signers=list(world.founders.values())[:2])
    case = world.opened(deposit, phone=world.new_phone("bob"), purpose="legal", notice_at=later)
    answer = world.directory.phone("dan").send("GET", f"/api/v1/escrow/deposits/{uuid_of(deposit)}")
    assert answer.status_code == 200, answer.content
    world.sequence()
    return world, case, deposit


@pytest.mark.postgres
def test_nothing_of_a_case_is_told_before_its_time(delayed: tuple[World, Any, Any]) -> None:
    world, case, _ = delayed
    carol = signed_in(world.cast.carol)
    before = {path: text_of(carol.get(path)) for path in LOOKED_AT}
    taken = document(carol)
    for path, text in before.items():
        assert str(case.id) not in text, path
        assert "asked for your keys" in text or path != "/me/keys/"
    assert "Somebody asks to open your keys" not in before[HOME]
    assert "read a deposit of yours" not in before["/me/keys/"]
    assert str(case.id) not in json.dumps(taken)
    assert taken["cases_about_you"] == []
    assert "escrow:deposit:read" not in {row["tag"] for row in taken["log_about_you"]}
    # Its time comes.
    from recovery.models import Case, Notice
    from tests.cast.world import as_superuser

    with as_superuser("recovery_case"):
        Case.unscoped.filter(id=case.id).update(notice_at=timezone.now() - timedelta(seconds=1))
    mine = Notice.unscoped.filter(case_id=case.id, person_id=world.cast.carol.pk)
    mine.update(due_at=timezone.now() - timedelta(seconds=1))
    assert "Somebody asks to open your keys" in text_of(carol.get(HOME))
    text = text_of(carol.get("/me/keys/"))
    assert str(case.id) in text
    assert "Dan read a deposit of yours" in text
    assert str(case.id) in text_of(carol.get("/me/notices/"))
    taken = document(carol)
    assert [row["id"] for row in taken["cases_about_you"]] == [str(case.id)]
    assert "escrow:deposit:read" in {row["tag"] for row in taken["log_about_you"]}


def test_notices_are_listed_page_by_page(world: World) -> None:
    alice = signed_in(world.cast.alice)
    assert "No notice about a case" in text_of(alice.get("/me/notices/"))
    world.approved("carol")
    text = text_of(alice.get("/me/notices/"))
    assert "No notice about a case" not in text
    assert "handed to the mail system" in text
    assert "Other mail" in text
    assert alice.get(f"/me/notices/?after={uuid.UUID(int=7)}").status_code == 404
    assert alice.get("/me/notices/?after=nothing").status_code == 200


# Sessions.


def test_sessions_are_listed_by_family_and_address_and_never_by_key(world: World, client: Client) -> None:
    alice = world.cast.alice
    give_password(alice)
    key = give_totp(alice)
    agent = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    sent: dict[str, Any] = {"REMOTE_ADDR": "2001:db8:1:2:3:4:5:6", "HTTP_USER_AGENT": agent}
    client.post(SIGN_IN, {"tenant": "acme", "email": alice.email, "password": PASSWORD}, **sent)
    assert client.post("/console/sign-in/code/", {"code": code_of(key)}, **sent)["location"] == HOME
    another_browser(alice)
    page = client.get("/me/sessions/")
    text = text_of(page)
    for said in ("Firefox on Linux", "this browser", "2001:db8:1:2::", "End all others"):
        assert said in text, said
    assert "Gecko" not in text
    assert "3:4:5:6" not in text
    rows = ConsoleSession.objects.filter(person_id=alice.pk)
    assert rows.count() == 2
    assert {row.tenant_id for row in rows} == {alice.tenant_id}
    kept = repr(list(rows.values("agent", "source")))
    assert "Gecko" not in kept
    for row in rows:
        assert row.session_key not in page.content.decode()


def test_one_session_is_ended_with_its_next_request(world: World) -> None:
    alice, _ = signed_in_with(world.cast.alice)
    other, third = another_browser(world.cast.alice), another_browser(world.cast.alice)
    assert all(map(is_in, (alice, other, third)))
    named = session_store.handle(other.session.session_key or "")
    page = alice.post("/me/sessions/end/", {"session": named}, follow=True)
    assert "Ended." in text_of(page)
    assert [is_in(one) for one in (alice, other, third)] == [True, False, True]
    assert entries("tenants:session:end", world.cast.alice) == [{"count": 1}]
    assert "Nothing to end" in text_of(alice.post("/me/sessions/end/", {"session": named}, follow=True))
    assert entries("tenants:session:end", world.cast.alice) == [{"count": 1}]


@pytest.mark.postgres
def test_all_others_are_ended_at_once(world: World) -> None:
    alice, _ = signed_in_with(world.cast.alice)
    others = [another_browser(world.cast.alice) for _ in range(3)]
    bob = signed_in(world.cast.bob)
    alice.post("/me/sessions/end/", {"session": "others"})
    assert is_in(alice)
    assert not any(map(is_in, others))
    assert is_in(bob)
    assert entries("tenants:session:end", world.cast.alice) == [{"count": 3}]


def test_own_session_that_is_ended_is_over(world: World) -> None:
    alice, _ = signed_in_with(world.cast.alice)
    named = session_store.handle(alice.session.session_key or "")
    assert alice.post("/me/sessions/end/", {"session": named})["location"] == SIGN_IN
    assert not is_in(alice)
    assert not ConsoleSession.objects.filter(person_id=world.cast.alice.pk).exists()


def test_nobody_ends_anothers_session(world: World) -> None:
    bob = signed_in(world.cast.bob)
    alice, _ = signed_in_with(world.cast.alice)
    key = bob.session.session_key or ""
    for named in (session_store.handle(key), key, "", "x" * 500, "others "):
        alice.post("/me/sessions/end/", {"session": named})
    assert is_in(bob)
    assert is_in(alice)
    assert entries("tenants:session:end", world.cast.bob) == []


def test_session_that_a_new_password_has_ended_is_not_listed(world: World) -> None:
    alice, _ = signed_in_with(world.cast.alice)
    another_browser(world.cast.alice)
    give_password(world.cast.alice)
    alice = another_browser(Person.unscoped.get(pk=world.cast.alice.pk))
    assert text_of(alice.get("/me/sessions/")).count("Signed in") == 1


def test_use_of_a_session_is_noted_in_steps(world: World) -> None:
    alice = signed_in(world.cast.alice)
    rows = ConsoleSession.objects.filter(person_id=world.cast.alice.pk)
    long_ago = timezone.now() - timedelta(hours=2)

    def writes() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert is_in(alice)
        return sum("UPDATE" in query["sql"].split()[0] for query in captured)

    assert writes() == 0
    for wrong in (long_ago, timezone.now() + timedelta(hours=2)):
        rows.update(last_seen_at=wrong)
        assert [writes(), writes()] == [1, 0]
        assert abs(rows.get().last_seen_at - timezone.now()) < timedelta(minutes=1)


def test_sweep_deletes_sessions_that_ran_out_and_no_others(world: World) -> None:
    alice, bob = signed_in(world.cast.alice), signed_in(world.cast.bob)
    ConsoleSession.objects.filter(person_id=world.cast.alice.pk).update(expire_date=timezone.now() - timedelta(days=1))
    assert not is_in(alice)
    services.sweep()
    assert not ConsoleSession.objects.filter(person_id=world.cast.alice.pk).exists()
    assert is_in(bob)


# Second factors.


def made_anew(alice: Client, key: SecretBytes) -> list[str]:
    page = alice.post("/me/factors/codes/", {"code": code_of(key)})
    assert page.status_code == 200
    assert page["cache-control"] == "no-store"
    shown = re.findall(r'<li class="mono">([a-z2-7-]{19})</li>', page.content.decode())
    assert len(shown) == 10
    return shown


def test_recovery_codes_are_made_anew_by_a_fresh_code_and_shown_once(world: World) -> None:
    alice, key = signed_in_with(world.cast.alice)
    before = codes_of(world.cast.alice, world)
    assert "10 left of ten" in text_of(alice.get("/me/factors/"))
    shown = made_anew(alice, key)
    assert not set(shown) & set(before)
    confirmed = alice.post(CONFIRM, {"new_code": f" {shown[3].upper().replace('-', ' ')} "}, follow=True)
    assert "Your new recovery codes count from now on" in text_of(confirmed)
    assert sign_in.accept_code(person=world.cast.alice, code=before[0]) is None
    assert sign_in.accept_code(person=world.cast.alice, code=shown[3]) is not None, "what was shown is not used up"
    page = alice.get("/me/factors/")
    assert shown[1] not in page.content.decode()
    assert "9 left of ten" in text_of(page)
    assert "Ten new codes wait" not in text_of(page)
    assert len(entries("tenants:recovery-code:make", world.cast.alice)) == 2
    assert len(entries("tenants:recovery-code:confirm", world.cast.alice)) == 1


def test_recovery_codes_whose_page_was_never_seen_void_none_of_before(world: World) -> None:
    """The answer got lost, or the page was closed: those on paper are still the ones that let their person in."""
    alice, key = signed_in_with(world.cast.alice)
    before = codes_of(world.cast.alice, world)
    lost = made_anew(alice, key)
    assert sign_in.accept_code(person=world.cast.alice, code=before[0]) is not None
    assert sign_in.accept_code(person=world.cast.alice, code=lost[0]) is None, "it counts when its person has it"
    page = text_of(alice.get("/me/factors/"))
    assert ("9 left of ten" in page, "Ten new codes wait" in page) == (True, True)
    forget_codes(world.cast.alice)
    again = made_anew(alice, key)
    for wrong in (before[1], lost[0], "aaaa-aaaa-aaaa-aaaa", "", code_of(key)):
        refused = alice.post(CONFIRM, {"new_code": wrong})
        assert refused.status_code == 400
        assert "none of the new codes" in text_of(refused)
    assert sign_in.accept_code(person=world.cast.alice, code=before[2]) is not None
    assert alice.post(CONFIRM, {"new_code": again[0]}).status_code == 302
    assert alice.post(CONFIRM, {"new_code": again[0]}).status_code == 400, "none wait any more"
    assert RecoveryCode.unscoped.filter(person=world.cast.alice).count() == 10


def test_recovery_codes_that_wait_are_their_own_persons(world: World) -> None:
    alice, key = signed_in_with(world.cast.alice)
    bob, bobs_key = signed_in_with(world.cast.bob)
    shown, bobs = made_anew(alice, key), made_anew(bob, bobs_key)
    assert alice.post(CONFIRM, {"new_code": bobs[0]}).status_code == 400
    assert bob.post(CONFIRM, {"new_code": bobs[0]}).status_code == 302
    assert RecoveryCode.unscoped.filter(person=world.cast.alice, is_waiting=True).count() == len(shown)


def test_code_that_signed_in_or_was_used_makes_no_recovery_codes(world: World, client: Client) -> None:
    alice = world.cast.alice
    give_password(alice)
    key = give_totp(alice)
    code = code_of(key)
    client.post(SIGN_IN, {"tenant": "acme", "email": alice.email, "password": PASSWORD})
    assert client.post("/console/sign-in/code/", {"code": code})["location"] == HOME
    refused = client.post("/me/factors/codes/", {"code": code})
    assert refused.status_code == 400
    assert "was used before, also to sign in" in text_of(refused)
    assert RecoveryCode.unscoped.count() == 0
    forget_codes(alice)
    Authenticator.objects.update(throttling_failure_timestamp=None, throttling_failure_count=0)
    assert client.post("/me/factors/codes/", {"code": code}).status_code == 200
    assert client.post("/me/factors/codes/", {"code": code}).status_code == 400


@pytest.mark.parametrize("path", ["/me/factors/codes/", "/me/factors/authenticator/"])
def test_recovery_code_confirms_no_change_of_factors(path: str, world: World) -> None:
    alice, key = signed_in_with(world.cast.alice)
    give_password(world.cast.alice)
    alice = another_browser(Person.unscoped.get(pk=world.cast.alice.pk))
    codes = codes_of(world.cast.alice, world)
    alice.get("/me/factors/authenticator/")
    new = kept_key(alice)
    # Without its lines it is as long as a field takes.
    typed = {"code": codes[0].replace("-", ""), "password": PASSWORD, "new_code": code_of(new) if new else ""}
    assert alice.post(path, typed).status_code == 400
    assert RecoveryCode.unscoped.filter(used_at=None).count() == 10
    assert sign_in.accept_code(person=world.cast.alice, code=code_of(key)) is not None


def kept_key(client: Client) -> SecretBytes | None:
    kept = client.session.get("new_authenticator")
    return SecretBytes(bytes.fromhex(kept)) if kept else None


@pytest.fixture
def alice_with_password(world: World) -> tuple[Client, SecretBytes]:
    give_password(world.cast.alice)
    client, key = signed_in_with(Person.unscoped.get(pk=world.cast.alice.pk))
    client.get("/me/factors/authenticator/")
    return client, key


@pytest.mark.postgres
def test_authenticator_is_changed_and_every_other_session_ends(
    world: World, alice_with_password: tuple[Client, SecretBytes]
) -> None:
    client, old = alice_with_password
    person = Person.unscoped.get(pk=world.cast.alice.pk)
    other = another_browser(person)
    before, new = client.cookies["sessionid"].value, kept_key(client)
    assert new is not None
    typed = {"code": code_of(old), "new_code": code_of(new), "password": PASSWORD}
    page = client.post("/me/factors/authenticator/", typed, follow=True)
    assert "Your new authenticator counts from now on" in text_of(page)
    assert client.cookies["sessionid"].value != before
    assert is_in(client)
    assert not is_in(other)
    assert ConsoleSession.objects.filter(person_id=person.pk).count() == 1
    assert kept_key(client) is None
    forget_codes(person)
    assert sign_in.accept_code(person=person, code=code_of(old)) is None
    Authenticator.objects.update(throttling_failure_timestamp=None, throttling_failure_count=0)
    assert sign_in.accept_code(person=person, code=code_of(new)) is not None
    assert len(entries("tenants:session:end", person)) == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"password": "not the password"}, "This is not your password."),
        ({"code": "000000x"}, "did not match"),
        ({"new_code": "000000x"}, "not what the new authenticator shows"),
        ({"code": ""}, "did not match"),
        ({"password": "", "code": "", "new_code": ""}, "This is not your password."),
    ],
)
def test_wrong_form_changes_nothing_and_names_the_field(
    changes: dict[str, str], says: str, world: World, alice_with_password: tuple[Client, SecretBytes]
) -> None:
    client, old = alice_with_password
    new = kept_key(client)
    assert new is not None
    image = client.get("/me/factors/authenticator/").content
    typed = {"code": code_of(old), "new_code": code_of(new), "password": PASSWORD} | changes
    refused = client.post("/me/factors/authenticator/", typed)
    assert refused.status_code == 400
    assert says in text_of(refused)
    assert 'aria-invalid="true"' in refused.content.decode()
    secret = re.search(rb'<span class="mono small">([A-Z2-7 ]+)<', image)
    assert secret is not None
    assert secret.group(1) in refused.content, "what was scanned stays right"
    assert PASSWORD not in refused.content.decode()
    assert key_of(world.cast.alice) == old.reveal().hex()
    Authenticator.objects.update(throttling_failure_timestamp=None, throttling_failure_count=0)
    typed |= {"code": code_of(old), "new_code": code_of(new), "password": PASSWORD}
    assert client.post("/me/factors/authenticator/", typed).status_code == 302


def test_form_without_its_key_changes_nothing(world: World) -> None:
    alice, key = signed_in_with(world.cast.alice)
    refused = alice.post("/me/factors/authenticator/", {"code": code_of(key), "new_code": "123456", "password": "x"})
    assert refused.status_code == 400
    assert "open for too long" in text_of(refused)
    assert key_of(world.cast.alice) == key.reveal().hex()


def test_password_and_codes_are_not_guessed_without_end_at_an_open_session(
    alice_with_password: tuple[Client, SecretBytes], world: World
) -> None:
    client, _ = alice_with_password
    for number in range(factors.MAX_TRIES):
        path = ACTS[1 + number % 2]
        assert client.post(path, {"password": "guess", "code": "000000"}).status_code == 400
    for path in ACTS[1:3]:
        refused = client.post(path, {"password": PASSWORD, "code": "000000"})
        assert refused.status_code == 429
        assert "Wait ten minutes" in text_of(refused)


# One's data.


@pytest.mark.postgres
def test_data_is_a_file_of_ones_own_without_ciphertext_and_its_taking_is_an_entry(world: World) -> None:
    account, phone = world.directory.account("alice"), world.directory.phone("alice")
    phone.send("PUT", "/api/v1/vault", account.vault(phone, 1), If_Match='"0"')
    phone.send("PUT", "/api/v1/vault/doors/password", {"blob": "oQFBMQ"}, If_Match='"0"')
    case, _ = world.approved("carol")
    world.sequence()
    alice = signed_in(world.cast.alice)
    found = document(alice)
    assert found["format"] == "holdfast/my-data/v1"
    assert found["person"][0]["email"] == "alice@acme.test"
    assert [row["id"] for row in found["devices"]][:1] == [str(phone.id)]
    assert found["devices"][0]["last_used_on"] == f"{timezone.now():%Y-%m-%d}"
    assert len(found["chain"]) == account.chain.seq + 1
    assert [row["kind"] for row in found["doors"]] == ["password"]
    assert len(found["deposits"]) == 1
    assert [row["id"] for row in found["cases_about_you"]] == [str(case.id)]
    assert {"log_by_you", "log_about_you", "answers_to_policies", "sessions", "notices", "contacts"} <= set(found)
    text = json.dumps(found)
    for secret in ("sealed", "oQFBMQ", "password_hash", "argon2", "session_key"):
        assert secret not in text
    assert len(entries("tenants:data:export", world.cast.alice)) == 1


def test_data_is_not_taken_without_end(world: World) -> None:
    alice = signed_in(world.cast.alice)
    for _ in range(data.PER_HOUR):
        document(alice)
    refused = alice.post("/me/data/")
    assert refused.status_code == 429
    assert len(entries("tenants:data:export", world.cast.alice)) == data.PER_HOUR


# Cost, and a log that is away.


def test_nothing_is_done_or_shown_without_its_entry(world: World) -> None:
    give_password(world.cast.alice)
    person = Person.unscoped.get(pk=world.cast.alice.pk)
    _, key = signed_in_with(person)
    alice, other = another_browser(person), another_browser(person)
    alice.raise_request_exception = False
    codes = codes_of(person, world)
    alice.get("/me/factors/authenticator/")
    new = kept_key(alice)
    assert new is not None
    shown = made_anew(alice, key)
    forget_codes(person)
    typed = {"code": code_of(key), "new_code": code_of(new), "password": PASSWORD, "session": "others"}
    with audit_away():
        for path in ACTS:
            given = typed | {"new_code": shown[0]} if path == CONFIRM else typed
            assert alice.post(path, given).status_code == 503, path
        assert alice.get("/me/keys/").status_code == 503
    assert is_in(other)
    assert key_of(person) == key.reveal().hex()
    assert sign_in.accept_code(person=person, code=codes[0]) is not None
    # Nothing of it was spent.
    assert alice.post("/me/factors/codes/", {"code": typed["code"]}).status_code == 200


def test_pages_ask_as_often_for_many_as_for_few(world: World) -> None:
    world.deposit()
    alice = signed_in(world.cast.alice)

    def counts() -> dict[str, int]:
        found = {}
        for path in LOOKED_AT:
            alice.get(path)
            with CaptureQueriesContext(connection) as captured:
                assert alice.get(path).status_code == 200
            found[path] = len(captured)
        return found

    world.opened(world.deposit(), phone=world.new_phone("alice"))
    before = counts()
    for _ in range(2):
        world.opened(world.deposit(), phone=world.new_phone("alice"))
        another_browser(world.cast.alice)
    world.sequence()
    after = counts()
    assert after == before
    assert max(after.values()) <= 40, after


def test_every_address_has_its_name() -> None:
    assert {reverse(str(route.name)) for route in me_urlpatterns} == {*LOOKED_AT, *ACTS}
