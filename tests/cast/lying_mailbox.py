# SPDX-License-Identifier: Apache-2.0
"""The lying server's mailboxes: fan-out, letters, notices, content, acknowledgements.

Implements the mailbox part of the REST API as the client uses it, honestly; a test's lies come after.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any
from uuid import UUID

from holdfast.core.base.encoding import b64u, unb64u
from holdfast.core.identity.entries import Entry
from holdfast.core.messages.prekeys import SignedPreKey
from holdfast.core.signed.cose import Sign1

RECEIVED_AT = "2026-09-21T13:33:20Z"
MAX_WAITING = 2000


def refused(status: int, code: str, **more: Any) -> tuple[int, dict[str, Any]]:
    return status, {"title": code, "code": code, "detail": f"Refused: {code}.", **more}


class Mailboxes:
    """What each device has not acknowledged yet, oldest first."""

    devices: dict[str, bytes]
    chains: dict[str, list[bytes]]
    bundles: dict[str, dict[str, Any]]
    successors: dict[str, str]

    def __init__(self) -> None:
        self.mailboxes: dict[str, list[dict[str, Any]]] = {}
        self.contents: dict[str, str] = {}
        self.successors = {}
        self.clock: Callable[[], int] = lambda: 0

    def _user(self, device: str) -> str:
        raise NotImplementedError

    def _listed(self, user: str) -> list[str]:
        raise NotImplementedError

    def deliver(self, to: str, *, kind: str, message: str, sender: str | None, content: str | None = None) -> str:
        """Put one message into a device's mailbox, and return its id."""
        box = self.mailboxes.setdefault(to, [])
        identifier = str(UUID(bytes=secrets.token_bytes(16)))
        row = {
            "message_id": identifier,
            "kind": kind,
            "sender_user": self._user(sender) if sender else None,
            "sender_device": sender,
            "to_device": to,
            "message": message,
            "has_content": content is not None,
            "received_at": RECEIVED_AT,
        }
        box.append(row)
        if content is not None:
            self.contents[identifier] = content
        return identifier

    def notice(self, user: str, said: dict[str, Any]) -> None:
        """Tell every active device of a user."""
        for device in self._listed(user):
            self.deliver(device, kind="notice", message=b64u(json.dumps(said).encode()), sender=None)

    def move_to_successors(self, user: str) -> None:
        """Hand what a replaced device has not fetched to the device that replaces it."""
        listed = self._listed(user)
        for old, new in self.successors.items():
            if old not in listed and new in listed:
                self.mailboxes.setdefault(new, []).extend(self.mailboxes.pop(old, []))

    # Routes

    def _expiry(self, device: str) -> int:
        signed = Sign1.parse(unb64u(self.bundles[device]["signed_pre_key"]))
        return SignedPreKey.from_payload(signed.payload).header.expires_at

    def send(self, asker: str, body: Any, _query: Any, user: str) -> Any:
        entries = [Entry.parse(one) for one in self.chains.get(user, [])]
        if not entries or asker not in self._listed(self._user(asker)):
            return refused(404 if not entries else 403, "not-found" if not entries else "denied")
        if body["chain_head"] != b64u(entries[-1].hash):
            return refused(409, "chain-stale", head=b64u(entries[-1].hash), seq=len(entries) - 1)
        wanted = [one for one in self._listed(user) if one != asker and one in self.bundles]
        sent = [one["device_id"] for one in body["envelopes"]]
        required = {one for one in wanted if self._expiry(one) > self.clock()}
        if len(set(sent)) != len(sent) or not required <= set(sent) <= set(wanted):
            return refused(422, "invalid", errors=[{"field": "envelopes", "detail": "Not the active devices."}])
        if any(len(self.mailboxes.get(one, [])) >= MAX_WAITING for one in wanted):
            return refused(409, "mailbox-full")
        rows = [
            {
                "device_id": one["device_id"],
                "message_id": self.deliver(
                    one["device_id"],
                    kind="message",
                    message=one["message"],
                    sender=asker,
                    content=body.get("content"),
                ),
            }
            for one in body["envelopes"]
        ]
        return 201, {"messages": rows}

    def send_letter(self, asker: str, body: Any, _query: Any, device: str) -> Any:
        own = self._user(asker) == self._user(device)
        if not own and asker not in self._listed(self._user(asker)):
            return refused(403, "denied")
        found = self.deliver(
            device, kind=body["kind"], message=body["message"], sender=asker, content=body.get("content")
        )
        return 201, {"message_id": found, "device_id": device}

    def fetch(self, asker: str, _body: Any, query: Any) -> Any:
        waiting, limit = self.mailboxes.get(asker, []), int(query.get("limit", 100))
        return 200, {"messages": waiting[:limit], "more": len(waiting) > limit}

    def content(self, asker: str, _body: Any, _query: Any, message: str) -> Any:
        if message not in {one["message_id"] for one in self.mailboxes.get(asker, [])}:
            return refused(404, "not-found")
        return 200, {"content": self.contents[message]}

    def acknowledge(self, asker: str, body: Any, _query: Any) -> Any:
        box = self.mailboxes.get(asker, [])
        left = [one for one in box if one["message_id"] not in body["message_ids"]]
        self.mailboxes[asker] = left
        return 200, {"deleted": len(box) - len(left)}


_ID = r"([0-9a-f-]{36})"
ROUTES: dict[tuple[str, str], Callable[..., Any]] = {
    ("POST", f"users/{_ID}/messages"): Mailboxes.send,
    ("POST", f"devices/{_ID}/messages"): Mailboxes.send_letter,
    ("GET", "messages"): Mailboxes.fetch,
    ("GET", f"messages/{_ID}/content"): Mailboxes.content,
    ("POST", "messages/ack"): Mailboxes.acknowledge,
}
