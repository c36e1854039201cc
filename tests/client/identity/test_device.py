# SPDX-License-Identifier: Apache-2.0
"""A person's devices: listed with who vouched for them, approved by words, revoked with all that they knew."""

from __future__ import annotations

from uuid import UUID

import pytest

from holdfast.client.errors import ProfileError, TrustRefused, WrongWords
from holdfast.client.identity import device
from holdfast.client.rotation import rotation
from holdfast.client.vault import vault
from holdfast.core.identity.entries import Entry, Reason, RevokeDevice, RotateKey
from tests.cast.lying_server import NOW
from tests.cast.members import ALICE, BOB, Members


def test_devices_are_listed_with_the_one_that_approved_them(world: Members) -> None:
    laptop = world.enrolled(ALICE)
    phone = world.profile(ALICE)
    done = device.enrol(phone, world.server.code(ALICE), name="phone")
    waiting = {one.name: one for one in device.list_devices(laptop)}["phone"]
    assert (waiting.is_in_chain, waiting.approved_by, waiting.added_at, waiting.state) == (False, None, 0, "pending")
    device.approve(laptop, done.device, words=done.words)
    rows = {one.name: one for one in device.list_devices(laptop)}
    own = UUID(bytes=laptop.device.id)
    assert {name: (one.is_in_chain, one.approved_by, one.added_at, one.is_this) for name, one in rows.items()} == {
        "laptop": (True, own, NOW, True),
        "phone": (True, own, NOW, False),
    }


def test_device_is_approved_by_its_own_words_only(world: Members) -> None:
    laptop = world.enrolled(ALICE)
    done = device.enrol(world.profile(ALICE), world.server.code(ALICE), name="phone")
    with pytest.raises(WrongWords):
        device.approve(laptop, done.device, words=tuple(reversed(done.words)))
    other = device.enrol(world.profile(BOB), world.server.code(BOB), name="bob's")
    with pytest.raises(TrustRefused, match="another person"):
        device.approve(laptop, other.device, words=other.words)
    assert laptop.chain.devices.keys() == {laptop.device.id}


def test_revocation_and_rotation_come_in_one_upload(world: Members) -> None:
    laptop = world.published(ALICE)
    vault.save(laptop)
    done = device.enrol(world.profile(ALICE), world.server.code(ALICE), name="phone")
    device.approve(laptop, done.device, words=done.words)
    since = NOW - 3_600
    before = len(laptop.state.chain)
    progress = rotation.rotate(
        laptop, rotation.EVERYTHING, reason=Reason.DEVICE_COMPROMISED, revoke=[done.device], since=since
    )
    assert progress.is_done
    assert progress.revoked == (done.device,)
    first, second, *_ = (Entry.parse(one).body for one in laptop.state.chain[before:])
    assert first == RevokeDevice(done.device.bytes, Reason.DEVICE_COMPROMISED, since)
    assert isinstance(second, RotateKey)
    assert laptop.chain.revoked == {done.device.bytes}


def test_pending_device_revokes_nobody(world: Members) -> None:
    laptop = world.enrolled(ALICE)
    phone = world.profile(ALICE)
    device.enrol(phone, world.server.code(ALICE), name="phone")
    with pytest.raises(ProfileError, match="not part of your account"):
        rotation.rotate(phone, rotation.EVERYTHING, reason=Reason.DEVICE_LOST, revoke=[UUID(bytes=laptop.device.id)])
    assert rotation.list_rotations(phone) == []
