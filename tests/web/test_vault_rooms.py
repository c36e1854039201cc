# SPDX-License-Identifier: Apache-2.0
"""The tests of the vault and its doors, with accounts whose vault room is the TypeScript one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from holdfast.client.vault import doors, export, pairing, share_requests, trusted, vault, vault_contents
from tests.cast.lying_server import LyingServer, Tenant, again, founded
from tests.client import cuts
from tests.client.vault import test_door_cuts, test_doors, test_export, test_pairing, test_trusted, test_vault
from tests.web.peer import bundled
from tests.web.rooms import Listening, Node, NodeMembers, Twin, node, reopened, with_twins

__all__ = ["founded"]

ROOMS = {
    room.__name__.rpartition(".")[2]: Twin(room)
    for room in (doors, export, pairing, share_requests, trusted, vault, vault_contents)
}


class _Here:
    """The process and the servers of this module's tests."""

    process: Node
    listening: Listening


def members(server: LyingServer) -> NodeMembers:
    return NodeMembers(server, _Here.process, _Here.listening)


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


# What `make test` runs of them, the others run in the soak: each room once, and what Python and TypeScript do together.
EVERYDAY = frozenset(
    {
        "doors_new_password_replaces_the_old_one",
        "doors_passphrase_of_a_phrase_is_asked_for_and_needed",
        "doors_phrase_door_in_the_place_of_the_password_door_is_refused",
        "export_file_holds_everything_and_opens_without_the_vault",
        "pairing_digits_differ_when_somebody_stands_between",
        "pairing_eight_digits_bring_the_account_over",
        "pairing_new_device_that_is_shown_another_key_log_than_the_old_one_refuses",
        "pairing_qr_code_brings_the_whole_account_over",
        "trusted_interrupted_set_is_carried_on_and_the_shares_leave_no_trace",
        "trusted_request_key_swapped_by_the_server_has_another_code",
        "trusted_request_waits_for_k_contacts_and_opens_the_vault",
        "vault_contents_are_read_in_one_encoding_or_refused",
        "vault_of_an_older_version_is_refused_by_the_device_that_wrote_a_newer",
        "vault_two_devices_that_write_at_once_lose_nothing_of_either",
    }
)
# It reads the names of shell commands, which a browser has none of.
NOT_HERE = frozenset({"doors_status_of_a_fresh_account_names_every_door_and_how_to_set_it"})

met: set[str] = set()
for module in (test_vault, test_doors, test_export, test_pairing, test_trusted, test_door_cuts):
    changed: dict[str, Any] = {**ROOMS, "Members": members, "reopened": reopened}
    room = module.__name__.rpartition("test_")[2]
    for name, found in with_twins(module, changed, cuts).items():
        label = f"{room}_{name.removeprefix('test_').removeprefix(f'{room}_')}"
        met.add(label)
        if label not in NOT_HERE:
            mark = pytest.mark.rounds if label in EVERYDAY else pytest.mark.soak
            globals()[f"test_{label}"] = mark("web-rooms")(found)
assert met >= EVERYDAY | NOT_HERE
