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
from escrow.errors import EscrowKeyRefused, PolicyRefused
from escrow.models import Policy
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose
from kernel import paging
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


def test_policy_that_names_an_officer_no_more_removes_them_for_ever(world: World) -> None:
    world.add_founder("rex")
    with tenant_scope(world.tenant_id):
        tenants.change_role(person=world.cast.rex, role="officer", actor=world.ceremony)
    publish(world, world.policy(m=2, names=("carol", "dan", "rex")), "carol", "dan")
    with tenant_scope(world.tenant_id):
        first, second = access.policies()
        assert [officer.state for officer in access.officers(first)] == ["active", "active", "removed"]
        rex = access.officers(second)[2]
        assert rex.counts_from is not None
        assert {one.person_id for one in access.eligible(second, now=timezone.now(), excluded=frozenset())} == {
            world.cast.carol.pk,
            world.cast.dan.pk,
        }


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
