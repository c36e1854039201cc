# SPDX-License-Identifier: Apache-2.0
"""What the release process believes of a log that somebody else writes, and when: ESCROW "What it believes of the log".

Rows are changed here as the superuser changes them, and entries are written as a part of the server that was taken over
writes them: with its own key.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit import sequencer
from audit import services as audit
from audit.models import Checkpoint, Entry, LogHead, Numbered, Tile, Waiting
from holdfast.core.identity.acts import Act, Resolution, Standing
from holdfast.core.log.log_entry import LogEntry, log_origin
from holdfast.core.log.merkle import CompactRange, leaf_hash
from holdfast.core.log.writers import Role
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose
from kernel import queue
from kernel.actors import system_actor
from kernel.scope import tenant_scope
from recovery.cases.endings import veto_case
from recovery.release.clock import Clock, Moment
from recovery.release.directory import Directory, SeenHead
from recovery.release.log import ReleaseLog
from recovery.release.process import FOLLOW_SECONDS, ReleaseProcess
from tests.cast.founded import Hsm
from tests.cast.roles import ROLE_KEYS
from tests.cast.world import OpenCase, World, as_superuser
from tests.recovery.release.test_forged_rows import due, key

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.rounds("rules")]

HOUR = 3600


@dataclass
class Turned:
    """A machine whose clocks a test turns. wall and monotonic: seconds added to the real ones."""

    wall: float = 0.0
    monotonic: float = 0.0

    def clock(self, world: World) -> Clock:
        return Clock(
            world.home / "clock",
            wall=lambda: time.time() + self.wall,
            monotonic=lambda: time.monotonic() + self.monotonic,
            boot=lambda: "one boot",
        )

    def pass_by(self, seconds: float) -> None:
        """Let time pass, by both."""
        self.wall, self.monotonic = self.wall + seconds, self.monotonic + seconds


def forge(world: World, role: Role, tag: str, *, at: int | None = None, subject: str = "", **body: Any) -> None:
    """Append an entry as whoever took over one part of the server does: with its key, and any date."""
    entry_id, seen = uuid.uuid4(), int(time.time()) if at is None else at
    entry = LogEntry(entry_id.bytes, tag, f"system:{role}", b"", subject, seen, body)
    leaf = entry.signed(origin=log_origin(str(world.tenant_id), "audit"), key=ROLE_KEYS[role]).to_leaf()
    with tenant_scope(world.tenant_id):
        Waiting.objects.create(
            id=entry_id,
            log="audit",
            leaf=leaf,
            tag=tag,
            actor=entry.actor,
            subject=subject,
            time=timezone.now(),
        )


def put_into_the_log(world: World, leaf: bytes) -> int:
    """Number and sign a leaf whatever it says, as whoever took over the sequencer does; returns its index."""
    with tenant_scope(world.tenant_id):
        # The checks are what such a sequencer leaves out.
        head = LogHead.objects.get(log="audit")
        grown = sequencer._grown(head).append(leaf_hash(leaf))
        with as_superuser("audit_entry", "audit_loghead", "audit_checkpoint"):
            Numbered.objects.create(
                seq=10**9 + head.size,
                id=uuid.uuid4(),
                log="audit",
                leaf=leaf,
                leaf_index=head.size,
                tag="x",
                actor="x",
                subject="",
                time=timezone.now(),
            )
            with transaction.atomic():
                sequencer._grow_tiles("audit", head.size, [leaf_hash(leaf)])
            LogHead.objects.filter(pk=head.pk).update(size=grown.size, edge=grown.to_bytes())
        sequencer._sign(world.tenant_id, "audit")
    return int(head.size)


def run_mail() -> None:
    queue.run_due("worker")
    queue.run_due(queue.MAIL)


def follow(world: World) -> None:
    """Let the release process look at the heads, with no case due."""
    world.sequence()
    with world.process() as process:
        process.follow_all()


@contextmanager
def living(world: World, **given: Any) -> Iterator[ReleaseProcess]:
    """A process that lives on while the test goes on."""
    with world.process(**given) as process:
        yield process


def settled(process: ReleaseProcess) -> None:
    """Have the process look at everything now, whenever it looked last."""
    process._followed = process._swept = None
    process.tick()


# Who says what.


@pytest.mark.parametrize("role", [Role.WEB, Role.SEQUENCER, Role.CEREMONY])
def test_no_other_part_says_that_a_notice_was_handed_over(world: World, hsm: Hsm, role: Role) -> None:
    case = world.opened(world.deposit(), notice_at=int(time.time()))
    forge(world, role, "recovery:notice:hand-over", subject=str(case.id), kind="opened", person="x")
    world.sequence()
    refused = Entry.unscoped.filter(tag="recovery:notice:hand-over", refused="role")
    assert [row.leaf_index for row in refused] == [None]
    # It stops nothing: what came before and after has its index, and the refusal is an entry of its own.
    assert Entry.unscoped.filter(tag="audit:entry:refuse").count() == 1
    world.sequence()
    assert not Entry.unscoped.filter(tenant_id=world.tenant_id, log="audit", leaf_index=None, refused="").exists()


def test_backdated_entries_shorten_no_delay(found: Any, hsm: Hsm) -> None:
    """FAULTS P16: web and worker processes that date all of a case 80 hours back wait 72 hours like everybody."""
    world: World = found(delay_seconds=72 * HOUR)
    deposit = world.deposit()
    world.sequence()
    case = world.case(world.new_phone(), deposit)
    assert world.open(case).status_code == 201
    run_mail()
    documents = {name: world.signed_approval(case, name, [deposit]) for name in ("carol", "dan")}
    for name, document in documents.items():
        answer = world.directory.phone(name).send("POST", f"{case.path}/approvals", document)
        assert answer.status_code == 201, answer.content
    # The entries as the liar would have written them; they hold the same hashes and so tell of the same approvals.
    past = int(time.time()) - 80 * HOUR
    with as_superuser("audit_waiting"):
        for row in Waiting.unscoped.filter(tag__startswith="recovery:", log="audit"):
            said = LogEntry.from_leaf(bytes(row.leaf))
            role = Role.WORKER if said.tag == "recovery:notice:hand-over" else Role.WEB
            old = replace(said, time=past).signed(origin=log_origin(str(world.tenant_id), "audit"), key=ROLE_KEYS[role])
            Waiting.unscoped.filter(pk=row.pk).update(leaf=old.to_leaf(), time=timezone.now() - timedelta(hours=80))
    due(world, case)
    world.tick()
    assert (world.state(case), world.row(case).why, hsm.unwraps()) == ("waiting", "not-yet", 0)
    at = world.row(case).release_at
    assert at is not None
    assert at > timezone.now() + timedelta(hours=71)


def test_wrong_entry_is_said_ever_less_often_while_nobody_acknowledges_it(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    case, _ = world.approved("carol", "dan")
    forge(world, Role.WEB, "escrow:policy:publish", hash=bytes(32), version=2)
    with world.process() as process:
        for _ in range(8):
            world.sequence()
            due(world, case)
            settled(process)
    assert world.row(case).why == "log-wrong"
    assert sum(f"case {case.id} waits: entry" in one.getMessage() for one in caplog.records) == 4


def test_policy_that_only_an_entry_tells_of_stops_releases_and_lowers_nothing(world: World, hsm: Hsm) -> None:
    case, _ = world.approved("carol", "dan")
    forge(world, Role.WEB, "escrow:policy:publish", hash=bytes(32), version=2)
    due(world, case)
    world.tick()
    assert (world.row(case).why, hsm.unwraps()) == ("log-wrong", 0)


@pytest.mark.parametrize("tag", ["escrow:officer:return", "escrow:officer:remove", "escrow:resolution:pass"])
def test_standing_of_officers_is_believed_with_their_statement_only(world: World, hsm: Hsm, tag: str) -> None:
    carol = uuid.UUID(bytes=world.founders["carol"].person)
    body = {"hash": bytes(32), "act": 2} if tag.startswith("escrow:resolution") else {"statement": bytes(32)}
    forge(world, Role.WEB, tag, subject=str(carol), **body)
    world.sequence()
    facts = world.followed().facts
    assert [wrong.why for wrong in facts.wrong.values()] == ["no-statement"]
    assert carol.bytes not in facts.removed


# What was seen once.


def erase_the_last_entry(world: World) -> None:
    """Take the last entry out of the database, with everything that remembers it there."""
    tables = ("audit_entry", "audit_loghead", "audit_checkpoint", "audit_tile")
    with tenant_scope(world.tenant_id), as_superuser(*tables):
        head = LogHead.objects.get(log="audit")
        Numbered.objects.filter(log="audit", leaf_index=head.size - 1).delete()
        hashes = [
            leaf_hash(bytes(leaf))
            for leaf in Numbered.objects.filter(log="audit", leaf_index__lt=head.size - 1)
            .order_by("leaf_index")
            .values_list("leaf", flat=True)
        ]
        Checkpoint.objects.filter(log="audit", size__gte=head.size).delete()
        Tile.objects.filter(log="audit").delete()
        LogHead.objects.filter(pk=head.pk).update(size=0, edge=b"", signed_size=0)
        with transaction.atomic():
            sequencer._grow_tiles("audit", 0, hashes)
        grown = CompactRange.over(hashes)
        LogHead.objects.filter(pk=head.pk).update(size=grown.size, edge=grown.to_bytes(), signed_size=0)


def second_sequencer(world: World, settings: Any, tmp_path: Any) -> None:
    """Sign as a sequencer with a journal of its own does, which knows nothing of what was signed before."""
    from audit import journal

    settings.HOLDFAST_SEQUENCER_DIR = tmp_path / "second"
    journal.pin_root(world.tenant_id, world.root.public)


def test_veto_that_was_seen_and_erased_is_an_alarm_and_opens_nothing(
    world: World, hsm: Hsm, settings: Any, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """FAULTS L4: erased between two attempts, under a head that another sequencer signs."""
    case, _ = world.approved("carol", "dan")
    world.sequence()
    with tenant_scope(world.tenant_id):
        row = world.row(case)
        veto_by_alice(world, case)
    follow(world)
    # The veto is the last entry: notices of it follow later.
    second_sequencer(world, settings, tmp_path)
    while Entry.unscoped.filter(tag="recovery:case:veto").exists():
        erase_the_last_entry(world)
    with as_superuser("recovery_case", "recovery_veto") as cursor:
        cursor.execute("DELETE FROM recovery_veto")
        cursor.execute("UPDATE recovery_case SET state = %s WHERE id = %s", [row.state, key(case.id)])
    due(world, case)
    world.sequence()  # the second one signs gladly
    with living(world) as process:
        process.follow_all()
        assert "its log is not the one that was believed" in caplog.text
        process.tick()
    assert (world.state(case), world.row(case).why, hsm.unwraps()) == ("held", "log-changed", 0)


def veto_by_alice(world: World, case: OpenCase) -> None:
    from holdfast.core.identity.cases import Veto

    phone = world.directory.phone("alice")
    veto = Veto(phone.header(), case.statement.payload_hash, "not me")
    signed = cose.sign(veto.to_payload(), purpose=Purpose.VETO, key=phone.isk)
    actor = replace(system_actor(world.tenant_id, "x"), kind="device", id=phone.id, person_id=phone.person.pk)
    veto_case(case_id=case.id, statement=signed.encode(), reason="not me", actor=actor)


def test_longer_log_that_does_not_extend_the_one_believed_is_an_alarm_at_once(
    world: World, hsm: Hsm, settings: Any, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    case, _ = world.approved("carol", "dan")
    follow(world)
    second_sequencer(world, settings, tmp_path)
    erase_the_last_entry(world)
    for _ in range(5):
        with tenant_scope(world.tenant_id), transaction.atomic():
            audit.append(tag="audit:entries:read", actor=world.ceremony)
    follow(world)
    assert "its log is not the one that was believed" in caplog.text
    assert hsm.unwraps() == 0
    assert world.state(case) == "waiting"


def test_first_sequencer_signs_nothing_over_an_erased_entry(world: World, hsm: Hsm) -> None:
    from audit.errors import LogBroken

    world.approved("carol", "dan")
    world.sequence()
    erase_the_last_entry(world)
    with tenant_scope(world.tenant_id), transaction.atomic():
        audit.append(tag="audit:entries:read", actor=world.ceremony)
    with pytest.raises(LogBroken):
        world.sequence()


# One wrong entry.


def test_wrong_entry_hides_no_veto_behind_it_and_officers_acknowledge_it(world: World, hsm: Hsm) -> None:
    vetoed, deposit = world.approved("carol", "dan")
    other = world.opened(deposit)
    for name in ("carol", "dan"):
        assert world.approve(other, name, deposit).status_code == 201
    world.sequence()
    with living(world) as process:
        process.follow_all()
        index = put_into_the_log(world, b"no entry")
        with tenant_scope(world.tenant_id):
            veto_by_alice(world, vetoed)
        due(world, vetoed) if world.state(vetoed) == "waiting" else None
        world.sequence()
        settled(process)
        # Behind the wrong entry the veto was read all the same.
        facts = process._tenants[world.tenant_id].log.facts
        assert facts.cases[vetoed.id.bytes].stage == "vetoed"
        assert facts.wrong[index].why == "form"
        assert (world.state(other), world.row(other).why, hsm.unwraps()) == ("waiting", "log-wrong", 0)
        resolve(world, Act.ACKNOWLEDGE_LEAF, index, leaf_hash(b"no entry"))
        world.sequence()
        due(world, other)
        settled(process)
        # What was under way beside a lie is void; what is asked anew goes on.
        assert (world.state(other), world.row(other).why, hsm.unwraps()) == ("held", "voided", 0)
        fresh = world.opened(deposit)
        for name in ("carol", "dan"):
            assert world.approve(fresh, name, deposit).status_code == 201
    # Also for a process that reads all of it anew, with the acknowledgement before what was opened after it.
    world.tick()
    assert (world.state(fresh), hsm.unwraps()) == ("released", 1)


def test_entry_of_an_approval_uses_up_nothing_else_that_officers_signed(world: World, hsm: Hsm) -> None:
    """Whoever took over the web process sees a statement before it is logged, and may name it where it is not."""
    case, alice = world.opened(world.deposit()), world.directory.phone("alice")
    made = world.resolution(Act.SUSPEND_DEVICE, alice.person.pk.bytes, alice.id.bytes)
    word, carol = world.word("erin", Standing.SUSPENDED, by="carol"), str(world.cast.carol.pk)
    for named in (hashlib.sha256(made.to_payload()).digest(), word.payload_hash):
        forge(world, Role.WEB, "recovery:case:approve", subject=str(case.id), person=carol, statement_hash=named)
    follow(world)
    for name in ("carol", "dan"):
        assert world.resolve(made, name).status_code == 201
    assert world.send_word(word, "carol").status_code == 201
    follow(world)
    log = world.followed()
    log.facts.settle(log.clock.now())
    assert log.facts.wrong == {}
    assert log.facts.silenced == {(alice.person.pk.bytes, alice.id.bytes)}
    assert log.facts.suspended.keys() == {world.cast.people["erin"].pk.bytes}


def test_restart_voids_nothing_that_was_opened_after_an_acknowledgement(world: World, hsm: Hsm) -> None:
    deposit = world.deposit()
    world.sequence()
    index = put_into_the_log(world, b"no entry")
    before = world.opened(deposit)
    resolve(world, Act.ACKNOWLEDGE_LEAF, index, leaf_hash(b"no entry"))
    fresh = world.opened(deposit)
    for name in ("carol", "dan"):
        assert world.approve(fresh, name, deposit).status_code == 201
    world.tick()  # it reads the log anew, and both cases before the resolution counts
    assert (world.state(fresh), world.row(fresh).why, hsm.unwraps()) == ("released", "", 1)
    log = world.followed()
    log.facts.settle(log.clock.now())
    assert log.facts.cases[before.id.bytes].stage == "void"


def resolve(world: World, act: Act, *about: Any, names: tuple[str, ...] = ("carol", "dan")) -> None:
    """Have officers pass a resolution, over HTTP."""
    from holdfast.core.base.encoding import b64u

    resolution = Resolution(
        world.tenant_header(), act, tuple(about), world.policies[-1].hash, uuid.uuid4().bytes
    ).to_payload()
    for name in names:
        signed = cose.sign(resolution, purpose=Purpose.RESOLUTION, key=world.founders[name].signing_key)
        document = {"statement": b64u(signed.encode())}
        answer = world.directory.phone(name).send("POST", "/api/v1/escrow/resolutions", document)
        assert answer.status_code in (200, 201), answer.content


def test_leaf_that_was_seen_already_counts_for_nothing(world: World, hsm: Hsm) -> None:
    case, _ = world.approved("carol", "dan")
    world.sequence()
    told = Entry.unscoped.filter(tag="recovery:notice:hand-over").earliest("seq")
    index = put_into_the_log(world, bytes(told.leaf))
    facts = world.followed().facts
    assert facts.wrong[index].why == "repeated"
    assert facts.cases[case.id.bytes].stage == "waiting"


def test_entry_that_turns_out_to_be_wrong_owns_no_half(world: World, hsm: Hsm) -> None:
    deposit = world.build()
    body: dict[str, Any] = {"deposit": str(uuid.uuid4()), "half_hash": deposit.half_hash, "record_hash": bytes(32)}
    forge(world, Role.WEB, "escrow:deposit:accept", subject=body["deposit"], **body)
    assert world.upload(deposit).status_code == 201
    world.sequence()
    facts = world.followed().facts
    assert len(facts.wrong) == 1
    assert facts.half_owners[deposit.half_hash] == deposit.header.deposit_id


def test_part_of_a_row_hides_no_narrowing_behind_it(tmp_path: Path) -> None:
    """A crash, or a disk that was full, left it."""
    directory = Directory(tmp_path, uuid.uuid4())
    directory.path.mkdir()
    directory.keep_narrowings([b"first"])
    for part in ((300).to_bytes(4, "big") + b"part", b"\0\0", bytes(64)):
        with (directory.path / "narrowings").open("ab") as file:
            file.write(part)
        directory = Directory(tmp_path, directory.tenant_id)
        directory.keep_narrowings([b"veto " * 40, b"more"])
        directory.keep_narrowings([b"last"])
    assert directory.narrowings() == [b"first", *[b"veto " * 40, b"more", b"last"] * 3]


def test_reading_anew_asks_no_more_often_for_many_heads(world: World, hsm: Hsm) -> None:
    """A restart must not take hours after a year of heads."""
    world.sequence()
    with tenant_scope(world.tenant_id):
        size = LogHead.objects.get(log="audit").size
        heads, grown = [], CompactRange()
        for leaf in audit.entries_between(world.tenant_id, "audit", 0, size):
            grown = grown.append(leaf_hash(leaf))
            heads.append(SeenHead(grown.size, grown.root(), Moment(grown.size, grown.size)))
        asked = []
        # The first time, it keeps the policy as well.
        for kept in (heads[-1:], heads[-1:], heads):
            world.release.put_heads(kept)
            with CaptureQueriesContext(connection) as queries:
                log = ReleaseLog.open(world.release, Clock(world.home / "clock"))
            assert log.follower.size == size
            asked.append(len(queries))
    assert asked[1] == asked[2]


# Officers come back by others' word.


def test_suspended_officer_is_back_by_a_resolution_alone(world: World, hsm: Hsm) -> None:
    from tenants import access as people
    from tenants import services as tenants

    carol = world.cast.people["carol"]
    with tenant_scope(world.tenant_id):
        tenants.suspend_person(person=people.person(carol.pk), actor=world.ceremony)
        tenants.activate_person(person=people.person(carol.pk), actor=world.ceremony)
    world.sequence()
    facts = world.followed().facts
    assert carol.pk.bytes in facts.suspended
    resolve(world, Act.RETURN_OFFICER, carol.pk.bytes, names=("dan", "erin"))
    world.sequence()
    log = world.followed()
    log.facts.settle(log.clock.now())
    assert carol.pk.bytes not in log.facts.suspended
    assert Standing.SUSPENDED.value == 3


# Time.


def test_clock_that_was_turned_ahead_shortens_no_delay(found: Any, hsm: Hsm) -> None:
    world: World = found(delay_seconds=2 * HOUR)
    turned = Turned()
    case, _ = world.approved("carol", "dan", expiry=int(time.time()) + 9 * HOUR)
    world.sequence()
    with living(world, clock=turned.clock(world)) as process:
        process.follow_all()
        turned.wall += 3 * HOUR  # whoever turned it did so on the sequencer's machine as well
        signed_ahead(world, turned)
        due(world, case)
        settled(process)
        assert (world.row(case).why, hsm.unwraps()) == ("not-yet", 0)
        turned.pass_by(2 * HOUR + 60)
        signed_ahead(world, turned)
        due(world, case)
        settled(process)
    assert (world.state(case), hsm.unwraps()) == ("released", 1)


def signed_ahead(world: World, turned: Turned) -> None:
    """Have the newest head signed again, dated as a sequencer on that machine dates it."""
    from holdfast.core.log import checkpoint as notes
    from hsm import registry

    with tenant_scope(world.tenant_id):
        row = Checkpoint.objects.filter(log="audit").latest("size")
        token = registry.log()
        verifier = sequencer.verifier(world.tenant_id, "audit", token.public_key)
        text = notes.Checkpoint(verifier.name, row.size, bytes(row.root), int(time.time() + turned.wall)).to_text()
        note = notes.sign_note(text, verifier=verifier, sign=token.sign)
        Checkpoint.objects.filter(pk=row.pk).update(note=note, signed_at=timezone.now() + timedelta(days=1))


def test_head_from_ahead_is_not_remembered_and_stops_nothing_afterwards(world: World, hsm: Hsm) -> None:
    """A sequencer two hours ahead for twenty seconds: nothing is believed meanwhile, and all of it afterwards."""
    case, _ = world.approved("carol", "dan")
    world.sequence()
    signed_ahead(world, Turned(wall=2 * HOUR))
    with living(world) as process:
        process.tick()
        assert (world.state(case), world.row(case).why, hsm.unwraps()) == ("waiting", "log-too-old", 0)
        signed_ahead(world, Turned())
        due(world, case)
        settled(process)
    assert (world.state(case), hsm.unwraps()) == ("released", 1)


def test_count_goes_on_over_restarts_and_stands_still_while_the_machine_is_off(world: World) -> None:
    turned = Turned()
    first = turned.clock(world)
    at = first.now()
    first.keep()
    turned.pass_by(100)
    again = turned.clock(world)
    assert 99 <= again.now().tick - at.tick <= 101
    again.keep()
    turned.wall += 9000  # off, and turned ahead meanwhile
    other_boot = replace_boot(turned.clock(world), world, turned)
    assert other_boot.now().tick - at.tick <= 101


def replace_boot(clock: Clock, world: World, turned: Turned) -> Clock:
    return Clock(
        world.home / "clock",
        wall=lambda: time.time() + turned.wall,
        monotonic=lambda: 5.0,
        boot=lambda: "another boot",
    )


@pytest.mark.parametrize("wall", [1000.0, 1000.5, 1000.95])
def test_next_process_counts_on_from_where_the_one_before_it_was(tmp_path: Path, wall: float) -> None:
    passed = 0.0

    def clock() -> Clock:
        return Clock(
            tmp_path / "clock", wall=lambda: wall + passed, monotonic=lambda: 50.2 + passed, boot=lambda: "one"
        )

    first = clock()
    for passed in (0.1, 0.85, 7.3):  # noqa: B007 — the clocks read it
        assert clock().now().tick == first.now().tick


@pytest.mark.parametrize("monotonic", [0.2, 0.9])
def test_next_process_counts_on_after_another_boot(tmp_path: Path, monotonic: float) -> None:
    passed, boot = 0.0, "one"

    def clock() -> Clock:
        return Clock(
            tmp_path / "clock", wall=lambda: 1000.0 + passed, monotonic=lambda: monotonic + passed, boot=lambda: boot
        )

    clock()
    boot = "two"
    first = clock()
    for passed in (0.05, 0.15, 0.75, 0.85, 7.3):  # noqa: B007 — the clocks read it
        first.keep()
        assert clock().now().tick == first.now().tick


# Held is for disagreement that stands.


def test_case_is_held_only_when_a_disagreement_has_stood_for_ten_minutes(world: World, hsm: Hsm) -> None:
    turned = Turned()
    case, _ = world.approved("carol")
    due(world, case)
    world.sequence()
    with living(world, clock=turned.clock(world), patience=600) as process:
        settled(process)
        # Signing for the deposit is an entry that no head covers yet.
        assert (world.state(case), world.row(case).why) == ("waiting", "log-behind")
        turned.pass_by(100)
        world.sequence()
        signed_ahead(world, turned)
        due(world, case)
        settled(process)
        assert (world.state(case), world.row(case).why) == ("waiting", "rows-and-log-disagree")
        turned.pass_by(200)
        signed_ahead(world, turned)
        due(world, case)
        settled(process)
        assert world.state(case) == "waiting"
        turned.pass_by(301)
        signed_ahead(world, turned)
        due(world, case)
        settled(process)
    assert (world.state(case), world.row(case).why, hsm.unwraps()) == ("held", "rows-and-log-disagree", 0)


def test_missing_release_key_is_said_and_waited_for(world: World, hsm: Hsm, caplog: pytest.LogCaptureFixture) -> None:
    case, _ = world.approved("carol", "dan")
    world.sequence()
    keys = list((world.release.path / "keys").glob("*.seed"))
    kept = {path: path.read_bytes() for path in keys}
    for path in keys:
        path.unlink()
    with living(world) as process:
        process.tick()
        assert "put the directory's backup back" in caplog.text
        assert (world.state(case), world.row(case).why, hsm.unwraps()) == ("waiting", "release-key-missing", 0)
        for path, body in kept.items():
            path.write_bytes(body)
        due(world, case)
        settled(process)
    assert (world.state(case), hsm.unwraps()) == ("released", 1)


def test_full_disk_between_facts_and_head_leaves_neither(
    world: World, hsm: Hsm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leaves and facts are taken over together or not at all: what could not be kept is read anew."""
    case, _ = world.approved("carol", "dan")
    world.sequence()
    keep, calls = Directory.keep_head, []

    def full(self: Directory, head: SeenHead) -> None:
        calls.append(head)
        if len(calls) == 1:
            raise OSError(28, "No space left on device")
        keep(self, head)

    monkeypatch.setattr(Directory, "keep_head", full)
    clock = Turned()
    with living(world, clock=clock.clock(world)) as process:
        process.follow_all()
        assert world.tenant_id not in process._tenants
        assert world.release.heads() == []
        clock.pass_by(FOLLOW_SECONDS)
        process.follow_all()
        size = process._tenants[world.tenant_id].log.follower.size
        assert [head.size for head in world.release.heads()] == [size]
        settled(process)
    assert (world.state(case), hsm.unwraps()) == ("released", 1)


def test_reopened_process_believes_what_the_living_one_did(world: World, hsm: Hsm) -> None:
    case, deposit = world.approved("carol", "dan")
    follow(world)
    world.stand("erin", Standing.AWAY)
    with tenant_scope(world.tenant_id):
        veto_by_alice(world, case)
    world.opened(deposit)
    world.sequence()
    with living(world) as process:
        process.follow_all()
        kept = process._tenants[world.tenant_id].log.facts
        again = world.followed().facts
        for name in ("officers", "active", "suspended", "removed", "away", "deposits", "cases", "vetoes", "wrong"):
            assert getattr(kept, name) == getattr(again, name), name
        assert [one.moment for one in kept.policies] == [one.moment for one in again.policies]
