# SPDX-License-Identifier: Apache-2.0
"""A database that was put back from a backup: everything stops, and goes on by root and officers alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from audit import access as audit_access
from audit import journal, restored, sequencer
from audit import services as audit
from audit.errors import LogBroken, LogRestored
from audit.models import Entry, LogHead, Restored, Waiting
from config.ceremonies import CeremonyRefused, Step
from config.ceremonies.accepted import FirstReading, restored_steps
from escrow import access as escrow
from escrow.models import PolicyOfficer
from holdfast.core.base.encoding import b64u
from holdfast.core.identity import cases
from holdfast.core.identity.acts import Act, Resolution, Standing
from holdfast.core.log import merkle
from holdfast.core.log.checkpoint import Checkpoint, sign_note
from holdfast.core.log.writers import Role
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose
from hsm import registry
from kernel.scope import tenant_scope
from keys.models import Device
from recovery.models import Notice
from recovery.release.directory import only_process
from recovery.release.process import open_process
from tenants import services as tenants
from tenants.models import Credential, Person, Tenant
from tests.cast.phones import DAY, now
from tests.cast.put_back import copied_database
from tests.cast.roles import ROOT
from tests.cast.world import OpenCase, World, as_superuser
from tests.recovery.release.test_believed import forge

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


@pytest.fixture(autouse=True)
def _release_directory(settings: Any, tmp_path: Path) -> None:
    settings.HOLDFAST_RELEASE_DIR = tmp_path / "release"


def backup(world: World) -> Callable[[], None]:
    """Copy the database as it is now, with everybody's devices in it, and return what puts it back."""
    for name in ("carol", "dan", "alice", "bob"):
        world.directory.phone(name)
    world.tick()
    sequencer.sequence(world.tenant_id, "keys")
    return copied_database()


def log_of(world: World, log: str = "audit") -> tuple[int, bytes]:
    """Size and root of a stored log."""
    head = LogHead.unscoped.filter(tenant_id=world.tenant_id, log=log).first()
    size = head.size if head else 0
    rows = Entry.unscoped.filter(tenant_id=world.tenant_id, log=log, leaf_index__lt=size).order_by("leaf_index")
    return size, merkle.root([merkle.leaf_hash(bytes(leaf)) for leaf in rows.values_list("leaf", flat=True)])


def accept(world: World, *names: str, log: tuple[int, bytes] | None = None, **changes: Any) -> Resolution:
    """Have officers sign that they accept both logs as they are stored, over REST."""
    made = world.resolution(Act.ACCEPT_LOG, *(log or log_of(world)), *log_of(world, "keys"), **changes)
    for name in names:
        answer = world.resolve(made, name)
        assert answer.status_code == 201, answer.content
    return made


def missing(world: World, **given: Any) -> list[Step]:
    return list(restored_steps(Tenant.objects.get(pk=world.tenant_id), ROOT, **given))


def ceremony(world: World, **given: Any) -> int:
    """Hold it to its end; return how many steps were missing."""
    steps = missing(world, **given)
    for step in steps:
        step.take()
    return len(steps)


def first_reading(world: World) -> int:
    steps = list(FirstReading(Tenant.objects.get(pk=world.tenant_id), ROOT).steps())
    for step in steps:
        step.take()
    return len(steps)


def veto(world: World, case: OpenCase) -> None:
    phone = world.directory.phone("alice")
    statement = cases.Veto(phone.header(), case.statement.payload_hash, "Not me.")
    signed = cose.sign(statement.to_payload(), purpose=Purpose.VETO, key=phone.isk)
    document = {"statement": b64u(signed.encode()), "reason": "Not me."}
    answer = phone.send("POST", f"{case.path}/veto", document)
    assert answer.status_code == 201, answer.content


def state_of(world: World, name: str) -> set[str]:
    person = world.cast.people[name].pk
    return set(
        PolicyOfficer.unscoped.filter(tenant_id=world.tenant_id, person_id=person).values_list("state", flat=True)
    )


def test_what_narrows_is_put_back_and_everything_goes_on(world: World) -> None:
    vetoed, deposit = world.approved("carol")
    other = world.opened(deposit)
    world.tick()
    restore = backup(world)
    epochs = set(Device.unscoped.values_list("pre_key_epoch", flat=True))
    veto(world, vetoed)
    world.stand("erin", Standing.SUSPENDED, by="carol")
    suspended, revoked = world.directory.phone("bob"), world.directory.phone("alice")
    with tenant_scope(world.tenant_id), transaction.atomic():
        tenants.suspend_credential(credential_id=suspended.id, actor=world.ceremony)
        tenants.suspend_person(person=world.cast.people["otto"], actor=world.ceremony)
        audit.append(
            tag="keys:device:revoke",
            actor=world.ceremony,
            subject=str(revoked.id),
            body={"user": str(revoked.person.pk)},
        )
    world.tick()
    seen = world.release.heads()[-1].size
    restore()
    assert (world.state(vetoed), state_of(world, "erin")) == ("requested", {"active"})
    with pytest.raises(LogBroken):
        world.followed()
    accept(world, "carol", "dan")
    # Entries are taken meanwhile, and nothing is signed.
    with pytest.raises(LogRestored):
        world.sequence()
    accepted, keys = log_of(world), log_of(world, "keys")
    assert ceremony(world) == 4
    assert (world.state(vetoed), state_of(world, "erin")) == ("vetoed", {"suspended"})
    assert Credential.unscoped.get(id=suspended.id).state == "suspended"
    assert Credential.unscoped.get(id=revoked.id).state == Device.unscoped.get(id=revoked.id).state == "revoked"
    assert Person.unscoped.get(pk=world.cast.people["otto"].pk).state == "suspended"
    assert (world.state(other), world.row(other).why) == ("held", "voided")
    assert Notice.unscoped.filter(case_id=other.id, kind="voided").exists()
    left = Device.unscoped.exclude(id=revoked.id)
    assert set(left.values_list("pre_key_epoch", flat=True)) == {epoch + 1 for epoch in epochs}
    world.tick()
    facts = world.followed().facts
    assert facts.cases[vetoed.id.bytes].stage == "vetoed"
    assert facts.suspended.keys() == {world.cast.people["erin"].pk.bytes}
    assert world.cast.people["otto"].pk.bytes not in facts.active
    assert not facts.wrong
    assert seen > accepted[0]
    tags = Entry.unscoped.filter(tenant_id=world.tenant_id, tag="audit:log:accept")
    said = [(row.body["size"], row.body["root"], row.body["keys"], row.body["keys_root"]) for row in tags]
    assert said == [(accepted[0], b64u(accepted[1]), keys[0], b64u(keys[1]))]
    assert ceremony(world) == 0


@pytest.mark.parametrize("proposed", [True, False], ids=["it was open in the backup", "the backup knows nothing of it"])
def test_resolution_that_took_a_devices_veto_away_is_put_back(proposed: bool, world: World) -> None:
    alice = world.directory.phone("alice")
    made = world.resolution(Act.SUSPEND_DEVICE, alice.person.pk.bytes, alice.id.bytes)
    if proposed:
        assert world.resolve(made, "carol").status_code == 201
    world.tick()
    restore = backup(world)
    for name in ("carol", "dan"):
        assert world.resolve(made, name).status_code == 201
    world.tick()
    restore()
    accept(world, "carol", "dan")
    assert ceremony(world) == 3
    world.tick()
    log = world.followed()
    log.facts.settle(log.clock.now())
    assert log.facts.silenced == {(alice.person.pk.bytes, alice.id.bytes)}
    assert not log.facts.wrong
    assert Credential.unscoped.get(id=alice.id).state == "suspended"
    with tenant_scope(world.tenant_id):
        assert escrow.is_suspended_by_officers(alice.id)
    assert ceremony(world) == 0


def test_what_officers_signed_again_since_the_backup_has_one_entry_and_not_two(world: World) -> None:
    """The statement that the backup had half of passes anew, in an entry of its own: the lost one is left out."""
    alice = world.directory.phone("alice")
    made = world.resolution(Act.SUSPEND_DEVICE, alice.person.pk.bytes, alice.id.bytes)
    word = world.word("erin", Standing.SUSPENDED, by="carol")
    assert world.resolve(made, "carol").status_code == 201
    world.tick()
    restore = backup(world)
    for again in (False, True):
        assert world.resolve(made, "dan").status_code == 201
        assert world.send_word(word, "carol").status_code == 201
        if not again:
            world.tick()
            restore()
    accept(world, "carol", "dan")
    first, *steps = missing(world)
    said = first.take()
    assert isinstance(said, list)
    assert [line.rpartition(": ")[2].split()[0] for line in said] == [
        "escrow:resolution:pass",
        "escrow:officer:suspend",
    ]
    assert all("logged anew" in line for line in said)
    for step in steps:
        step.take()
    world.tick()
    log = world.followed()
    log.facts.settle(log.clock.now())
    assert log.facts.wrong == {}
    assert log.facts.silenced == {(alice.person.pk.bytes, alice.id.bytes)}
    assert log.facts.suspended.keys() == {world.cast.people["erin"].pk.bytes}
    assert ceremony(world) == 0


def test_what_narrows_is_put_back_by_what_people_signed_whatever_its_entry_says(world: World) -> None:
    """Whoever took over the web process writes the entries' bodies: they hide nothing, and stop no ceremony."""
    alice, vetoed = world.directory.phone("alice"), world.approved("carol")[0]
    made = world.resolution(Act.SUSPEND_DEVICE, alice.person.pk.bytes, alice.id.bytes)
    restore = backup(world)
    for name in ("carol", "dan"):
        assert world.resolve(made, name).status_code == 201
    with as_superuser("audit_waiting"):
        Waiting.unscoped.filter(tag="escrow:resolution:pass").delete()
    digest = hashlib.sha256(made.to_payload()).digest()
    forge(world, Role.WEB, "escrow:resolution:pass", subject="nobody", hash=digest, act=int(Act.WITHDRAW_VERSION))
    forge(world, Role.WEB, "recovery:case:veto", subject=str(vetoed.id), device="none", ends=1)
    forge(world, Role.WEB, "tenants:person:change-role", subject=str(world.cast.dan.pk), to="emperor")
    world.tick()
    assert not world.followed().facts.wrong
    restore()
    accept(world, "carol", "erin")
    ceremony(world)
    world.tick()
    log = world.followed()
    log.facts.settle(log.clock.now())
    assert log.facts.silenced == {(alice.person.pk.bytes, alice.id.bytes)}
    assert log.facts.suspended.keys() == {world.cast.dan.pk.bytes}
    assert (world.state(vetoed), log.facts.wrong) == ("vetoed", {})


def test_it_goes_on_where_a_kill_stopped_it(world: World) -> None:
    deposit = world.deposit()
    restore = backup(world)
    world.stand("erin", Standing.SUSPENDED, by="carol")
    world.tick()
    restore()
    with pytest.raises(LogRestored):
        world.sequence()
    made = accept(world, "carol", "dan")
    for left in (4, 3, 2, 1):
        steps = missing(world)
        assert len(steps) == left
        # Until the last of them nothing is signed, and so nothing is released.
        with pytest.raises(LogRestored):
            world.sequence()
        steps[0].take()
    assert missing(world) == []
    # What is asked anew is released, and the ceremony has still nothing to do.
    again = world.opened(deposit)
    for name in ("carol", "dan"):
        assert world.approve(again, name, deposit).status_code == 201
    world.tick()
    assert (world.state(again), missing(world)) == ("released", [])
    assert Entry.unscoped.filter(tenant_id=world.tenant_id, tag="audit:log:accept").count() == 1
    with tenant_scope(world.tenant_id):
        rows = audit_access.accepted_logs()
    assert [bytes(row.hash) for row in rows] == [hashlib.sha256(made.to_payload()).digest()]


def test_lost_policy_is_published_again_before_officers_accept_the_log(world: World) -> None:
    restore = backup(world)
    world.publish(world.policy(m=2, delay_seconds=3600), signers=world.founders.values())
    world.tick()
    restore()
    assert [step.says for step in missing(world)] == [
        "publish the 1 newest policy versions again, which the database lost; what cools off begins anew"
    ]
    ceremony(world)
    accept(world, "carol", "dan")
    assert ceremony(world) == 3
    world.tick()
    facts = world.followed().facts
    assert (len(facts.policies), facts.wrong) == (2, {})


def test_officers_in_office_accept_the_log_while_a_newer_policy_cools_off(world: World) -> None:
    """It has nobody in office yet: nobody could accept anything until its days are over."""
    world.publish(world.policy(m=2, max_notice_delay_seconds=DAY), signers=world.founders.values())
    with tenant_scope(world.tenant_id):
        assert escrow.policies()[-1].in_force_from > timezone.now(), "it lowers a guard"
    world.tick()
    restore = backup(world)
    veto(world, world.approved("carol")[0])
    world.tick()
    restore()
    accept(world, "carol", "dan", policy_hash=world.in_force())
    assert ceremony(world) >= 3
    world.tick()
    assert not world.followed().facts.wrong


def test_lost_escrow_key_is_published_again_before_officers_accept_the_log(world: World) -> None:
    """Clients that have accepted it refuse every older one."""
    restore = backup(world)
    world.publish_key()
    world.tick()
    keys = [one.hash for one in world.followed().facts.escrow_keys.values()]
    restore()
    assert [step.says for step in missing(world)] == [
        "publish the 1 newest versions of the escrow key again, which the database lost"
    ]
    ceremony(world)
    accept(world, "carol", "dan")
    ceremony(world)
    world.tick()
    facts = world.followed().facts
    assert ([one.hash for one in facts.escrow_keys.values()], facts.wrong) == (keys, {})


def test_nothing_is_accepted_without_the_officers(world: World, tmp_path: Path) -> None:
    restore = backup(world)
    world.approved("carol")
    world.tick()
    heads = world.release.heads()
    restore()
    with pytest.raises(CeremonyRefused, match="have not accepted"):
        ceremony(world)
    one = world.resolution(Act.ACCEPT_LOG, *log_of(world))
    file = tmp_path / "resolution"
    key = world.founders["carol"].signing_key
    file.write_bytes(cose.encode_many([cose.sign(one.to_payload(), purpose=Purpose.RESOLUTION, key=key)]))
    with pytest.raises(CeremonyRefused, match="1 of 2 officers"):
        ceremony(world, resolution=file)
    assert world.release.heads() == heads


def test_another_past_is_never_accepted(world: World) -> None:
    restore = backup(world)
    world.approved("carol")
    world.tick()
    restore()
    with as_superuser("audit_entry") as cursor:
        leaf = bytes(Entry.unscoped.get(tenant_id=world.tenant_id, log="audit", leaf_index=3).leaf)
        cursor.execute("UPDATE audit_entry SET leaf = %s WHERE log = 'audit' AND leaf_index = 3", [leaf + b"\0"])
    size, _ = log_of(world)
    accept(world, "carol", "dan")
    with pytest.raises(CeremonyRefused, match="another past"):
        ceremony(world)
    accept(world, "carol", "dan", log=(size, bytes(32)))
    with pytest.raises(CeremonyRefused, match="another audit log than the one stored"):
        ceremony(world)


def test_a_first_reading_takes_the_entries_own_times_once(world: World) -> None:
    world.deposit()
    world.sequence()
    accept(world, "carol", "dan")
    world.sequence()
    assert first_reading(world) == 1
    head = world.release.first_reading()
    assert head is not None
    assert first_reading(world) == 0
    world.tick()
    accept(world, "carol", "dan")
    world.tick()
    with pytest.raises(CeremonyRefused, match="already"):
        first_reading(world)


def marks(world: World) -> list[str]:
    return list(Restored.unscoped.filter(tenant_id=world.tenant_id).values_list("by", flat=True))


def test_sequencer_and_release_process_find_it_when_they_start(world: World, settings: Any, tmp_path: Path) -> None:
    """Without anybody who writes or asks; the release process too where the sequencer's memory was put back as well."""
    case, _ = world.approved("carol")
    restore = backup(world)
    veto(world, case)
    world.tick()
    sequencer.find_restored()
    assert marks(world) == []
    restore()
    sequencer.find_restored()
    sequencer.find_restored()
    assert marks(world) == ["sequencer"]
    restore()
    assert marks(world) == []
    settings.HOLDFAST_SEQUENCER_DIR = tmp_path / "another"
    with open_process(world.home) as process:
        process.follow_all()
        assert marks(world) == ["release"]
        # It leaves what is marked alone, and holds no case for it.
        process.follow_all()
        process._sweep()
    assert (world.state(case), world.row(case).why) == ("requested", "")


def newer_note(world: World, log: str, *, size: int | None = None, at: int | None = None) -> str:
    """A head that the log's key signed, of another past than the stored one, a hundred entries on."""
    token = registry.log()
    key = sequencer.verifier(world.tenant_id, log, token.public_key)
    head = Checkpoint(key.name, size or log_of(world, log)[0] + 100, bytes(range(32)), now() if at is None else at)
    return sign_note(head.to_text(), verifier=key, sign=token.sign)


def show(world: World, note: str, name: str = "alice") -> dict[str, Any]:
    answer = world.directory.phone(name).send("POST", "/api/v1/audit/head", {"note": note})
    assert answer.status_code == 200, answer.content
    return dict(answer.json())


@pytest.mark.parametrize("log", ["audit", "keys"])
def test_where_all_was_put_back_together_a_device_says_so_and_officers_end_it(log: str, world: World) -> None:
    """No memory on the server disagrees, and the log has grown beyond what the device holds."""
    backup(world)
    note = newer_note(world, log, size=log_of(world, log)[0] - 1)
    assert show(world, note) == {"read_only": True}
    refused = world.directory.phone("bob").send("POST", "/api/v1/messages/ack", {"message_ids": []})
    assert (refused.status_code, refused.json()["code"]) == (503, "log-restored")
    with pytest.raises(LogRestored):
        world.sequence()
    accept(world, "carol", "dan")
    assert [step.says.partition(":")[0] for step in missing(world)] == [
        f"accept the log at size {log_of(world)[0]}",
        "let the organisation change and sign again",
    ]
    ceremony(world)
    world.tick()
    assert show(world, note) == {"read_only": False}
    assert not world.followed().facts.wrong
    assert missing(world) == []


def test_one_log_alone_is_no_restored_backup(world: World) -> None:
    restore = backup(world)
    world.approved("carol")
    world.tick()
    restore()
    made = world.resolution(Act.ACCEPT_LOG, *log_of(world))
    for name in ("carol", "dan"):
        assert world.resolve(made, name).status_code == 201
    with pytest.raises(CeremonyRefused, match="the audit log alone"):
        ceremony(world)


def test_another_key_log_is_never_accepted(world: World) -> None:
    """Neither than the one stored, nor than the one that the sequencer signed."""
    restore = backup(world)
    world.approved("carol")
    world.tick()
    restore()
    size, root = log_of(world, "keys")
    for about in ((size, bytes(32)), (size + 1, root)):
        made = world.resolution(Act.ACCEPT_LOG, *log_of(world), *about)
        for name in ("carol", "dan"):
            assert world.resolve(made, name).status_code == 201
        with pytest.raises(CeremonyRefused, match="another key log than the one stored"):
            ceremony(world)
    accept(world, "carol", "dan")
    journal.replace_heads(world.tenant_id, {"keys": journal.Head(size - 1, bytes(32))})
    with pytest.raises(CeremonyRefused, match="another past than the one that the sequencer signed"):
        ceremony(world)


def more(world: World) -> None:
    """Have the log grow, and the release process see it."""
    with tenant_scope(world.tenant_id), transaction.atomic():
        audit.append(tag="audit:entries:read", actor=world.ceremony, body={"count": 1})
    world.tick()


def test_an_old_resolution_excuses_no_later_backup(world: World) -> None:
    """What officers accepted once is in every later backup, and says nothing of it."""
    restore = backup(world)
    more(world)
    restore()
    accept(world, "carol", "dan", header=replace(world.tenant_header(), issued_at=now() - 200))
    ceremony(world)
    world.tick()
    again = backup(world)
    more(world)
    again()
    # By the mark, which came long after they decided.
    with tenant_scope(world.tenant_id):
        restored.mark(by="sequencer")
        Restored.objects.update(since=timezone.now() + timedelta(seconds=200))
    with pytest.raises(CeremonyRefused, match="decided before"):
        ceremony(world)
    # Without it, by the heads that the release process saw after that.
    with tenant_scope(world.tenant_id):
        restored.end()
    heads = world.release.heads()
    late = [replace(one, moment=replace(one.moment, wall=one.moment.wall + 200)) for one in heads]
    with only_process(world.home):
        world.release.put_heads(late)
    with pytest.raises(CeremonyRefused, match="decided before"):
        ceremony(world)


def test_a_head_that_was_signed_after_officers_decided_is_not_left_behind(world: World) -> None:
    backup(world)
    show(world, newer_note(world, "keys", at=now() + 50))
    accept(world, "carol", "dan", header=replace(world.tenant_header(), issued_at=now() - 290))
    with pytest.raises(CeremonyRefused, match="decided before"):
        ceremony(world)
    assert marks(world) == ["client"]
    accept(world, "carol", "dan")
    ceremony(world)
    assert marks(world) == []
