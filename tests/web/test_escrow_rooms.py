# SPDX-License-Identifier: Apache-2.0
"""The tests of escrow, recovery and rotation, with accounts whose rooms for that are the TypeScript ones.

Officers stay in Python, as does a release: what they make, TypeScript reads, and the other way.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import pytest

from holdfast.client.errors import ClientError
from holdfast.client.escrow import archive, deposits, disclosures, escrow
from holdfast.client.identity import key_log
from holdfast.client.recovery import by_case, by_door, vetoes
from holdfast.client.rotation import rotation
from tests.cast import members as cast
from tests.cast.lying_server import LyingServer, Tenant, again, founded
from tests.client.escrow import test_disclosures, test_escrow
from tests.client.recovery import test_by_case, test_by_door
from tests.client.rotation import test_rotation
from tests.web.peer import bundled
from tests.web.rooms import Listening, Node, NodeMembers, Twin, node, with_twins

__all__ = ["founded"]

ROOMS = {
    room.__name__.rpartition(".")[2]: Twin(room)
    for room in (archive, deposits, disclosures, escrow, key_log, by_case, by_door, vetoes, rotation)
}
# What the tests read in a way out, and what a browser says in its place.
COMMANDS = {
    "client.cases.open()": "holdfast recover escrow open",
    "client.cases.status()": "holdfast recover escrow status",
    "client.cases.cancel()": "holdfast recover escrow cancel",
    "client.cases.finish()": "holdfast recover escrow finish",
}


class _Here:
    """The process and the servers of this module's tests."""

    process: Node
    listening: Listening


class EscrowMembers(NodeMembers):
    """People whose deposits and cases are made in Node as well."""


def _in_node(name: str) -> Any:
    method = getattr(cast.Members, name)
    return types.FunctionType(method.__code__, {**vars(cast), **ROOMS}, name, method.__defaults__)


for _name in ("depositor", "case", "disclosing"):
    setattr(EscrowMembers, _name, _in_node(_name))


def members(server: LyingServer) -> EscrowMembers:
    return EscrowMembers(server, _Here.process, _Here.listening)


@pytest.fixture(scope="module", autouse=True)
def _process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    _Here.listening = Listening()
    with node(bundled("tests/peer/rooms.ts", tmp_path_factory.mktemp("rooms"))) as _Here.process:
        yield
    _Here.listening.close()


@pytest.fixture(autouse=True)
def _commands(monkeypatch: pytest.MonkeyPatch) -> None:
    said: Any = vars(ClientError)["way_out"]

    def translated(error: ClientError) -> str:
        text = str(said.fget(error))
        for call, command in COMMANDS.items():
            text = text.replace(call, command)
        return text

    monkeypatch.setattr(ClientError, "way_out", property(translated))


@pytest.fixture
def world(worlds: Iterator[EscrowMembers]) -> EscrowMembers:
    return next(worlds)


@pytest.fixture
def worlds(founded: Tenant) -> Iterator[EscrowMembers]:
    def fresh() -> Iterator[EscrowMembers]:
        while True:
            yield members(LyingServer(again(founded)))

    return fresh()


# What `make test` runs of them, the others run in the soak.
EVERYDAY = frozenset(
    {
        "escrow_new_policy_asks_the_person_again_and_then_every_generation_is_deposited_anew",
        "escrow_deposit_whose_half_somebody_had_first_is_made_anew_and_said",
        "escrow_key_that_a_case_has_opened_is_marked_and_followed_by_a_fresh_one",
        "disclosures_file_of_another_is_read_by_what_a_case_disclosed",
        "disclosures_keys_are_gone_from_the_moment_of_the_end_and_the_manifest_is_closed",
        "by_case_keys_of_a_case_that_the_server_may_have_taken_are_kept",
        "by_case_veto_is_proven_to_be_in_the_log",
        "by_door_password_brings_the_account_to_a_new_device_and_rotates_everything",
        "rotation_replaces_identity_vault_key_and_archive_generation",
        "rotation_revoked_device_gets_nothing_new",
    }
)
NOT_HERE = frozenset(
    {
        # They count, or change, what Python's own modules do meanwhile.
        "rotation_that_was_signed_ahead_is_signed_anew",
        "escrow_deposit_verifies_each_policy_and_escrow_key_once",
        "disclosures_line_is_written_before_the_first_byte_of_the_plaintext",
        "disclosures_file_that_is_exchanged_after_its_line_is_not_handed_out",
        # They expect the OSError of a path: where a page's file may not be written, MachineError says so.
        "disclosures_disclosure_is_ended_by_hand_and_forgotten_only_after_its_manifest_was_written",
        "disclosures_no_line_is_written_for_what_does_not_open",
        # Ends of their own at each step: web/sdk/tests/rotation.test.ts has them.
        "rotation_survives_a_stop_at_every_point",
    }
)

met: set[str] = set()
for module in (test_escrow, test_disclosures, test_by_case, test_by_door, test_rotation):
    changed: dict[str, Any] = {**ROOMS, "Members": members}
    room = module.__name__.rpartition("test_")[2]
    for name, found in with_twins(module, changed).items():
        label = f"{room}_{name.removeprefix('test_').removeprefix(f'{room}_')}"
        met.add(label)
        if label not in NOT_HERE:
            mark = pytest.mark.rounds if label in EVERYDAY else pytest.mark.soak
            globals()[f"test_{label}"] = mark("web-rooms")(found)
assert met >= EVERYDAY | NOT_HERE
