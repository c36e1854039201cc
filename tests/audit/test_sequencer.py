# SPDX-License-Identifier: Apache-2.0
"""The sequencer: gapless, never two heads, resumed after any kill, and nothing signed that was not signed before."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit import access, sequencer, services, tasks
from audit.errors import LogBroken, NoCheckpoint
from audit.models import Checkpoint, Entry, LogHead, Numbered, Tile
from holdfast.client.auditor.auditor import Verdict, verify_export
from holdfast.core.log import checkpoint as notes
from holdfast.core.log import merkle, tiles
from hsm import registry
from hsm.backend import LogToken, SigningPublicKey
from hsm.config import HsmConfig
from hsm.errors import HsmUnavailable
from hsm.runtime import open_tokens
from kernel.retries import Retries
from kernel.scope import tenant_scope
from tests.audit.support import (
    OTHER,
    TAG,
    TENANT,
    actor,
    append,
    as_database_administrator,
    export_to,
    indices,
    leaf_hashes,
    sequence,
)
from tests.cast.roles import found_roles


def head_of(log: str = "audit") -> notes.Checkpoint:
    with tenant_scope(TENANT):
        row = access.latest_checkpoint(log)
    return notes.NoteVerifier.from_text(row.vkey).open_checkpoint(row.note)


def assert_log_is_sound() -> None:
    """What must hold at every moment, whatever was killed: L13's invariants."""
    hashes, head = leaf_hashes(), LogHead.unscoped.filter(tenant_id=TENANT, log="audit").first()
    assert indices() == list(range(len(hashes)))
    assert (head.size if head else 0) == len(hashes)
    with tenant_scope(TENANT):
        if hashes:
            assert tiles.root(access.tile_reader("audit"), len(hashes)) == merkle.root(hashes)
        for row in Checkpoint.objects.all():
            assert row.size <= len(hashes)
            assert bytes(row.root) == merkle.root(hashes[: row.size])
            signed = notes.NoteVerifier.from_text(row.vkey).open_checkpoint(row.note)
            assert (signed.size, signed.root) == (row.size, bytes(row.root))


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("log_token")
def test_sequence_numbers_without_gaps_and_signs_the_tree_of_the_leaves() -> None:
    append(5)
    assert sequence() == 5
    append(3)
    assert sequence() == 3
    assert sequence() == 0
    head = head_of()
    assert (head.origin, head.size, head.root) == (f"holdfast/{TENANT}/audit", 8, merkle.root(leaf_hashes()))
    assert_log_is_sound()


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("log_token")
def test_sequence_keeps_the_two_logs_and_the_tenants_apart() -> None:
    append(3)
    append(2, tenant_id=OTHER)
    with tenant_scope(TENANT), transaction.atomic():
        services.append_key_leaf(type=1, user=uuid4(), seq=0, statement_hash=bytes(32))
    tasks.sequence_all()
    assert [indices(), indices(OTHER), indices(TENANT, "keys")] == [[0, 1, 2], [0, 1], [0]]
    assert head_of("keys").origin == f"holdfast/{TENANT}/keys"
    with tenant_scope(OTHER):
        assert access.latest_checkpoint("audit").size == 2
        with pytest.raises(NoCheckpoint):
            access.latest_checkpoint("keys")


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("log_token")
def test_sequence_proves_every_entry_and_every_growth_across_tile_edges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequencer, "BATCH", 97)
    seen: list[tuple[int, bytes]] = []
    for grow in (1, 1, 253, 1, 1, 254, 2, 40):
        append_many(grow)
        sequence()
        head = head_of()
        seen.append((head.size, head.root))
    hashes, (size, root) = leaf_hashes(), seen[-1]
    assert size == 553
    assert root == merkle.root(hashes)
    with tenant_scope(TENANT):
        for index in [*range(0, size, 7), 254, 255, 256, 257, 511, 512, size - 1]:
            proof = access.inclusion("audit", index=index, size=size)
            merkle.verify_inclusion(hashes[index], index=index, size=size, proof=proof, expected_root=root)
        for old_size, old_root in seen:
            proof = access.consistency("audit", old_size=old_size, size=size)
            merkle.verify_consistency(old_size=old_size, old_root=old_root, size=size, new_root=root, proof=proof)
    assert_log_is_sound()


def append_many(count: int) -> None:
    found_roles(TENANT)
    with tenant_scope(TENANT), transaction.atomic():
        for number in range(count):
            services.append(tag=TAG, actor=actor(), body={"count": number})


@pytest.mark.django_db
def test_tiles_grow_by_the_page_up_to_the_third_level() -> None:
    total = 2 * 65_536 + 300
    hashes = [merkle.leaf_hash(n.to_bytes(4, "big")) for n in range(total)]
    with tenant_scope(TENANT):
        at = 0
        for step in (1, 255, 65_000, 279, 1, 2, 65_000, 1, total):
            batch = hashes[at : at + step]
            sequencer._grow_tiles("audit", at, batch)
            at += len(batch)
            assert tiles.root(access.tile_reader("audit"), at) == merkle.root(hashes[:at])
        assert at == total
        assert Tile.objects.filter(level=2).count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("log_token")
def test_sequence_asks_no_more_of_the_database_when_the_log_has_grown() -> None:
    def cost() -> int:
        append(1)
        with CaptureQueriesContext(connection) as asked:
            sequence()
        return len(asked)

    append(300)
    sequence()
    small = cost()
    append_many(2_000)
    sequence()
    assert cost() <= small


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("seconds", [-31, 7200])
def test_sequence_signs_the_same_root_again_when_the_head_is_of_another_time(log_token: LogToken, seconds: int) -> None:
    append(2)
    sequence()
    first = head_of()
    with as_database_administrator():
        row = Checkpoint.unscoped.get()
        Checkpoint.unscoped.filter(pk=row.pk).update(signed_at=row.signed_at + timedelta(seconds=seconds))
    assert sequence() == 0
    again = head_of()
    assert (again.size, again.root) == (first.size, first.root)
    assert again.time is not None
    assert first.time is not None
    assert again.time >= first.time
    assert Checkpoint.unscoped.count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("log_token")
def test_head_that_a_clock_signed_ahead_is_replaced_when_the_clock_is_right_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    append(2)
    with monkeypatch.context() as ahead:
        ahead.setattr(timezone, "now", lambda: datetime.now(UTC) + timedelta(hours=2))
        sequence()
    assert (head_of().time or 0) > time.time() + 7000
    sequence()
    again = Checkpoint.unscoped.get()
    assert abs((head_of().time or 0) - time.time()) < 60
    # And what is replaced is at rest: the HSM is not asked once more at each look.
    sequence()
    assert Checkpoint.unscoped.get().note == again.note


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("log_token")
def test_tenants_of_whom_somebody_asks_cost_nothing_while_their_heads_are_fresh(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    others = [uuid4() for _ in range(20)]
    asked: set[UUID] = {TENANT}
    monkeypatch.setattr(access, "_askings", [lambda: asked])
    monkeypatch.setattr(access, "_wantings", [])
    append(1)
    for tenant_id in others:
        LogHead.unscoped.create(tenant_id=tenant_id, log="keys", size=1, signed_size=1)
        Checkpoint.unscoped.create(
            tenant_id=tenant_id, log="keys", size=1, root=bytes(32), note="", vkey="", signed_at=timezone.now()
        )
    assert tasks.sequence_all()

    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert tasks.sequence_all()
        return len(queries)

    one = cost()
    asked.update(others)
    assert cost() == one


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("log_token")
def test_tenants_at_rest_cost_nothing_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "_askings", [])
    monkeypatch.setattr(access, "_wantings", [])

    def cost() -> tuple[int, int]:
        """Of a round with nothing to do, and of one in which a tenant has an entry."""
        counts = []
        for news in (0, 1):
            append(news)
            with CaptureQueriesContext(connection) as queries:
                assert tasks.sequence_all()
            counts.append(len(queries))
        return counts[0], counts[1]

    append(1)
    assert tasks.sequence_all()
    few = cost()
    for tenant_id in (uuid4() for _ in range(1000)):
        with tenant_scope(tenant_id):
            LogHead.objects.bulk_create(LogHead(log=log, size=3, signed_size=3) for log in sequencer.LOGS)
    assert cost() == few
    with CaptureQueriesContext(connection) as queries:
        tasks.sequence_all()
    looks = [one["sql"] for one in queries if one["sql"].startswith("SELECT")]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET enable_seqscan = off")  # a table of a test is read faster than its index
        indices = (
            "audit_restored",
            "entry_waiting",
            "head_unsigned",
        )  # the first table has rows after a restored backup alone
        for look, index in zip(looks, indices, strict=True):
            cursor.execute(f"{'EXPLAIN' if connection.vendor == 'postgresql' else 'EXPLAIN QUERY PLAN'} {look}")
            assert index in str(cursor.fetchall())
        if connection.vendor == "postgresql":
            cursor.execute("RESET enable_seqscan")


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("seconds", "is_old"), [(-29, False), (-31, True), (5, True), (7200, True), (None, True)])
def test_head_grows_old_by_the_time_of_its_signature_and_is_looked_at(seconds: int | None, is_old: bool) -> None:
    LogHead.unscoped.create(tenant_id=TENANT, log="audit", size=1, signed_size=1)
    LogHead.unscoped.create(tenant_id=OTHER, log="keys")  # nothing was ever written
    if seconds is not None:
        signed_at = timezone.now() + timedelta(seconds=seconds)
        Checkpoint.unscoped.create(
            tenant_id=TENANT, log="audit", size=1, root=bytes(32), note="", vkey="", signed_at=signed_at
        )
    assert sequencer.growing_old({TENANT, OTHER}) == ({TENANT} if is_old else set())


class Away:
    """A log token whose HSM does not answer."""

    def __init__(self, public_key: SigningPublicKey) -> None:
        self.public_key = public_key

    def sign(self, data: bytes) -> bytes:
        raise HsmUnavailable("no answer")


@pytest.mark.django_db(transaction=True)
def test_sequence_resumes_with_the_signature_when_the_hsm_was_away(
    log_token: LogToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(2)
    with monkeypatch.context() as away:
        away.setattr(registry, "_tokens", {"log": Away(log_token.public_key)})
        with pytest.raises(HsmUnavailable):
            sequence()
    assert indices() == [0, 1]
    with tenant_scope(TENANT):
        with pytest.raises(NoCheckpoint):
            access.latest_checkpoint("audit")
        assert access.pending("audit") == 2
    append(1)
    assert sequence() == 1
    assert head_of().size == 3
    assert_log_is_sound()


def _edit_leaf() -> None:
    Numbered.unscoped.filter(leaf_index=3).update(leaf=b"forged")


def _cut_tail() -> None:
    Numbered.unscoped.filter(leaf_index__gte=4).delete()


def _cut_tail_and_head() -> None:
    _cut_tail()
    kept = merkle.CompactRange.over(leaf_hashes())
    LogHead.unscoped.update(size=kept.size, edge=kept.to_bytes())


def _rewrite_tile() -> None:
    row = Tile.unscoped.get(level=0)
    Tile.unscoped.filter(pk=row.pk).update(hashes=bytes(32) + bytes(row.hashes)[32:])


def _rewrite_tile_and_head() -> None:
    _rewrite_tile()
    hashes = [bytes(32), *leaf_hashes()[1:]]
    LogHead.unscoped.update(edge=merkle.CompactRange.over(hashes).to_bytes())


def _add_behind_the_head() -> None:
    row = Numbered.unscoped.get(leaf_index=0)
    row.seq, row.id, row.leaf, row.leaf_index = row.seq + 1000, uuid4(), b"forged", 6
    row.save(force_insert=True)


def _forget_tile() -> None:
    Tile.unscoped.filter(level=0).delete()


@pytest.mark.parametrize(
    "forge",
    [_cut_tail, _cut_tail_and_head, _rewrite_tile, _rewrite_tile_and_head, _add_behind_the_head, _forget_tile],
)
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("log_token")
def test_sequence_refuses_to_sign_over_a_log_that_is_not_the_one_it_signed(forge: Callable[[], None]) -> None:
    append(6)
    sequence()
    with as_database_administrator():
        forge()
    append(1)
    with pytest.raises(LogBroken):
        sequence()
    assert Checkpoint.unscoped.count() == 1
    tasks.sequence_all()  # reports it, and goes on to the other tenants
    append(1, tenant_id=OTHER)
    tasks.sequence_all()
    assert indices(OTHER) == [0]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("log_token")
def test_one_log_that_fails_in_its_own_way_keeps_no_other_from_being_signed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tasks, "_failing", Retries(first=0, longest=0))
    append(1)
    append(1, tenant_id=OTHER)
    assert tasks.sequence_all()
    for sick in (TENANT, OTHER):
        append(1)
        append(1, tenant_id=OTHER)
        sequence_one = sequencer.sequence

        def fails(tenant_id: Any, log: str, *, sick: Any = sick, sequence_one: Any = sequence_one) -> int:
            if tenant_id == sick:
                raise ZeroDivisionError
            return int(sequence_one(tenant_id, log))

        with monkeypatch.context() as patch:
            patch.setattr(sequencer, "sequence", fails)
            assert not tasks.sequence_all()
        assert f"of tenant {sick}: ZeroDivisionError" in caplog.text
    assert [indices(), indices(OTHER)] == [[0, 1, 2], [0, 1]]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("log_token")
def test_log_that_fails_is_looked_at_ever_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    now, looks = [0.0], []

    def fails(tenant_id: Any, log: str) -> int:
        looks.append(log)
        raise ZeroDivisionError

    monkeypatch.setattr(tasks, "_failing", Retries(first=1, longest=60, clock=lambda: now[0]))
    append(1)
    with monkeypatch.context() as patch:
        patch.setattr(sequencer, "sequence", fails)
        for second in range(1200):
            now[0] = float(second)
            tasks.sequence_all()
    assert looks.count("audit") < 30
    now[0] += 60
    assert tasks.sequence_all()


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("log_token")
def test_damaged_root_of_one_tenant_keeps_no_other_from_being_signed(settings: Any) -> None:
    append(1)
    append(1, tenant_id=OTHER)
    (settings.HOLDFAST_SEQUENCER_DIR / str(TENANT) / "root").write_bytes(b"damaged")
    assert not tasks.sequence_all()
    assert [indices(), indices(OTHER)] == [[], [0]]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("log_token")
def test_sequence_leaves_no_gap_when_transactions_roll_back() -> None:
    append(2)
    with tenant_scope(TENANT), transaction.atomic():
        services.append(tag=TAG, actor=actor())
        transaction.set_rollback(True)
    append(2)
    assert sequence() == 4
    assert indices() == [0, 1, 2, 3]


@pytest.mark.postgres_only
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("log_token")
def test_sequence_numbers_an_entry_that_commits_after_a_younger_one() -> None:
    begun, commit = threading.Event(), threading.Event()

    def slow() -> None:
        with tenant_scope(TENANT), transaction.atomic():
            services.append(tag=TAG, actor=actor(), subject="slow")
            begun.set()
            assert commit.wait(20)
        connection.close()

    thread = threading.Thread(target=slow)
    thread.start()
    assert begun.wait(20)
    append(2)
    assert sequence() == 2
    commit.set()
    thread.join(20)
    assert sequence() == 1
    assert Entry.unscoped.get(subject="slow").leaf_index == 2
    assert indices() == [0, 1, 2]


def _in_threads(*work: Callable[[], None]) -> None:
    failed: list[BaseException] = []

    def run(one: Callable[[], None]) -> None:
        try:
            one()
        except BaseException as error:
            failed.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failed, failed
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("log_token")
def test_sequence_is_gapless_when_threads_append_and_sequence_at_once(tmp_path: Path) -> None:
    def appending() -> None:
        append(20)

    def sequencing() -> None:
        for _ in range(8):
            sequence()

    _in_threads(*[appending] * 6, *[sequencing] * 3)
    sequence()
    assert indices() == list(range(120))
    assert_log_is_sound()
    vkey = Checkpoint.unscoped.earliest("size").vkey
    assert verify_export(export_to(tmp_path / "log.jsonl"), vkey).verdict is Verdict.VERIFIED


class Counted:
    """The log token, reporting each step and writing down every text it signs, before and after."""

    def __init__(self, token: LogToken, step: Callable[[], None], book: Path) -> None:
        self.token, self.step, self.book = token, step, book

    @property
    def public_key(self) -> SigningPublicKey:
        return self.token.public_key

    def sign(self, data: bytes) -> bytes:
        self.step()
        with self.book.open("ab") as book:
            book.write(data + b"\0")
        signature = self.token.sign(data)
        self.step()
        return signature


def _sequence_in_a_child(config: HsmConfig, book: Path, *, die_at: int | None) -> bool:
    """Sequence in a process of its own, which dies by SIGKILL at its n-th step. True when it got to the end.

    A step is the moment before or after a statement to the database, or before or after the signature.
    """
    connections.close_all()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            steps = iter(range(1, 10_000))

            def step() -> None:
                if next(steps) == die_at:
                    os.kill(os.getpid(), signal.SIGKILL)

            def counted(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
                step()
                result = execute(sql, params, many, context)
                step()
                return result

            with open_tokens(config, ["log"]) as tokens:
                registry.install(lambda: {"log": Counted(tokens.log, step, book)})
                with connection.execute_wrapper(counted):
                    sequence()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return not os.WIFSIGNALED(status)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_sequence_is_resumed_after_a_kill_at_each_of_its_steps(hsm_config: HsmConfig, tmp_path: Path) -> None:
    book, die_at, kills, ended = tmp_path / "signed", 0, 0, False
    while not ended:
        append(2)
        die_at += 1
        ended = _sequence_in_a_child(hsm_config, book, die_at=die_at)
        kills += not ended
        assert_log_is_sound()
        assert die_at < 300
    assert kills > 20
    append(1)
    assert _sequence_in_a_child(hsm_config, book, die_at=None)
    assert indices() == list(range(2 * die_at + 1))
    assert head_of().size == 2 * die_at + 1
    # Not only what was published: whatever the HSM was ever asked to sign, a size has one root.
    roots: dict[int, set[bytes]] = {}
    for text in book.read_bytes().split(b"\0")[:-1]:
        signed = notes.Checkpoint.from_text(text.decode())
        roots.setdefault(signed.size, set()).add(signed.root)
    hashes = leaf_hashes()
    assert all(found == {merkle.root(hashes[:size])} for size, found in roots.items())
    vkey = Checkpoint.unscoped.earliest("size").vkey
    assert verify_export(export_to(tmp_path / "log.jsonl"), vkey).verdict is Verdict.VERIFIED


@pytest.fixture(autouse=True)
def _closed_after_forks() -> Iterator[None]:
    yield
    connections.close_all()
