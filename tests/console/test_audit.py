# SPDX-License-Identifier: Apache-2.0
"""The audit log's pages: filters, one entry with its proof, and that reading is written down."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from django.db import transaction
from django.utils import timezone

from audit.models import Entry, Waiting
from holdfast.core.base.encoding import b64u
from holdfast.core.log.log_entry import LogEntry, log_origin
from holdfast.core.log.merkle import leaf_hash
from holdfast.core.log.writers import Role
from kernel.scope import tenant_scope
from tests.cast.browsers import signed_in, text_of
from tests.cast.roles import ROLE_KEYS
from tests.cast.world import World, as_superuser

pytestmark = pytest.mark.django_db(transaction=True)

AUDIT = "/console/audit/"


def reads() -> list[dict[str, object]]:
    return [row.body for row in Entry.unscoped.filter(tag="audit:entries:read").order_by("seq")]


def test_reading_entries_is_an_entry_itself(world: World) -> None:
    world.sequence()
    otto = signed_in(world.cast.otto)
    assert reads() == []
    otto.get(f"{AUDIT}?tag=tenants:")
    otto.get(f"{AUDIT}0/")
    assert [body["filter"] for body in reads()] == ["tag", "index"]
    row = Entry.unscoped.filter(tag="audit:entries:read").order_by("seq")[0]
    assert (row.actor, row.person_id) == (f"person:{world.cast.otto.pk}", world.cast.otto.pk)


def test_entry_is_shown_from_its_leaf_with_a_proof_that_holds(world: World) -> None:
    world.sequence()
    row = Entry.unscoped.get(tenant_id=world.tenant_id, log="audit", tag="escrow:policy:publish")
    text = text_of(signed_in(world.cast.otto).get(f"{AUDIT}{row.leaf_index}/"))
    for said in ("proven", b64u(bytes(row.leaf)), leaf_hash(bytes(row.leaf)).hex(), world.policies[0].hash.hex()):
        assert said in text, said
    assert f"holdfast/{world.tenant_id}/audit" in text


def test_entry_whose_row_says_otherwise_is_shown_from_the_leaf_and_flagged(world: World) -> None:
    world.sequence()
    row = Entry.unscoped.get(tenant_id=world.tenant_id, log="audit", tag="escrow:policy:publish")
    with as_superuser("audit_entry") as cursor:
        cursor.execute("UPDATE audit_entry SET tag = 'escrow:policy:forged' WHERE seq = %s", [row.seq])
    text = text_of(signed_in(world.cast.otto).get(f"{AUDIT}{row.leaf_index}/"))
    assert "does not say what the leaf says" in text
    assert "Policy published" in text


def test_entry_whose_leaf_was_changed_is_not_proven(world: World) -> None:
    world.sequence()
    row, other = Entry.unscoped.filter(tenant_id=world.tenant_id, log="audit").order_by("seq")[:2]
    with as_superuser("audit_entry") as cursor:
        cursor.execute("UPDATE audit_entry SET leaf = %s WHERE seq = %s", [bytes(other.leaf), row.seq])
    text = text_of(signed_in(world.cast.otto).get(f"{AUDIT}{row.leaf_index}/"))
    assert "not proven" in text
    assert "does not lead to the root" in text


def test_part_of_the_server_that_wrote_an_entry_is_shown_by_its_signature(world: World) -> None:
    otto = signed_in(world.cast.otto)
    otto.get(AUDIT)
    world.sequence()
    rows = Entry.unscoped.filter(tenant_id=world.tenant_id, log="audit")
    for tag, by in (("escrow:policy:publish", "ceremony"), ("audit:entries:read", "web process")):
        row = rows.filter(tag=tag).order_by("seq")[0]  # each page that is looked at writes one more
        assert f"Written by {by}" in text_of(otto.get(f"{AUDIT}{row.leaf_index}/"))
        assert f"written by {by}" in text_of(otto.get(f"{AUDIT}?tag={tag}"))


def test_entry_inside_the_log_that_nobody_entitled_wrote_is_an_alarm(world: World) -> None:
    world.sequence()
    row = Entry.unscoped.get(tenant_id=world.tenant_id, log="audit", tag="escrow:policy:publish")
    forged = LogEntry.from_leaf(bytes(row.leaf)).signed(
        origin=log_origin(str(world.tenant_id), "audit"), key=ROLE_KEYS[Role.RELEASE]
    )
    with as_superuser("audit_entry") as cursor:
        cursor.execute("UPDATE audit_entry SET leaf = %s WHERE seq = %s", [forged.to_leaf(), row.seq])
    otto = signed_in(world.cast.otto)
    assert "may not write such an entry" in text_of(otto.get(f"{AUDIT}{row.leaf_index}/"))
    assert "written by nobody who may" in text_of(otto.get(f"{AUDIT}?tag=escrow:policy:"))


def test_rows_kept_out_of_the_log_are_a_standing_warning_without_a_word_of_theirs(world: World) -> None:
    otto = signed_in(world.cast.otto)
    assert "no part of the server may have written" not in text_of(otto.get(AUDIT))
    hostile = "<b>forged</b>"
    with tenant_scope(world.tenant_id), transaction.atomic():
        for _ in range(12):
            entry = LogEntry(uuid4().bytes, "tenants:sign-in:accept", hostile, b"", hostile, 1_800_000_000)
            Waiting.unscoped.create(
                id=UUID(bytes=entry.entry_id), tenant_id=world.tenant_id, log="audit", leaf=entry.to_leaf(),
                tag=entry.tag, actor=hostile, subject=hostile, time=timezone.now(),
            )  # fmt: skip
    world.sequence()
    world.sequence()
    for name in ("carol", "dan"):
        assert "no part of the server may have written" in text_of(signed_in(world.cast.people[name]).get("/console/"))
        page = signed_in(world.cast.people[name]).get(AUDIT)
        text = text_of(page)
        assert "no part of the server may have written" in text
        assert "no part of the server has signed it" in text
        assert "and more, which the log counts" in text
        assert "forged" not in page.content.decode()
        assert text.count("no part of the server has signed it") == 10
    # Nor in a list, a filter or an entry's page: what has no number is not in the log.
    assert "No such entry" in text_of(otto.get(f"{AUDIT}?about={hostile}"))
    assert "Forged entry kept out of the log" in text_of(otto.get(f"{AUDIT}?tag=audit:entry:"))


def test_filters_find_by_tag_person_and_subject(world: World) -> None:
    case, _ = world.approved("carol")
    world.sequence()
    otto = signed_in(world.cast.otto)
    assert "An officer approved" in text_of(otto.get(f"{AUDIT}?about={case.id}"))
    by_carol = text_of(otto.get(f"{AUDIT}?by={world.cast.carol.pk}&tag=recovery:case:"))
    assert "An officer approved" in by_carol
    assert "Case: Opened" not in by_carol
    assert "No such entry" in text_of(otto.get(f"{AUDIT}?until=2020-01-01"))
    assert "Policy published" in text_of(otto.get(f"{AUDIT}?since=2020-01-01&tag=escrow:policy:"))


def test_filters_that_cannot_be_read_are_named(world: World) -> None:
    otto = signed_in(world.cast.otto)
    for query, words in (
        ("since=yesterday", "A day, as"),
        ("by=me", "A person’s id"),
        ("until=9999-12-31", "A day, as"),
    ):
        page = text_of(otto.get(f"{AUDIT}?{query}"))
        assert words in page
        assert "Nothing was searched" in page


def test_older_pages_follow_without_a_gap(world: World) -> None:
    for _ in range(3):
        world.opened(world.deposit())
    world.sequence()
    otto = signed_in(world.cast.otto)
    seen: list[int] = []
    path = AUDIT
    for _ in range(10):
        page = otto.get(path)
        seen += [line["row"].leaf_index for line in page.context["rows"]]
        if not page.context["older"]:
            break
        path = AUDIT + page.context["older"]
    assert seen == list(range(seen[0], -1, -1))
