# SPDX-License-Identifier: Apache-2.0
"""All was put back together, so that only a device's head tells: by it the server stops, and by officers goes on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings

from audit import access as audit
from holdfast.client import maintenance
from holdfast.client.errors import ServerReadOnly, ServerRestored
from holdfast.client.escrow import archive
from holdfast.client.identity import contacts, evidence, key_log, restored
from holdfast.client.standing import Outcome
from kernel.scope import tenant_scope
from tests.cast.callers import Callers
from tests.cast.put_back import copied_database
from tests.cast.world import World
from tests.recovery.release.test_restored import accept, ceremony

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


@pytest.fixture(autouse=True)
def _release_directory(settings: Any, tmp_path: Path) -> None:
    settings.HOLDFAST_RELEASE_DIR = tmp_path / "release"


def test_server_that_remembers_nothing_stops_by_a_devices_head_and_goes_on_by_the_officers(
    world: World, settings: Any, tmp_path: Path
) -> None:
    callers = Callers(world)
    for name in ("carol", "dan"):
        world.directory.phone(name)
    alice, bob = callers.enrolled("alice"), callers.enrolled("bob")
    contacts.refresh(bob, alice.user)
    world.tick()
    callers.work()
    restore = copied_database()
    memory = tmp_path / "sequencer-of-then"
    shutil.copytree(django_settings.HOLDFAST_SEQUENCER_DIR, memory)
    for _ in range(3):
        archive.new_generation(alice)
        contacts.refresh(bob, alice.user)
    seen = key_log.own_checkpoint(bob)
    restore()
    settings.HOLDFAST_SEQUENCER_DIR = memory
    erin = callers.enrolled("erin")  # the server has not noticed anything
    with pytest.raises(ServerRestored, match=r"older key log|two histories"):
        contacts.refresh(bob, erin.user)
    with tenant_scope(world.tenant_id):
        assert audit.is_restored()
    with pytest.raises(ServerReadOnly):
        archive.new_generation(erin)
    report = maintenance.maintain(erin)
    assert [one.item for one in report if one.outcome is not Outcome.NOTHING and "put back" in one.said] == ["server"]
    assert len(evidence.list_evidence(bob)) == 1

    accept(world, "carol", "dan")
    ceremony(world)
    world.tick()
    callers.work()
    contacts.refresh(bob, erin.user)
    (one,) = restored.taken(bob)
    assert (one.note.decode(), one.signers) == (seen, 2)
    assert [seen.explained for seen in evidence.list_evidence(bob)] == [one.hash]
    archive.new_generation(erin)
    contacts.refresh(bob, erin.user)
    # Whoever still holds a head of then makes the server stop no more.
    restored.tell(bob, seen)
    with tenant_scope(world.tenant_id):
        assert not audit.is_restored()
