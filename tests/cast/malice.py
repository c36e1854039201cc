# SPDX-License-Identifier: Apache-2.0
"""What the tests of lies about messages share: refusals that a person understands, and rows put into mailboxes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from holdfast.client.errors import ClientError
from holdfast.client.messages import messages
from holdfast.client.messages.messages import Report, ReportKind
from holdfast.client.profile.account import Account
from tests.cast.lying_server import text
from tests.cast.members import Members
from tests.client.sessions.test_sessions import box

Lie = Callable[[dict[str, Any]], dict[str, Any]]


def understood(said: ClientError | Report) -> None:
    """A person is told what is wrong and what to do: two sentences, none of them a code or a trace."""
    for sentence in (said.text if isinstance(said, Report) else str(said), said.way_out):
        assert len(sentence.split()) >= 4
        assert sentence[0].isupper()
        assert not any(mark in sentence for mark in ("Traceback", "0x", "None", "b'"))


def refuses(act: Callable[[], object], match: str | None = None) -> ClientError:
    with pytest.raises(ClientError, match=match) as caught:
        act()
    understood(caught.value)
    return caught.value


def sent_to(world: Members, user: bytes) -> list[dict[str, Any]]:
    return world.server.posted(f"users/{text(user)}/messages")


def nothing_left(world: Members, account: Account, user: bytes) -> None:
    """Nothing was sent to a user, nothing is on its way, and no session was begun."""
    assert sent_to(world, user) == []
    assert account.store.keys("outbox") == []
    assert account.store.keys("session") == []


def only_report(account: Account, kind: ReportKind, match: str) -> Report:
    (report,) = messages.reports(account)
    assert report.kind is kind
    assert match in report.text
    understood(report)
    return report


def deliver(world: Members, to: Account, row: dict[str, Any], **changes: Any) -> None:
    """Put a row into a mailbox as the server may: under a fresh id, changed as it likes."""
    box(world, to).append({**row, "message_id": str(uuid4()), **changes})


def taken(world: Members, account: Account) -> dict[str, Any]:
    """Take the one message that waits out of a mailbox."""
    (row,) = box(world, account)
    box(world, account).clear()
    return row
