# SPDX-License-Identifier: Apache-2.0
"""The lying server's recovery by trusted contacts: manifest, requests, answers, veto.

Implements that part of the REST API as the client uses it, honestly and without a delay unless a test sets one.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from holdfast.core.base.encoding import Value, decode, unb64u
from holdfast.core.signed.cose import Sign1
from tests.cast.lying_mailbox import refused

REQUEST_LIFE_SECONDS = 72 * 3600


def when(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class ContactRecovery:
    """One manifest for each user, and the requests made under it. `now` and `delay_seconds` are a test's to set."""

    def __init__(self, now: int) -> None:
        self.now = now
        self.delay_seconds = 0
        self.manifests: dict[str, dict[str, Any]] = {}
        self.requests: dict[str, dict[str, Any]] = {}

    def _user(self, device: str) -> str:
        raise NotImplementedError

    def notice(self, user: str, said: dict[str, Any]) -> None:
        raise NotImplementedError

    def put_manifest(self, asker: str, body: Any, _query: Any) -> Any:
        version = self.manifests.get(self._user(asker), {}).get("version", 0) + 1
        self.manifests[self._user(asker)] = {"manifest": body["manifest"], "version": version}
        return 204, {}

    def get_manifest(self, asker: str, _body: Any, _query: Any) -> Any:
        return (200, kept) if (kept := self.manifests.get(self._user(asker))) else refused(404, "not-found")

    def contacts_of(self, owner: str) -> list[str]:
        """Return the users whom the owner's manifest names: every 16-byte id in a row of it but the owner's own."""
        kept = self.manifests.get(owner)
        if kept is None:
            return []
        payload = decode(Sign1.parse(unb64u(kept["manifest"])).payload)
        assert isinstance(payload, dict)
        own = {UUID(owner).bytes, payload[2] if isinstance(payload[2], bytes) else b""}
        rows = [row for key, value in payload.items() if key >= 7 for row in _rows(value)]
        found = [item for row in rows for item in row if isinstance(item, bytes) and len(item) == 16]
        return [str(UUID(bytes=one)) for one in dict.fromkeys(found) if one not in own]

    def ask(self, asker: str, body: Any, _query: Any) -> Any:
        owner = self._user(asker)
        identifier = str(UUID(bytes=secrets.token_bytes(16)))
        self.requests[identifier] = {
            "request_id": identifier,
            "owner": owner,
            "by": asker,
            "request": body["request"],
            "state": "open",
            "not_before": self.now + self.delay_seconds,
            "expires_at": self.now + REQUEST_LIFE_SECONDS,
            "shares": {},
        }
        for user in [owner, *self.contacts_of(owner)]:
            self.notice(user, {"event": "contacts-request", "request_id": identifier, "owner": owner})
        return 201, self._times(identifier)

    def _times(self, identifier: str) -> dict[str, Any]:
        row = self.requests[identifier]
        return {"request_id": identifier, **{name: when(row[name]) for name in ("not_before", "expires_at")}}

    def _shown(self, identifier: str) -> dict[str, Any]:
        row = self.requests[identifier]
        shown = {**self._times(identifier), "answered": len(row["shares"])}
        shown |= {name: row[name] for name in ("request", "state", "owner")}
        if row["state"] in ("open", "complete") and self.now >= row["not_before"]:
            shown["shares"] = [{"contact": contact, "sealed": sealed} for contact, sealed in row["shares"].items()]
        return shown

    def list_requests(self, asker: str, _body: Any, query: Any) -> Any:
        mine = self._user(asker)
        if query.get("role") == "contact":
            ids = [one for one, row in self.requests.items() if mine in self.contacts_of(row["owner"])]
        else:
            ids = [one for one, row in self.requests.items() if row["owner"] == mine]
        return 200, {"requests": [self._shown(one) for one in ids], "more": False}

    def one_request(self, _asker: str, _body: Any, _query: Any, identifier: str) -> Any:
        return (200, self._shown(identifier)) if identifier in self.requests else refused(404, "not-found")

    def give_share(self, asker: str, body: Any, _query: Any, identifier: str) -> Any:
        row = self.requests[identifier]
        if row["state"] != "open":
            return refused(409, "request-closed")
        row["shares"][self._user(asker)] = body["sealed"]
        return 201, self._shown(identifier)

    def veto_request(self, _asker: str, _body: Any, _query: Any, identifier: str) -> Any:
        self.requests[identifier]["state"] = "vetoed"
        return 200, self._shown(identifier)

    def cancel_request(self, _asker: str, _body: Any, _query: Any, identifier: str) -> Any:
        self.requests[identifier]["state"] = "cancelled"
        return 200, self._shown(identifier)


def _rows(value: Value) -> list[list[Value]]:
    return [one for one in value if isinstance(one, list)] if isinstance(value, list) else []


_ID = r"([0-9a-f-]{36})"
ROUTES: dict[tuple[str, str], Callable[..., Any]] = {
    ("PUT", "recovery/contacts"): ContactRecovery.put_manifest,
    ("GET", "recovery/contacts"): ContactRecovery.get_manifest,
    ("POST", "recovery/contacts/requests"): ContactRecovery.ask,
    ("GET", "recovery/contacts/requests"): ContactRecovery.list_requests,
    ("GET", f"recovery/contacts/requests/{_ID}"): ContactRecovery.one_request,
    ("POST", f"recovery/contacts/requests/{_ID}/shares"): ContactRecovery.give_share,
    ("POST", f"recovery/contacts/requests/{_ID}/veto"): ContactRecovery.veto_request,
    ("POST", f"recovery/contacts/requests/{_ID}/cancel"): ContactRecovery.cancel_request,
}
