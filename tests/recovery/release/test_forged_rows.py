# SPDX-License-Identifier: Apache-2.0
"""Rows changed by whoever has the database: the case is held and the alarm is in the log (FAULTS P4, P16).

Every change here is made as the superuser makes it: by SQL, with the triggers off.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.db import Error, connection
from django.utils import timezone

from holdfast.core.base.errors import Expired, Untrusted
from hsm.ceremony import Ceremony
from kernel.scope import tenant_scope
from recovery.cases.endings import cancel_case
from recovery.models import Approval, Case, CaseDeposit
from recovery.release.clock import Clock
from recovery.release.directory import Directory, Intent
from recovery.release.log import ReleaseLog
from recovery.release.rules import orders_for
from tests.cast.founded import Hsm
from tests.cast.hsm import OTHER_TENANT
from tests.cast.world import OpenCase, World, as_superuser

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


def held(world: World, hsm: Hsm, case: OpenCase) -> bool:
    """Let the release process look, and tell whether it held the case, raised the alarm and asked the HSM nothing."""
    world.tick()
    row = world.row(case)
    return (row.state, hsm.unwraps(), world.tags(case)[-1]) == ("held", 0, "recovery:release:held")


def due(world: World, case: OpenCase) -> None:
    """Make a case look as if its delay were over."""
    with as_superuser("recovery_case") as cursor:
        cursor.execute(
            "UPDATE recovery_case SET state = 'waiting', release_at = opened_at, quorate_at = opened_at WHERE id = %s",
            [key(case.id)],
        )


def key(value: uuid.UUID) -> object:
    return value if connection.vendor == "postgresql" else value.hex


def copy_approval(world: World, source: OpenCase, target: OpenCase) -> None:
    """Copy an approval row and its shares from one case to another."""
    for row in Approval.unscoped.filter(case_id=source.id):
        shares = list(row.shares.all())
        row.pk, row.case_id = uuid.uuid4(), target.id
        row.save(force_insert=True)
        for share in shares:
            share.pk, share.approval = uuid.uuid4(), row
            share.save(force_insert=True)


def test_release_holds_a_case_that_was_moved_to_waiting_by_hand(world: World, hsm: Hsm) -> None:
    case, _ = world.approved("carol")
    due(world, case)
    assert held(world, hsm, case)


def test_release_holds_a_case_with_approvals_copied_from_another(world: World, hsm: Hsm) -> None:
    deposit, phone = world.deposit(), world.new_phone()
    other, case = world.opened(deposit, phone=phone), world.opened(deposit, phone=phone)
    for name in ("carol", "dan"):
        assert world.approve(other, name, deposit).status_code == 201
    copy_approval(world, other, case)
    due(world, case)
    world.sequence()
    with world.process() as process:
        process.tick()
    assert world.state(case) == "held"
    assert world.state(other) == "released"
    assert hsm.unwraps() == 1


def test_release_holds_a_case_whose_recipient_was_changed_after_approval(world: World, hsm: Hsm) -> None:
    case, deposit = world.approved("carol", "dan")
    mallory = world.case(case.phone, deposit, case_id=case.id.bytes)
    with as_superuser("recovery_case") as cursor:
        cursor.execute(
            "UPDATE recovery_case SET statement = %s, q = %s WHERE id = %s",
            [mallory.statement.encode(), mallory.statement.payload_hash, key(case.id)],
        )
    assert held(world, hsm, case)


def test_release_holds_a_case_when_an_approval_row_was_deleted(world: World, hsm: Hsm) -> None:
    case, deposit = world.approved("carol", "dan")
    with tenant_scope(world.tenant_id):
        row = Approval.unscoped.get(case_id=case.id, index=2)
        row.shares.all().delete()
        row.delete()
    due(world, case)
    # The rows alone would send it back to its officers; that they differ from the log is the alarm.
    assert held(world, hsm, case)
    assert world.approve(case, "erin", deposit).status_code == 409


def test_release_holds_a_vetoed_case_that_was_brought_back(world: World, hsm: Hsm) -> None:
    case, _ = world.approved("carol", "dan")
    with tenant_scope(world.tenant_id):
        cancel_case(case_id=case.id, actor=world.ceremony)
    due(world, case)
    assert held(world, hsm, case)


def test_release_holds_a_case_when_a_stored_deposit_was_swapped(world: World, hsm: Hsm) -> None:
    case, deposit = world.approved("carol", "dan")
    other = world.deposit()
    ids = [key(uuid.UUID(bytes=one.header.deposit_id)) for one in (other, deposit)]
    with as_superuser("escrow_deposit") as cursor:
        cursor.execute(
            "UPDATE escrow_deposit SET sealed = (SELECT sealed FROM escrow_deposit WHERE id = %s) WHERE id = %s", ids
        )
    assert held(world, hsm, case)


def test_release_waits_when_a_policy_that_the_log_tells_of_is_gone(world: World, hsm: Hsm) -> None:
    world.publish(world.policy(m=2), signers=world.founders.values())
    case, _ = world.approved("carol", "dan")
    with as_superuser("escrow_policy", "escrow_policyofficer") as cursor:
        newest = "(SELECT id FROM escrow_policy WHERE version = 2)"
        cursor.execute(f"DELETE FROM escrow_policyofficer WHERE policy_id IN {newest}")
        cursor.execute("DELETE FROM escrow_policy WHERE version = 2")
    world.tick()
    assert (world.state(case), world.row(case).why, hsm.unwraps()) == ("waiting", "log-wrong", 0)


def test_release_refuses_a_log_that_was_rewritten_behind_its_back(world: World, hsm: Hsm) -> None:
    case, _ = world.approved("carol", "dan")
    world.sequence()
    with tenant_scope(world.tenant_id):
        world.followed()
    with as_superuser("audit_entry") as cursor:
        leaf = "(SELECT leaf FROM audit_entry WHERE log = 'audit' AND leaf_index = 4)"
        cursor.execute(f"UPDATE audit_entry SET leaf = {leaf} WHERE log = 'audit' AND leaf_index = 3")
    with world.process() as process:
        process.tick()
    assert (world.state(case), world.row(case).why, hsm.unwraps()) == ("held", "log-changed", 0)


def test_log_that_is_known_to_be_broken_is_not_read_through_at_every_look(
    world: World, hsm: Hsm, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, _ = world.approved("carol", "dan")
    world.sequence()
    with tenant_scope(world.tenant_id):
        world.followed()
    with as_superuser("audit_entry") as cursor:
        cursor.execute("UPDATE audit_entry SET leaf = %s WHERE log = 'audit' AND leaf_index = 3", [b"changed"])
    opened, honest = [], ReleaseLog.open

    def counted(*given: Any) -> ReleaseLog:
        opened.append(given)
        return honest(*given)

    monkeypatch.setattr(ReleaseLog, "open", counted)
    with world.process() as process:
        for _ in range(9):
            process.follow_all()
            process._sweep()
    # The second after a pause of ten seconds, if these nine looks take as long.
    assert len(opened) <= 2
    assert (world.row(case).why, hsm.unwraps()) == ("log-changed", 0)


def test_release_refuses_another_q_for_a_case_id_that_is_spent(world: World, hsm: Hsm) -> None:
    case, deposit = world.approved("carol", "dan")
    spent = world.case(case.phone, deposit, case_id=case.id.bytes)
    directory = Directory(world.home, world.tenant_id)
    directory.spend(Intent(case.id.bytes, spent.statement.payload_hash, bytes(32), 1))
    assert held(world, hsm, case)


def test_head_older_than_two_minutes_is_not_fresh(world: World) -> None:
    world.approved("carol", "dan")
    world.sequence()
    with tenant_scope(world.tenant_id):
        later, log = Clock(world.home / "later", wall=lambda: time.time() + 125), world.followed()
        log.require_fresh(Clock(world.home / "now").now())
        with pytest.raises(Expired):
            log.require_fresh(later.now())


@pytest.mark.parametrize("state", ["denied", "vetoed", "expired", "cancelled", "held", "closed"])
def test_database_refuses_to_move_a_case_out_of_a_terminal_state(world: World, hsm: Hsm, state: str) -> None:
    case = world.opened(world.deposit())
    with as_superuser("recovery_case") as cursor:
        cursor.execute("UPDATE recovery_case SET state = %s WHERE id = %s", [state, key(case.id)])
    with pytest.raises(Error):
        Case.unscoped.filter(id=case.id).update(state="waiting")


@pytest.mark.parametrize("column", ["purpose", "not_before", "expiry", "recipient_device_id", "statement"])
def test_database_refuses_to_change_the_terms_of_a_case(world: World, hsm: Hsm, column: str) -> None:
    case = world.opened(world.deposit())
    values = {"purpose": "legal", "recipient_device_id": uuid.uuid4(), "statement": b"other"}
    with pytest.raises(Error):
        Case.unscoped.filter(id=case.id).update(**{column: values.get(column, timezone.now())})


def test_release_holds_a_case_whose_rows_name_another_deposit_than_its_statement(world: World, hsm: Hsm) -> None:
    case, _ = world.approved("carol", "dan")
    other = world.deposit()
    CaseDeposit.unscoped.filter(case_id=case.id).update(deposit_id=uuid.UUID(bytes=other.header.deposit_id))
    assert held(world, hsm, case)


def test_half_of_another_tenant_is_not_opened_though_root_and_officers_signed_its_key(
    hsm: Hsm, tmp_path: Path, db: None
) -> None:
    """ESCROW "Keys": an escrow key serves its own tenant, whoever signs that it is theirs."""
    foreign = Ceremony(hsm.config).create_escrow_key(OTHER_TENANT)
    world = World(tmp_path / "release", foreign, hsm.tokens.log.public_key)
    case, _ = world.approved("carol", "dan")
    hsm.interposer.forget()
    world.tick()
    assert (world.state(case), world.row(case).why) == ("held", "half-refused")
    assert hsm.interposer.entered("C_UnwrapKey", foreign.ref.cka_id) == 0


def test_escrow_key_whose_statement_is_another_tenants_is_named_to_no_hsm(world: World, hsm: Hsm) -> None:
    """`trust` refuses such a statement when it is read; the rules ask once more where the HSM is asked."""
    case, _ = world.approved("carol", "dan")
    world.sequence()
    log = world.followed()
    facts, row = log.facts, world.row(case)
    with tenant_scope(world.tenant_id):
        assert orders_for(row, facts=facts, now=Clock(world.home / "clock").now())
        (name, key) = next(iter(facts.escrow_keys.items()))
        header = replace(key.statement.header, tenant=uuid.UUID(OTHER_TENANT).bytes)
        facts.escrow_keys[name] = replace(key, statement=replace(key.statement, header=header))
        with pytest.raises(Untrusted, match="of another tenant"):
            orders_for(row, facts=facts, now=Clock(world.home / "clock").now())
