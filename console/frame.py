# SPDX-License-Identifier: Apache-2.0
"""What every page of the console stands in: the guard before it, and the navigation beside it.

Implements PLATFORM "Console" and FAULTS A6. Whether a session is complete, `tenants.sessions` says.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, Final, ParamSpec, cast

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseBase, HttpResponseNotAllowed, HttpResponseRedirect
from django.shortcuts import render

from audit import access as audit
from audit.errors import LogRestored
from escrow import access as escrow
from kernel.actors import Actor
from kernel.errors import NotFound
from kernel.scope import open_scope, tenant_scope
from tenants.permissions import PermissionName
from tenants.sessions import HOME, ME, home_of, note_use, session_actor, session_person

# What the side of the console shows to whom: words, address, permission.
NAVIGATION: Final = (
    ("Overview", "/console/", PermissionName.CONSOLE_ENTER),
    ("Cases", "/console/cases/", PermissionName.CASE_READ),
    ("People", "/console/people/", PermissionName.PERSON_READ),
    ("Organisation", "/console/organisation/", PermissionName.TENANT_KEEP),
    ("Programs", "/console/programs/", PermissionName.TENANT_ADMINISTER),
    ("Escrow", "/console/escrow/", PermissionName.COVERAGE_READ),
    ("Ceremonies", "/console/ceremonies/", PermissionName.AUDIT_READ),
    ("Audit log", "/console/audit/", PermissionName.AUDIT_READ),
    ("Yourself", ME, PermissionName.ME_READ),
)
# What stands above the pages about oneself.
OWN_PAGES: Final = (
    ("You", ME),
    ("Devices", "/me/devices/"),
    ("Ways back", "/me/recovery/"),
    ("Keys", "/me/keys/"),
    ("Notices", "/me/notices/"),
    ("Sessions", "/me/sessions/"),
    ("Second factors", "/me/factors/"),
    ("Your data", "/me/data/"),
)
# Pages that stand under another's address in the navigation.
_WITHIN: Final = {"/console/devices/": "/console/people/"}

LOOKING: Final = ("GET", "HEAD")

P = ParamSpec("P")


def console_page(
    permission: PermissionName,
    *,
    methods: Sequence[str] = LOOKING,
    while_restored: bool = False,
) -> Callable[
    [Callable[Concatenate[HttpRequest, Actor, P], HttpResponseBase]],
    Callable[Concatenate[HttpRequest, P], HttpResponseBase],
]:
    """Guard a console view, which is called with the actor after the request, in the tenant's open scope.

    Without a complete sign-in: to the sign-in page. Without the permission: 403. An access function's NotFound is the
    404 page. Pages are looked at only (GET, HEAD), unless `methods` says what else, and never cached. What changes
    something is refused with a 503 page of its own while the tenant's database is a backup that was put back, but where
    `while_restored` says that it goes on.
    """

    def guard(
        view: Callable[Concatenate[HttpRequest, Actor, P], HttpResponseBase],
    ) -> Callable[Concatenate[HttpRequest, P], HttpResponseBase]:
        @functools.wraps(view)
        def guarded(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
            if request.method not in methods:
                return HttpResponseNotAllowed(methods)
            person = session_person(request)
            if person is None:
                return HttpResponseRedirect(settings.LOGIN_URL)
            actor = session_actor(person)
            open_scope(person.tenant_id)
            if not actor.can(permission):
                raise PermissionDenied
            if actor.is_restored and request.method not in LOOKING and not while_restored:
                return _not_taken(request)
            note_use(request)
            try:
                response = view(request, actor, *args, **kwargs)
            except NotFound:
                raise Http404 from None  # the same page for an unknown id and another tenant's
            response["cache-control"] = "no-store"
            return response

        guarded.permission_name = permission  # type: ignore[attr-defined]
        return cast(Callable[Concatenate[HttpRequest, P], HttpResponseBase], guarded)

    return guard


def _not_taken(request: HttpRequest) -> HttpResponseBase:
    response = render(request, "console/restored.html", status=503)
    response["cache-control"], response["retry-after"] = "no-store", str(LogRestored.retry_after)
    return response


def _restored() -> dict[str, Any]:
    """Return since when the open tenant is read-only, and how far its officers are; {} where it is so no more."""
    mark = audit.restored_mark()
    if mark is None:
        return {}
    stage = escrow.stage_of_acceptance(mark.since)
    return {"restored_since": mark.since, "restored_stage": stage}


def navigation(request: HttpRequest) -> dict[str, Any]:
    """Context processor: who is signed in, in which tenant, and what the navigation holds for them.

    section: the address in the navigation that the page stands under. A view whose address does not tell it says it.
    """
    person = session_person(request) if hasattr(request, "user") and request.path.startswith((HOME, ME)) else None
    if person is None:
        return {}
    actor = session_actor(person)
    restored: dict[str, Any] = {}
    if actor.is_restored:
        with tenant_scope(person.tenant_id):
            restored = _restored()
    items = [(words, address) for words, address, permission in NAVIGATION if actor.can(permission)]
    path = next((to for start, to in _WITHIN.items() if request.path.startswith(start)), request.path)
    return {
        "home": home_of(person),
        "tenant": person.tenant,
        "person": person,
        "navigation": items,
        "section": _current(items, path),
        "own_pages": OWN_PAGES,
        "own_page": _current(OWN_PAGES, request.path),
        **restored,
    }


def _current(items: Sequence[tuple[str, str]], path: str) -> str:
    """Return the one of these addresses that a page's address stands under."""
    return max((address for _, address in items if path.startswith(address)), key=len, default="")
