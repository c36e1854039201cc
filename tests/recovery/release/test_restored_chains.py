# SPDX-License-Identifier: Apache-2.0
"""Account chains after a backup was put back: people who rotated, lost a device and came back, by `maintain` alone.

PROTOCOL section 5, "After a restored backup". The server is real, and its database is really put back.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from holdfast.client import maintenance
from holdfast.client.identity import chains, contacts
from holdfast.client.messages import messages
from holdfast.client.profile.account import Account
from holdfast.client.rotation import rotation
from holdfast.client.standing import Outcome
from holdfast.core.identity.entries import Reason
from keys.models import ChainEntry, ChainFork, Device
from tests.cast.world import World
from tests.recovery.release.test_restored_clients import Scene, said

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


@pytest.fixture(autouse=True)
def _release_directory(settings: Any, tmp_path: Any) -> None:
    settings.HOLDFAST_RELEASE_DIR = tmp_path / "release"


def exchange(one: Account, other: Account, words: bytes) -> None:
    for sender, reader in ((one, other), (other, one)):
        messages.send(sender, reader.user, words)
        assert words in [message.body for message in messages.receive(reader)]


def put_back(scene: Scene, restore: Any) -> None:
    scene.callers.work()
    scene.world.tick()
    restore()
    scene.accept()
    scene.open_again()


def maintained(*accounts: Account) -> list[str]:
    """What each says that has failed, when each has maintained itself twice; but for a keyring that was never sent."""
    for _ in range(2):
        reports = [maintenance.maintain(account) for account in accounts]
    return [line for report in reports for line in said(report, Outcome.FAILED) if not line.startswith("archive:")]


def test_everybody_writes_to_everybody_again(world: World) -> None:
    """Two rotate, one of them loses a device and has another instead, of which the backup knows nothing."""
    scene = Scene(world)
    lost = scene.another()
    exchange(scene.alice, scene.bob, b"before")
    restore = scene.dump()
    rotation.rotate(scene.bob, {rotation.IDENTITY}, reason=Reason.SCHEDULE)
    new = scene.another()
    rotation.rotate(scene.alice, {rotation.IDENTITY}, reason=Reason.DEVICE_LOST, revoke=[_id(lost)])
    chains.refresh(new)
    exchange(new, scene.bob, b"since")
    put_back(scene, restore)
    assert not Device.unscoped.filter(id=_id(new)).exists()
    # The new device first: nobody else is there to tell the server of it.
    assert maintained(new, scene.bob, scene.alice) == []
    for account in (new, scene.bob):
        stored = ChainEntry.unscoped.filter(user_id=_user(account)).order_by("seq")
        assert [bytes(row.entry) for row in stored] == account.state.chain
    states = {row.id: row.state for row in Device.unscoped.filter(user_id=_user(new))}
    assert (states[_id(new)], states[_id(lost)]) == ("active", "revoked")
    exchange(new, scene.bob, b"after")
    exchange(scene.alice, scene.bob, b"after all")
    assert not ChainFork.unscoped.exists()


def test_whom_only_a_contact_remembers_is_written_to_again(world: World) -> None:
    """Bob's device is away: what alice knows of his account she gives the server, and he reads what came meanwhile."""
    scene = Scene(world)
    exchange(scene.alice, scene.bob, b"before")
    restore = scene.dump()
    rotation.rotate(scene.bob, {rotation.IDENTITY}, reason=Reason.SCHEDULE)
    exchange(scene.alice, scene.bob, b"since")
    put_back(scene, restore)
    assert maintained(scene.alice) == []
    contacts.refresh(scene.alice, scene.bob.user)
    stored = ChainEntry.unscoped.filter(user_id=_user(scene.bob)).order_by("seq")
    assert [bytes(row.entry) for row in stored] == scene.bob.state.chain
    messages.send(scene.alice, scene.bob.user, b"are you back?")
    assert maintained(scene.bob) == []
    assert b"are you back?" in [message.body for message in messages.receive(scene.bob)]
    exchange(scene.bob, scene.alice, b"after")


def _id(account: Account) -> UUID:
    return UUID(bytes=account.device.id)


def _user(account: Account) -> UUID:
    return UUID(bytes=account.user)
