# SPDX-License-Identifier: Apache-2.0
"""The lying server's administration: acts looked at and done, those that wait for a second person, the list of people.

Implements that part of the REST API as the client uses it, honestly; a test's lies come after. Any code is taken.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from tests.cast.lying_mailbox import refused

AT, UNTIL = "2026-09-21T13:33:20Z", "2026-09-21T13:38:20Z"
_HOW = {"name": "how", "words": "How they get the link", "help": "", "choices": ["mail", "shown"], "is_optional": False}
_ROLE = {"name": "role", "words": "New role", "help": "", "choices": ["member", "officer"], "is_optional": False}
# Every act of the double: what it is about, what has to be given, whether it takes two persons.
ACTS: dict[str, tuple[str, list[dict[str, Any]], bool]] = {
    "person-invite": ("people", [_HOW], False),
    "person-suspend": ("person", [], False),
    "person-resume": ("person", [], False),
    "person-rename": ("person", [], False),
    "person-address": ("person", [], False),
    "person-role": ("person", [_ROLE], False),
    "person-factors": ("person", [_HOW], True),
    "code-issue": ("person", [_HOW], False),
    "people-import": ("import", [], False),
    "device-suspend": ("device", [], False),
    "device-resume": ("device", [], False),
}
LINK = "https://holdfast.example/console/invitation/a/b/"


class Administration:
    """Acts of administration as they come in; nothing changes by them but what waits."""

    def __init__(self) -> None:
        self.people_listed: list[dict[str, Any]] = []
        self.waiting: dict[str, dict[str, Any]] = {}
        self.performed: list[dict[str, Any]] = []
        self.files: dict[str, dict[str, Any]] = {}
        self.bad_lines_page = 200

    def list_person(self, person: str, email: str, *, state: str = "active", name: str = "Bob") -> None:
        row = {"id": person, "name": name, "email": email, "role": "member", "state": state, "active_since": None}
        self.people_listed.append(row)

    def propose(self, act: str, subject: str | None, proposer: str) -> str:
        """Have an act wait that somebody else proposed; returns its id."""
        identifier = str(uuid.uuid4())
        self.waiting[identifier] = {
            "id": identifier,
            "act": act,
            "title": "Reset the sign-in",
            "subject_id": subject,
            "proposer_id": proposer,
            "proposed_at": AT,
            "expires_at": UNTIL,
        }
        return identifier

    def keep_file(self, text: str) -> str:
        """Have a file read; lines without an address are its bad ones. Returns its id."""
        identifier, lines = str(uuid.uuid4()), text.splitlines()
        bad = [
            {"line": number, "at_fault": "email", "reason": "An e-mail address is needed.", "cells": line.split(",")}
            for number, line in enumerate(lines, start=1)
            if "@" not in line
        ]
        self.files[identifier] = {
            "id": identifier,
            "state": "read",
            "good": len(lines) - len(bad),
            "bad": len(bad),
            "done": 0,
            "created": 0,
            "expires_at": UNTIL,
            "bad_lines": bad,
        }
        return identifier

    def _file(self, identifier: str, start: int) -> dict[str, Any]:
        row, end = self.files[identifier], start + self.bad_lines_page
        more = end if end < row["bad"] else None
        return {**row, "bad_lines": row["bad_lines"][start:end], "next_start": more}

    # Routes

    def read_file(self, _asker: str, body: Any, _query: Any) -> Any:
        return 201, self._file(self.keep_file(body["csv"]), 0)

    def one_file(self, _asker: str, _body: Any, query: Any, identifier: str) -> Any:
        """A file, of which one more line is done each time that somebody looks."""
        if identifier not in self.files:
            return refused(404, "not-found")
        row = self.files[identifier]
        if row["state"] == "running":
            row["done"] = row["created"] = row["done"] + 1
            row["state"] = "done" if row["done"] == row["good"] else "running"
        return 200, self._file(identifier, int(query.get("start", "0")))

    def list_people(self, _asker: str, _body: Any, query: Any) -> Any:
        found = [
            one
            for one in self.people_listed
            if query.get("q", "") in one["name"] and query.get("email", one["email"]) == one["email"]
        ]
        return 200, {"people": found, "more": False}

    def list_acts(self, _asker: str, _body: Any, _query: Any) -> Any:
        rows = [
            {"name": name, "title": f"Do {name}", "kind": kind, "needs_two": needs_two, "fields_to_give": fields}
            for name, (kind, fields, needs_two) in ACTS.items()
        ]
        return 200, {"acts": rows}

    def words_of_act(self, _asker: str, body: Any, _query: Any, name: str) -> Any:
        if name not in ACTS:
            return refused(404, "not-found")
        return 200, self._words(name, body.get("subject_id"), body.get("given", {}))

    def _words(self, name: str, subject: str | None, given: dict[str, str]) -> dict[str, Any]:
        return {
            "title": f"This is {name}",
            "lines": [f"About {subject}."],
            "facts": [["Given", value] for value in given.values()],
            "warnings": ["Nobody can take this back."],
            "needs_two": ACTS[name][2],
            "token": f"token of {name} {subject}",
            "expires_at": UNTIL,
        }

    def perform_act(self, _asker: str, body: Any, _query: Any, name: str) -> Any:
        if body["token"] != f"token of {name} {body.get('subject_id')}":
            return refused(409, "words-changed")
        self.performed.append({"act": name, **body})
        if name == "people-import":
            self.files[body["subject_id"]]["state"] = "running"
        given = body.get("given", {})
        if ACTS[name][2]:
            waits = self.propose(name, body.get("subject_id"), str(uuid.UUID(int=7)))
            return 200, self._outcome(pending=waits)
        return 200, self._outcome(once=LINK if given.get("how") == "shown" else "")

    def _outcome(self, *, once: str = "", pending: str | None = None) -> dict[str, Any]:
        return {
            "text": "It waits for a second person." if pending else "It is done.",
            "undo": "Do it again.",
            "subject_id": None,
            "once_label": "The link" if once else "",
            "once": once,
            "pending_id": pending,
            "seconds": [str(uuid.UUID(int=9))] if pending else [],
        }

    def list_waiting(self, _asker: str, _body: Any, _query: Any) -> Any:
        return 200, {"pending": list(self.waiting.values())}

    def one_waiting(self, _asker: str, _body: Any, _query: Any, identifier: str) -> Any:
        if identifier not in self.waiting:
            return refused(404, "not-found")
        row = self.waiting[identifier]
        return 200, {**row, "words": self._words(row["act"], row["subject_id"], {})}

    def confirm_waiting(self, _asker: str, body: Any, _query: Any, identifier: str) -> Any:
        row = self.waiting.pop(identifier)
        self.performed.append({"act": row["act"], **body})
        return 200, self._outcome(once=LINK)

    def withdraw_waiting(self, _asker: str, _body: Any, _query: Any, identifier: str) -> Any:
        if self.waiting.pop(identifier, None) is None:
            return refused(404, "not-found")
        return 204, {}


_ID = r"([0-9a-f-]{36})"
ROUTES: dict[tuple[str, str], Callable[..., Any]] = {
    ("GET", "organisation/people"): Administration.list_people,
    ("GET", "organisation/acts"): Administration.list_acts,
    ("POST", "organisation/acts/([a-z-]+)/words"): Administration.words_of_act,
    ("POST", "organisation/acts/([a-z-]+)"): Administration.perform_act,
    ("POST", "organisation/imports"): Administration.read_file,
    ("GET", f"organisation/imports/{_ID}"): Administration.one_file,
    ("GET", "organisation/pending"): Administration.list_waiting,
    ("GET", f"organisation/pending/{_ID}"): Administration.one_waiting,
    ("POST", f"organisation/pending/{_ID}/confirm"): Administration.confirm_waiting,
    ("POST", f"organisation/pending/{_ID}/withdraw"): Administration.withdraw_waiting,
}
