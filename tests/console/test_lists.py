# SPDX-License-Identifier: Apache-2.0
"""The console's lists: sorted by their columns and by nothing else, page by page, at a cost that does not grow."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit.models import Entry
from kernel.scope import tenant_scope
from keys.models import Device, SignedPreKey, VaultDoor
from tenants import invitations
from tenants.models import Invitation, Person
from tests.cast.browsers import signed_in, text_of
from tests.cast.tenants import make_person
from tests.cast.world import World, as_superuser

pytestmark = pytest.mark.django_db(transaction=True)


def rows(client: Client, path: str) -> list[str]:
    """Return the row headers of the page's first table."""
    page = client.get(path)
    assert page.status_code == 200
    table = page.content.decode().partition("<tbody>")[2].partition("</tbody>")[0]
    return re.findall(r'<th scope="row"[^>]*>.*?<bdi>(.*?)</bdi>', table, flags=re.DOTALL)


def heads(client: Client, path: str) -> dict[str, tuple[str, str]]:
    """Return, of each head that sorts, where it leads and how the list is sorted by it."""
    page = client.get(path).content.decode().partition("</thead>")[0]
    found = re.findall(r'<th scope="col"(?: aria-sort="(\w+)")?[^>]*><a class="sorts" href="([^"]*)">([^<]*)</a>', page)
    return {words: (to.replace("&amp;", "&"), aria) for aria, to, words in found}


def add_people(world: World, number: int) -> None:
    with tenant_scope(world.tenant_id):
        for place in range(number):
            make_person(f"member-{place:03}", "member")


def test_people_are_sorted_by_the_head_that_is_pressed_and_back_again(world: World) -> None:
    erin = signed_in(world.cast.erin)
    path = "/console/people/"
    by_name = rows(erin, path)
    assert by_name == sorted(by_name, key=str.casefold)
    assert heads(erin, path)["Person"] == ("?sort=-name", "ascending")
    assert rows(erin, path + "?sort=-name") == by_name[::-1]
    assert heads(erin, path + "?sort=-name")["Person"] == ("?", "descending")
    assert heads(erin, path + "?sort=-name")["Role"] == ("?sort=role", "")
    roles = re.findall(r'data-label="Role">([^<]*)<', erin.get(path + "?sort=role").content.decode())
    assert roles == sorted(roles)
    assert len(set(roles)) > 2


def test_a_head_keeps_the_filters_and_leads_to_the_first_page(world: World) -> None:
    add_people(world, 60)
    erin = signed_in(world.cast.erin)
    path = "/console/people/?q=member&role=member&page=2"
    assert heads(erin, path)["Added"][0] == "?q=member&role=member&sort=added"
    page = erin.get("/console/people/?q=member&sort=-name&page=2").content.decode()
    assert '<input type="hidden" name="sort" value="-name">' in page
    assert 'href="?q=member&amp;sort=-name&amp;page=1"' in page


@pytest.mark.parametrize("sort", ["password", "-password", "tenant__slug", "search", "", "-", "--name", "name,state"])
def test_lists_are_sorted_by_their_columns_and_by_nothing_else(sort: str, world: World) -> None:
    erin = signed_in(world.cast.erin)
    for path in ("people/", "cases/", "audit/", "escrow/answers/", "escrow/", "people/devices/"):
        plain, asked = (heads(erin, f"/console/{path}{query}") for query in ("", f"?sort={sort}"))
        assert asked == plain, path


def test_a_page_beyond_the_last_says_so_and_leads_to_the_last(world: World) -> None:
    add_people(world, 60)
    erin = signed_in(world.cast.erin)
    page = erin.get("/console/people/?q=member&page=7")
    assert "There is no page 7 This list ends with page 2 ." in text_of(page)
    assert 'href="?q=member&amp;page=2"' in page.content.decode()
    assert "Nobody found" not in text_of(page)
    last = text_of(erin.get("/console/people/?q=member&page=2"))
    assert "51–60 of 60" in last
    assert "no page" not in last
    assert "The list has ended" in text_of(erin.get("/console/audit/?before=0"))


def test_audit_log_goes_both_ways_from_its_cursor(world: World) -> None:
    for _ in range(3):
        add_people(world, 0)
    world.sequence()
    otto = signed_in(world.cast.otto)

    def numbers(query: str) -> list[int]:
        page = otto.get(f"/console/audit/{query}").content.decode()
        return [int(one) for one in re.findall(r'href="/console/audit/(\d+)/"', page)]

    with tenant_scope(world.tenant_id):
        size = Entry.objects.filter(log="audit", leaf_index__isnull=False).count()
    oldest = [number for number in numbers("?sort=entry") if number < size]
    assert oldest[:5] == [0, 1, 2, 3, 4]
    assert numbers("?sort=entry&after=3")[0] == 4
    assert numbers("?before=3") == [2, 1, 0]


def test_people_whose_link_ended_are_listed_and_counted(world: World) -> None:
    olivia = signed_in(world.cast.people["olivia"])
    with tenant_scope(world.tenant_id):
        for name in ("yves", "zoe"):
            person = make_person(name, "member")
            Person.objects.filter(pk=person.pk).update(state="invited")
            person.state = "invited"
            invitations.invite(person=person, actor=world.ceremony)
    none = "/console/people/?show=no-link"
    assert "Nobody waits with a link that has ended" in text_of(olivia.get(none))
    Invitation.unscoped.filter(person__name="Zoe").update(expires_at=timezone.now() - timedelta(seconds=1))
    assert rows(olivia, none) == ["Zoe"]
    assert rows(olivia, "/console/people/?show=invited") == ["Yves", "Zoe"]
    assert "1 invited person has no link that works" in text_of(olivia.get("/console/"))


def test_devices_without_pre_keys_are_listed_until_they_have_both(world: World) -> None:
    phone, erin = world.directory.phone("alice"), signed_in(world.cast.erin)
    name = Device.unscoped.get(id=phone.id).name
    path = "/console/people/devices/"
    assert name in rows(erin, path)
    assert "none left" in text_of(erin.get(path))
    phone.publish()
    assert name not in rows(erin, path)
    ended = int(timezone.now().timestamp()) - 1
    SignedPreKey.unscoped.filter(device_id=phone.id).update(expires_at=ended)
    assert name in rows(erin, path)
    assert "ended" in text_of(erin.get(path))


def test_people_without_two_doors_are_those_with_a_device(world: World) -> None:
    phone, erin = world.directory.phone("alice"), signed_in(world.cast.erin)
    path = "/console/people/doors/"
    assert rows(erin, path) == ["Alice"]
    assert "person has fewer than two doors" in text_of(erin.get("/console/"))
    stored = {"version": 1, "sealed": b"x", "blob_hash": bytes(32)}
    row = {"tenant_id": world.tenant_id, "user_id": phone.person.pk, **stored}
    VaultDoor.unscoped.create(kind="password", **row)
    # A door of the officers' section opens nothing of the vault.
    VaultDoor.unscoped.create(kind="officers-phrase", **row)
    assert "only password" in text_of(erin.get(path))
    VaultDoor.unscoped.create(kind="phrase", **row)
    assert rows(erin, path) == []
    assert "Everybody with a device has two doors" in text_of(erin.get(path))


def test_who_never_answered_is_listed_apart(world: World) -> None:
    world.consent("alice")
    world.consent("bob", agreed=False)
    erin = signed_in(world.cast.erin)
    path = "/console/escrow/answers/?answer="
    assert rows(erin, path + "agreed") == ["Alice"]
    assert rows(erin, path + "refused") == ["Bob"]
    assert not {"Alice", "Bob"} & set(rows(erin, path + "none"))
    assert rows(erin, path + "older") == []
    everybody = rows(erin, path)
    assert len(rows(erin, path + "none")) == len(everybody) - 2
    assert f"{len(everybody) - 2} people never answered the escrow question" in text_of(erin.get("/console/"))


def test_first_of_all_stands_what_waits_for_this_person(world: World) -> None:
    case, deposit = world.approved("carol")
    proposed = world.policy(m=2, delay_seconds=600)
    assert world.propose(proposed, "carol").status_code == 201
    dan = signed_in(world.cast.dan)
    text = text_of(dan.get("/console/"))
    waiting, signing = "1 case waits for your decision", "1 policy version waits for your signature"
    assert text.index("What you have to do first") < text.index(waiting) < text.index(signing)
    assert waiting not in text_of(signed_in(world.cast.carol).get("/console/"))
    assert world.sign_policy(proposed, "dan").status_code == 201
    assert world.approve(case, "dan", deposit).status_code == 201
    text = text_of(dan.get("/console/"))
    assert waiting not in text
    assert signing not in text
    for name in ("olivia", "otto", "rex"):
        text = text_of(signed_in(world.cast.people[name]).get("/console/"))
        assert "your decision" not in text
        assert "your signature" not in text


def test_support_sees_of_what_is_to_be_done_only_what_it_may_open(world: World) -> None:
    with tenant_scope(world.tenant_id):
        sam = signed_in(make_person("sam", "support"))
    world.directory.phone("alice")
    page = sam.get("/console/").content.decode()
    links = re.findall(r'<a class="first-what" href="([^"#?]*)', page)
    assert set(links) == {"/console/people/devices/", "/console/people/doors/"}
    assert all(sam.get(link).status_code == 200 for link in links)


def test_ceremonies_are_what_the_log_knows_of_them_and_reading_is_an_entry(world: World) -> None:
    world.sequence()
    otto = signed_in(world.cast.otto)
    with tenant_scope(world.tenant_id):
        done = Entry.objects.filter(log="audit", actor="system:ceremony", leaf_index__isnull=False).count()
        before = Entry.objects.filter(tag="audit:entries:read").count()
    page = otto.get("/console/ceremonies/")
    text = text_of(page)
    assert "None has been signed yet" in text
    assert "manage.py ceremony transcript acme" in text
    assert 0 < page.content.decode().count('<td data-label="Entry"') == min(done, 50)
    with tenant_scope(world.tenant_id):
        assert Entry.objects.filter(tag="audit:entries:read").count() == before + 1


def test_next_policy_is_said_in_words_and_as_the_command_that_proposes_it(world: World) -> None:
    dan, path = signed_in(world.cast.dan), "/console/escrow/policy/propose/"
    untouched = dan.get(path)
    assert "holdfast officer policy propose --" not in text_of(untouched)
    changed = dan.get(path, {"m": "2", "delay_seconds": "2d", "purposes": "legal", "text": "Ask us; it's fine."})
    text = text_of(changed)
    command = "holdfast officer policy propose --delay 2d --purpose legal --text 'Ask us; it'\"'\"'s fine.'"
    assert command in text
    assert "Version 2 comes after version 1: 2 of 3 officers." in text
    assert "never be in force" not in text
    assert "Delay none 2 days" in text
    typed = {"m": "3", "remove": "1", "delay_seconds": "soon", "cooling_off_seconds": "31d", "deposits": "x"}
    wrong = dan.get(path, typed)
    text = text_of(wrong)
    for said in ("A policy takes 3 to 16 officers, and this leaves 2.", "A number from 2", "as 90m, 48h", "Choose one"):
        assert said in text, said
    assert 'value="soon"' in wrong.content.decode()
    assert "It would change nothing" in text_of(dan.get(path, {"m": "2"}))
    # Nothing was proposed by looking.
    assert "Proposed policies" not in text_of(dan.get("/console/escrow/"))
    assert "Owners and officers propose." in text_of(signed_in(world.cast.otto).get(path))


@pytest.fixture
def crowd(world: World) -> Iterator[World]:
    """Ten thousand people more, by rows alone."""
    with tenant_scope(world.tenant_id):
        made = [
            Person(
                tenant_id=world.tenant_id,
                email=f"crowd-{number}@acme.test",
                email_key=f"crowd-{number}@acme.test",
                name=f"Crowd {number:05}",
                search=f"crowd {number:05}\ncrowd-{number}@acme.test",
                state="active",
            )
            for number in range(10_000)
        ]
        Person.objects.bulk_create(made, batch_size=1000)
    yield world
    with as_superuser("tenants_person") as cursor:
        cursor.execute("DELETE FROM tenants_person WHERE email_key LIKE 'crowd-%'")


def test_ten_thousand_people_cost_no_query_more(world: World, request: pytest.FixtureRequest) -> None:
    erin = signed_in(world.cast.erin)
    paths = ("people/", "people/?sort=-role&page=2", "people/doors/", "people/devices/", "escrow/answers/", "")

    def asked() -> dict[str, int]:
        found = {}
        for path in paths:
            erin.get(f"/console/{path}")
            with CaptureQueriesContext(connection) as captured:
                assert erin.get(f"/console/{path}").status_code == 200
            found[path] = len(captured)
        return found

    add_people(world, 60)
    before = asked()
    request.getfixturevalue("crowd")
    assert asked() == before
    assert max(before.values()) <= 54
    page = erin.get("/console/people/?q=crowd&page=200")
    assert "9951–10000 of 10000" in text_of(page)
    assert len(page.content) < 200_000
