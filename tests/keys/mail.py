# SPDX-License-Identifier: Apache-2.0
"""Sending, fetching and acknowledging as the devices of the cast do it, over HTTP."""

from __future__ import annotations

import json
import secrets
import uuid
from collections.abc import Sequence
from typing import Any

from holdfast.core.base.encoding import b64u, unb64u
from keys.models import Device, MailboxSize, Message
from tests.cast.phones import Account, Phone


def document(account: Account, octets: bytes | None = None, *, to: Sequence[Phone] | None = None) -> dict[str, Any]:
    """A message for devices of an account, for all of them unless said, under the head its owner knows."""
    return {
        "chain_head": b64u(account.chain.head),
        "envelopes": [
            {"device_id": str(one.id), "message": b64u(octets or secrets.token_bytes(64))}
            for one in (account.phones if to is None else to)
        ],
    }


def post(sender: Phone, account: Account, body: dict[str, Any], *, key: str | None = None) -> Any:
    return sender.send("POST", f"{account.path}/messages", body, idempotency_key=key or uuid.uuid4().hex)


def send(sender: Phone, account: Account, octets: bytes | None = None, **changes: Any) -> Any:
    return post(sender, account, document(account, octets) | changes)


def letter(sender: Phone, target: Phone, *, kind: str = "sync", octets: bytes = b"letter", **more: Any) -> Any:
    body = {"kind": kind, "message": b64u(octets), **more}
    return sender.send("POST", f"{target.path}/messages", body, idempotency_key=uuid.uuid4().hex)


def fetched(phone: Phone, limit: int = 100) -> list[dict[str, Any]]:
    answer = phone.send("GET", f"/api/v1/messages?limit={limit}")
    assert answer.status_code == 200, answer.content
    found: list[dict[str, Any]] = answer.json()["messages"]
    return found


def octets_of(rows: Sequence[dict[str, Any]]) -> list[bytes]:
    return [unb64u(row["message"]) for row in rows]


def events_of(rows: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    return [json.loads(unb64u(row["message"])) for row in rows if row["kind"] == "notice"]


def acknowledge(phone: Phone, rows: Sequence[dict[str, Any]]) -> Any:
    return phone.send("POST", "/api/v1/messages/ack", {"message_ids": [row["message_id"] for row in rows]})


Place = tuple[uuid.UUID, int, uuid.UUID]


def kept_sizes() -> dict[Place, tuple[int, int]]:
    """The sizes that are kept, as (messages, octets) by device, sort and sender."""
    rows = MailboxSize.unscoped.values_list("device_id", "sort", "sender", "messages", "octets")
    return {(device, sort, sender): (messages, octets) for device, sort, sender, messages, octets in rows}


def counted_sizes() -> dict[Place, tuple[int, int]]:
    """What is in the mailboxes, by a count that shares nothing with the product's."""
    owners = dict(Device.unscoped.values_list("id", "user_id"))
    found: dict[Place, tuple[int, int]] = {}
    for row in Message.unscoped.exclude(kind="notice"):
        is_own = row.sender_user == owners[row.device_id]
        sort = 3 if is_own else 1 if row.kind == "message" else 2
        for sender in (uuid.UUID(int=0), row.sender_device if is_own else row.sender_user):
            assert sender is not None
            messages, octets = found.get((row.device_id, sort, sender), (0, 0))
            found[row.device_id, sort, sender] = (messages + 1, octets + row.size)
    return found
