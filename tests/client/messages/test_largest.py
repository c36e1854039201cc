# SPDX-License-Identifier: Apache-2.0
"""Messages of the largest size that the server takes, in every state that they can be in."""

from __future__ import annotations

import dataclasses
import secrets
from uuid import UUID, uuid4

import pytest

from holdfast.client.identity import peers
from holdfast.client.messages import bundles, handshakes, inbox_rows, messages
from holdfast.client.messages.reports import ReportKind
from holdfast.client.profile.account import Account
from holdfast.core.base.encoding import b64u
from tests.cast.members import ALICE, BOB, MALLORY, Members
from tests.client.sessions.test_sessions import box

LARGEST = 1024 * 1024  # bytes of content that the server takes


def deliver_in_doubt(world: Members, bob: Account) -> None:
    """Have mallory write to bob the largest message there is, naming a head of their own chain that nobody can show."""
    mallory = world.published(MALLORY)
    state = peers.refresh(mallory, BOB)
    _, (claimed,) = bundles.claim_devices(mallory, state, [bob.device.id])
    me = dataclasses.replace(mallory.me(), head=secrets.token_bytes(32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(mallory), "me", lambda _self: me)
        _, session = handshakes.begin(mallory, state, claimed)
    name = str(uuid4())
    world.server.contents[name] = b64u(bytes(LARGEST))
    box(world, bob).append(
        {
            "message_id": name,
            "kind": "message",
            "sender_user": str(UUID(bytes=MALLORY)),
            "sender_device": mallory.device_text,
            "to_device": bob.device_text,
            "message": b64u(session.encrypt(b"x" * 40_000)),
            "received_at": "2026-07-01T00:00:00Z",
            "has_content": True,
        }
    )


def test_largest_message_in_doubt_waits_and_stands_in_nobodys_way(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    deliver_in_doubt(world, bob)
    messages.send(alice, BOB, b"an honest message")
    for _ in range(2):
        assert [one.body for one in messages.receive(bob)] == [b"an honest message"]
    assert len(bob.store.keys("held")) == 1
    assert [one.kind for one in messages.reports(bob)] == [ReportKind.IN_DOUBT]


def test_what_cannot_be_kept_stands_in_nobodys_way(world: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should any size ever be wrong again: one row of the mailbox is lost with a report, and not all that follow it."""
    alice, bob = world.published(ALICE), world.published(BOB)
    monkeypatch.setattr(inbox_rows.Envelope, "ROW_SIZE", 70_000)
    deliver_in_doubt(world, bob)
    messages.send(alice, BOB, b"an honest message")
    assert [one.body for one in messages.receive(bob)] == [b"an honest message"]
    assert any("larger than can be kept" in one.text for one in messages.reports(bob))


def test_largest_message_reaches_thirteen_devices_at_a_first_contact(world: Members) -> None:
    alice, bob = world.published(ALICE), world.published(BOB)
    others = [world.another(bob, f"d{at}") for at in range(12)]
    said = secrets.token_bytes(1_000_000)
    assert len(messages.send(alice, BOB, said).devices) == 13
    assert [one.body for one in messages.receive(others[-1])] == [said]
