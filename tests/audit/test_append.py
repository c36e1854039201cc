# SPDX-License-Identifier: Apache-2.0
"""Appending: in the act's transaction or not at all, and never a secret (FAULTS L1, L8, L9)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection, transaction
from hypothesis import given
from hypothesis import strategies as st

from audit import export, services
from audit.errors import AuditUnavailable
from audit.models import Entry
from audit.tags import TAGS
from holdfast.core.base.secret import SecretBytes
from holdfast.core.log.log_entry import MAX_OCTETS, MAX_TEXT, KeyLogEntry, LogEntry, key_log_subject
from holdfast.core.log.writers import WRITERS
from kernel import queue
from kernel.actors import system_actor
from kernel.models import Job
from kernel.scope import ForeignRow, UnscopedQuery, tenant_scope
from tests.audit.support import OTHER, TAG, TENANT, actor

CANARY = b"canary-of-a-secret-key-32-bytes!"


def _refuse_inserts() -> None:
    """Have the database refuse audit entries, as a full disk or a broken index would."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(
                "CREATE TRIGGER test_full BEFORE INSERT ON audit_waiting BEGIN SELECT RAISE(ABORT, 'disk full'); END"
            )
        else:
            cursor.execute(
                "CREATE FUNCTION test_full() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'disk full'; END $$"
            )
            cursor.execute(
                "CREATE TRIGGER test_full BEFORE INSERT ON audit_waiting FOR EACH ROW EXECUTE FUNCTION test_full()"
            )


def _accept_inserts() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DROP TRIGGER test_full" + ("" if connection.vendor == "sqlite" else " ON audit_waiting"))
        if connection.vendor != "sqlite":
            cursor.execute("DROP FUNCTION test_full()")


def _act() -> None:
    """What every verb does: its effect and its entry in one transaction."""
    with transaction.atomic():
        queue.enqueue("an.act")
        services.append(tag=TAG, actor=actor())


def _act_that_fails_afterwards() -> None:
    with transaction.atomic():
        services.append(tag=TAG, actor=actor())
        raise ZeroDivisionError


@pytest.fixture
def _full_disk(transactional_db: None) -> Any:
    _refuse_inserts()
    yield
    _accept_inserts()


@pytest.mark.django_db(transaction=True)
def test_append_refuses_outside_a_transaction() -> None:
    with tenant_scope(TENANT), pytest.raises(RuntimeError):
        services.append(tag=TAG, actor=actor())
    with tenant_scope(TENANT), pytest.raises(RuntimeError):
        services.append_key_leaf(type=1, user=uuid4(), seq=0, statement_hash=bytes(32))
    assert not Entry.unscoped.exists()


@pytest.mark.postgres
@pytest.mark.usefixtures("_full_disk")
def test_append_takes_the_act_back_when_the_entry_cannot_be_written() -> None:
    with tenant_scope(TENANT):
        with pytest.raises(AuditUnavailable):
            _act()
        assert not Job.objects.exists()


APPENDING: dict[str, Callable[[], Any]] = {
    "an entry": lambda: services.append(tag=TAG, actor=actor()),
    "a first entry": lambda: services.append_first(tag=TAG, actor=actor()),
    "a leaf of the directory": lambda: services.append_key_leaf(type=1, user=uuid4(), seq=0, statement_hash=bytes(32)),
}


@pytest.mark.postgres
@pytest.mark.usefixtures("_full_disk")
@pytest.mark.parametrize("appending", APPENDING)
def test_append_takes_the_act_back_when_its_refusal_is_swallowed(appending: str) -> None:
    with tenant_scope(TENANT):
        with transaction.atomic():
            queue.enqueue("an.act")
            with pytest.raises(AuditUnavailable):
                APPENDING[appending]()
        assert not Job.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_append_first_takes_the_act_back_when_the_count_cannot_be_written() -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TRIGGER full BEFORE INSERT ON audit_tally BEGIN SELECT RAISE(ABORT, 'disk full'); END")
    try:
        with tenant_scope(TENANT):
            with transaction.atomic():
                queue.enqueue("an.act")
                with pytest.raises(AuditUnavailable):
                    services.append_first(tag=TAG, actor=actor())
            assert not Job.objects.exists()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TRIGGER full")


@pytest.mark.django_db
def test_what_is_prepared_is_what_is_appended_and_stands_nowhere_yet() -> None:
    who = actor()
    with tenant_scope(TENANT):
        row = services.prepared(tag=TAG, actor=who, body={"count": 3})
        assert not Entry.objects.exists()
        with transaction.atomic(), connection.cursor() as cursor:
            columns = ", ".join(services.ENTRY_COLUMNS)
            places = ", ".join(["%s"] * len(services.ENTRY_COLUMNS))
            cursor.execute(
                f"INSERT INTO {services.ENTRY_TABLE} ({columns}) VALUES ({places})", services.parameters(row)
            )
        stored = Entry.objects.get()
        assert (stored.id, bytes(stored.leaf), stored.body) == (row.id, row.leaf, {"count": 3})
        with pytest.raises(ValueError, match="lists no"):
            services.prepared(tag=TAG, actor=who, body={"secret": 1})
        with pytest.raises(ForeignRow):
            services.prepared(tag=TAG, actor=actor(OTHER))


@pytest.mark.django_db(transaction=True)
def test_append_leaves_no_entry_when_the_act_fails_afterwards() -> None:
    with tenant_scope(TENANT):
        with pytest.raises(ZeroDivisionError):
            _act_that_fails_afterwards()
        assert not Entry.objects.exists()


@pytest.mark.django_db
def test_append_refuses_without_a_scope_and_for_another_tenants_actor() -> None:
    with pytest.raises(UnscopedQuery):
        services.append(tag=TAG, actor=actor())
    with tenant_scope(TENANT), pytest.raises(ForeignRow):
        services.append(tag=TAG, actor=actor(OTHER))


@pytest.mark.django_db
def test_append_records_the_leaf_that_its_columns_repeat() -> None:
    who, subject = actor(), str(uuid4())
    with tenant_scope(TENANT):
        row = services.append(tag=TAG, actor=who, subject=subject, body={"count": 3, "filter": "tag"})
    leaf = LogEntry.from_leaf(bytes(row.leaf))
    assert (leaf.entry_id, leaf.tag, leaf.actor, leaf.subject) == (row.id.bytes, TAG, who.label, subject)
    assert who.person_id is not None
    assert leaf.person == who.person_id.bytes
    assert leaf.time == int(row.time.timestamp())
    assert leaf.body == {"count": 3, "filter": "tag"}
    stored = Entry.unscoped.get(id=row.id)
    assert (stored.tenant_id, stored.log, stored.leaf_index, stored.refused) == (TENANT, "audit", None, "")
    assert all(getattr(stored, name) == value for name, value in row._asdict().items() if name not in ("leaf", "time"))
    assert bytes(stored.leaf) == row.leaf


@pytest.mark.django_db
def test_append_key_leaf_records_the_leaf_of_the_directory() -> None:
    user, hashed = uuid4(), bytes(range(32))
    with tenant_scope(TENANT):
        row = services.append_key_leaf(type=1, user=user, seq=7, statement_hash=hashed)
        own = services.append_key_leaf(type=3, seq=1, statement_hash=hashed)
    leaf = KeyLogEntry.from_leaf(bytes(row.leaf))
    assert (leaf.type, leaf.seq, leaf.statement_hash) == (1, 7, hashed)
    assert leaf.subject_hash == key_log_subject(TENANT.bytes, user.bytes)
    assert KeyLogEntry.from_leaf(bytes(own.leaf)).subject_hash == key_log_subject(TENANT.bytes)
    assert user.bytes not in bytes(row.leaf)


def test_every_tag_has_a_part_of_the_server_that_may_write_it() -> None:
    assert set(TAGS) <= set(WRITERS)


def test_tags_are_named_app_subject_verb_and_list_fields_that_sound_like_no_secret() -> None:
    words = {"secret", "password", "pin", "seed", "private", "share", "shares", "totp", "passphrase", "plaintext"}
    for tag, fields in TAGS.items():
        assert len(tag.split(":")) == 3, tag
        assert tag == tag.lower()
        assert not {word for field in fields for word in field.split("_")} & words - {"pin"}, tag


scalars = st.one_of(
    st.text(max_size=MAX_TEXT + 50),
    st.integers(),
    st.binary(max_size=MAX_OCTETS + 8),
    st.booleans(),
    st.none(),
    st.floats(),
    st.just(SecretBytes(CANARY)),
)
anything = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.tuples(inner) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def _hides_the_canary(value: Any) -> bool:
    if isinstance(value, SecretBytes):
        return True
    if isinstance(value, dict):
        return any(_hides_the_canary(inner) for inner in value.values())
    return isinstance(value, (list, tuple)) and any(_hides_the_canary(inner) for inner in value)


@pytest.mark.django_db
@given(
    name=st.one_of(st.sampled_from(["filter", "count"]), st.text(max_size=20)),
    value=anything,
    tag=st.one_of(st.just(TAG), st.text(max_size=30)),
)
def test_append_takes_listed_fields_of_plain_kinds_and_refuses_everything_else(name: str, value: Any, tag: str) -> None:
    with tenant_scope(TENANT), transaction.atomic():
        try:
            row = services.append(tag=tag, actor=actor(), body={name: value})
        except ValueError as error:
            refused = str(error)
        else:
            refused = ""
        assert CANARY.decode() not in refused
        if refused:
            return
        assert tag == TAG
        assert name in TAGS[TAG]
        assert type(value) in (str, int, bytes)
        assert LogEntry.from_leaf(bytes(row.leaf)).body == {name: value}
        for stored in (bytes(row.leaf), json.dumps(row.body).encode()):
            assert CANARY not in stored
        assert not _hides_the_canary(value)


@pytest.mark.django_db
@pytest.mark.parametrize("text", ["a\r\nX: 1", "\u202eesrever", '{"a":"b"}\n{"index":0}', "  ", "=1+1", "\x00\x1b[2J"])
def test_export_line_is_one_line_of_ascii_whatever_an_entry_says(text: str) -> None:
    with tenant_scope(TENANT):
        row = services.append(tag=TAG, actor=system_actor(TENANT, "test"), subject=text, body={"filter": text})
        shown = export.document(Entry.unscoped.get(id=row.id))
        from holdfast.core.log.log_export import ExportedEntry

        line = ExportedEntry(0, bytes(row.leaf), ()).to_line()
    assert shown["subject"] == shown["body"]["filter"] == text
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert line[:-1].decode("ascii").isprintable()
    assert json.loads(line)["subject"] == text
