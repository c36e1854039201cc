# SPDX-License-Identifier: Apache-2.0
"""What happened that asks for new keys: noted where it is seen, answered by the next rotation of the identity.

Implements the trigger "security event" of PROTOCOL section 5.
Rotates nothing: `rotation` does, at the next maintenance. A fork of the own chain is kept as `evidence` instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from holdfast.client.profile.account import Account
from holdfast.core.base.rows import open_row, seal_row, text, uint

_KIND: Final = "security-event"
_MAX_NAME: Final = 64  # bytes: a sentence's beginning tells it from every other of ours


@dataclass(frozen=True)
class _Event:
    """What was noted, in a sentence. at: UTC seconds."""

    at: Annotated[int, uint()]
    why: Annotated[str, text()]


def note(account: Account, why: str) -> None:
    """Note something, once, in a sentence for the person: a one-time key handed out twice, an officer's wish."""
    name = why.encode()[:_MAX_NAME]
    if account.store.get(_KIND, name) is None:
        account.store.put(_KIND, name, seal_row(_Event(account.api.clock.now(), why)))


def list_events(account: Account) -> list[str]:
    """Return the sentences noted since the identity was last replaced, oldest first."""
    rows = [account.store.get(_KIND, name) for name in account.store.keys(_KIND)]
    return [open_row(_Event, row, "security event").why for row in rows if row is not None]


def clear_events(account: Account) -> None:
    """Strike everything out: the identity key is a new one."""
    with account.store.transaction():
        for name in account.store.keys(_KIND):
            account.store.delete(_KIND, name)
