# SPDX-License-Identifier: Apache-2.0
"""What went wrong with messages, kept until somebody has read it: each with a sentence, a way out, and the evidence.

Implements FAULTS S13, S14, S16 and S18 on the client: one report for each thing that a person or an app must hear of.
Decides nothing: whoever reports has refused already.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated, ClassVar, Final
from uuid import UUID

from holdfast.client.messages.quotas import SENDER, Quota, trim
from holdfast.client.profile.account import Account
from holdfast.client.profile.store import Store
from holdfast.core.base.encoding import MAX_BLOB, encode
from holdfast.core.base.rows import choice, octets, open_row, seal_row, several, text, uint

TOLD: Final = "held-told"  # a reason for which something waits, told and not to be told again
TOLD_SECONDS: Final = 60 * 86_400  # nothing that is held can be opened after that
_MOST_TOLD: Final = 8  # reasons of one thing: a server that changes its excuse is not listened to for ever
# Of all that waits, as many as messages that are held. What waits no more since it gave way to others leaves its row
# behind, and a server can name others without end. Who is above it hears of a reason again, and of none too few.
_TOLD_QUOTA: Final = Quota(of_one=_MOST_TOLD, of_all=4000)
_OPENS_LATER: Final = "It opens by itself when this has passed. If it goes on, tell your officers."
REPORT: Final = "report"  # rows of all kinds, as they were kept before each kind had its own
# Of one kind: junk of one person fills a tenth of it and no more, and no report of another kind gives way. An honest
# year brings none, or a handful; each is there until somebody has read it.
QUOTA: Final = Quota(of_one=50, of_all=500)
_MAX_ROW: Final = 4 * MAX_BLOB  # two messages as evidence, and the words
# Characters: a sentence or two of ours, in which a name that somebody else chose may stand.
_MAX_TEXT, _MAX_WAY_OUT = 2048, 1024


class ReportKind(StrEnum):
    """What happened. UNDECRYPTABLE: a message that does not open; WAITING: one that needs a human's yes first.

    IN_DOUBT: one that is held until a doubt about a chain or the log has passed.
    """

    UNDECRYPTABLE = "undecryptable"
    WAITING = "waiting"
    IN_DOUBT = "in-doubt"
    KEY_REUSED = "one-time-key-reused"
    LAST_RESORT = "last-resort"
    CHAIN_HIDDEN = "chain-hidden"
    SPLIT_VIEW = "split-view"
    CONTENT_WITHHELD = "content-withheld"
    NOT_SENT = "not-sent"
    NOT_CONFIRMED = "not-confirmed"


def _row_kind(kind: ReportKind) -> str:
    return f"{REPORT}-{kind.value}"


@dataclass(frozen=True)
class Report:
    """One thing to be heard of. user, device: whom the server names (16 bytes each), empty where nobody is named.

    evidence: the messages as they came, at most two. at: UTC seconds.
    """

    ROW_SIZE: ClassVar = _MAX_ROW

    id: bytes
    kind: Annotated[ReportKind, choice(ReportKind)]
    at: Annotated[int, uint()]
    user: Annotated[bytes, octets()]
    device: Annotated[bytes, octets()]
    text: Annotated[str, text(maximum=_MAX_TEXT)]
    way_out: Annotated[str, text(maximum=_MAX_WAY_OUT)]
    evidence: Annotated[tuple[bytes, ...], several(octets(), of=tuple)]
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
        self._store.delete(_row_kind(self.kind), self.id)
        self._store.delete(REPORT, self.id)


@dataclass(frozen=True)
class _ToldRow:
    """A reason for which something waits, told and not to be told again. report: its id, until somebody has read it."""

    until: Annotated[int, uint()]
    kind: Annotated[ReportKind, choice(ReportKind)]
    report: Annotated[bytes, octets()]


def add(
    account: Account,
    kind: ReportKind,
    text: str,
    *,
    way_out: str,
    user: bytes = b"",
    device: bytes = b"",
    evidence: tuple[bytes, ...] = (),
) -> bytes:
    """Keep a report, in the caller's transaction; returns its id."""
    text, now = text[:_MAX_TEXT], account.api.clock.now()
    # The same thing found again and again is one report.
    said = hashlib.sha256(encode([kind.value, user, device, text, list(evidence)])).digest()
    name = (user or bytes(SENDER)) + said
    report = Report(name, kind, now, user, device, text, way_out[:_MAX_WAY_OUT], evidence, account.store)
    account.store.put(_row_kind(kind), name, seal_row(report))
    trim(account.store, _row_kind(kind), QUOTA)
    return name


def add_once(account: Account, about: bytes, kind: ReportKind, text: str, *, way_out: str, user: bytes) -> None:
    """Keep a report of why something waits, once for each reason also after it was read; in a transaction of its own.

    about: what waits, 16 bytes, until `forget_told` says that it waits no more.
    """
    with account.store.transaction():
        name = about + hashlib.sha256(text.encode()).digest()
        if account.store.get(TOLD, name) is None and len(_told(account, about)) < _MOST_TOLD:
            report = add(account, kind, text, way_out=way_out or _OPENS_LATER, user=user)
            until = account.api.clock.latest() + TOLD_SECONDS
            account.store.put(TOLD, name, seal_row(_ToldRow(until, kind, report)))
            trim(account.store, TOLD, _TOLD_QUOTA, is_known=account.state.contacts.__contains__)


def forget_told(account: Account, about: bytes) -> None:
    """Withdraw what `add_once` has told of something, which waits no more, in the caller's transaction."""
    for name in _told(account, about):
        row = account.store.get(TOLD, name)
        assert row is not None
        told = open_row(_ToldRow, row, "reason told")
        account.store.delete(_row_kind(told.kind), told.report)
        account.store.delete(TOLD, name)


def _told(account: Account, about: bytes) -> list[bytes]:
    return [name for name in account.store.keys(TOLD) if name.startswith(about)]


def change_way_out(account: Account, user: bytes, device: bytes, before: str, after: str) -> None:
    """Say another way out in the reports about a device that say this one, in the caller's transaction."""
    for report in list(_list(account, user)):
        if (report.user, report.device, report.way_out) == (user, device, before):
            account.store.put(_row_kind(report.kind), report.id, seal_row(replace(report, way_out=after)))


def list_reports(account: Account) -> list[Report]:
    """Return the reports that were not put away, oldest first."""
    return sorted(_list(account), key=lambda report: report.at)


def _list(account: Account, user: bytes = b"") -> Iterator[Report]:
    """Give the reports about a user, or all of them. None of another is opened: each is as long as its evidence."""
    for rows in (REPORT, *map(_row_kind, ReportKind)):
        for key in account.store.keys(rows):
            # Rows of before each kind had its own are named by no user.
            if rows == REPORT or key.startswith(user):
                kept = account.store.get(rows, key)
                assert kept is not None
                yield open_row(Report, kept, "report", id=key, _store=account.store)
