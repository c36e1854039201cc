# SPDX-License-Identifier: Apache-2.0
"""Where a person is signed in, and ending it: the one act of these pages that asks for no code, as it only locks out.

Implements ORGANISATION "People" (each person) and FAULTS A5.
"""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render

from console.frame import console_page
from kernel.actors import Actor
from kernel.errors import NotFound
from tenants import access as tenants
from tenants import session_store
from tenants.permissions import PermissionName

MAX_FIELD = 64  # characters: a handle has 32
ENDED = "Ended. That browser is signed out with its next request."
OTHERS_ENDED = "Ended. Every other browser is signed out with its next request."
NONE_LEFT = "Nothing to end: it was over before."


@console_page(PermissionName.ME_READ)
def sessions(request: HttpRequest, actor: Actor) -> HttpResponse:
    """List where this person is signed in."""
    assert actor.person_id is not None
    person = tenants.person(actor.person_id)
    listed, has_more = session_store.open_sessions(person, current_key=request.session.session_key or "")
    context = {
        "sessions": listed,
        "has_others": has_more or any(not one.is_current for one in listed),
        "has_more": has_more,
        "shown": session_store.MAX_LISTED,
        "step": session_store.SEEN_STEP,
    }
    return render(request, "console/me/sessions.html", context)


# It only locks out, and goes on while nothing else does.
@console_page(PermissionName.ME_READ, methods=("POST",), while_restored=True)
def end_sessions(request: HttpRequest, actor: Actor) -> HttpResponse:
    """End the session that the form names, or all but the one that asks."""
    assert actor.person_id is not None
    person, named = tenants.person(actor.person_id), request.POST.get("session", "")[:MAX_FIELD]
    if named == "others":
        count = session_store.end_sessions(person, actor=actor, keep=request.session.session_key or "")
        messages.success(request, OTHERS_ENDED if count else NONE_LEFT)
        return redirect("me-sessions")
    try:
        session_store.end_session(person, named=named, actor=actor)
    except NotFound:
        messages.info(request, NONE_LEFT)
        return redirect("me-sessions")
    if named == session_store.handle(request.session.session_key or ""):
        # Their own: the row is gone, and nothing of it is to be saved again.
        request.session.flush()
        return HttpResponseRedirect("/console/sign-in/")
    messages.success(request, ENDED)
    return redirect("me-sessions")
