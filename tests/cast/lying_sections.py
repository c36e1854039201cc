# SPDX-License-Identifier: Apache-2.0
"""The part of the lying server that keeps officers' sections, their doors, and what is stated of officers' keys."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from holdfast.core.base.encoding import b64u, decode, unb64u
from holdfast.core.signed.cose import Sign1
from tests.cast.lying_mailbox import refused


class OfficersSections:
    """Keeps what it is given: proofs and statements are looked at by clients alone."""

    clock: Callable[[], int]
    if_match: str
    _user: Callable[[str], str]

    def __init__(self) -> None:
        self.sections: dict[str, dict[str, Any]] = {}
        self.section_doors: dict[str, dict[str, dict[str, Any]]] = {}
        self.stated: list[dict[str, Any]] = []

    def get_section(self, asker: str, _body: Any, _query: Any) -> Any:
        kept = self.sections.get(self._user(asker))
        return (200, kept) if kept else refused(404, "not-found")

    def put_section(self, asker: str, body: Any, _query: Any) -> Any:
        version = self.sections.get(self._user(asker), {}).get("version", 0) + 1
        if self.if_match != str(version - 1):
            return refused(409, "vault-stale")
        self.sections[self._user(asker)] = {**body, "version": version}
        return 204, {}

    def get_section_doors(self, asker: str, _body: Any, _query: Any) -> Any:
        doors = self.section_doors.get(self._user(asker), {})
        epoch = self._epoch(self.sections.get(self._user(asker)))
        rows = [
            {
                "kind": kind,
                "version": row["version"],
                "proved_at": row["proved_at"],
                "is_current": self._epoch(row) == epoch,
            }
            for kind, row in doors.items()
        ]
        return 200, {"doors": rows}

    @staticmethod
    def _epoch(row: Any) -> Any:
        value: Any = decode(unb64u(row["blob"]), max_size=1_000_000) if row else {}
        return value.get(6)

    def one_section_door(self, asker: str, _body: Any, _query: Any, kind: str) -> Any:
        row = self.section_doors.get(self._user(asker), {}).get(kind)
        return (200, {"blob": row["blob"], "version": row["version"]}) if row else refused(404, "not-found")

    def put_section_door(self, asker: str, body: Any, _query: Any, kind: str) -> Any:
        doors = self.section_doors.setdefault(self._user(asker), {})
        version = doors.get(kind, {}).get("version", 0) + 1
        if self.if_match != str(version - 1):
            return refused(409, "vault-stale")
        doors[kind] = {**body, "version": version, "proved_at": self._time()}
        return 204, {}

    def prove_section_door(self, asker: str, body: Any, _query: Any, kind: str) -> Any:
        self.section_doors[self._user(asker)][kind] |= {**body, "proved_at": self._time()}
        return 204, {}

    def delete_section_door(self, asker: str, _body: Any, _query: Any, kind: str) -> Any:
        self.section_doors.get(self._user(asker), {}).pop(kind, None)
        return 204, {}

    def _time(self) -> str:
        return datetime.fromtimestamp(self.clock(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def officer_statements(self, asker: str, _body: Any, query: Any) -> Any:
        rows = [row for row in reversed(self.stated) if row["person_id"] == query.get("person", row["person_id"])]
        return 200, {"statements": rows, "more": False}

    def state_officer_keys(self, asker: str, body: Any, _query: Any) -> Any:
        statement = Sign1.parse(unb64u(body["statement"]))
        row = {
            "statement_id": str(uuid.uuid4()),
            "hash": b64u(statement.payload_hash),
            "person_id": self._user(asker),
            "at": self._time(),
            **body,
        }
        self.stated.append(row)
        return 201, row


ROUTES: dict[tuple[str, str], Callable[..., Any]] = {
    ("GET", "vault/officers"): OfficersSections.get_section,
    ("PUT", "vault/officers"): OfficersSections.put_section,
    ("GET", "vault/officers/doors"): OfficersSections.get_section_doors,
    ("GET", "vault/officers/doors/([a-z]+)"): OfficersSections.one_section_door,
    ("PUT", "vault/officers/doors/([a-z]+)"): OfficersSections.put_section_door,
    ("PUT", "vault/officers/doors/([a-z]+)/proof"): OfficersSections.prove_section_door,
    ("DELETE", "vault/officers/doors/([a-z]+)"): OfficersSections.delete_section_door,
    ("GET", "escrow/officer-statements"): OfficersSections.officer_statements,
    ("POST", "escrow/officer-statements"): OfficersSections.state_officer_keys,
}
