# SPDX-License-Identifier: Apache-2.0
"""The TypeScript SDK's messages over a lying server: cases of tests.client.messages, as they stand there."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.cast import malice
from tests.cast.lying_server import Tenant, founded
from tests.client.messages import (
    test_acknowledgements,
    test_malicious_acknowledgements,
    test_malicious_mailbox,
    test_malicious_messages,
    test_messages,
)
from tests.client.messages.test_malicious_acknowledgements import written
from tests.client.sessions import test_sessions
from tests.web.lies import LiedTo, Setting, cases, setting

__all__ = ["founded", "written"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    with setting(tmp_path_factory.mktemp("rooms")) as made:
        yield made


@pytest.fixture
def worlds(place: Setting, founded: Tenant) -> Iterator[Iterator[LiedTo]]:
    yield (place.world(founded) for _ in itertools.count())
    place.end_of_a_test()


@pytest.fixture
def world(worlds: Iterator[LiedTo]) -> LiedTo:
    return next(worlds)


# What `make test` runs of them, one for each kind of lie; the others run in the soak.
EVERYDAY = frozenset(
    {
        "test_message_is_not_sent_with_a_part_of_mallorys_keys",
        "test_message_is_not_sent_under_a_chain_shorter_than_the_one_seen",
        "test_device_of_a_weaker_suite_is_refused_once_the_contact_was_met_under_a_stronger",
        "test_stale_answer_with_a_forged_head_is_checked_against_the_chain",
        "test_server_that_demands_an_envelope_for_a_removed_device_gets_none",
        "test_server_that_hides_a_revocation_is_found_out_by_the_next_message",
        "test_split_view_of_the_key_log_is_found_by_two_who_write_to_each_other",
        "test_message_for_another_device_is_refused",
        "test_one_time_key_given_to_two_senders_is_found_out_with_both_messages",
        "test_message_of_a_person_who_began_again_waits_for_a_humans_yes",
        "test_nothing_secret_is_ever_posted",
    }
)
# About Python's own connection, or with a bound of Python's set lower: web/sdk/tests has those of TypeScript.
NOT_HERE = frozenset(
    {
        "test_addresses_that_the_server_names_are_not_visited",
        "test_junk_in_the_name_of_many_devices_begins_a_bounded_number_of_sessions",
        "test_strangers_use_up_nobody_elses_sessions_begun_anew",
        "test_one_user_with_many_devices_uses_up_nobody_elses",
        "test_two_thousand_garbled_conversations_are_refused_by_a_sentence",
    }
)
HELPERS = (test_sessions, test_messages, malice, test_acknowledgements)

met: set[str] = set()
for module in (test_malicious_messages, test_malicious_mailbox, test_malicious_acknowledgements):
    for name, found in cases(module, *HELPERS).items():
        met.add(name)
        if name not in NOT_HERE:
            mark = pytest.mark.rounds if name in EVERYDAY else pytest.mark.soak
            globals()[name] = mark("web-rooms")(found)
assert met >= EVERYDAY | NOT_HERE
