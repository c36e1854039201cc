# SPDX-License-Identifier: Apache-2.0
"""The pages of every act of administration: its form, then what it will do in words with the code for exactly that.

Implements ORGANISATION "Acts" and PLATFORM "Console". One pair of pages for all acts; they work without
script, and keep what was typed. What an act is and may, `tenants.acts` decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.debug import sensitive_post_parameters

from console.frame import console_page
from kernel.actors import Actor
from kernel.errors import Conflict, Denied, DomainError, NotFound
from tenants import access as tenants
from tenants import sign_in
from tenants.acts import engine
from tenants.acts.act import Act, Done, Given, named
from tenants.permissions import PermissionName

_METHODS: Final = ("GET", "HEAD", "POST")
# Where what an act is about is shown, by its kind; and where those without a page of their own are listed.
_PAGES: Final = {
    "person": "console-person",
    "people": "console-person",
    "device": "console-device",
    "import": "console-import",
    "code": "console-person",
}
_LISTS: Final = {
    "people": "console-people",
    "programs": "console-programs",
    "service-account": "console-programs",
    "log-token": "console-programs",
    "tenant": "console-organisation",
}


@dataclass(frozen=True)
class _Asked:
    """One request about one act."""

    request: HttpRequest
    actor: Actor
    act: Act
    subject: Any
    subject_id: UUID | None

    @property
    def page(self) -> str:
        """Where what it is about is shown: a code stands on its person's page."""
        return _page_of(self.act, self.act.concerns(self.subject) if self.act.kind == "code" else self.subject_id)

    @property
    def given(self) -> dict[str, str]:
        fields = self.act.fields(self.subject)
        return {one.name: self.request.POST.get(one.name, "")[: one.most + 1] for one in fields}

    def look(self) -> engine.Look:
        return engine.look(self.actor, self.act.name, self.subject_id, self.given, bound_to=_session(self.request))

    def perform(self) -> engine.Outcome:
        return engine.perform(
            self.actor,
            self.act.name,
            self.subject_id,
            self.given,
            token=self.request.POST.get("token", ""),
            code=self.request.POST["code"][: sign_in.MAX_CODE],
            bound_to=_session(self.request),
        )

    def form(self, given: Given, error: DomainError | None = None) -> HttpResponse:
        """Show what is to be typed, with what was; an error stands beside the field that it names."""
        fields = [
            {
                "field": one,
                "value": given.get(one.name, one.value),
                "error": error if error is not None and error.field == one.name else None,
            }
            for one in self.act.fields(self.subject)
        ]
        context = {
            "act": self.act,
            "fields": fields,
            "error": error if not any(one["error"] for one in fields) else None,
            "back": self.page,
            "section": _section_of(self.act),
        }
        return render(self.request, "console/acts/form.html", context, status=_status(error))

    def confirm(self, error: DomainError | None = None) -> HttpResponse:
        """Show what it would do, and ask for a code for that."""
        context = {"look": self.look(), "error": error, "back": self.page, "section": _section_of(self.act)}
        return render(self.request, "console/acts/confirm.html", context, status=_status(error))

    def not_done(self, error: DomainError) -> HttpResponse:
        """Say why nothing was done, on the page from which it can be mended."""
        if error.field == "code":
            return self.confirm(error)
        if self.act.fields(self.subject):
            return self.form(self.given, error)
        return _refused(self.request, error, self.page, _section_of(self.act))

    def came_of_it(self, outcome: engine.Outcome) -> HttpResponse:
        """Say what was done, or for whom it waits."""
        if outcome.done is not None:
            return _done(self.request, self.act, outcome.done, self.subject_id)
        assert outcome.pending is not None
        seconds = engine.possible_seconds(outcome.pending, self.act)
        text = f"“{self.act.title}” waits for a second person, for seven days."
        if seconds:
            names = ", ".join(one.name for one in seconds)
            messages.success(self.request, f"{text} Any of these can confirm it: {names}.")
        else:
            messages.warning(self.request, f"{text} Nobody here can confirm it today: its page says why.")
        return HttpResponseRedirect(reverse("console-pending-act", args=[outcome.pending.pk]))


@sensitive_post_parameters("code")
@console_page(PermissionName.CONSOLE_ENTER, methods=_METHODS)
def act_page(request: HttpRequest, actor: Actor, name: str, subject_id: UUID | None = None) -> HttpResponse:
    """Show an act's form; posted, what it would do; posted with a code for that, do it."""
    try:
        act, subject = engine.blank(actor, name, subject_id)
    except (Conflict, Denied) as error:
        return _refused(request, error, reverse("console-overview"), _section_of(named(name)))
    asked = _Asked(request, actor, act, subject, subject_id)
    # An act without anything to type is confirmed at once.
    if request.method != "POST" and act.fields(subject):
        return asked.form({})
    try:
        return asked.came_of_it(asked.perform()) if "code" in request.POST else asked.confirm()
    except NotFound:
        raise
    except DomainError as error:
        try:
            return asked.not_done(error)
        except DomainError as changed:
            return _refused(request, changed, asked.page, _section_of(act))


@sensitive_post_parameters("code")
@console_page(PermissionName.CONSOLE_ENTER, methods=_METHODS)
def pending_page(request: HttpRequest, actor: Actor, pending_id: UUID) -> HttpResponse:
    """Show an act that waits for a second person; posted with a code, be that person; or take it back."""
    try:
        if request.method != "POST":
            return _pending(request, actor, pending_id)
        if "withdraw" in request.POST:
            engine.withdraw(actor, pending_id)
            messages.success(request, "It is withdrawn, and was not done.")
            return HttpResponseRedirect(reverse("console-overview"))
        row, look = engine.look_pending(actor, pending_id, bound_to=_session(request))
        token, code = request.POST.get("token", ""), request.POST.get("code", "")[: sign_in.MAX_CODE]
        outcome = engine.confirm(actor, pending_id, token=token, code=code, bound_to=_session(request))
        assert outcome.done is not None
        return _done(request, look.act, outcome.done, row.subject_id)
    except NotFound:
        raise
    except DomainError as error:
        try:
            return _pending(request, actor, pending_id, error)
        except DomainError as refused:
            return _refused(request, refused, reverse("console-overview"), reverse("console-overview"))


def _pending(request: HttpRequest, actor: Actor, pending_id: UUID, error: DomainError | None = None) -> HttpResponse:
    row, look = engine.look_pending(actor, pending_id, bound_to=_session(request))
    context = {
        "look": look,
        "pending": row,
        "people": tenants.people_by_id([row.proposer_id]),
        "error": error,
        "is_mine": row.proposer_id == actor.person_id,
        "seconds": [one.name for one in engine.possible_seconds(row, look.act)],
        "back": _page_of(look.act, row.subject_id),
        "section": _section_of(look.act),
    }
    return render(request, "console/acts/pending.html", context, status=_status(error))


def _refused(request: HttpRequest, error: DomainError, back: str, section: str) -> HttpResponse:
    context = {"error": error, "back": back, "section": section}
    return render(request, "console/acts/refused.html", context, status=_status(error))


def _done(request: HttpRequest, act: Act, done: Done, subject_id: UUID | None) -> HttpResponse:
    back = _page_of(act, done.subject or subject_id)
    if done.once is not None:
        once = done.once.reveal().decode()
        context = {"act": act, "done": done, "once": once, "back": back, "section": _section_of(act)}
        return render(request, "console/acts/once.html", context)
    messages.success(request, f"{done.text} To undo it: {done.undo}" if done.undo else done.text)
    return HttpResponseRedirect(back)


def _page_of(act: Act, subject_id: UUID | None) -> str:
    if act.kind in _PAGES and subject_id is not None:
        return reverse(_PAGES[act.kind], args=[subject_id])
    return reverse(_LISTS.get(act.kind, "console-overview"))


def _section_of(act: Act) -> str:
    """Return where an act's pages stand in the navigation: people, unless it is about something else."""
    return reverse(_LISTS.get(act.kind, "console-people"))


def _session(request: HttpRequest) -> str:
    return request.session.session_key or ""


def _status(error: DomainError | None) -> int:
    if error is None:
        return 200
    return 403 if isinstance(error, Denied) else 409 if isinstance(error, Conflict) else 400
