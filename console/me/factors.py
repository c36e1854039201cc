# SPDX-License-Identifier: Apache-2.0
"""A person's second factors: their authenticator put in another's place, recovery codes made anew and shown once.

Implements ORGANISATION "People" (step-up) and FAULTS A3. Each act takes a code of the authenticator in the very
form that does it, spent in its transaction: none that signed in, and no recovery code.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables

from console import authenticator
from console.frame import LOOKING, console_page
from holdfast.core.base.secret import SecretBytes
from kernel.actors import Actor
from kernel.errors import Throttled
from tenants import access as tenants
from tenants import hashing, sessions, sign_in
from tenants.backends import is_password_of
from tenants.errors import CodeRefused
from tenants.limits import count_against
from tenants.permissions import PermissionName
from tenants.sign_in import TOTP_KEY_SIZE

if TYPE_CHECKING:
    from tenants.models import Person

MAX_FIELD: Final = 1024  # of characters: as at the sign-in, where the same password is typed
# In ten minutes, of one person: whoever sits at an open session guesses no password there.
MAX_TRIES: Final = 10
_KEPT: Final = "new_authenticator"
NOT_THEIRS: Final = "This is not your password."
NEW_CODE_REFUSED: Final = "This is not what the new authenticator shows now. Wait for its next code, and type that."
BUSY: Final = "Many people sign in at this moment. Try again in a few seconds."
TOO_MANY: Final = "Too many tries. Wait ten minutes, then try again."
AGAIN: Final = "This page was open for too long. Set up the new authenticator again, with the code below."
CODES_COUNT: Final = "Your new recovery codes count from now on, and those of before no more."
CHANGED: Final = (
    "Your new authenticator counts from now on, and the old one no more. Every other browser is signed out. If you "
    "did not do this, tell an owner of your organisation at once."
)


class _NotTaken(Exception):
    """What was typed was not taken. errors: by field what to type anew; "" is the whole form's."""

    def __init__(self, *, status: int = 400, **errors: str) -> None:
        super().__init__(str(errors))
        self.status, self.errors = status, errors


@console_page(PermissionName.ME_READ)
def factors(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Show which second factors there are, and the form that makes recovery codes anew."""
    return _factors(request, _me(actor))


@sensitive_post_parameters("code")
@console_page(PermissionName.ME_READ, methods=("POST",))
def new_recovery_codes(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Make recovery codes anew and show them, once; those before are good until the new ones are confirmed."""
    person = _me(actor)
    try:
        _count_try(person)
        codes = sign_in.renew_recovery_codes(person=person, code=_digits(request, "code"), actor=actor)
    except CodeRefused as error:
        return _factors(request, person, {"code": str(error.detail)}, status=400)
    except _NotTaken as error:
        return _factors(request, person, error.errors, status=error.status)
    return render(request, "console/me/recovery_codes.html", {"codes": codes})


@sensitive_post_parameters("new_code")
@console_page(PermissionName.ME_READ, methods=("POST",))
def confirm_recovery_codes(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Have the new codes count, as one of them is typed; those before are void then."""
    person = _me(actor)
    try:
        _count_try(person)
        sign_in.confirm_recovery_codes(person=person, code=_digits(request, "new_code"), actor=actor)
    except CodeRefused as error:
        return _factors(request, person, {"new_code": str(error.detail)}, status=400)
    except _NotTaken as error:
        return _factors(request, person, error.errors, status=error.status)
    messages.success(request, CODES_COUNT)
    return redirect("me-factors")


@sensitive_post_parameters("password", "code", "new_code")
@console_page(PermissionName.ME_READ, methods=(*LOOKING, "POST"))
def change_authenticator(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Show the key of a new authenticator; posted, put it in the place of the one before."""
    person = _me(actor)
    if request.method != "POST":
        return _form(request, person)
    try:
        _change(request, person, actor)
    except _NotTaken as error:
        return _form(request, person, error.errors, status=error.status)
    messages.success(request, CHANGED)
    return redirect("me-factors")


@sensitive_variables("password", "key")
def _change(request: HttpRequest, person: Person, actor: Actor) -> None:
    key = _kept_key(request)
    if key is None:
        raise _NotTaken(form=AGAIN)
    _count_try(person)
    password = request.POST.get("password", "")[:MAX_FIELD]
    try:
        with hashing.turn(is_known=True):
            is_right = is_password_of(person, password)
    except Throttled as error:
        raise _NotTaken(form=BUSY, status=429) from error
    if not is_right:
        raise _NotTaken(password=NOT_THEIRS)
    try:
        device = sign_in.change_totp(
            person=person,
            key=key,
            code=_digits(request, "code"),
            new_code=_digits(request, "new_code"),
            keep_session=request.session.session_key or "",
            actor=actor,
        )
    except CodeRefused as error:
        if error.field == "new_code":
            raise _NotTaken(new_code=NEW_CODE_REFUSED) from error
        raise _NotTaken(code=str(error.detail)) from error
    del request.session[_KEPT]
    sessions.renew(request, person, device)


def _me(actor: Actor) -> Person:
    assert actor.person_id is not None
    return tenants.person(actor.person_id)


def _count_try(person: Person) -> None:
    try:
        count_against(f"factors:{person.pk}", limit=MAX_TRIES, seconds=600)
    except Throttled as error:
        raise _NotTaken(form=TOO_MANY, status=429) from error


def _digits(request: HttpRequest, field: str) -> str:
    return request.POST.get(field, "")[: sign_in.MAX_CODE]


def _factors(
    request: HttpRequest, person: Person, errors: dict[str, str] | None = None, *, status: int = 200
) -> HttpResponse:
    left, waiting = sign_in.count_recovery_codes(person)
    context: dict[str, Any] = {
        "authenticator": sign_in.authenticator_of(person),
        "codes_left": left,
        "codes_wait": waiting,
        "errors": errors or {},
    }
    return render(request, "console/me/factors.html", context, status=status)


def _form(
    request: HttpRequest, person: Person, errors: dict[str, str] | None = None, *, status: int = 200
) -> HttpResponse:
    key = _kept_key(request)
    if key is None:
        # The same for as long as the session lasts: what was scanned once stays right when the page is shown again.
        key = SecretBytes(secrets.token_bytes(TOTP_KEY_SIZE))
        request.session[_KEPT] = key.reveal().hex()
    context = {"errors": errors or {}, **authenticator.shown(key, tenant=person.tenant, email=person.email)}
    return render(request, "console/me/authenticator.html", context, status=status)


def _kept_key(request: HttpRequest) -> SecretBytes | None:
    kept = request.session.get(_KEPT)
    return SecretBytes(bytes.fromhex(kept)) if isinstance(kept, str) else None
