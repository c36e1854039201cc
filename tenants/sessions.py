# SPDX-License-Identifier: Apache-2.0
"""Console sessions: from a first right password, through the second factor, to an Actor on every page.

Implements ORGANISATION "Signing in" and FAULTS A3, A4, A5, A6. A session only looks: `permissions.SESSION` bounds it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, Final, ParamSpec, cast
from uuid import UUID

import django_otp
from django.conf import settings
from django.contrib import auth
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.utils import timezone
from django.utils.crypto import constant_time_compare
from django_otp.plugins.otp_totp.models import TOTPDevice

from kernel.actors import Actor
from kernel.errors import NotFound
from kernel.scope import open_scope
from tenants.backends import BACKEND, TenantBackend
from tenants.models import Person
from tenants.permissions import PermissionName, session_permissions

HOME: Final = "/console/"
_HALF_SIGNED_IN: Final = "half_signed_in"
HALF_LIFE_SECONDS: Final = 300
MAX_WRONG_CODES: Final = 5

# What the side of the console shows to whom: words, address, permission.
NAVIGATION: Final = (
    ("Overview", "/console/", PermissionName.CONSOLE_ENTER),
    ("Cases", "/console/cases/", PermissionName.CASE_READ),
    ("People", "/console/people/", PermissionName.PERSON_READ),
    ("Escrow", "/console/escrow/", PermissionName.COVERAGE_READ),
    ("Audit log", "/console/audit/", PermissionName.AUDIT_READ),
)
# Pages that stand under another's address in the navigation.
_WITHIN: Final = {"/console/devices/": "/console/people/"}

P = ParamSpec("P")


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
    """Return the person whose password this browser knew in the last five minutes, if she is still as she was then."""
    half = request.session.get(_HALF_SIGNED_IN)
    if half is None or timezone.now().timestamp() - half["at"] > HALF_LIFE_SECONDS:
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


def finish(request: HttpRequest, person: Person, device: TOTPDevice) -> None:
    """Make this browser's session the person's, under a new session id."""
    del request.session[_HALF_SIGNED_IN]
    auth.login(request, person, backend=BACKEND)  # gives the session a new id
    django_otp.login(request, device)


def session_person(request: HttpRequest) -> Person | None:
    """Return the person who is signed in with both factors, read at this request, or None."""
    person: Any = request.user
    if not person.is_authenticated or not person.is_verified():
        return None
    return cast(Person, person)


def session_actor(person: Person) -> Actor:
    """Return the actor a person is on console pages: her role's permissions, cut down to looking."""
    return Actor(
        tenant_id=person.tenant_id,
        kind="person",
        id=person.pk,
        person_id=person.pk,
        role=person.role,
        permissions=session_permissions(person.role),
        name=person.name,
    )


def console_page(
    permission: PermissionName,
) -> Callable[
    [Callable[Concatenate[HttpRequest, Actor, P], HttpResponse]],
    Callable[Concatenate[HttpRequest, P], HttpResponse],
]:
    """Guard a console view, which is called with the actor after the request, in the tenant's open scope.

    Without a complete sign-in: to the sign-in page. Without the permission: 403. An access function's NotFound is the
    404 page. Pages are looked at only (GET, HEAD) and never cached.
    """

    def guard(
        view: Callable[Concatenate[HttpRequest, Actor, P], HttpResponse],
    ) -> Callable[Concatenate[HttpRequest, P], HttpResponse]:
        @functools.wraps(view)
        def guarded(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
            if request.method not in ("GET", "HEAD"):
                return HttpResponseNotAllowed(["GET", "HEAD"])
            person = session_person(request)
            if person is None:
                return HttpResponseRedirect(settings.LOGIN_URL)
            actor = session_actor(person)
            open_scope(person.tenant_id)
            if not actor.can(permission):
                raise PermissionDenied
            try:
                response = view(request, actor, *args, **kwargs)
            except NotFound:
                raise Http404 from None  # the same page for an unknown id and another tenant's
            response["cache-control"] = "no-store"
            return response

        guarded.permission_name = permission  # type: ignore[attr-defined]
        return cast(Callable[Concatenate[HttpRequest, P], HttpResponse], guarded)

    return guard


def console(request: HttpRequest) -> dict[str, Any]:
    """Context processor: who is signed in, in which tenant, and what the navigation holds for her."""
    person = session_person(request) if hasattr(request, "user") and request.path.startswith(HOME) else None
    if person is None:
        return {}
    actor = session_actor(person)
    items = [(words, address) for words, address, permission in NAVIGATION if actor.can(permission)]
    path = next((to for start, to in _WITHIN.items() if request.path.startswith(start)), request.path)
    current = max((address for _, address in items if path.startswith(address)), key=len, default="")
    return {
        "tenant": person.tenant,
        "person": person,
        "navigation": [{"words": words, "address": to, "is_current": to == current} for words, to in items],
    }
