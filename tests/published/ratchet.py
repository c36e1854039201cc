# SPDX-License-Identifier: Apache-2.0
"""Forty messages out of order across steps, lost, late and replayed, each with the state that it met."""

from __future__ import annotations

import random
from typing import Any

from holdfast.core.base.encoding import decode
from holdfast.core.base.errors import UnwrapFailed
from holdfast.core.base.padding import pad
from holdfast.core.crypto.suites import Suite
from holdfast.core.messages.ratchet import derive_chain, derive_root
from holdfast.core.messages.session import Session
from tests.cast.devices import pair
from tests.cast.statements import NOW

MESSAGES = 40
Row = dict[str, Any]


def write() -> dict[str, object]:
    """Make the file anew: its keys are fresh each time, the order of its messages is not."""
    root, secret = bytes(range(32)), bytes(range(32, 64))
    next_root, chain, header_key = derive_root(root, secret)
    message_key, next_chain = derive_chain(chain)
    return {
        "page": "docs/formats/ratchet.md",
        "now": NOW,
        "root_step": {
            "root": root.hex(),
            "dh": secret.hex(),
            "next_root": next_root.hex(),
            "chain": chain.hex(),
            "next_header_key": header_key.hex(),
        },
        "chain_step": {
            "chain": chain.hex(),
            "message_key": message_key.hex(),
            "next_chain": next_chain.hex(),
        },
        "padding": [{"plaintext": one.hex(), "padded": pad(one).hex()} for one in (b"", b"x", bytes(5), b"y" * 1024)],
        "sessions": [{"suite": int(suite), "events": _events(suite)} for suite in (Suite.HYBRID, Suite.CLASSICAL_P256)],
    }


def _events(suite: Suite) -> list[Row]:
    """Both ends by turns; `state` and `skipped` are the receiver's before, `after` where no fresh key enters it."""
    chance, ends = random.Random(int(suite)), pair(suite)
    waiting: list[tuple[int, bytes, bytes]] = []
    opened: list[tuple[int, bytes]] = []
    rows: list[Row] = []
    sent = 0
    while len(rows) < MESSAGES:
        if chance.random() < 0.6 or not waiting:
            by = chance.randrange(2)
            text = b"message %d of %s" % (sent, (b"alice", b"bob")[by])
            waiting.append((1 - by, ends[by].encrypt(text), text))
            sent += 1
        elif opened and chance.random() < 0.15:
            rows.append(_event(ends, *chance.choice(opened), None))
        else:
            to, message, text = waiting.pop(chance.randrange(len(waiting)))
            rows.append(_event(ends, to, message, text))
            opened.append((to, message))
    return rows


def _event(ends: tuple[Session, Session], to: int, message: bytes, text: bytes | None) -> Row:
    end = ends[to]
    row = {
        "to": ("alice", "bob")[to],
        "state": end.to_secret().reveal().hex(),
        "skipped": end.skipped_to_secret().reveal().hex(),
        "message": message.hex(),
        "plaintext": None if text is None else text.hex(),
    }
    seed = _seed(end)
    try:
        assert end.decrypt(message, now=NOW) == text
    except UnwrapFailed:
        if text is not None:
            raise
    if _seed(end) == seed:
        row |= {"after": end.to_secret().reveal().hex(), "skipped_after": end.skipped_to_secret().reveal().hex()}
    return row


def _seed(session: Session) -> object:
    fields = decode(session.to_secret().reveal())
    assert isinstance(fields, dict)
    ratchet = fields[11]
    assert isinstance(ratchet, list)
    return ratchet[1]
