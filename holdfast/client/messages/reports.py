# SPDX-License-Identifier: Apache-2.0
"""What went wrong with messages, kept until somebody has read it: each with a sentence, a way out, and the evidence.

Implements FAULTS S13, S14, S16 and S18 on the client: one report for each thing that a person or an app must hear of.
Decides nothing: whoever reports has refused already.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from uuid import UUID

from holdfast.client.profile.account import Account
from holdfast.client.profile.store import Store
from holdfast.core.base.encoding import MAX_BLOB, Encodable, Fields, decode, encode
from holdfast.core.base.secret import SecretBytes

REPORT: Final = "report"
# A server that sends junk without end fills this much and no more; the oldest give way.
MAX_KEPT: Final = 500
_MAX_ROW: Final = 4 * MAX_BLOB


class ReportKind(StrEnum):
    """What happened. UNDECRYPTABLE: a message that does not open; WAITING: one that needs a human's yes first."""

    UNDECRYPTABLE = "undecryptable"
    WAITING = "waiting"
    KEY_REUSED = "one-time-key-reused"
    LAST_RESORT = "last-resort"
    CHAIN_HIDDEN = "chain-hidden"
    SPLIT_VIEW = "split-view"
    CONTENT_WITHHELD = "content-withheld"
    NOT_SENT = "not-sent"


@dataclass(frozen=True)
class Report:
    """One thing to be heard of. user, device: whom the server names (16 bytes each), empty where nobody is named.

    evidence: the messages as they came, at most two. at: UTC seconds.
    """

    id: bytes
    kind: ReportKind
    at: int
    user: bytes
    device: bytes
    text: str
    way_out: str
    evidence: tuple[bytes, ...]
    _store: Store = field(repr=False, compare=False)

    @property
    def sender(self) -> str:
        """The device and user named, for people."""
        if not self.user:
            return "the server"
        return (
            f"device {UUID(bytes=self.device)} of {UUID(bytes=self.user)}"
            if self.device
            else str(UUID(bytes=self.user))
        )

    def done(self) -> None:
        """Put the report away. Its evidence goes with it."""
        self._store.delete(REPORT, self.id)


def add(
    account: Account,
    kind: ReportKind,
    text: str,
    *,
    way_out: str,
    user: bytes = b"",
    device: bytes = b"",
    evidence: tuple[bytes, ...] = (),
) -> None:
    """Keep a report, in the caller's transaction."""
    rows: list[Encodable] = list(evidence)
    now = account.api.clock.now()
    value = encode([kind.value, now, user, device, text[:2048], way_out[:1024], rows])
    # The same thing found again and again is one report.
    name = hashlib.sha256(encode([kind.value, user, device, text[:2048], rows])).digest()
    account.store.put(REPORT, name, SecretBytes(value))
    for key in account.store.keys(REPORT)[:-MAX_KEPT]:
        account.store.delete(REPORT, key)


def listed(account: Account) -> list[Report]:
    """Return the reports that were not put away, oldest first."""
    found = []
    for key in account.store.keys(REPORT):
        kept = account.store.get(REPORT, key)
        assert kept is not None
        row = Fields.of_row(decode(kept.reveal(), max_size=_MAX_ROW), "report", 7)
        rows = Fields(dict(enumerate(row.array(6))), "report", range(len(row.array(6))))
        found.append(
            Report(
                id=key,
                kind=ReportKind(row.text(0)),
                at=row.uint(1),
                user=row.octets(2),
                device=row.octets(3),
                text=row.text(4, maximum=2048),
                way_out=row.text(5, maximum=1024),
                evidence=tuple(rows.octets(index) for index in range(len(row.array(6)))),
                _store=account.store,
            )
        )
    return found
