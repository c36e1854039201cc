# SPDX-License-Identifier: Apache-2.0
"""The operator's own pages: signing in and out, and the page that asks before each act.

Implements ORGANISATION "Django's admin". Every refusal of a sign-in is the same page in the same words; there is no
`next` address to be led astray by. What an act does, and how it is undone, is said before it is done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from uuid import UUID

from django.contrib import admin, messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from holdfast.core.base import typed
from kernel.errors import Conflict, NotFound, Throttled
from kernel.models import Job
from operators import access, services, sessions
from tenants import hashing, lockout
from tenants.models import Tenant
from tenants.sign_in import MAX_CODE
from tenants.states import SUSPENDABLE_STATES, TenantState

REFUSED: Final = "This did not match, or the code was used before. Check all three fields, and wait for the next code."
BUSY: Final = "Many people sign in at this moment. Try again in a few seconds."
LOCKED: Final = "Too many attempts. Wait 15 minutes, then try again."
MAX_FIELD: Final = 1024  # of characters: nobody types more, and hashing longer input is work for nothing


@dataclass(frozen=True)
class Act:
    """What the page before an act says: the button's words, what it does, and what was done."""

    title: str
    does: str
    done: str


_LOGGED: Final = "It is an entry in the organisation’s log, with your account’s id."
ON_TENANT: Final = {
    "suspend": Act(
        "Suspend the organisation",
        "From their next request on, nobody of it is let in: no person, no device, no program. Nobody can object to a "
        f"case of theirs until you resume it. Nothing is lost. {_LOGGED}",
        "Suspended. To undo it, resume the organisation.",
    ),
    "resume": Act(
        "Resume the organisation",
        "Its people, devices and programs are let in again from their next request on. One that its owners had locked "
        f"goes back to its lock. {_LOGGED}",
        "Resumed. To undo it, suspend the organisation.",
    ),
}
ON_JOB: Final = {
    services.RETRY: Act(
        "Try it again",
        f"A worker lets it run again, from its first try. {_LOGGED}",
        "Asked: a worker lets it run again in a moment.",
    ),
    services.DROP: Act(
        "Drop it",
        "A worker deletes it for good, and what it stands for is not done. A notice then counts as one that could not "
        f"be delivered. This cannot be undone. {_LOGGED}",
        "Asked: a worker drops it in a moment.",
    ),
    services.RELEASE: Act(
        "Release its lease",
        "A worker takes it from the process that holds it, which can complete it no more; the next one that is free "
        f"begins it anew. A lease runs out by itself after a minute. {_LOGGED}",
        "Asked: a worker takes the lease in a moment.",
    ),
}
_STATES: Final = {"suspend": SUSPENDABLE_STATES, "resume": (TenantState.SUSPENDED,)}


@never_cache
@sensitive_post_parameters("password", "code")
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in(request: HttpRequest) -> HttpResponse:
    """Name, password and code at once. Whatever session the browser brings is worth nothing here."""
    if request.method != "POST":
        if sessions.operator_of(request) is not None:
            return HttpResponseRedirect(reverse("admin:index"))
        return render(request, "operators/sign_in.html")
    name = typed.trimmed(request.POST.get("name", "")[:MAX_FIELD]).casefold()
    code = request.POST.get("code", "")[:MAX_CODE]
    if hashing.is_busy():
        return _busy(request, name)
    try:
        operator = sessions.sign_in(
            request, name=name, password=request.POST.get("password", "")[:MAX_FIELD], code=code
        )
    except Throttled:
        return _busy(request, name)
    if operator is None:
        is_locked = lockout.is_locked(request)
        context = {"refusal": LOCKED if is_locked else REFUSED, "typed_name": name}
        response = render(request, "operators/sign_in.html", context, status=429 if is_locked else 401)
        if is_locked:
            response["retry-after"] = "900"
        return response
    answer = HttpResponseRedirect(reverse("admin:index"))
    sessions.begin(answer, operator)
    return answer


@never_cache
@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    """End the session."""
    answer = HttpResponseRedirect(reverse("admin:login"))
    sessions.end(request, answer)
    return answer


def act_on_tenant(request: HttpRequest, row_id: UUID, act: str) -> HttpResponse:
    """Ask before an act on a tenant, and do it when the form was sent."""
    verbs = {"suspend": services.suspend_tenant, "resume": services.resume_tenant}
    if act not in verbs:
        raise Http404
    row = _found(partial(access.tenant, row_id))
    back = reverse("admin:tenants_tenant_change", args=[row_id])
    do = partial(verbs[act], tenant_id=row_id, operator=request.operator)  # type: ignore[attr-defined]
    return _ask(request, ON_TENANT[act], f"{row.name} ({row.slug})", back, do)


def act_on_job(request: HttpRequest, row_id: UUID, act: str) -> HttpResponse:
    """Ask before an act on a job, and have it done when the form was sent."""
    if act not in ON_JOB:
        raise Http404
    row = _found(partial(access.job, row_id))
    # A job that is dropped is gone: the list is where to go on.
    back = reverse("admin:kernel_job_changelist") + f"?tenant_id={row.tenant_id}"
    do = partial(services.ask_of_job, act=act, job_id=row_id, operator=request.operator)  # type: ignore[attr-defined]
    return _ask(request, ON_JOB[act], f"Job {row.kind} ({row.pk})", back, do)


def beside(row: Any) -> dict[str, Any]:
    """Return what stands beside a row on its page: counts, and the acts that its state allows."""
    if isinstance(row, Tenant):
        acts = [
            (act.title, reverse("admin:act-tenant", args=[row.pk, name]))
            for name, act in ON_TENANT.items()
            if row.state in _STATES[name]
        ]
        lists = [
            (str(model._meta.verbose_name_plural), reverse(f"admin:{name}_changelist") + f"?tenant_id={row.pk}")
            for model in admin.site._registry
            if model is not Tenant and any(field.attname == "tenant_id" for field in model._meta.fields)
            for name in [f"{model._meta.app_label}_{model._meta.model_name}"]
        ]
        return {"acts": acts, "lists": lists, "people": access.people_counted(row.pk)}
    if isinstance(row, Job):
        return {
            "acts": [
                (act.title, reverse("admin:act-job", args=[row.pk, name]))
                for name, act in ON_JOB.items()
                if services.may(name, row)
            ]
        }
    return {}


def _found(look: Callable[[], Any]) -> Any:
    try:
        return look()
    except NotFound:
        raise Http404 from None


def _ask(request: HttpRequest, act: Act, what: str, back: str, do: Callable[[], None]) -> HttpResponse:
    context = {**admin.site.each_context(request), "act": act, "title": act.title, "what": what, "back": back}
    if request.method != "POST":
        return render(request, "operators/confirm.html", context)
    try:
        do()
    except Conflict as error:
        return render(request, "operators/confirm.html", {**context, "refusal": error.detail}, status=409)
    messages.success(request, act.done)
    return HttpResponseRedirect(back)


def _busy(request: HttpRequest, name: str) -> HttpResponse:
    """Turn a sign-in away that was not tried: it counts against nobody."""
    response = render(request, "operators/sign_in.html", {"refusal": BUSY, "typed_name": name}, status=429)
    response["retry-after"] = "2"
    return response
