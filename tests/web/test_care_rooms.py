# SPDX-License-Identifier: Apache-2.0
"""The tests of maintenance and healing, of wrong clocks and of what must not last, with accounts in TypeScript.

An officer's own keys stay with the command: a browser has no such part.
"""

from __future__ import annotations

import importlib
import inspect
import re
import secrets
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from holdfast.client import maintenance, standing
from holdfast.client.maintenance import Done, Outcome
from holdfast.client.messages import messages as messages_room
from holdfast.client.profile.account import Account
from holdfast.client.profile.store import MemoryStore
from holdfast.client.vault import vault
from holdfast.core.base.encoding import b64u
from tests.cast.lying_server import LyingServer, Tenant, again, founded, text
from tests.cast.members import ALICE, BOB
from tests.client import cuts, test_clocks, test_healing, test_lasting_faults, test_maintenance
from tests.soak import rounds
from tests.web.peer import bundled
from tests.web.rooms import Listening, Node, NodeMembers, Twin, node, reopened, with_twins

__all__ = ["founded"]


class _Here:
    """The process and the servers of this module's tests."""

    process: Node
    listening: Listening


def members(server: LyingServer) -> NodeMembers:
    return NodeMembers(server, _Here.process, _Here.listening)


# What the tests read in a way out, and what a browser says in its place.
COMMANDS = {
    r'client\.devices\.approve\("([^"]+)", words\)': r"holdfast devices approve \1",
    r'client\.rotate\(undefined, \{ revoke: \["([^"]+)"\] \}\)': r"holdfast devices revoke \1",
    r"client\.backup\.setPassword\(\)": "holdfast backup password",
    r"client\.escrow\.consent\(\)": "holdfast escrow deposit",
}


def maintain(account: Account) -> list[Done]:
    """Do it in Node. A line that names no warning has nothing there, and no bytes here."""
    report: list[Done] = Twin(maintenance).maintain(account)
    return [replace(one, kept=one.kept or b"", way_out=translated(one.way_out)) for one in report]


def translated(way_out: str) -> str:
    """Return a way out with the shell's commands in the place of calls."""
    for call, command in COMMANDS.items():
        way_out = re.sub(call, command, way_out)
    return way_out


class Maintenance(Twin):
    """The room, with that one call."""

    maintain = staticmethod(maintain)
    _ITEMS = tuple(one for one in maintenance._ITEMS if one.name != "officer's keys")


@pytest.fixture(scope="module", autouse=True)
def _process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    _Here.listening = Listening()
    with node(bundled("tests/peer/rooms.ts", tmp_path_factory.mktemp("rooms"))) as _Here.process:
        yield
    _Here.listening.close()


@pytest.fixture
def world(worlds: Iterator[NodeMembers]) -> NodeMembers:
    return next(worlds)


@pytest.fixture
def worlds(founded: Tenant) -> Iterator[NodeMembers]:
    def fresh() -> Iterator[NodeMembers]:
        while True:
            yield members(LyingServer(again(founded)))

    return fresh()


alice, friends = test_maintenance.alice, test_clocks.friends
# All that those tests call.
NAMES = (
    "escrow.archive",
    "escrow.escrow",
    "identity.chains",
    "identity.contacts",
    "identity.device",
    "identity.key_log",
    "messages.bundles",
    "messages.letters",
    "messages.messages",
    "messages.prekeys",
    "recovery.by_case",
    "rotation.rotation",
    "sessions.sessions",
    "vault.doors",
    "vault.pairing",
    "vault.share_requests",
    "vault.trusted",
    "vault.vault",
    "vault.vault_contents",
)
ROOMS = {name.rpartition(".")[2]: Twin(importlib.import_module(f"holdfast.client.{name}")) for name in NAMES}
ROOMS |= {"maintenance": Maintenance(maintenance), "standing": Twin(standing)}


FEWER_COMMITS = 10


def cutting() -> types.SimpleNamespace:
    """Return what cuts a call off, with accounts that are opened again in Node."""
    space: dict[str, Any] = {**vars(cuts)}
    for name, found in vars(cuts).items():
        if inspect.isfunction(found) and found.__module__ == cuts.__name__:
            space[name] = types.FunctionType(found.__code__, space, name, found.__defaults__, found.__closure__)
            space[name].__kwdefaults__ = found.__kwdefaults__
    space["reopened"] = reopened
    sweep: Callable[..., int] = space["sweep"]

    def swept(*given: Any, **options: Any) -> int:
        # Python's store commits a few rows by themselves that TypeScript commits with others: that many moments fewer.
        return sweep(*given, **options) + FEWER_COMMITS

    return types.SimpleNamespace(**{**space, "sweep": swept})


MONTH = 31 * 86_400


@pytest.mark.rounds("web-rooms")
def test_months_of_writing_and_of_junk_leave_no_more_rows_than_three(world: NodeMembers) -> None:
    """Nothing in a profile grows with the time that it is used, nor with what a server puts into its mailbox."""
    alice, bob = world.published(ALICE), world.published(BOB)
    vault.save(alice)
    messages = Twin(messages_room)
    counts: list[dict[str, int]] = []
    for _ in range(rounds(4, 14)):
        for sender, reader in ((alice, bob), (bob, alice), (alice, bob)):
            assert messages.send(sender, reader.user, b"hello").is_sent
            for one in messages.receive(reader):
                assert one.body == b"hello"
                one.done()
        for _ in range(10):
            world.server.notice(text(ALICE), {"event": "code-issued"})
            world.server.deliver(alice.device_text, kind="envelope", message=b64u(secrets.token_bytes(64)), sender=None)
        world.now += MONTH
        world.server.now = world.now
        for account in (alice, bob):
            report = maintain(account)
            assert not [one for one in report if one.outcome is Outcome.FAILED]
            # As a person does who reads what they are shown.
            Twin(standing).note_shown(account, [one.kept for one in report if one.kept])
            Twin(standing).put_away_seen(account)
        assert isinstance(alice.store, MemoryStore)
        counts.append({kind: len(rows) for kind, rows in alice.store._rows.items() if rows})
    more = {kind: (counts[2].get(kind, 0), now) for kind, now in counts[-1].items() if now > counts[2].get(kind, 0)}
    assert more.keys() <= {"own-entry"}, "a row for each entry of the account's chain, to which a month adds one"


# What `make test` runs of them, the others run in the soak.
EVERYDAY = frozenset(
    {
        "clocks_device_of_the_future_enrols_by_the_same_code",
        "clocks_rotation_begun_in_the_future_is_finished",
        "lasting_faults_device_that_was_off_over_two_rotations_comes_back",
        "healing_server_that_goes_on_lying_is_given_each_thing_once",
        "maintenance_call_after_a_call_does_nothing_and_says_so",
        "maintenance_every_part_is_named_in_the_report",
        "maintenance_message_that_waited_is_sent",
        "maintenance_new_month_gets_its_archive_key_deposited_and_saved",
        "maintenance_part_that_fails_is_told_with_its_way_out_and_stops_no_other",
        "maintenance_server_away_is_met_once_and_what_needs_none_is_still_done",
    }
)
NOT_HERE = frozenset(
    {
        # Officers approve a case in it, and they stay in Python.
        "clocks_keys_of_a_case_are_not_destroyed_by_a_clock_that_says_it_is_over",
        # It reads what the command prints.
        "clocks_offset_is_told_by_doctor_and_with_every_request_that_is_refused_for_it",
        # They cut a function of Python's off; TypeScript's rotation is cut at every request by tests of its own.
        "lasting_faults_device_rotation_cut_off_before_it_was_taken_into_use_is_finished_by_maintenance",
        "lasting_faults_message_that_waited_over_a_change_of_device_keys_is_encrypted_anew",
        "lasting_faults_rotation_taken_up_a_day_later_is_signed_anew",
        # Its clock was confirmed in Python, and no profile carries that: Node asks for a head, and saves it.
        "maintenance_keyring_is_saved_when_it_holds_something_new",
    }
)
OFFICERS = "an older section"  # their keys have doors of their own, which the command keeps


def without_officers(mark: Any) -> Any:
    """Return a mark without the rows of officers' keys."""
    if mark.name != "parametrize" or mark.args[0] != "lie":
        return mark
    left = {name: lie for name, lie in test_healing.LIES.items() if name != OFFICERS}
    return pytest.mark.parametrize("lie", left.values(), ids=left).mark


met: set[str] = set()
for module in (test_clocks, test_healing, test_lasting_faults, test_maintenance):
    changed: dict[str, Any] = {**ROOMS, "maintain": maintain, "Members": members, "cuts": cutting()}
    room = module.__name__.rpartition("test_")[2]
    for name, found in with_twins(module, changed).items():
        label = f"{room}_{name.removeprefix('test_')}"
        met.add(label)
        if label not in NOT_HERE:
            found.pytestmark = [without_officers(mark) for mark in getattr(found, "pytestmark", [])]
            kind = pytest.mark.rounds if label in EVERYDAY else pytest.mark.soak
            globals()[f"test_{label}"] = kind("web-rooms")(found)
assert met >= EVERYDAY | NOT_HERE
