# SPDX-License-Identifier: Apache-2.0
"""A new password for whoever forgot theirs: the page that asks for a link, and the page that the link opens.

Implements ORGANISATION "Signing in" and FAULTS A1 to A5. Asking is answered alike for everybody. Opening the link
changes nothing; only its form does, with the second factor. A wrong link, a used one and another person's are one page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID

from django.contrib.auth.signals import user_login_failed
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods

from audit.errors import LogRestored
from console.sign_in import AWAY, BUSY, CODE_REFUSED, LOCKED, MAX_FIELD, folded, record_refusal
from holdfast.core.base.secret import SecretBytes
from kernel.errors import Throttled
from tenants import hashing, lockout, resets, sessions, sign_in
from tenants.errors import CodeRefused, FactorsAway, PasswordRefused, ResetRefused
from tenants.sources import source_of

if TYPE_CHECKING:
    from tenants.models import PasswordReset

RESTORED: Final = (
    "The server was put back from a backup, and changes no password before the officers have accepted that. Nothing "
    "was used up: open the link again later."
)
UNEQUAL: Final = "The two passwords differ. Type the same one twice."
TOO_MANY: Final = "Too many tries from your network. Wait ten minutes, then try again."


class _NotTaken(Exception):
    """What was typed was not taken; the text says why. The password is as it was."""

    def __init__(self, why: str, *, status: int = 400, retry_after: int = 0) -> None:
        super().__init__(why)
        self.status, self.retry_after = status, retry_after


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def ask(request: HttpRequest) -> HttpResponse:
    """Take organisation and address; say the same of everybody, and mail a link to whoever may have one."""
    if request.method != "POST":
        return render(request, "console/sign_in/reset_ask.html")
    slug, email_key = folded(request, "tenant"), folded(request, "email")
    lockout.name_attempt(request, slug=slug, email_key=email_key)
    account = lockout.username(request) or ""
    try:
        resets.ask(slug=slug, email_key=email_key, account=account, source=source_of(request))
    except Throttled as error:
        typed = {"refusal": TOO_MANY, "typed_tenant": slug, "typed_email": email_key}
        return _waiting(render(request, "console/sign_in/reset_ask.html", typed, status=429), error.retry_after)
    return render(request, "console/sign_in/reset_asked.html")


@never_cache
@sensitive_post_parameters("password", "again", "code")
@sensitive_variables("token")
@require_http_methods(["GET", "HEAD", "POST"])
def link(request: HttpRequest, tenant_id: UUID, token: str) -> HttpResponse:
    """Show the form to whoever holds the link; posted, set the password by it and the second factor."""
    try:
        resets.count_try(source=source_of(request))
        found = _found(request, tenant_id, token)
        if request.method != "POST":
            return _form(request, found)
        _accept(request, found)
    except Throttled as error:
        return _waiting(_refused(request, TOO_MANY, status=429), error.retry_after)
    except ResetRefused:
        return _refused(request)
    except _NotTaken as error:
        return _waiting(_form(request, found, str(error), status=error.status), error.retry_after)
    # Every session of the person's has ended; this browser's is no exception.
    request.session.flush()
    return render(request, "console/sign_in/reset_done.html")


@sensitive_variables("token")
def _found(request: HttpRequest, tenant_id: UUID, token: str) -> PasswordReset:
    """Return the reset that the link is of. Raises ResetRefused, also where somebody else is signed in."""
    found = resets.find(tenant_id=tenant_id, token=token)
    here = sessions.session_person(request)
    if here is not None and here.pk != found.person_id:
        raise ResetRefused
    return found


@sensitive_variables("password")
def _accept(request: HttpRequest, found: PasswordReset) -> None:
    person = found.person
    lockout.name_attempt(request, slug=person.tenant.slug, email_key=person.email_key)
    if lockout.turn_away(request):
        raise _NotTaken(LOCKED, status=429, retry_after=900)
    password = request.POST.get("password", "")[:MAX_FIELD]
    if password != request.POST.get("again", "")[:MAX_FIELD]:
        raise _NotTaken(UNEQUAL)
    try:
        with hashing.turn(is_known=lockout.is_at_known_place(request)):
            resets.accept(
                tenant_id=found.tenant_id,
                reset_id=found.pk,
                password=SecretBytes(password.encode()),
                code=request.POST.get("code", "")[: sign_in.MAX_CODE],
            )
    except Throttled as error:
        raise _NotTaken(BUSY, status=429, retry_after=error.retry_after) from error
    except FactorsAway as error:
        raise _NotTaken(AWAY, status=503, retry_after=5) from error
    except LogRestored as error:
        raise _NotTaken(RESTORED, status=503, retry_after=LogRestored.retry_after) from error
    except PasswordRefused as error:
        raise _NotTaken(str(error.detail)) from error
    except CodeRefused as error:
        # As a wrong code at the sign-in: it counts against account and source, and stands in the log.
        user_login_failed.send(sender=__name__, credentials={}, request=request)
        record_refusal(request, person.tenant, person, "reset")
        if lockout.is_locked(request):
            raise _NotTaken(LOCKED, status=429, retry_after=900) from error
        raise _NotTaken(CODE_REFUSED, status=401) from error


def _form(request: HttpRequest, found: PasswordReset, refusal: str = "", *, status: int = 200) -> HttpResponse:
    context = {"refusal": refusal, "whose": found.person, "where": found.person.tenant}
    return render(request, "console/sign_in/reset.html", context, status=status)


def _refused(request: HttpRequest, why: str = "", *, status: int = 404) -> HttpResponse:
    return render(request, "console/sign_in/reset_refused.html", {"refusal": why}, status=status)


def _waiting(response: HttpResponse, seconds: int) -> HttpResponse:
    if seconds:
        response["retry-after"] = str(seconds)
    return response
