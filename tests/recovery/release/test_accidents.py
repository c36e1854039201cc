# SPDX-License-Identifier: Apache-2.0
"""Honest installations with bad luck, and words that are said twice: nothing is held, stopped or believed for it.

ESCROW "What it believes of the log". The other side, liars, is in `test_believed`.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from escrow.models import OfficerStatement, PolicyOfficer
from holdfast.core.identity.acts import Act, Standing
from holdfast.core.log.writers import Role
from kernel.clock import database_now
from kernel.models import Job
from kernel.scope import tenant_scope
from recovery.models import Case
from recovery.release.facts import Facts
from recovery.release.process import LONGEST_PAUSE, RETRY
from tenants import access as people
from tenants import services as tenants
from tests.cast.founded import Hsm
from tests.cast.world import World, as_superuser
from tests.escrow.test_policies import hire
from tests.recovery.release.test_believed import Turned, follow, forge, living, resolve, settled, signed_ahead
from tests.recovery.release.test_forged_rows import due

pytestmark = pytest.mark.django_db(transaction=True)


def believed(world: World) -> Facts:
    world.sequence()
    log = world.followed()
    log.facts.settle(log.clock.now())
    return log.facts


def test_officer_who_was_suspended_before_being_one_counts(world: World) -> None:
    bob = world.cast.people["bob"]
    with tenant_scope(world.tenant_id):
        tenants.suspend_person(person=people.person(bob.pk), actor=world.ceremony)
        tenants.activate_person(person=people.person(bob.pk), actor=world.ceremony)
    hire(world, "bob")
    names = ("carol", "dan", "erin", "bob")
    world.publish(world.policy(m=2, names=names), signers=list(world.founders.values())[:2])
    with tenant_scope(world.tenant_id):
        assert set(PolicyOfficer.objects.filter(person_id=bob.pk).values_list("state", flat=True)) == {"active"}
    facts = believed(world)
    assert bob.pk.bytes not in facts.suspended
    assert bob.pk.bytes in facts.active & facts.officers


def test_outage_of_the_release_process_holds_no_case(found: Any, hsm: Hsm) -> None:
    """It counts a cooling-off from when it saw the version; the server, from when it was published."""
    world: World = found(cooling_off_seconds=4)
    hire(world, "bob")
    deposit = world.deposit()
    names = ("carol", "dan", "erin", "bob")
    world.publish(world.policy(m=2, names=names), signers=list(world.founders.values())[:3])
    time.sleep(5)  # away for as long
    again = world.build_again(deposit)
    assert world.upload(again).status_code == 201
    case = world.opened(again)
    for name in ("carol", "bob"):
        assert world.approve(case, name, again).status_code == 201
    world.sequence()
    with living(world) as process:
        settled(process)
        assert (world.state(case), world.row(case).why, hsm.unwraps()) == ("waiting", "cooling-off", 0)
        time.sleep(5)
        world.sequence()
        due(world, case)
        settled(process)
    assert (world.state(case), hsm.unwraps()) == ("released", 1)


@pytest.mark.postgres
def test_clock_that_is_ahead_for_one_look_puts_no_case_off(
    world: World, hsm: Hsm, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, _ = world.approved("carol", "dan")
    turned = Turned()
    with living(world, clock=turned.clock(world)) as process:
        process.follow_all()
        turned.wall = 365 * 86_400.0
        with monkeypatch.context() as patch:
            patch.setattr(timezone, "now", lambda: database_now() + timedelta(days=365))
            settled(process)
        assert (world.state(case), world.row(case).why, hsm.unwraps()) == ("waiting", "log-too-old", 0)
        at, job = world.row(case).release_at, Job.unscoped.get(queue="release")
        assert at is not None
        assert (at - database_now() < RETRY, job.run_at - database_now() < RETRY) == (True, True)
        turned.wall = 0.0
        world.sequence()
        time.sleep(RETRY.total_seconds())
        settled(process)
    assert (world.state(case), world.row(case).why, hsm.unwraps()) == ("released", "", 1)


def test_what_was_put_off_to_a_wrong_date_is_looked_at_again_within_ten_minutes(world: World, hsm: Hsm) -> None:
    turned = Turned()
    with living(world, clock=turned.clock(world)) as process:
        process.tick()
        case, _ = world.approved("carol", "dan")
        Case.unscoped.filter(id=case.id).update(why="hsm-away", release_at=database_now() + timedelta(days=365))
        Job.unscoped.filter(queue="release").update(state="ready", run_at=database_now() + timedelta(days=365))
        world.sequence()
        settled(process)
        assert (world.state(case), hsm.unwraps()) == ("waiting", 0)
        turned.pass_by(LONGEST_PAUSE.total_seconds())
        signed_ahead(world, turned)
        settled(process)
    assert (world.state(case), world.row(case).why, hsm.unwraps()) == ("released", "", 1)


def test_delay_that_the_rows_alone_know_of_is_not_looked_at_before_its_end(found: Any, hsm: Hsm) -> None:
    world: World = found(delay_seconds=3600)
    case, _ = world.approved("carol", "dan")
    world.sequence()
    with living(world) as process:
        settled(process)
    assert (world.state(case), world.row(case).why, hsm.unwraps()) == ("waiting", "", 0)


def test_resolution_counts_though_the_next_version_stands_under_the_same_head(world: World) -> None:
    follow(world)
    erin = world.cast.people["erin"].pk.bytes
    world.stand("erin", Standing.SUSPENDED, by="carol")
    resolve(world, Act.RETURN_OFFICER, erin)
    world.publish(world.policy(m=2, delay_seconds=5), signers=list(world.founders.values())[:2])
    assert erin not in believed(world).suspended


@pytest.mark.parametrize(("age", "turned"), [(-290, -30), (30 * 86_400 - 60, 120)])
def test_resolution_seen_outside_its_time_is_no_lie(world: World, age: int, turned: int) -> None:
    """Clocks that differ, and an outage over its last day: whoever took it took it in time."""
    world.stand("erin", Standing.SUSPENDED, by="carol")
    header = replace(world.tenant_header(), issued_at=int(time.time()) - age)
    resolution = world.resolution(Act.RETURN_OFFICER, world.cast.people["erin"].pk.bytes, header=header)
    for name in ("carol", "dan"):
        assert world.resolve(resolution, name).status_code in (200, 201)
    world.sequence()
    clock = Turned(wall=turned)
    signed_ahead(world, clock)
    with living(world, clock=clock.clock(world)) as process:
        process.follow_all()
        assert process._tenants[world.tenant_id].log.facts.wrong == {}
    # And whom it was to return is returned by another, though the rows know of no suspension any more.
    resolve(world, Act.RETURN_OFFICER, world.cast.people["erin"].pk.bytes)


def test_officers_word_counts_once(world: World) -> None:
    dan = world.cast.people["dan"].pk
    world.stand("dan", Standing.AWAY)
    back = world.word("dan", Standing.BACK)
    assert world.send_word(back, "dan").status_code == 201
    time.sleep(1.1)
    world.stand("dan", Standing.AWAY)
    forge(world, Role.WEB, "escrow:officer:return", subject=str(dan), statement=back.payload_hash)
    assert dan.bytes in believed(world).away


def test_old_suspension_is_not_played_again(world: World) -> None:
    dan = world.cast.people["dan"].pk
    word = world.word("dan", Standing.SUSPENDED, by="erin")
    assert world.send_word(word, "erin").status_code == 201
    resolve(world, Act.RETURN_OFFICER, dan.bytes, names=("carol", "erin"))
    forge(world, Role.WEB, "escrow:officer:suspend", subject=str(dan), statement=word.payload_hash)
    assert dan.bytes not in believed(world).suspended


def test_acknowledged_entry_does_not_count_when_its_statement_comes_back(world: World, hsm: Hsm) -> None:
    case, _ = world.approved("carol", "dan")
    assert world.send_word(world.word("dan", Standing.AWAY), "dan").status_code == 201
    with tenant_scope(world.tenant_id), as_superuser("escrow_officerstatement"):
        rows = list(OfficerStatement.objects.all())
        OfficerStatement.objects.all().delete()
    world.sequence()
    with living(world) as process:
        process.follow_all()
        log = process._tenants[world.tenant_id].log
        ((index, wrong),) = log.facts.wrong.items()
        resolve(world, Act.ACKNOWLEDGE_LEAF, index, wrong.leaf_hash, names=("carol", "erin"))
        world.sequence()
        process.follow_all()
        log.facts.settle(log.clock.now())
        assert log.facts.cases[case.id.bytes].stage == "void"
    with tenant_scope(world.tenant_id), as_superuser("escrow_officerstatement"):
        for row in rows:
            row.save(force_insert=True)
    facts = believed(world)
    assert facts.cases[case.id.bytes].stage == "void"
    assert facts.away == set()
