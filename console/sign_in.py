# SPDX-License-Identifier: Apache-2.0
"""Signing in to the console: password, then one-time code; and out again.

Implements ORGANISATION "Signing in" and FAULTS A1 to A4. Every refusal is the same page in the same words; there is no
`next` address to be led astray by.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Final

from django.conf import settings
from django.contrib import auth
from django.contrib.auth.signals import user_login_failed
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from holdfast.core.base.typed import trimmed
from kernel.errors import Throttled
from tenants import access, hashing, lockout, sessions, sign_in
from tenants.errors import FactorsAway
from tenants.sources import source_of

if TYPE_CHECKING:
    from tenants.models import Person, Tenant

CODE_STEP: Final = "/console/sign-in/code/"
REFUSED: Final = "This did not match. Check all three fields, then try again."
CODE_REFUSED: Final = "This code did not match, or was used before. Wait for the next one."
BUSY: Final = "Many people sign in at this moment. Try again in a few seconds."
AWAY: Final = (
    "Codes of authenticators cannot be checked at this moment. Nothing was used up or counted: try again in a moment, "
    "or use a recovery code."
)
LOCKED: Final = "Too many attempts. Wait 15 minutes, then try again."
MAX_FIELD: Final = 1024  # of characters: nobody types more, and hashing longer input is work for nothing


@never_cache
@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in_password(request: HttpRequest) -> HttpResponse:
    """First step: tenant, address, password. A right one only leads to the second step."""
    if request.method != "POST":
        signed_in = sessions.session_person(request)
        if signed_in is not None:
            return HttpResponseRedirect(sessions.home_of(signed_in))
        return render(request, "console/sign_in/password.html")
    slug, email_key = folded(request, "tenant"), folded(request, "email")
    lockout.name_attempt(request, slug=slug, email_key=email_key)
    password = request.POST.get("password", "")[:MAX_FIELD]
    typed = {"typed_tenant": slug, "typed_email": email_key}
    # First of all, and cheaply: under a flood this is the answer to nearly everybody.
    if hashing.is_busy() and not lockout.is_at_known_place(request):
        return _busy(request, typed)
    try:
        person = auth.authenticate(request, slug=slug, email_key=email_key, password=password)
    except Throttled:
        return _busy(request, typed)
    if person is not None:
        sessions.begin(request, person)
        return HttpResponseRedirect(CODE_STEP)
    tenant = access.entered_tenant_by_slug(slug)
    record_refusal(request, tenant, access.person_by_address(tenant, email_key), "password")
    return _refuse(request, "console/sign_in/password.html", REFUSED, typed)


@never_cache
@sensitive_post_parameters("code")
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in_code(request: HttpRequest) -> HttpResponse:
    """Second step: the code of the authenticator. Without a first step it leads back to that."""
    person = sessions.half_signed_in(request)
    if person is None:
        return HttpResponseRedirect(settings.LOGIN_URL)
    if request.method != "POST":
        return render(request, "console/sign_in/code.html")
    lockout.name_attempt(request, slug=person.tenant.slug, email_key=person.email_key)
    if lockout.turn_away(request):
        return _refuse(request, "console/sign_in/code.html", CODE_REFUSED, {})
    code = request.POST.get("code", "")[: sign_in.MAX_CODE]
    try:
        device = sign_in.accept_code(person=person, code=code)
    except FactorsAway:
        response = render(request, "console/sign_in/code.html", {"refusal": AWAY}, status=503)
        response["retry-after"] = "5"
        return response
    if device is not None:
        sign_in.record_accepted(person=person, source=source_of(request))
        lockout.forgive(request)
        sessions.finish(request, person, device)
        return HttpResponseRedirect(sessions.home_of(person))
    user_login_failed.send(sender=__name__, credentials={}, request=request)
    record_refusal(request, person.tenant, person, "code")
    sessions.count_wrong_code(request)
    return _refuse(request, "console/sign_in/code.html", CODE_REFUSED, {})


@never_cache
@require_POST
def sign_out(request: HttpRequest) -> HttpResponse:
    """End the session."""
    person = sessions.session_person(request)
    if person is not None:
        sign_in.record_sign_out(person=person)
    auth.logout(request)
    return HttpResponseRedirect(settings.LOGIN_URL)


def folded(request: HttpRequest, field: str) -> str:
    """Bring a typed slug or address to the form in which it is compared; what is no such thing matches nothing."""
    return unicodedata.normalize("NFKC", trimmed(request.POST.get(field, "")[:MAX_FIELD])).strip().casefold()


def record_refusal(request: HttpRequest, tenant: Tenant | None, person: Person | None, step: str) -> None:
    """Write a refusal down, unless a standing lock turned it away: nobody floods the log through a closed door."""
    if lockout.lock_stood_before(request):
        return
    if tenant is None:
        sign_in.record_refused_nowhere(source=source_of(request))
        return
    is_locked = lockout.is_locked(request)
    sign_in.record_refused(tenant_id=tenant.pk, person=person, step=step, source=source_of(request), locked=is_locked)


def _busy(request: HttpRequest, typed: dict[str, str]) -> HttpResponse:
    """Turn a sign-in away that was not tried: it counts against nobody, and is written down nowhere."""
    response = render(request, "console/sign_in/password.html", {"refusal": BUSY, **typed}, status=429)
    response["retry-after"] = "2"
    return response


def _refuse(request: HttpRequest, template: str, words: str, typed: dict[str, str]) -> HttpResponse:
    is_locked = lockout.is_locked(request)
    context = {"refusal": LOCKED if is_locked else words, **typed}
    response = render(request, template, context, status=429 if is_locked else 401)
    if is_locked:
        response["retry-after"] = "900"
    return response
