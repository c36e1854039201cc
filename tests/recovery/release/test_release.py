# SPDX-License-Identifier: Apache-2.0
"""From an approved case to an opened archive key, on real tokens."""

from __future__ import annotations

import pytest

from tests.cast.founded import Hsm
from tests.cast.world import World

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


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
