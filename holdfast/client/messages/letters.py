# SPDX-License-Identifier: Apache-2.0
"""Letters from device to device, and the server's notices: sent, and kept on this device until they were read.

Implements the mailbox of the REST API for all that is no message of a session (PROTOCOL section 6).
Does not open a letter; `pairing` and `trusted` do, and believe nothing of the sender but what is signed inside. The
sender whom the server names decides only whose quota a letter fills: a lie there takes nothing that silence would not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final
from uuid import UUID

from holdfast.client.errors import ClientError, PeerChanged
from holdfast.client.messages import quotas, reports
from holdfast.client.messages.quotas import Quota
from holdfast.client.messages.reports import ReportKind
from holdfast.client.profile.account import Account
from holdfast.client.server.answers import Answer
from holdfast.core.base.encoding import MAX_BLOB, b64u, encode
from holdfast.core.base.errors import HoldfastError
from holdfast.core.base.rows import choice, octets, open_row, seal_row, uint
from holdfast.core.base.secret import SecretBytes
from holdfast.core.vault.contact_shares import ShareLetter

# By its row's key: a letter that was put away. A lost acknowledgement brings it again, and so does a server that was
# put back from a backup: what was read or done is neither told nor done twice.
PUT_AWAY: Final = "letter-put-away"
_PUT_AWAY_QUOTA: Final = Quota(of_one=500, of_all=4000)  # more than come back with any backup of a month
PUT_AWAY_SECONDS: Final = 60 * 86_400  # twice as long as a letter waits on the server
LETTER: Final = "letter"  # rows of all kinds, as they were kept before each kind had its own
_PAGE: Final = 100  # letters in one answer, as of messages
_PAGES: Final = 50  # more than a mailbox holds: a server that always has one more is left
# Octets. A share letter: the manifest of 16 contacts, signed, is below 3 KiB; the sealed share below 4. A notice of
# ours has an event and a few ids.
_MAX_SHARE, _MAX_NOTICE = 8192, 4096


class LetterKind(StrEnum):
    """What a letter is about. A notice is the server's own word, and nothing but a hint."""

    SYNC = "sync"
    SHARE = "share"
    PAIRING = "pairing"
    NOTICE = "notice"


_KINDS: Final = frozenset(LetterKind)

# What may wait at once, and what an honest year brings; `holdfast maintain` acts on letters within hours, and drops
# those of 30 days. Together below 100 MiB, little more than one full mailbox on the server.
_QUOTAS: Final = {
    # From each own device a letter for every change of the vault's key: a dozen a year, 50 for who rotates every week.
    LetterKind.SYNC: Quota(of_one=100, of_all=500),
    # From each owner a letter for every change of their key: a dozen a year, of which only the newest counts. All
    # fetched in one go (`_PAGES`) fit, so that even a tenant of nothing but liars takes nobody's place.
    LetterKind.SHARE: Quota(of_one=16, of_all=6000),
    # Three letters for a pairing by digits; a person pairs a few devices a year.
    LetterKind.PAIRING: Quota(of_one=30, of_all=200),
    # Of one event about one person: doors read and devices joined, a handful in a year; a request has two or three.
    LetterKind.NOTICE: Quota(of_one=100, of_all=1000),
}
_STRANGERS: Final = bytes(quotas.SENDER)
# What may happen to one's own account: notices of these, about oneself or naming nobody, are the last to give way.
_EVENTS: Final = (
    "door-read",
    "code-issued",
    "device-enrolled",
    "device-joined",
    "device-restored",
    "case-opened",
    "case-cancelled",
    "contacts-request",
    "contacts-collected",
    "contacts-request-ended",
    "messages-dropped",
)


@dataclass(frozen=True)
class Letter:
    """One letter as the server handed it over. Sender (16 bytes each, empty in a notice) and time are its word only."""

    ROW_SIZE: ClassVar = 2 * MAX_BLOB

    id: bytes
    kind: Annotated[LetterKind, choice(LetterKind)]
    sender_user: Annotated[bytes, octets(0, 16)]
    sender_device: Annotated[bytes, octets(0, 16)]
    message: Annotated[bytes, octets()]
    received_at: Annotated[int, uint()]

    def row(self, own: bytes) -> tuple[str, bytes]:
        """Return where it is kept, among those of its kind and sender. own: the user whose device this is."""
        if self.kind is LetterKind.NOTICE:
            return _notice_row(self.id, _read_notice(self.message) or {})
        if self.kind is LetterKind.SHARE:
            return _row_kind(self.kind), self.sender_user + self.id
        # Between the devices of one person: all others have one place, in which they may take each other's.
        return _row_kind(self.kind), (self.sender_device if self.sender_user == own else _STRANGERS) + self.id


@dataclass(frozen=True)
class Notice:
    """Something that happened to the account, in the server's word: `event`, and what it says of it."""

    id: bytes
    event: str
    said: dict[str, Any]
    received_at: int

    def row(self, _own: bytes) -> tuple[str, bytes]:
        """Return where it is kept, among those of its event and of the person whom it is about."""
        return _notice_row(self.id, self.said)


def _row_kind(kind: LetterKind) -> str:
    return f"{LETTER}-{kind.value}"


def _notice_row(identifier: bytes, said: dict[str, Any]) -> tuple[str, bytes]:
    """A member of the tenant can cause notices that name them: those take the place of none about somebody else."""
    return _row_kind(LetterKind.NOTICE), _about(str(said.get("event")), str(said.get("owner", ""))) + identifier


def _about(event: str, owner: str) -> bytes:
    return hashlib.sha256(encode([event, owner])).digest()[: quotas.SENDER]


def send(account: Account, device: bytes, kind: LetterKind, message: bytes) -> None:
    """Send one letter, sealed or public by itself, to one device of the tenant (16 bytes)."""
    account.api.post(f"devices/{UUID(bytes=device)}/messages", {"kind": kind.value, "message": b64u(message)})


def keep(account: Account, row: Answer) -> bool:
    """Keep a row of the mailbox if it is a letter; False for a message of a session. The caller acknowledges it.

    Once kept it is this device's, whatever becomes of the mailbox: so it is kept before it is acknowledged. What has
    not the form of its kind is dropped. The caller ends the page with `trim`.
    """
    if row.text("kind") not in _KINDS:
        return False
    kind = LetterKind(row.text("kind"))
    letter = Letter(
        id=row.identifier("message_id"),
        kind=kind,
        sender_user=b"" if kind is LetterKind.NOTICE else row.identifier("sender_user"),
        sender_device=b"" if kind is LetterKind.NOTICE else row.identifier("sender_device"),
        message=row.octets("message", maximum=MAX_BLOB),
        received_at=row.time("received_at"),
    )
    is_had = account.store.get(PUT_AWAY, letter.row(account.user)[1]) is not None
    if not is_had and not _is_junk(account, letter):
        account.store.put(*letter.row(account.user), seal_row(letter))
    return True


def _is_junk(account: Account, letter: Letter) -> bool:
    """Whether nobody would read it: it has not the form of its kind, or its sender could not have sent such a one."""
    if letter.kind is LetterKind.NOTICE:
        return _read_notice(letter.message) is None
    if letter.kind is LetterKind.SHARE:
        if len(letter.message) > _MAX_SHARE:
            return True
        try:
            manifest = ShareLetter.parse(letter.message).manifest
        except HoldfastError:
            return True
        owner = (manifest.header.tenant, manifest.header.user)
        return owner != (account.tenant, letter.sender_user) or account.user not in manifest.contacts
    return False


def trim(account: Account) -> None:
    """Keep each kind of letters, and each sender of them, within their quotas, in the caller's transaction."""
    own = str(UUID(bytes=account.user))
    of_own = {_about(event, owner) for event in _EVENTS for owner in ("", own)}
    known = {
        LetterKind.SYNC: lambda sender: sender != _STRANGERS,
        LetterKind.SHARE: account.state.contacts.__contains__,
        LetterKind.PAIRING: lambda sender: sender != _STRANGERS,
        LetterKind.NOTICE: of_own.__contains__,
    }
    for kind, quota in _QUOTAS.items():
        quotas.trim(account.store, _row_kind(kind), quota, is_known=known[kind])


def fetch(account: Account) -> int:
    """Bring the letters that wait in this device's mailbox, leaving messages of sessions; returns how many came."""
    came = 0
    for _ in range(_PAGES):
        answer = account.api.get("messages", query={"limit": str(_PAGE)})
        rows = list(answer.many("messages", maximum=_PAGE))
        with account.store.transaction():
            kept = [row.text("message_id") for row in rows if keep(account, row)]
            trim(account)
        if kept:
            account.api.post("messages/ack", {"message_ids": kept})
        came += len(kept)
        if not kept or not answer.flag("more"):
            break
    return came


def waiting(account: Account, kind: LetterKind) -> list[Letter]:
    """Return the letters of a kind that were kept and not yet put away, oldest first."""
    found = []
    for rows in (LETTER, _row_kind(kind)):
        for key in account.store.keys(rows):
            value = account.store.get(rows, key)
            if value is None:
                continue
            letter = open_row(Letter, value, "kept letter", id=key[-16:])
            if letter.kind is kind:
                found.append(letter)
    return found


def put_away(account: Account, letters: Iterable[Letter | Notice]) -> None:
    """Destroy letters that were read, or that nobody will, and remember that they were here."""
    until = SecretBytes(encode([account.clock.latest() + PUT_AWAY_SECONDS]))
    with account.store.transaction():
        for letter in letters:
            account.store.delete(*letter.row(account.user))
            account.store.put(PUT_AWAY, letter.row(account.user)[1], until)
            account.store.delete(LETTER, letter.id)
            reports.forget_told(account, letter.id)
        quotas.trim(account.store, PUT_AWAY, _PUT_AWAY_QUOTA)


def hold(account: Account, letter: Letter, error: ClientError) -> None:
    """Let a letter wait, since what stands against it may pass, and say so once for each reason."""
    if letter.kind is LetterKind.SHARE:
        what = "A recovery share"
    else:
        what = f"A letter of your device {UUID(bytes=letter.sender_device)}"
    text = f"{what} is held here unread; nothing of it is lost. {error}"
    kind = ReportKind.WAITING if isinstance(error, PeerChanged) else ReportKind.IN_DOUBT
    reports.add_once(account, letter.id, kind, text, way_out=error.way_out, user=letter.sender_user)


def notices(account: Account) -> list[Notice]:
    """Return the server's notices that were not put away yet. One that is no JSON object of ours is destroyed."""
    found, junk = [], []
    for letter in waiting(account, LetterKind.NOTICE):
        said = _read_notice(letter.message)
        if said is None:
            junk.append(letter)
        else:
            found.append(Notice(letter.id, said["event"], said, letter.received_at))
    put_away(account, junk)
    return found


def _read_notice(message: bytes) -> dict[str, Any] | None:
    """Return what a notice says, with text under `event`; None for what is no notice of ours."""
    try:
        said = json.loads(message) if len(message) <= _MAX_NOTICE else None
    except (ValueError, RecursionError):
        said = None
    return said if isinstance(said, dict) and isinstance(said.get("event"), str) else None
