# SPDX-License-Identifier: Apache-2.0
"""SESSION_ENGINE: Django's sessions in the database, in rows that say whose they are, so that they can be ended.

Implements ORGANISATION "Signing in" and FAULTS A5: a row that is gone lets nobody in with the next request. What the
browser holds is the row's key; it is shown nowhere, and `handle` stands for it on pages and in the log.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django_otp import DEVICE_ID_SESSION_KEY, devices_for_user

from audit import services as audit
from holdfast.core.base.encoding import label
from kernel.actors import Actor
from kernel.errors import NotFound
from tenants.models import ConsoleSession, Person

# What `sessions` keeps in a session about the sign-in that began it: tenant, agent, source, and when, in UTC seconds.
SIGNED_IN: Final = "signed_in"
# How often it is noted that a session is in use.
SEEN_STEP: Final = timedelta(minutes=10)
MAX_LISTED: Final = 50  # of one person: nobody has so many browsers, and a page's cost has an end


@dataclass(frozen=True)
class OpenSession:
    """One browser in which a person is signed in. handle: what names it; is_current: the one that asks."""

    handle: str
    agent: str
    source: str
    started_at: datetime
    last_seen_at: datetime
    is_current: bool


def handle(session_key: str) -> str:
    """Return the name of a session by which nobody can take it over: 32 hex digits of a hash of its key."""
    return hashlib.sha256(label("session-handle", session_key)).hexdigest()[:32]


class SessionStore(DatabaseStore):
    """Django's own store, whose rows carry person, tenant, browser family, source and times beside what they carry."""

    seen_at: datetime | None = None

    @classmethod
    def get_model_class(cls) -> type[Any]:
        """Return the model of the rows."""
        return ConsoleSession

    def _get_session_from_db(self) -> Any:
        row = super()._get_session_from_db()  # type: ignore[misc]
        self.seen_at = row.last_seen_at if row is not None else None
        return row

    def create_model_instance(self, data: dict[str, Any]) -> Any:
        """Return the row of a session as it is saved, with what its content says of the sign-in."""
        row: Any = super().create_model_instance(data)
        now = timezone.now()
        signed_in = data.get(SIGNED_IN) or {}
        row.person_id = _person_id(data)
        row.tenant_id = UUID(signed_in["tenant"]) if "tenant" in signed_in else None
        row.agent, row.source = signed_in.get("agent", ""), signed_in.get("source", "")
        row.started_at = signed_in_at(data) or now
        row.last_seen_at = self.seen_at = now
        return row

    def note_use(self) -> None:
        """Note that the session is in use, unless that was noted within the last ten minutes."""
        now = timezone.now()
        # Also when it lies in the future, as a clock that was ahead has written it.
        if self.seen_at is not None and abs(now - self.seen_at) < SEEN_STEP:
            return
        ConsoleSession.objects.filter(session_key=self.session_key).update(last_seen_at=now)
        self.seen_at = now


def signed_in_at(data: dict[str, Any]) -> datetime | None:
    """Return when the sign-in of a session's content was complete, or None before that."""
    signed_in = data.get(SIGNED_IN)
    return datetime.fromtimestamp(signed_in["at"], UTC) if signed_in else None


def _person_id(data: dict[str, Any]) -> UUID | None:
    try:
        return UUID(str(data.get(SESSION_KEY, "")))
    except ValueError:
        return None  # nobody's yet, or an operator's


def open_sessions(person: Person, *, current_key: str = "") -> tuple[list[OpenSession], bool]:
    """List where a person is signed in, the last used first, and say whether there are more than fifty rows of theirs.

    A session that would be refused at its next request, as after a new password, is none. current_key: of the browser
    that asks. Two queries.
    """
    rows = list(_rows_of(person).order_by("-last_seen_at", "session_key")[: MAX_LISTED + 1])
    factors = {device.persistent_id for device in devices_for_user(person)}
    bound = person.get_session_auth_hash()
    listed = [
        OpenSession(
            handle(row.session_key),
            row.agent,
            row.source,
            row.started_at,
            row.last_seen_at,
            row.session_key == current_key,
        )
        for row in rows[:MAX_LISTED]
        if _lets_in(SessionStore().decode(row.session_data), bound, factors)
    ]
    return listed, len(rows) > MAX_LISTED


def end_session(person: Person, *, named: str, actor: Actor) -> None:
    """End one of a person's sessions by its handle, with its next request. Raises NotFound for another's, or none."""
    with transaction.atomic():
        keys = _rows_of(person).order_by("-last_seen_at", "session_key").values_list("session_key", flat=True)
        found = next((key for key in keys[: MAX_LISTED + 1] if handle(key) == named), None)
        if found is None:
            raise NotFound
        _end(_rows_of(person).filter(session_key=found), person, actor)


def end_sessions(person: Person, *, actor: Actor, keep: str = "") -> int:
    """End all of a person's sessions with their next request, and return how many rows there were.

    keep: the key of one that stays, the browser that asks. Where there is none to end, nothing is written down.
    """
    with transaction.atomic():
        return _end(_rows_of(person).exclude(session_key=keep), person, actor)


def _end(rows: QuerySet[ConsoleSession], person: Person, actor: Actor) -> int:
    count, _ = rows.delete()
    if count:
        audit.append(tag="tenants:session:end", actor=actor, subject=str(person.pk), body={"count": count})
    return count


def _rows_of(person: Person) -> QuerySet[ConsoleSession]:
    return ConsoleSession.objects.filter(person_id=person.pk, expire_date__gt=timezone.now())


def _lets_in(data: dict[str, Any], bound: str, factors: set[str]) -> bool:
    is_bound = constant_time_compare(str(data.get(HASH_SESSION_KEY, "")), bound)
    return is_bound and data.get(DEVICE_ID_SESSION_KEY) in factors
