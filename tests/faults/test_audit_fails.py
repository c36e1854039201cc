# SPDX-License-Identifier: Apache-2.0
"""Goal G11 (FAULTS L1, L10): when the log takes no entry, nothing happens and nothing is told, on every route."""

from __future__ import annotations

import pytest

from tests.cast.phones import audit_away
from tests.faults.routes import api_calls, changed, picture
from tests.faults.world import VALID, Installation

pytestmark = pytest.mark.postgres
# POSTs that only read: what the caller itself published, as a digest; what an act would do, in words.
ONLY_READS = {("act-words", "POST"), ("device-check", "POST")}
# The mailbox: the log is kept for ever, and would say for ever who wrote to whom (docs/decisions.md). A message
# changes no key, no right and no record; what the server could do wrong is to lose one, and that the two ends notice.
UNLOGGED = {("device-messages", "POST"), ("messages-ack", "POST"), ("user-messages", "POST")}


def test_every_route_has_a_valid_request() -> None:
    assert set(api_calls()) == set(VALID)


@pytest.mark.parametrize(("name", "method"), sorted(api_calls()))
def test_request_without_its_entry_does_nothing_and_tells_nothing(
    name: str, method: str, installation: Installation
) -> None:
    with installation.undone():
        act = VALID[name, method](installation.acme)
        before = picture()
        response = act.send()
        assert response.status_code in (200, 201, 202, 204), response.content
        touched = changed(before)
    if (name, method) in UNLOGGED:
        assert touched
        kept = {"keys_claimbudget", "keys_mailboxsize", "keys_message", "keys_messagecontent"}
        assert touched <= {*kept, "kernel_replayableanswer"}
        return
    # What changes rows is an act, and every act has its entry; so has every read that shows what was kept secret.
    assert not touched or "audit_waiting" in touched, f"{touched} changed without an entry"
    assert method == "GET" or touched or (name, method) in ONLY_READS, "a request that should act changed nothing"
    if not touched:
        return
    act = VALID[name, method](installation.acme)
    before = picture()
    with audit_away():
        response = act.send()
    assert response.status_code == 503, response.content
    assert response["content-type"] == "application/problem+json"
    assert response.json()["code"] == "audit-unavailable"
    assert set(response.json()) == {"type", "title", "status", "code", "detail"}
    assert changed(before) == set()
