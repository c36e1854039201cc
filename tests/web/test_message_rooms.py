# SPDX-License-Identifier: Apache-2.0
"""The tests of messages, with accounts whose rooms of messages are the TypeScript ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from holdfast.client.identity import key_log
from holdfast.client.messages import inbox, letters, messages, prekeys, renewals, reports, sent, settling, unsent
from tests.cast import malice
from tests.cast.lying_server import LyingServer, Tenant, again, founded
from tests.client import cuts
from tests.client.messages import test_acknowledgements, test_doubts, test_junk_letters, test_messages, test_prekeys
from tests.client.sessions import test_sessions
from tests.web.peer import bundled
from tests.web.rooms import Listening, Node, NodeMembers, Twin, node, reopened, with_twins

__all__ = ["founded"]

ROOMS = {
    room.__name__.rpartition(".")[2]: Twin(room)
    for room in (key_log, inbox, letters, messages, prekeys, renewals, reports, sent, settling, unsent)
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


# What `make test` runs of them; the others run in the soak.
EVERYDAY = frozenset(
    {
        "acknowledgements_each_device_confirms_for_itself",
        "acknowledgements_what_was_fetched_and_not_taken_before_a_profile_was_put_back_comes_again",
        "messages_message_is_handed_out_until_the_app_says_done",
        "messages_unreachable_server_leaves_the_message_to_be_sent_later_as_it_was",
        "prekeys_replaced_signed_pre_key_is_kept_for_30_days_and_then_destroyed",
        "sessions_handshakes_from_both_sides_at_once_leave_both_sessions_and_one_favourite",
        "sessions_message_that_a_revoked_device_sends_afterwards_is_refused",
    }
)
# They read words of the command line, or undo in Python what Node has done: web/sdk/tests has them in TypeScript.
NOT_HERE = frozenset(
    {
        "messages_content_above_a_mailbox_is_refused_with_the_way_out",
        "prekeys_answer_to_a_device_without_pre_keys_waits_and_accuses_nobody",
        "prekeys_used_one_time_key_is_gone_and_comes_back_with_an_undone_transaction",
    }
)

met: set[str] = set()
for module in (test_messages, test_sessions, test_prekeys, test_acknowledgements, test_doubts, test_junk_letters):
    changed: dict[str, Any] = {**ROOMS, "Members": members, "reopened": reopened}
    room = module.__name__.rpartition("test_")[2]
    for name, found in with_twins(module, changed, cuts, test_sessions, test_messages, malice).items():
        label = f"{room}_{name.removeprefix('test_').removeprefix(f'{room}_')}"
        met.add(label)
        if label not in NOT_HERE:
            mark = pytest.mark.rounds if label in EVERYDAY else pytest.mark.soak
            globals()[f"test_{label}"] = mark("web-rooms")(found)
assert met >= EVERYDAY | NOT_HERE
