# SPDX-License-Identifier: Apache-2.0
"""Letters from device to device, and the server's notices: sent, and kept on this device until they were read.

Implements the mailbox of the REST API for all that is no message of a session (PROTOCOL section 6).
Does not open a letter; `pairing` and `trusted` do, and believe nothing of the sender but what is signed inside.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final
from uuid import UUID

from holdfast.client.profile.account import Account
from holdfast.client.server.answers import Answer
from holdfast.core.base.encoding import MAX_BLOB, b64u
from holdfast.core.base.rows import choice, octets, open_row, seal_row, uint

LETTER: Final = "letter"
_PAGE: Final = 100  # letters in one answer, as of messages
_PAGES: Final = 50  # more than a mailbox holds: a server that always has one more is left
# Anybody of the tenant may write; more than this at once is a flood, and the oldest give way.
_MAX_KEPT: Final = 500


class LetterKind(StrEnum):
    """What a letter is about. A notice is the server's own word, and nothing but a hint."""

    SYNC = "sync"
    SHARE = "share"
    PAIRING = "pairing"
    NOTICE = "notice"


_KINDS: Final = frozenset(LetterKind)


@dataclass(frozen=True)
class Letter:
    """One letter as the server handed it over. Sender (16 bytes each, empty in a notice) and time are its word only."""

    id: bytes
    kind: Annotated[LetterKind, choice(LetterKind)]
    sender_user: Annotated[bytes, octets(0, 16)]
    sender_device: Annotated[bytes, octets(0, 16)]
    message: Annotated[bytes, octets()]
    received_at: Annotated[int, uint()]


@dataclass(frozen=True)
class Notice:
    """Something that happened to the account, in the server's word: `event`, and what it says of it."""

    id: bytes
    event: str
    said: dict[str, Any]
    received_at: int


def send(account: Account, device: bytes, kind: LetterKind, message: bytes) -> None:
    """Send one letter, sealed or public by itself, to one device of the tenant (16 bytes)."""
    account.api.post(f"devices/{UUID(bytes=device)}/messages", {"kind": kind.value, "message": b64u(message)})


def keep(account: Account, row: Answer) -> bool:
    """Keep a row of the mailbox if it is a letter; False for a message of a session. The caller acknowledges it.

    Once kept it is this device's, whatever becomes of the mailbox: so it is kept before it is acknowledged.
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
    account.store.put(LETTER, letter.id, seal_row(letter))
    for key in account.store.keys(LETTER)[:-_MAX_KEPT]:
        account.store.delete(LETTER, key)
    return True


def fetch(account: Account) -> int:
    """Bring the letters that wait in this device's mailbox, leaving messages of sessions; returns how many came."""
    came = 0
    for _ in range(_PAGES):
        rows = list(account.api.get("messages", query={"limit": str(_PAGE)}).many("messages", maximum=_PAGE))
        with account.store.transaction():
            kept = [row.text("message_id") for row in rows if keep(account, row)]
        if kept:
            account.api.post("messages/ack", {"message_ids": kept})
        came += len(kept)
        if not kept:
            break
    return came


def waiting(account: Account, kind: LetterKind) -> list[Letter]:
    """Return the letters of a kind that were kept and not yet put away, oldest first."""
    found = []
    for key in account.store.keys(LETTER):
        value = account.store.get(LETTER, key)
        if value is None:
            continue
        letter = open_row(Letter, value, "kept letter", max_size=2 * MAX_BLOB, id=key)
        if letter.kind is kind:
            found.append(letter)
    return found


def put_away(account: Account, letters: Iterable[Letter | Notice]) -> None:
    """Destroy letters that were read, or that nobody will."""
    with account.store.transaction():
        for letter in letters:
            account.store.delete(LETTER, letter.id)


def notices(account: Account) -> list[Notice]:
    """Return the server's notices that were not put away yet. One that is no JSON object of ours is destroyed."""
    found, junk = [], []
    for letter in waiting(account, LetterKind.NOTICE):
        try:
            said = json.loads(letter.message)
        except (ValueError, RecursionError):
            said = None
        if isinstance(said, dict) and isinstance(said.get("event"), str):
            found.append(Notice(letter.id, said["event"], said, letter.received_at))
        else:
            junk.append(letter)
    put_away(account, junk)
    return found
