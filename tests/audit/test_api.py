# SPDX-License-Identifier: Apache-2.0
"""The log over REST: read by those who may, every read an entry, and nothing of another tenant's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from audit import sequencer, services
from audit.models import Checkpoint, Entry, Numbered, RolesStatement
from holdfast.client.auditor.auditor import Verdict, Writers, verify_export
from holdfast.core.base.encoding import unb64u
from holdfast.core.identity.roles import RoleKey, Roles, root_verifier, verify_roles
from holdfast.core.log import checkpoint as notes
from holdfast.core.log import merkle
from holdfast.core.log.log_export import Header
from holdfast.core.log.writers import Role as LogRole
from holdfast.core.signed.cose import Sign1
from hsm import registry
from kernel.actors import system_actor
from kernel.scope import tenant_scope
from tests.audit.support import as_database_administrator, leaf_hashes
from tests.cast.roles import ROOT, found_roles, roles_of
from tests.cast.tenants import Cast, Signer, build_world, make_device

pytestmark = [
    pytest.mark.urls("tests.audit.urls"),
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("log_token"),
]
API = "/api/v1"


@pytest.fixture
def world() -> Cast:
    return build_world()


@pytest.fixture
def otto(world: Cast) -> Signer:
    device = make_device(world.otto)
    sequencer.sequence(world.acme.pk, "audit")
    return device


def get(signer: Signer, path: str) -> Any:
    return signer.send(Client(), "GET", f"{API}/{path}")


def acts(world: Cast, count: int, *, subject: str = "") -> None:
    with tenant_scope(world.acme.pk), transaction.atomic():
        for number in range(count):
            services.append(
                tag="audit:entries:read",
                actor=system_actor(world.acme.pk, "test"),
                subject=subject,
                body={"count": number},
            )
    sequencer.sequence(world.acme.pk, "audit")


def reads(tenant_id: UUID) -> int:
    return int(Entry.unscoped.filter(tenant_id=tenant_id, tag="audit:entries:read").count())


def test_entries_are_paged_without_a_gap_while_the_log_grows(world: Cast, otto: Signer) -> None:
    subject = str(uuid4())
    acts(world, 23, subject=subject)
    found: list[dict[str, Any]] = []
    before = ""
    pages = 0
    while pages < 10:
        pages += 1
        answer = get(otto, f"audit/entries?subject={subject}&limit=5{before}")
        assert answer.status_code == 200
        found += answer.json()["entries"]
        sequencer.sequence(world.acme.pk, "audit")  # each read is an entry by now
        if answer.json()["next"] is None:
            break
        before = f"&before={answer.json()['next']}"
    assert pages == 5
    assert [entry["body"]["count"] for entry in found] == list(range(22, -1, -1))
    assert set(found[0]) == {"index", "id", "time", "tag", "actor", "person", "subject", "body"}


def test_entries_are_filtered_by_what_is_listed_and_nothing_else(world: Cast, otto: Signer) -> None:
    with tenant_scope(world.acme.pk):
        activations = Entry.objects.filter(tag="tenants:person:activate").count()
    answer = get(otto, "audit/entries?tag=tenants:person:activate&limit=200")
    assert {entry["tag"] for entry in answer.json()["entries"]} == {"tenants:person:activate"}
    assert len(answer.json()["entries"]) == activations
    assert get(otto, "audit/entries?actor=system:ceremony&limit=1").json()["entries"][0]["actor"] == "system:ceremony"
    assert get(otto, "audit/entries?since=2100-01-01T00:00:00Z").json()["entries"] == []
    assert get(otto, "audit/entries?until=2000-01-01T00:00:00Z").json()["entries"] == []
    for bad in (
        "leaf=00", "tenant_id=x", "tag__contains=a", "order_by=leaf", "limit=0", "limit=201", "limit=x", "before=-1",
        "since=yesterday", "person=bob",
    ):  # fmt: skip
        answer = get(otto, f"audit/entries?{bad}")
        assert answer.status_code == 400, bad
        assert answer.json()["errors"][0]["field"] == bad.partition("=")[0]


@pytest.mark.parametrize(
    ("filters", "index"),
    [
        ("person={person}", "entry_person"),
        ("since=2026-01-01T00:00:00Z", "entry_time"),
        ("until=2100-01-01T00:00:00Z", "entry_time"),
        ("since=2026-01-01T00:00:00Z&until=2100-01-01T00:00:00Z", "entry_time"),
    ],
)
def test_search_by_person_or_date_is_led_by_an_index(filters: str, index: str, world: Cast, otto: Signer) -> None:
    asked = filters.format(person=world.alice.pk)
    with CaptureQueriesContext(connection) as queries:
        assert get(otto, f"audit/entries?{asked}").status_code == 200
    (search,) = [one["sql"] for one in queries if "leaf_index" in one["sql"] and "LIMIT 50" in one["sql"]]
    if connection.vendor == "sqlite":  # the other goes by how much there is
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {search}")
            assert f"INDEX {index}" in str(cursor.fetchall())


def test_read_is_recorded_once_for_each_page_with_the_names_of_its_filters(world: Cast, otto: Signer) -> None:
    before = reads(world.acme.pk)
    get(otto, "audit/entries?subject=a-secret-looking-subject&limit=3")
    assert reads(world.acme.pk) == before + 1
    entry = Entry.unscoped.filter(tag="audit:entries:read").latest("seq")
    assert (entry.actor, entry.person_id) == (f"device:{otto.id}", world.otto.pk)
    assert entry.body == {"filter": "subject", "count": 0}


def test_read_gives_nothing_when_it_cannot_be_recorded(world: Cast, otto: Signer) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TRIGGER full BEFORE INSERT ON audit_waiting BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    try:
        for path in ("audit/entries", "audit/export"):
            answer = get(otto, path)
            assert answer.status_code == 503
            assert answer.json()["code"] == "audit-unavailable"
            assert "entries" not in answer.json()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TRIGGER full")


def test_log_is_not_for_members_and_not_for_strangers(world: Cast, otto: Signer) -> None:
    alice = make_device(world.alice)
    for path in ("audit/entries", "audit/checkpoint", "audit/proof?index=0&size=1", "audit/export", "tiles/audit/0/0"):
        assert get(alice, path).status_code == 403, path
        assert Client().get(f"{API}/{path}").status_code == 401, path
        assert get(otto, path).status_code == 200, path


def test_log_of_acme_is_not_found_for_mallory(world: Cast, otto: Signer) -> None:
    mallory = make_device(world.mallory)
    assert get(mallory, "tiles/audit/0/0").status_code == 503  # mallory's own log, which has no head yet
    sequencer.sequence(world.other.pk, "audit")
    own = get(mallory, "audit/entries?limit=200").json()["entries"]
    acme = {str(entry_id) for entry_id in Entry.unscoped.filter(tenant_id=world.acme.pk).values_list("id", flat=True)}
    assert own
    assert not acme & {entry["id"] for entry in own}
    size = get(mallory, "audit/checkpoint").json()["size"]
    assert size < Checkpoint.unscoped.get(tenant_id=world.acme.pk).size
    assert get(mallory, f"audit/proof?index={size}&size={size + 1}").status_code == 422
    assert get(mallory, "tiles/audit/0/1").status_code == 404
    exported = b"".join(get(mallory, "audit/export").streaming_content)
    assert str(world.acme.pk).encode() not in exported


def test_checkpoint_and_proofs_convince_a_client_with_the_logs_key(world: Cast, otto: Signer) -> None:
    old = get(otto, "audit/checkpoint").json()
    acts(world, 300)
    new = get(otto, "audit/checkpoint").json()
    verifier = notes.NoteVerifier.from_text(new["vkey"])
    before, after = verifier.open_checkpoint(old["note"]), verifier.open_checkpoint(new["note"])
    assert (after.size, new["pending"]) == (new["size"], 0)
    rows = get(otto, f"audit/proof?from={before.size}&to={after.size}").json()["proof"]
    merkle.verify_consistency(
        old_size=before.size,
        old_root=before.root,
        size=after.size,
        new_root=after.root,
        proof=[unb64u(row) for row in rows],
    )
    hashes = leaf_hashes(world.acme.pk)
    rows = get(otto, f"audit/proof?index=7&size={after.size}").json()["proof"]
    merkle.verify_inclusion(
        hashes[7], index=7, size=after.size, proof=[unb64u(row) for row in rows], expected_root=after.root
    )
    for bad in ("index=0", "size=1", "from=1", "index=5&size=5", f"index=0&size={after.size + 1}", "from=0&to=1"):
        assert get(otto, f"audit/proof?{bad}").status_code in (400, 422), bad
    for bad in ("from=x&to=1", "log=other&index=0&size=1", "index=-1&size=1", "from=1&to=99999999999999999999"):
        assert get(otto, f"audit/proof?{bad}").status_code == 400, bad


def test_tiles_are_served_as_far_as_the_signed_head(world: Cast, otto: Signer) -> None:
    acts(world, 300)
    size = get(otto, "audit/checkpoint").json()["size"]
    hashes = leaf_hashes(world.acme.pk)[:size]
    assert get(otto, "tiles/audit/0/0").content == b"".join(hashes[:256])
    assert get(otto, "tiles/audit/0/1").content == b"".join(hashes[256:])
    assert get(otto, "tiles/audit/1/0").content == merkle.root(hashes[:256])
    with tenant_scope(world.acme.pk), transaction.atomic():
        services.append(tag="audit:entries:read", actor=system_actor(None, "test"))
    with tenant_scope(world.acme.pk):
        sequencer._number("audit")  # numbered, and not signed
    assert get(otto, "tiles/audit/0/1").content == b"".join(hashes[256:])
    for missing in ("tiles/audit/0/2", "tiles/audit/1/1", "tiles/audit/2/0", "tiles/other/0/0", "tiles/audit/99/0"):
        assert get(otto, missing).status_code == 404, missing


def test_export_is_recorded_streamed_and_verified_offline(world: Cast, otto: Signer, tmp_path: Path) -> None:
    acts(world, 600)
    answer = get(otto, "audit/export")
    assert answer.streaming
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"".join(answer.streaming_content))
    entry = Entry.unscoped.latest("seq")
    size = Checkpoint.unscoped.filter(tenant_id=world.acme.pk, log="audit").latest("size").size
    assert (entry.tag, entry.body) == ("audit:entries:exported", {"log": "audit", "size": size, "withheld": 0})
    vkey = json.loads(path.read_bytes().splitlines()[0])["vkey"]
    report = verify_export(path, vkey)
    assert (report.verdict, report.size) == (Verdict.VERIFIED, size)
    assert verify_export(path).verdict is Verdict.NOT_ANCHORED


def name_log_key(world: Cast) -> Roles:
    """Have the root name the key that signs this test's log, in a version after the one the world began with."""
    before = RolesStatement.unscoped.get(tenant_id=world.acme.pk)
    log_key = sequencer.verifier(world.acme.pk, "audit", registry.log().public_key).key
    keys = (*roles_of(world.acme.pk).keys, RoleKey(LogRole.LOG, log_key))
    signed = found_roles(world.acme.pk, version=2, predecessor=bytes(before.hash), keys=keys)
    return Roles.from_payload(signed.payload)


def test_roles_are_read_by_every_device_and_are_the_newest(world: Cast, otto: Signer) -> None:
    roles = name_log_key(world)
    for signer in (otto, make_device(world.alice)):
        answer = get(signer, "audit/roles")
        assert (answer.status_code, answer.json()["version"]) == (200, 2)
        statement = Sign1.parse(unb64u(answer.json()["statement"]))
        signed = verify_roles(statement, tenant=world.acme.pk.bytes, root_key=ROOT.public)
        assert signed.roles == roles
    assert Client().get(f"{API}/audit/roles").status_code == 401
    with as_database_administrator():
        RolesStatement.unscoped.all().delete()
    assert get(otto, "audit/roles").status_code == 404


def test_export_is_verified_from_the_root_down(world: Cast, otto: Signer, tmp_path: Path) -> None:
    name_log_key(world)
    acts(world, 20)
    root = root_verifier(world.acme.pk.bytes, ROOT.public).to_text()
    with tenant_scope(world.acme.pk), transaction.atomic():
        services.append_key_leaf(type=3, seq=1, statement_hash=bytes(32))
    for log, writers in (("audit", Writers.ANCHORED), ("keys", Writers.UNKNOWN)):
        sequencer.sequence(world.acme.pk, log)
        path = tmp_path / f"{log}.jsonl"
        path.write_bytes(b"".join(get(otto, f"audit/export?log={log}").streaming_content))
        report = verify_export(path, root)
        assert (report.verdict, report.writers) == (Verdict.VERIFIED, writers), report


def test_export_before_the_root_has_spoken_says_that_nobody_names_its_writers(
    world: Cast, otto: Signer, tmp_path: Path
) -> None:
    with as_database_administrator():
        RolesStatement.unscoped.filter(tenant_id=world.acme.pk).delete()
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"".join(get(otto, "audit/export").streaming_content))
    assert Header.from_line(path.read_bytes().splitlines(keepends=True)[0]).roles == b""
    report = verify_export(path, Checkpoint.unscoped.filter(tenant_id=world.acme.pk).latest("size").vkey)
    assert (report.verdict, report.writers) == (Verdict.VERIFIED, Writers.UNKNOWN)
    assert "names no keys that write this log" in report.reason


def test_export_shows_a_row_that_an_administrator_edited_and_names_it(
    world: Cast, otto: Signer, tmp_path: Path
) -> None:
    acts(world, 300)
    rows = Numbered.unscoped.filter(tenant_id=world.acme.pk, log="audit")

    def edit(index: int) -> None:
        other = rows.get(leaf_index=index + 1)
        rows.filter(leaf_index=index).update(leaf=bytes(other.leaf))

    def remove(index: int) -> None:
        rows.filter(leaf_index=index).delete()

    def swap(index: int) -> None:
        first, second = rows.get(leaf_index=index), rows.get(leaf_index=index + 1)
        for row, place in ((first, 90_000), (second, index), (first, index + 1)):
            rows.filter(pk=row.pk).update(leaf_index=place)

    def insert(index: int) -> None:
        for row in rows.filter(leaf_index__gte=index).order_by("-leaf_index"):
            rows.filter(pk=row.pk).update(leaf_index=row.leaf_index + 1)
        model = rows.latest("seq")
        model.seq, model.id, model.leaf_index = model.seq + 1000, uuid4(), index
        model.save(force_insert=True)

    def damage(index: int) -> None:
        rows.filter(leaf_index=index).update(leaf=b"\xff")

    vkey = Checkpoint.unscoped.filter(tenant_id=world.acme.pk).earliest("size").vkey
    for forge in (edit, remove, swap, insert, damage):
        for index in (0, 17, 255, 256, 300):
            with as_database_administrator(), transaction.atomic():
                forge(index)
                answer = get(otto, "audit/export")
                path = tmp_path / f"{forge.__name__}-{index}.jsonl"
                path.write_bytes(b"".join(answer.streaming_content))
                transaction.set_rollback(True)
            report = verify_export(path, vkey)
            assert report.verdict is Verdict.BROKEN, forge
            assert report.entry is not None
            assert report.entry.index == index, (forge, report)
