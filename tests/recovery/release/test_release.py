# SPDX-License-Identifier: Apache-2.0
"""From an approved case to an opened archive key, on real tokens."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from kernel.scope import tenant_scope
from tests.cast.founded import Hsm
from tests.cast.world import World

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]

MOST_SELECTS = 23


def test_release_opens_the_archive_key_on_the_recipient_device_only(world: World, hsm: Hsm) -> None:
    case, deposit = world.approved("carol")
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("requested", 0)
    assert world.approve(case, "dan", deposit).status_code == 201
    assert world.state(case) == "waiting"
    world.tick()
    assert (world.state(case), hsm.unwraps()) == ("released", 1)
    answer = world.collect(case)
    assert answer.status_code == 200, answer.content
    assert world.combine(case, deposit, answer.json()) == world.archive_keys[deposit.header.deposit_id]
    assert world.state(case) == "collected"
    other = world.new_phone()
    assert other.send("GET", f"{case.path}/release").status_code == 404


def test_release_asks_the_database_no_more_than_it_did(world: World, hsm: Hsm) -> None:
    """Each statement costs what several signatures do; `bench.releases` has a release beside its bare HSM calls."""
    case, _ = world.approved("carol", "dan")
    world.sequence()
    with world.process() as process, tenant_scope(world.tenant_id):
        process.follow_all()
        with CaptureQueriesContext(connection) as queries:
            assert process._tenant(world.tenant_id).attempt(case.id) is None
    assert world.state(case) == "released"
    assert sum(one["sql"].startswith("SELECT") for one in queries) <= MOST_SELECTS
