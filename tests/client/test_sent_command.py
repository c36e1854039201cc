# SPDX-License-Identifier: Apache-2.0
"""`holdfast sent`: what a person sees of messages that nobody, or not every device, has confirmed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import pytest

from holdfast.cli.app import main
from holdfast.client.messages import messages
from holdfast.client.profile.account import Account
from holdfast.core.messages import repeats
from tests.cast.members import ALICE, BOB, Members
from tests.client.messages.test_acknowledgements import met, pruned, talk

Typed = Callable[..., str]


@pytest.fixture
def people() -> dict[str, Account]:
    return {}


@pytest.fixture
def typed(people: dict[str, Account], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Have a person type a line; their profile is the one in memory."""

    @contextlib.contextmanager
    def opened(directory: Path, **_how: object) -> Iterator[Account]:
        account = people[directory.name]
        monkeypatch.setattr(account, "connect", lambda *_args, **_more: account.api)
        yield account

    monkeypatch.setattr("holdfast.client.profile.account.open_account", opened)
    monkeypatch.setattr("holdfast.client.profile.account.asks_for_passphrase", lambda _directory: False)
    monkeypatch.setenv("COLUMNS", "200")

    def line(who: str, *words: str) -> str:
        with contextlib.suppress(SystemExit):
            main(["--profile", f"/nowhere/{who}", *words])
        return capsys.readouterr().out

    return line


def test_person_sees_what_is_confirmed_by_whom_and_in_the_end_what_is_not(
    world: Members, people: dict[str, Account], typed: Typed
) -> None:
    alice, bob = met(world)
    world.another(bob)
    people |= {"alice": alice, "bob": bob}
    assert "Everything that you sent is confirmed." in typed("alice", "sent")
    done = messages.send(alice, BOB, b"one")
    assert f"to {UUID(bytes=BOB)}: not confirmed yet, by 2 devices" in typed("alice", "sent")
    # The command that shows a message confirms it, without another one.
    assert "one" in typed("bob", "receive")
    messages.receive(alice)
    assert f"to {UUID(bytes=BOB)}: confirmed, but not by 1 device" in typed("alice", "sent")
    (said,) = json.loads(typed("alice", "sent", "--json"))["messages"]
    assert (said["message_id"], said["user"], said["confirmed"]) == (done.id.hex(), str(UUID(bytes=BOB)), True)
    assert len(said["not_confirmed_by"]) == 1
    talk(bob, alice)
    messages.send(alice, BOB, b"two")
    world.now += repeats.KEPT_SECONDS
    pruned(alice)
    shown = typed("alice", "sent")
    assert f"! Not confirmed: no device has said that it has the message that you wrote to {UUID(bytes=BOB)}" in shown
    assert json.loads(typed("alice", "sent", "--json"))["messages"] == []


def test_copies_for_own_devices_are_called_so(world: Members, people: dict[str, Account], typed: Typed) -> None:
    alice, bob = met(world)
    world.another(alice)
    people |= {"alice": alice}
    messages.send(alice, BOB, b"one")
    talk(bob, alice)
    assert "to your other devices: not confirmed yet, by 1 device" in typed("alice", "sent")
    assert str(UUID(bytes=ALICE)) not in typed("alice", "sent")
