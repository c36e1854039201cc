# SPDX-License-Identifier: Apache-2.0
"""Policies, escrow keys and officers: what is taken, from whom, and when it counts (FAULTS P6, P8, P15, X8)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import Error, IntegrityError, connection, connections, transaction
from django.utils import timezone

from escrow import access, services
from escrow.errors import EscrowKeyRefused, OfficerNeeded, PolicyInForce, PolicyRefused
from escrow.models import Deposit, Policy
from holdfast.core.identity.acts import Standing
from holdfast.core.identity.policy import GivenUp
from holdfast.core.log import merkle
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose
from kernel import paging
from kernel.clock import database_now
from kernel.errors import NotFound
from kernel.scope import tenant_scope
from tenants import services as tenants
from tests.cast.world import World

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


def publish(world: World, policy: Any, *names: str) -> None:
    world.publish(policy, signers=[world.founders[name] for name in names])


def test_read_policy_gives_the_exact_signed_bytes_and_their_history(world: World) -> None:
    publish(world, world.policy(m=2), "carol", "dan")
    answer = world.directory.phone("alice").send("GET", "/api/v1/escrow/policy").json()
    assert [row["version"] for row in answer["history"]] == [1, 2]
    assert answer["statement"] == answer["history"][-1]["statement"]
    assert [row["name"] for row in answer["officers"]] == ["Carol", "Dan", "Erin"]
    key = world.directory.phone("alice").send("GET", "/api/v1/escrow/key").json()
    assert key["version"] == 1


def test_history_comes_in_pages_bounded_by_octets(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(world, world.policy(m=2), "carol", "dan")
    monkeypatch.setattr(paging, "OCTETS", 1)
    alice = world.directory.phone("alice")
    for after, versions, more in ((0, [1], True), (1, [2], False), (2, [], False)):
        answer = alice.send("GET", f"/api/v1/escrow/policy?after={after}").json()
        assert (answer["version"], [row["version"] for row in answer["history"]], answer["more"]) == (2, versions, more)
    assert alice.send("GET", "/api/v1/escrow/key?after=1").json()["history"] == []
    for path in ("policy", "key"):
        assert alice.send("GET", f"/api/v1/escrow/{path}?after=x").json()["errors"][0]["field"] == "after"


def test_publish_policy_refuses_one_officer_or_an_outsider(world: World) -> None:
    mallory = world.add_founder("mallory")
    with pytest.raises(PolicyRefused):
        publish(world, world.policy(m=2), "carol")
    with pytest.raises(PolicyRefused):
        world.publish(world.policy(m=2), signers=[world.founders["carol"], mallory])
    assert Policy.unscoped.count() == 1


def test_publish_policy_refuses_a_version_that_follows_another_history(world: World) -> None:
    with pytest.raises(PolicyRefused):
        publish(world, replace(world.policy(m=2), predecessor=bytes(32)), "carol", "dan")
    with pytest.raises(PolicyRefused):
        publish(world, replace(world.policy(m=2), version=3), "carol", "dan")


def test_publish_policy_refuses_an_officer_who_is_no_officer_of_the_tenant(world: World) -> None:
    world.add_founder("bob")
    with pytest.raises(PolicyRefused):
        publish(world, world.policy(m=2, names=("carol", "dan", "erin", "bob")), "carol", "dan")


@pytest.mark.parametrize(("m", "n"), [(1, 3), (0, 3), (3, 3), (2, 2), (2, 17)])
def test_database_refuses_a_quorum_outside_the_bounds(world: World, m: int, n: int) -> None:
    now = timezone.now()
    values = {"version": 9, "hash": b"9" * 32, "statement": b"", "published_at": now, "in_force_from": now}
    with tenant_scope(world.tenant_id), pytest.raises(IntegrityError), transaction.atomic():
        Policy.objects.create(m=m, n=n, **values)


def test_policy_that_lowers_a_guard_is_in_force_only_after_the_cooling_off(world: World) -> None:
    publish(world, world.policy(m=2, undelivered_delay_seconds=0), "carol", "dan")
    with tenant_scope(world.tenant_id):
        now = timezone.now()
        assert access.policy_in_force(now).version == 1
        assert access.newest_policy().version == 2
        assert access.policy_in_force(now + timedelta(seconds=3601)).version == 2


def test_copy_of_a_policy_that_cools_off_waits_as_long(world: World) -> None:
    for _ in range(2):
        publish(world, world.policy(m=2, undelivered_delay_seconds=0), "carol", "dan")
    with tenant_scope(world.tenant_id):
        now = timezone.now()
        assert (access.policy_in_force(now).version, access.newest_policy().version) == (1, 3)
        assert access.policy_in_force(now + timedelta(seconds=3500)).version == 1
        assert access.policy_in_force(now + timedelta(seconds=3602)).version == 3


def test_policy_that_raises_a_guard_is_in_force_at_once(world: World) -> None:
    publish(world, world.policy(m=2, delay_seconds=600), "carol", "dan")
    with tenant_scope(world.tenant_id):
        assert access.policy_in_force(timezone.now()).version == 2


def hire(world: World, *names: str) -> None:
    """Give people the role of an officer and the keys of one; a policy has still to name them."""
    for name in names:
        world.add_founder(name)
        with tenant_scope(world.tenant_id):
            tenants.change_role(person=world.cast.people[name], role="officer", actor=world.ceremony)


def eligible(world: World, version: int, *, seconds: int = 0) -> list[str]:
    with tenant_scope(world.tenant_id):
        row = next(row for row in access.policies() if row.version == version)
        found = access.eligible(row, now=timezone.now() + timedelta(seconds=seconds), excluded=frozenset())
    return [name for place in found for name, one in world.founders.items() if one.person == place.person_id.bytes]


def test_policy_that_names_an_officer_no_more_takes_them_out_when_it_is_in_force(world: World) -> None:
    hire(world, "rex")
    publish(world, world.policy(m=2, names=("carol", "dan", "rex")), "carol", "dan")
    with tenant_scope(world.tenant_id):
        first, second = access.policies()
        assert [officer.state for officer in access.officers(first)] == ["active", "active", "active"]
        assert access.officers(second)[2].counts_from == second.in_force_from
        assert access.policy_in_force(timezone.now()) == first
    assert (eligible(world, 1), eligible(world, 2)) == (["carol", "dan", "erin"], ["carol", "dan"])
    assert eligible(world, 1, seconds=3602) == ["carol", "dan"]
    assert eligible(world, 2, seconds=3602) == ["carol", "dan", "rex"]


def test_officer_who_signs_their_own_leaving_is_out_at_once(world: World) -> None:
    hire(world, "rex")
    publish(world, world.policy(m=2, names=("carol", "dan", "rex")), "carol", "erin")
    assert (eligible(world, 1), eligible(world, 2)) == (["carol", "dan"], ["carol", "dan"])


def test_officer_with_other_keys_counts_again_after_the_cooling_off_unless_the_old_key_signed(world: World) -> None:
    old = world.add_founder("erin")
    publish(world, world.policy(m=2), "carol", "dan")
    assert (eligible(world, 2), eligible(world, 2, seconds=3602)) == (["carol", "dan"], ["carol", "dan", "erin"])
    with tenant_scope(world.tenant_id):
        assert access.policy_in_force(timezone.now()).version == 1
    # What is published in the meantime asks those of version 1, and it is in force with the one that it follows.
    third = world.policy(m=2)
    assert third.held_in_force == world.policies[0].hash
    assert old.signing_key.public == third.roster[2].signing_key


def test_officers_own_new_keys_count_at_once(world: World) -> None:
    before = world.founders["erin"]
    world.add_founder("erin")
    world.publish(world.policy(m=2), signers=[world.founders["carol"], before])
    assert eligible(world, 2) == ["carol", "dan", "erin"]


def test_publish_policy_refuses_one_made_while_another_was_in_force(world: World) -> None:
    publish(world, world.policy(m=2, delay_seconds=600), "carol", "dan")
    for held in (world.policies[0].hash, b""):
        with pytest.raises(PolicyRefused, match="in force"):
            publish(world, replace(world.policy(m=2), held_in_force=held), "carol", "dan")
    assert len(world.policies) == 2


def test_publish_policy_refuses_a_version_signed_over_thirty_days_ago_or_dated_ahead(world: World) -> None:
    made = world.policy(m=2)
    for seconds in (-30 * 86400 - 60, 3600):
        header = replace(made.header, issued_at=made.header.issued_at + seconds)
        with pytest.raises(PolicyRefused, match="30 days"):
            publish(world, replace(made, header=header), "carol", "dan")
    publish(
        world, replace(made, header=replace(made.header, issued_at=made.header.issued_at - 29 * 86400)), "carol", "dan"
    )


def test_policy_times_are_the_databases(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS W10: a host whose clock is a year ahead ends no wait."""
    monkeypatch.setattr(timezone, "now", lambda: database_now() + timedelta(days=365))
    publish(world, world.policy(m=2, undelivered_delay_seconds=0), "carol", "dan")
    with tenant_scope(world.tenant_id):
        newest = access.newest_policy()
    assert abs(newest.published_at - database_now()) < timedelta(minutes=1)
    assert timedelta(0) < newest.in_force_from - newest.published_at <= timedelta(seconds=3602)


# A version under which a deposit would be lost.


def test_publish_policy_refuses_to_leave_too_few_holders_of_a_deposit(world: World) -> None:
    """FAULTS X6, X8: nobody's key is lost by a change of officers without anybody's saying so."""
    world.deposit()
    world.deposit()
    hire(world, "rex", "otto")
    made = world.policy(m=2, names=("carol", "rex", "otto"))
    with pytest.raises(PolicyRefused, match="2 deposits of 1 users") as caught:
        publish(world, made, "carol", "dan", "erin")
    assert "field 13" in caught.value.detail
    ids = sorted(Deposit.unscoped.values_list("id", flat=True))
    root = merkle.root([merkle.leaf_hash(deposit_id.bytes) for deposit_id in ids])
    for wrong in (GivenUp(1, root), GivenUp(2, bytes(32))):
        with pytest.raises(PolicyRefused):
            publish(world, replace(made, given_up=wrong), "carol", "dan", "erin")
    publish(world, replace(made, given_up=GivenUp(2, root)), "carol", "dan", "erin")
    with tenant_scope(world.tenant_id):
        assert not services.user_coverage(world.cast.alice.pk).is_recoverable


def test_publish_policy_lets_a_deposit_go_whose_key_is_in_custody_anew(world: World) -> None:
    first = world.deposit()
    hire(world, "rex", "otto")
    publish(world, world.policy(m=2, names=("carol", "dan", "rex", "otto")), "carol", "dan", "erin")
    made = replace(world.policy(m=2, names=("rex", "otto", "carol")))
    with pytest.raises(PolicyRefused, match="1 deposits"):
        publish(world, made, "carol", "dan", "rex", "otto")
    again = world.build_again(first)
    assert world.upload(again).status_code == 201
    publish(world, made, "carol", "dan", "rex", "otto")


def test_publish_policy_refuses_to_give_up_what_would_not_be_lost(world: World) -> None:
    world.deposit()
    with pytest.raises(PolicyRefused, match="none would be lost"):
        publish(world, replace(world.policy(m=2), given_up=GivenUp(1, bytes(32))), "carol", "dan")


def test_raised_quorum_is_refused_where_older_deposits_have_too_few_holders(world: World) -> None:
    world.deposit()
    hire(world, "rex", "otto")
    names = ("carol", "dan", "erin", "rex", "otto")
    publish(world, world.policy(m=3, names=names), "carol", "dan")
    with tenant_scope(world.tenant_id):
        (covered,) = services.user_coverage(world.cast.alice.pk).deposits
    assert (covered.indices, covered.m, covered.is_open, covered.is_alarming) == ((1, 2, 3), 3, True, True)
    with pytest.raises(PolicyRefused, match="1 deposits"):
        publish(world, world.policy(m=4, names=names), "carol", "dan", "erin")


def test_coverage_leaves_out_an_officer_whose_keys_are_others_than_the_deposits(world: World) -> None:
    world.deposit()
    before = world.founders["erin"]
    world.add_founder("erin")
    world.publish(world.policy(m=2), signers=[world.founders["carol"], before])
    with tenant_scope(world.tenant_id):
        (covered,) = services.user_coverage(world.cast.alice.pk).deposits
    assert (covered.indices, covered.is_open, covered.is_alarming) == ((1, 2), True, True)


def test_removing_an_officer_is_refused_where_an_older_deposit_needs_them(found: Callable[..., World]) -> None:
    world = found(cooling_off_seconds=0)
    world.deposit()
    hire(world, "rex", "otto")
    publish(world, world.policy(m=2, names=("carol", "dan", "rex", "otto")), "carol", "dan")
    answer = world.send_word(world.word("dan", Standing.REMOVED, by="carol"), "carol")
    assert (answer.status_code, answer.json()["code"]) == (409, OfficerNeeded.code)
    assert "1 deposits of 1 users" in answer.json()["detail"]
    world.stand("dan", Standing.AWAY)
    world.stand("rex", Standing.REMOVED, by="carol")


def test_escrow_takes_nothing_while_fewer_than_three_officers_are_active(world: World) -> None:
    deposit = world.build()
    world.stand("erin", Standing.AWAY)
    answer = world.upload(deposit)
    assert (answer.status_code, answer.json()["code"]) == (409, "escrow-paused")
    assert Deposit.unscoped.count() == 0
    world.stand("erin", Standing.BACK)
    assert world.upload(deposit).status_code == 201


# Withdrawal.


def withdraw(world: World, policy_hash: bytes) -> None:
    with tenant_scope(world.tenant_id), transaction.atomic():
        access.newest_policy_for_update()
        services.withdraw_policy(policy_hash=policy_hash, now=database_now())


def test_withdrawn_version_counts_nowhere_and_its_number_stays_taken(world: World) -> None:
    for delay in (600, 300):
        publish(world, world.policy(m=2, undelivered_delay_seconds=0, delay_seconds=delay), "carol", "dan")
    withdraw(world, world.policies[1].hash)
    with tenant_scope(world.tenant_id):
        assert access.newest_policy().version == 1
        assert access.policy_in_force(timezone.now() + timedelta(days=31)).version == 1
        assert [row.withdrawn_at is None for row in access.policies()] == [True, False, False]
    made = world.policy(m=2, delay_seconds=900)
    with pytest.raises(PolicyRefused):
        publish(world, made, "carol", "dan")
    publish(world, replace(made, predecessor=world.policies[0].hash), "carol", "dan")
    with tenant_scope(world.tenant_id):
        assert (access.newest_policy().version, access.policy_in_force(timezone.now()).version) == (4, 4)
        assert access.trusted_tenant().newest.policy.version == 4


def test_version_in_force_is_not_withdrawn(world: World) -> None:
    publish(world, world.policy(m=2, delay_seconds=600), "carol", "dan")
    for signed in world.policies:
        with pytest.raises(PolicyInForce):
            withdraw(world, signed.hash)
    with pytest.raises(NotFound):
        withdraw(world, bytes(32))


def test_withdrawal_is_noted_once(world: World) -> None:
    publish(world, world.policy(m=2, undelivered_delay_seconds=0), "carol", "dan")
    withdraw(world, world.policies[1].hash)
    noted = Policy.unscoped.get(version=2).withdrawn_at
    withdraw(world, world.policies[1].hash)
    assert Policy.unscoped.get(version=2).withdrawn_at == noted
    with pytest.raises(Error):
        Policy.unscoped.filter(version=2).update(withdrawn_at=None)


def test_publish_escrow_key_refuses_a_statement_without_the_root(world: World) -> None:
    second = replace(world.escrow_key.statement, version=2, predecessor=world.escrow_key.hash)
    keys = [one.signing_key for one in world.founders.values()]
    signed = [cose.sign(second.to_payload(), purpose=Purpose.ESCROW_KEY, key=key) for key in keys]
    with tenant_scope(world.tenant_id), pytest.raises(EscrowKeyRefused):
        services.publish_escrow_key(
            statement=cose.encode_many(signed), cka_id=world.public.ref.cka_id, actor=world.ceremony
        )


def test_database_refuses_to_change_what_was_signed(world: World) -> None:
    with pytest.raises(Error):
        Policy.unscoped.update(m=3)


def test_escrow_is_off_until_it_is_founded(found: Callable[..., World]) -> None:
    world = found()
    answer = world.directory.phone("mallory").send("GET", "/api/v1/escrow/policy")
    assert (answer.status_code, answer.json()["code"]) == (409, "escrow-off")


@pytest.mark.postgres_only
def test_whoever_waited_for_a_publication_reads_the_version_that_it_brought(world: World) -> None:
    is_published, found = threading.Event(), []

    def wait() -> None:
        try:
            is_published.wait(timeout=30)
            with tenant_scope(world.tenant_id), transaction.atomic():
                found.append(access.newest_policy_for_update())
        finally:
            connections.close_all()

    waiting = threading.Thread(target=wait)
    waiting.start()
    with transaction.atomic():
        publish(world, world.policy(m=2), "carol", "dan")
        is_published.set()
        with connection.cursor() as cursor:
            for _ in range(300):
                cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
                if cursor.fetchone()[0]:
                    break
                time.sleep(0.1)
            else:
                pytest.fail("nobody waits for the publication")
    waiting.join(timeout=30)
    assert [row.version for row in found if row] == [2]
