# SPDX-License-Identifier: Apache-2.0
"""Rows that nobody entitled wrote: the database refuses them, or they get no index; the honest go on (FAULTS L14, L15).

On PostgreSQL they come from the web process's own database user, on SQLite from the one there is. The web process's key
is the forger's as well; those of others are not, so what it signs as them is signed by a key that is no role's.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit import journal, tasks
from audit.errors import LogBroken, LogRestored
from audit.models import Checkpoint, Entry, LogHead, Numbered, Restored, RolesStatement, Tile, Waiting
from holdfast.core.base.errors import HoldfastError
from holdfast.core.crypto.keys import KeyKind, SigningKey
from holdfast.core.log.log_entry import KeyLogEntry, LogEntry, log_origin
from holdfast.core.log.merkle import CompactRange, leaf_hash
from holdfast.core.log.writers import Role
from tests.audit.support import OTHER, TENANT, append, as_database_administrator, indices, leaf_hashes, sequence
from tests.cast.database_roles import connected_as, database_users
from tests.cast.roles import ROLE_KEYS, ROOT, found_roles, roles_of

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("log_token")]

Refused = (DatabaseError, psycopg.Error)
WEB = ROLE_KEYS[Role.WEB]
NOBODYS = SigningKey.generate(KeyKind.ED25519)


class Forger:
    """Whoever holds the web process: its database user, and its key."""

    def __init__(self, run: Callable[[str, list[Any]], Any]) -> None:
        self.run = run

    def insert(self, leaf: bytes, table: str = "audit_waiting", **changes: Any) -> UUID:
        """Put a row into a table of entries, whose columns say what its leaf does unless told otherwise."""
        try:
            entry = LogEntry.from_leaf(leaf)
        except HoldfastError:
            entry = entry_of()
        row = {
            "id": UUID(bytes=entry.entry_id),
            "tenant_id": TENANT,
            "log": "audit",
            "leaf": leaf,
            "tag": entry.tag,
            "actor": entry.actor,
            "person_id": None,
            "subject": entry.subject,
            "time": timezone.now(),
            "body": "{}",
        } | changes
        values = [
            value.hex if isinstance(value, UUID) and connection.vendor == "sqlite" else value for value in row.values()
        ]
        self.run(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})", values)
        return UUID(str(row["id"]))


@pytest.fixture
def forger() -> Iterator[Forger]:
    found_roles(TENANT)
    if connection.vendor == "postgresql":
        with database_users() as prefix, connected_as("web", prefix=prefix) as other:
            yield Forger(other.execute)
        return

    def run(sql: str, values: list[Any]) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(sql, values)

    yield Forger(run)


def entry_of(tag: str = "audit:entries:read", **changes: Any) -> LogEntry:
    return replace(LogEntry(uuid4().bytes, tag, "device:x", b"", "", int(timezone.now().timestamp())), **changes)


def signed(tag: str = "audit:entries:read", *, key: SigningKey = WEB, tenant: UUID = TENANT, **changes: Any) -> bytes:
    return entry_of(tag, **changes).to_signed_leaf(origin=log_origin(str(tenant), "audit"), key=key)


@dataclass(frozen=True)
class Forgery:
    """A row, and the word for which it gets no index."""

    put: Callable[[Forger], UUID]
    why: str


def _replayed(forger: Forger) -> UUID:
    (honest,) = append(1)
    return forger.insert(honest.leaf, id=uuid4())


def _repeated(forger: Forger) -> UUID:
    (honest,) = append(1)
    sequence()
    return forger.insert(honest.leaf)


FORGERIES = {
    "unsigned": Forgery(lambda f: f.insert(entry_of().to_leaf()), "unsigned"),
    "no leaf at all": Forgery(lambda f: f.insert(b"forged", id=uuid4()), "form"),
    "nobody's key": Forgery(lambda f: f.insert(signed(key=NOBODYS)), "key"),
    "a tag of the worker": Forgery(lambda f: f.insert(signed("recovery:notice:hand-over")), "role"),
    "a tag of the release process": Forgery(lambda f: f.insert(signed("recovery:release:finish")), "role"),
    "a tag of the ceremony": Forgery(lambda f: f.insert(signed("audit:log:accept")), "role"),
    "a tag of the sequencer": Forgery(lambda f: f.insert(signed("audit:entry:refuse")), "role"),
    "a tag of nobody": Forgery(lambda f: f.insert(signed("tenants:root:forget")), "role"),
    "another tenant's log": Forgery(lambda f: f.insert(signed(tenant=OTHER)), "signature"),
    "a leaf of another row": Forgery(_replayed, "columns"),
    "a leaf that has its index": Forgery(_repeated, "again"),
    "columns of another tag": Forgery(lambda f: f.insert(signed(), tag="recovery:release:finish"), "columns"),
    "columns of another actor": Forgery(lambda f: f.insert(signed(), actor="person:y"), "columns"),
    "columns of another subject": Forgery(lambda f: f.insert(signed(), subject=str(uuid4())), "columns"),
}


def test_row_that_nobody_entitled_wrote_gets_no_index_and_is_an_alarm(
    forger: Forger, caplog: pytest.LogCaptureFixture
) -> None:
    forged: dict[UUID, str] = {}
    for name, forgery in FORGERIES.items():
        append(1)
        row = forgery.put(forger)
        forged[row] = forgery.why
        append(1)
        sequence()
        assert Waiting.unscoped.get(id=row).refused == forgery.why, name
        assert f"entry {row} gets no index: {forgery.why}" in caplog.text, name
        assert not Entry.unscoped.filter(leaf_index=None, refused="").exclude(tag="audit:entry:refuse").exists(), name
        _is_sound()
    told = Entry.unscoped.filter(tag="audit:entry:refuse", refused="").values_list("subject", "body")
    assert {subject: body["why"] for subject, body in told} == {str(row): why for row, why in forged.items()}


@pytest.mark.parametrize("of", ["the same tenant", "another"])
def test_leaf_that_has_its_index_already_stops_no_log(of: str, forger: Forger) -> None:
    tenant_id = TENANT if of == "the same tenant" else OTHER
    (honest,) = append(1)
    append(1, tenant_id=OTHER)
    assert tasks.sequence_all()
    forger.insert(honest.leaf, tenant_id=tenant_id)
    append(1)
    append(1, tenant_id=OTHER)
    assert tasks.sequence_all(), "the others' heads are signed, and the honest are numbered"
    # Each log has its two entries, and the one about the refusal.
    assert tasks.sequence_all()
    assert {one: len(indices(one)) for one in (TENANT, OTHER)} == {TENANT: 2, OTHER: 2} | {tenant_id: 3}
    assert Waiting.unscoped.get(id=honest.id).refused == "again"


def _is_sound() -> None:
    """The log goes on: what comes next is numbered, and the head that is signed is of these leaves."""
    (honest,) = append(1)
    sequence()
    given = indices()
    assert given == list(range(len(given)))
    assert Entry.unscoped.get(id=honest.id).leaf_index in given
    newest = Checkpoint.unscoped.filter(tenant_id=TENANT, log="audit").latest("size")
    assert (newest.size, bytes(newest.root)) == (len(given), CompactRange.over(leaf_hashes()).root())


def test_entries_of_tenants_that_nobody_founded_cost_the_sequencer_nothing(
    forger: Forger, caplog: pytest.LogCaptureFixture
) -> None:
    def cost(strangers: int) -> int:
        for _ in range(strangers):
            nobody = uuid4()
            forger.insert(signed(tenant=nobody), tenant_id=nobody)
            forger.insert(
                KeyLogEntry(1, bytes(32), 0, bytes(32), 0).to_leaf(), id=uuid4(), tenant_id=nobody, log="keys"
            )
        (honest,) = append(1)
        with CaptureQueriesContext(connection) as asked:
            assert not tasks.sequence_all(), "it is reported"
        assert Entry.unscoped.get(id=honest.id).leaf_index is not None
        return len(asked)

    append(1)
    assert tasks.sequence_all()
    few = cost(2)
    assert cost(30) <= few
    assert "entries of 32 tenants wait whose root is not pinned here" in caplog.text
    assert set(LogHead.unscoped.values_list("tenant_id", flat=True)) == {TENANT}


@pytest.mark.postgres_only
def test_count_that_the_web_process_holds_keeps_nothing_sound_from_its_index(
    forger: Forger, caplog: pytest.LogCaptureFixture
) -> None:
    forger.insert(entry_of().to_leaf())
    sequence()
    forger.run("BEGIN", [])
    forger.run("UPDATE audit_tally SET count = count", [])
    with database_users() as prefix, connected_as("web", prefix=prefix) as other:
        second = Forger(other.execute)
        forged = second.insert(entry_of().to_leaf())
        began = time.monotonic()
        _is_sound()
        assert time.monotonic() - began < 5
    assert Entry.unscoped.get(id=forged).refused == "unsigned"
    assert "1 refused entries are not listed" in caplog.text
    forger.run("ROLLBACK", [])
    listed = Entry.unscoped.filter(tag="audit:entry:refuse").count()
    again = forger.insert(entry_of().to_leaf())
    _is_sound()
    assert Entry.unscoped.filter(tag="audit:entry:refuse", subject=str(again)).count() == 1
    assert Entry.unscoped.filter(tag="audit:entry:refuse").count() == listed + 1


def test_web_process_may_say_what_is_the_web_process_to_say(forger: Forger) -> None:
    # It enrols people, so that somebody joined is its word. What must not rest on it rests on people's signatures.
    said = forger.insert(signed("tenants:person:activate"))
    sequence()
    assert Entry.unscoped.get(id=said).leaf_index == 0


def test_time_of_a_row_is_the_databases(forger: Forger) -> None:
    began = timezone.now()
    year_ago = began - timedelta(days=365)
    said = forger.insert(signed(time=int(year_ago.timestamp())), time=year_ago)
    sequence()
    row = Entry.unscoped.get(id=said)
    assert row.leaf_index == 0
    if connection.vendor == "postgresql":
        assert began - timedelta(seconds=5) <= row.time <= timezone.now() + timedelta(seconds=5)


# How the sequencer numbers what waits.
_NUMBER = """
INSERT INTO audit_entry (seq, id, tenant_id, log, leaf, tag, actor, person_id, subject, time, body, leaf_index)
SELECT seq, id, tenant_id, log, {leaf}, tag, actor, person_id, subject, {time}, body, {index} FROM audit_waiting
"""


def _number(forger: Forger, *, leaf: str = "leaf", time: str = "time", index: str = "7") -> None:
    forger.run(_NUMBER.format(leaf=leaf, time=time, index=index), [])


# What the database itself refuses to whoever holds the web process.
REFUSED: dict[str, Callable[[Forger], Any]] = {
    "an index given": lambda f: f.insert(signed(), "audit_entry", seq=10**9, leaf_index=7),
    "an index beyond the head": lambda f: f.insert(signed(), "audit_entry", seq=10**9, leaf_index=10**9),
    "an index for another leaf than waits": lambda f: _number(f, leaf="CAST('forged' AS bytea)"),
    "an index for another time": lambda f: _number(f, time="CAST('2001-01-01' AS timestamptz)"),
    "an index below the log": lambda f: _number(f, index="-7"),
    "a refusal given": lambda f: f.insert(signed(), refused="key"),
    "an index set": lambda f: f.run("UPDATE audit_entry SET leaf_index = 2 WHERE leaf_index = 1", []),
    "an entry changed": lambda f: f.run("UPDATE audit_entry SET leaf = %s", [b"forged"]),
    "an entry deleted": lambda f: f.run("DELETE FROM audit_entry", []),
    "what waits changed": lambda f: f.run("UPDATE audit_waiting SET leaf = %s", [b"forged"]),
    "what waits refused and changed": lambda f: f.run("UPDATE audit_waiting SET refused = 'key', tag = 'x'", []),
    "what waits deleted": lambda f: f.run("DELETE FROM audit_waiting", []),
    "a checkpoint too large": lambda f: f.run(
        "INSERT INTO audit_checkpoint (id, tenant_id, log, size, root, note, vkey, signed_at)"
        " VALUES (%s, %s, 'audit', 1000000, %s, '', '', %s)",
        [uuid4().hex, TENANT.hex, bytes(32), timezone.now()],
    ),
    "a checkpoint changed": lambda f: f.run("UPDATE audit_checkpoint SET size = size + 1", []),
    "a checkpoint deleted": lambda f: f.run("DELETE FROM audit_checkpoint", []),
    "a head put back": lambda f: f.run("UPDATE audit_loghead SET size = size - 1", []),
    "a head deleted": lambda f: f.run("DELETE FROM audit_loghead", []),
    "a tile rewritten": lambda f: f.run("UPDATE audit_tile SET hashes = %s", [bytes(64)]),
    "a tile deleted": lambda f: f.run("DELETE FROM audit_tile", []),
    "roles rewritten": lambda f: f.run("UPDATE audit_rolesstatement SET version = 9", []),
}
# What on SQLite, which has no users, only the signatures and the journal stand against.
REFUSED_TO_A_USER: dict[str, Callable[[Forger], Any]] = {
    "an index": _number,
    "a word for why": lambda f: f.run("UPDATE audit_waiting SET refused = 'key'", []),
    "a place in the queue": lambda f: f.insert(signed(), seq=-1),
    "a head grown": lambda f: f.run("UPDATE audit_loghead SET size = size + 1", []),
    "a head": lambda f: f.run(
        "INSERT INTO audit_loghead (id, tenant_id, log, size, edge) VALUES (%s, %s, 'keys', 5, %s)",
        [uuid4(), TENANT, b""],
    ),
    "a tile": lambda f: f.run(
        'INSERT INTO audit_tile (id, tenant_id, log, level, "index", hashes) VALUES (%s, %s, %s, 0, 9, %s)',
        [uuid4(), TENANT, "audit", bytes(32)],
    ),
    "a checkpoint of a smaller size": lambda f: f.run(
        "INSERT INTO audit_checkpoint (id, tenant_id, log, size, root, note, vkey, signed_at)"
        " VALUES (%s, %s, 'audit', 1, %s, '', '', %s)",
        [uuid4(), TENANT, bytes(32), timezone.now()],
    ),
    "a note": lambda f: f.run("UPDATE audit_checkpoint SET note = ''", []),
    "roles": lambda f: f.run(
        "INSERT INTO audit_rolesstatement (id, tenant_id, version, hash, statement, published_at)"
        " VALUES (%s, %s, 2, %s, %s, %s)",
        [uuid4(), TENANT, bytes(32), b"forged", timezone.now()],
    ),
    "roles deleted": lambda f: f.run("DELETE FROM audit_rolesstatement", []),
    "entries emptied": lambda f: f.run("TRUNCATE audit_entry", []),
    "what waits emptied": lambda f: f.run("TRUNCATE audit_waiting", []),
    "a lock of the head": lambda f: f.run("SELECT 1 FROM audit_loghead FOR UPDATE", []),
    "a lock of the table": lambda f: f.run("DO $$ BEGIN LOCK TABLE audit_loghead IN SHARE MODE; END $$", []),
    "a trigger off": lambda f: f.run("ALTER TABLE audit_entry DISABLE TRIGGER ALL", []),
    "a function replaced": lambda f: f.run("DROP FUNCTION audit_entry_fresh() CASCADE", []),
    "a table beside": lambda f: f.run("CREATE TEMP TABLE audit_entry (id int)", []),
    "a number drawn": lambda f: f.run("SELECT setval('audit_waiting_seq_seq', 1)", []),
    "a release": lambda f: f.run("INSERT INTO recovery_release (id) VALUES (%s)", [uuid4()]),
    # A version that officers have signed it may insert; whoever reads one asks the signatures (`test_believed`,
    # tests/config/test_ceremonies.py).
    "a policy edited": lambda f: f.run("UPDATE escrow_policy SET hash = %s", [bytes(32)]),
    "a policy deleted": lambda f: f.run("DELETE FROM escrow_policy", []),
    # Their state it may set, when they say so over REST; the release process asks their statement (`test_believed`).
    "an officer's key": lambda f: f.run("UPDATE escrow_policyofficer SET person_id = %s", [uuid4()]),
    "an officer less": lambda f: f.run("DELETE FROM escrow_policyofficer", []),
    "an approval taken back": lambda f: f.run("DELETE FROM recovery_approval", []),
    "a veto taken back": lambda f: f.run("DELETE FROM recovery_veto", []),
    # A role it may give, in an act behind a code: that an officer counts, a policy says which officers signed.
    "a person moved to another tenant": lambda f: f.run("UPDATE tenants_person SET tenant_id = %s", [uuid4()]),
    "a person deleted": lambda f: f.run("DELETE FROM tenants_person", []),
}


def test_database_refuses_the_web_process_what_is_not_its_own(forger: Forger) -> None:
    append(3)
    sequence()
    on_postgresql = connection.vendor == "postgresql"
    for name, attempt in (REFUSED | REFUSED_TO_A_USER if on_postgresql else REFUSED).items():
        append(1)
        before = _everything()
        try:
            attempt(forger)
        except Refused as refusal:
            said = str(refusal)
        else:
            said = "nothing"
        assert "syntax" not in said, (name, said)
        if on_postgresql:
            ours = ("permission denied", "must be owner", "not a row to insert")
            assert any(words in said for words in ours), (name, said)
        assert said != "nothing", name
        assert _everything() == before, name
        _is_sound()


def _everything() -> str:
    rows = [
        [list(row) for row in model.unscoped.order_by("pk").values_list()]
        for model in (Waiting, Numbered, Tile, LogHead, Checkpoint, RolesStatement)
    ]
    return json.dumps(rows, default=lambda value: value.hex() if isinstance(value, bytes | memoryview) else str(value))


def test_roles_that_the_root_did_not_sign_number_nothing(forger: Forger) -> None:
    # As a database administrator may put them there, whom no grant holds back.
    append(2)
    sequence()
    stranger = SigningKey.generate(KeyKind.ED25519)
    RolesStatement.unscoped.create(
        tenant_id=TENANT,
        version=2,
        hash=bytes(32),
        statement=found_like(stranger),
        published_at=timezone.now(),
    )
    forger.insert(signed("recovery:release:finish"))
    with pytest.raises(Exception, match="not signed by this key"):
        sequence()
    assert len(indices()) == 2


def found_like(root: SigningKey) -> bytes:
    from holdfast.core.signed import cose
    from holdfast.core.signed.cose import Purpose

    payload = roles_of(TENANT, version=2, predecessor=bytes(32)).to_payload()
    return cose.sign(payload, purpose=Purpose.ROLES, key=root).encode()


def _erased() -> None:
    """What a superuser erases together: the newest entries, the head that covered them, and its signature."""
    Checkpoint.unscoped.filter(size__gt=4).delete()
    Numbered.unscoped.filter(leaf_index__gte=4).delete()
    kept = CompactRange.over([leaf_hash(bytes(row.leaf)) for row in Numbered.unscoped.order_by("leaf_index")])
    LogHead.unscoped.update(size=kept.size, edge=kept.to_bytes())
    Tile.unscoped.update(hashes=b"".join(leaf_hashes()))


def test_first_sequencer_refuses_what_was_erased_with_the_head_that_covered_it(
    forger: Forger, settings: Any, tmp_path: Path
) -> None:
    append(4)
    sequence()
    append(3)
    sequence()
    with as_database_administrator():
        _erased()
    append(1)
    with pytest.raises(LogRestored):
        sequence()
    assert Checkpoint.unscoped.latest("size").size == 4
    # Also when somebody whose journal is empty has signed more in the place of it, and the mark was erased as well.
    with as_database_administrator():
        Restored.unscoped.all().delete()
    first = settings.HOLDFAST_SEQUENCER_DIR
    settings.HOLDFAST_SEQUENCER_DIR = tmp_path / "second"
    journal.pin_root(TENANT, ROOT.public)
    append(6)
    sequence()
    assert len(indices()) == 11
    settings.HOLDFAST_SEQUENCER_DIR = first
    append(1)
    with pytest.raises(LogBroken):
        sequence()
    assert len(indices()) == 11


def test_second_sequencer_with_an_empty_journal_goes_on_with_the_log_as_it_is(
    forger: Forger, settings: Any, tmp_path: Path
) -> None:
    append(3)
    sequence()
    first = settings.HOLDFAST_SEQUENCER_DIR
    settings.HOLDFAST_SEQUENCER_DIR = tmp_path / "second"
    journal.pin_root(TENANT, ROOT.public)
    _is_sound()
    assert journal.signed_head(TENANT, "audit") is not None
    settings.HOLDFAST_SEQUENCER_DIR = first
    _is_sound()


def test_two_sequencers_at_once_number_each_entry_once_and_sign_one_log(
    forger: Forger, settings: Any, tmp_path: Path
) -> None:
    append(1)
    sequence()
    failed: list[BaseException] = []

    def sequencing() -> None:
        try:
            for _ in range(6):
                sequence()
        except BaseException as error:
            failed.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=sequencing) for _ in range(2)]
    for thread in threads:
        thread.start()
    append(12)
    forged = forger.insert(entry_of().to_leaf())
    append(3)
    for thread in threads:
        thread.join(60)
    assert not failed
    sequence()
    assert Entry.unscoped.get(id=forged).refused == "unsigned"
    # A second machine with the first one's journal of yesterday: it signs nothing but what extends it, too.
    shutil.copytree(settings.HOLDFAST_SEQUENCER_DIR, tmp_path / "yesterday")
    _is_sound()
    settings.HOLDFAST_SEQUENCER_DIR = tmp_path / "yesterday"
    _is_sound()
