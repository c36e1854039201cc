# SPDX-License-Identifier: Apache-2.0
"""Console sessions: from a first right password, through the second factor, to an Actor on every page.

Implements ORGANISATION "Signing in" and FAULTS A3, A4, A5, A6. A session looks, and changes what
its owner signs in with: `permissions.SESSION` bounds it.
"""

from __future__ import annotations

from typing import Any, Final, cast
from uuid import UUID

import django_otp
from django.contrib import auth
from django.http import HttpRequest
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from kernel.actors import Actor
from kernel.clock import SKEW
from tenants.backends import BACKEND, TenantBackend
from tenants.models import Authenticator, Person, Tenant
from tenants.permissions import PermissionName, session_permissions
from tenants.session_store import SIGNED_IN, SessionStore
from tenants.sources import agent_of, source_of

HOME: Final = "/console/"
ME: Final = "/me/"
_HALF_SIGNED_IN: Final = "half_signed_in"
HALF_LIFE_SECONDS: Final = 300
MAX_WRONG_CODES: Final = 5


def begin(request: HttpRequest, person: Person) -> None:
    """Remember, in a fresh session, that this browser knew a person's password. It is nobody's session yet."""
    # Whatever the browser brought is dropped: a session planted by somebody else is worth nothing (FAULTS A4).
    request.session.flush()
    request.session[_HALF_SIGNED_IN] = {
        "person": str(person.pk),
        "hash": person.get_session_auth_hash(),
        "at": int(timezone.now().timestamp()),
        "wrong": 0,
    }


def half_signed_in(request: HttpRequest) -> Person | None:
    """Return the person whose password this browser knew in the last five minutes, if nothing about them changed."""
    half = request.session.get(_HALF_SIGNED_IN)
    # Nor from one that a clock which was ahead has begun: it would last for as long as the clock was off.
    if half is None or not -SKEW.total_seconds() <= timezone.now().timestamp() - half["at"] <= HALF_LIFE_SECONDS:
        return None
    person = TenantBackend().get_user(UUID(half["person"]))
    if person is None or not constant_time_compare(half["hash"], person.get_session_auth_hash()):
        return None
    return person


def count_wrong_code(request: HttpRequest) -> None:
    """Count a wrong code; after five the browser starts again with the password."""
    half = request.session[_HALF_SIGNED_IN]
    half["wrong"] += 1
    request.session[_HALF_SIGNED_IN] = half
    if half["wrong"] >= MAX_WRONG_CODES:
        request.session.flush()


def finish(request: HttpRequest, person: Person, device: Authenticator) -> None:
    """Make this browser's session the person's, under a new session id."""
    del request.session[_HALF_SIGNED_IN]
    auth.login(request, person, backend=BACKEND)  # gives the session a new id
    django_otp.login(request, device)
    # What its owner tells it by, among their others.
    request.session[SIGNED_IN] = {
        "tenant": str(person.tenant_id),
        "agent": agent_of(request),
        "source": source_of(request),
        "at": int(timezone.now().timestamp()),
    }


def renew(request: HttpRequest, person: Person, device: Authenticator) -> None:
    """Bind this browser's session to a person's new second factor, under a new session id; all else in it stays."""
    request.session.cycle_key()
    auth.login(request, person, backend=BACKEND)
    django_otp.login(request, device)


def note_use(request: HttpRequest) -> None:
    """Note that this browser's session is in use, at most once in ten minutes."""
    cast(SessionStore, request.session).note_use()


def home_of(person: Person) -> str:
    """Return the address of the first page that a person sees: the console's, or that about themselves."""
    return HOME if PermissionName.CONSOLE_ENTER in session_permissions(person.role) else ME


def session_person(request: HttpRequest) -> Person | None:
    """Return the person who is signed in with both factors, read at this request, or None."""
    person: Any = request.user
    if not person.is_authenticated or not person.is_verified():
        return None
    return cast(Person, person)


def session_tenant(request: HttpRequest) -> Tenant:
    """Return the tenant of whoever is signed in, which was read with them; call it behind a complete sign-in."""
    person = session_person(request)
    assert person is not None
    return person.tenant


def session_actor(person: Person) -> Actor:
    """Return the actor a person is on console pages: their role's permissions, cut down to looking."""
    return Actor(
        tenant_id=person.tenant_id,
        kind="person",
        id=person.pk,
        person_id=person.pk,
        role=person.role,
        permissions=session_permissions(person.role, person.tenant.state),
        name=person.name,
        is_restored=is_restored(person),
    )


def is_restored(person: Person) -> bool:
    """Tell whether the tenant of whoever is signed in is read-only, as was read with them at this request."""
    return bool(getattr(person, "is_restored", False))
