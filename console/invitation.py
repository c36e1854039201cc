# SPDX-License-Identifier: Apache-2.0
"""Accepting an invitation: first password, authenticator, recovery codes shown once, and nothing else.

Implements ORGANISATION "Founding, at different desks" and FAULTS A1. Opening the link changes nothing, so whoever looks
through mail for a person uses nothing up; only the form does. A wrong link and a used one are the same page.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods

from audit.errors import LogRestored
from console import authenticator
from holdfast.core.base.secret import SecretBytes
from kernel.errors import Throttled
from tenants import hashing, invitations, sign_in
from tenants.errors import CodeRefused, FactorsAway, InvitationRefused, PasswordRefused
from tenants.sign_in import TOTP_KEY_SIZE
from tenants.sources import source_of

if TYPE_CHECKING:
    from tenants.models import Invitation

MAX_FIELD: Final = 1024  # of characters: as at the sign-in, where the same password is typed
_KEPT: Final = "invitation"
UNEQUAL: Final = "The two passwords differ. Type the same one twice."
CODE_REFUSED: Final = "This is not the code that your authenticator shows now. Wait for the next one, and type that."
BUSY: Final = "Many people sign in at this moment. Try again in a few seconds."
AWAY: Final = "Authenticators cannot be set up at this moment. Nothing was used up: try again in a moment."
RESTORED: Final = (
    "The server was put back from a backup, and lets nobody in before the officers have accepted that. Nothing was "
    "used up: open the link again later."
)
AGAIN: Final = (
    "This page was open for too long, or cookies are off. Set up the authenticator again, with the code below."
)
TOO_MANY: Final = "Too many tries from your network. Wait ten minutes, then open the link again."


class _NotTaken(Exception):
    """What was typed was not taken; the text says why. Nothing was changed."""

    def __init__(self, why: str, *, status: int = 400) -> None:
        super().__init__(why)
        self.status = status


@never_cache
@sensitive_post_parameters("password", "again", "code")
@sensitive_variables("token")
@require_http_methods(["GET", "HEAD", "POST"])
def invitation(request: HttpRequest, tenant_id: UUID, token: str) -> HttpResponse:
    """Show the form to whoever holds the link; posted, set both factors and show the recovery codes."""
    try:
        invitations.count_try(source=source_of(request))
        found = invitations.find(tenant_id=tenant_id, token=token)
    except Throttled:
        return _refused(request, TOO_MANY, status=429)
    except InvitationRefused:
        return _refused(request)
    if request.method != "POST":
        return _form(request, found, "")
    try:
        codes = _accepted(request, found)
    except _NotTaken as error:
        return _form(request, found, str(error), status=error.status)
    except InvitationRefused:
        return _refused(request)
    # The key has gone to where it belongs, and whoever was signed in here before is somebody else.
    request.session.flush()
    return render(request, "console/sign_in/recovery_codes.html", {"codes": codes, "slug": found.tenant.slug})


def _refused(request: HttpRequest, why: str = "", *, status: int = 404) -> HttpResponse:
    return render(request, "console/sign_in/invitation_refused.html", {"refusal": why}, status=status)


@sensitive_variables("password", "key")
def _accepted(request: HttpRequest, found: Invitation) -> tuple[str, ...]:
    """Take what was typed, and return the recovery codes. Raises _NotTaken, which says what to type anew."""
    key = _kept_key(request, found)
    if key is None:
        raise _NotTaken(AGAIN)
    password = request.POST.get("password", "")[:MAX_FIELD]
    if password != request.POST.get("again", "")[:MAX_FIELD]:
        raise _NotTaken(UNEQUAL)
    try:
        with hashing.turn(is_known=False):
            return invitations.accept(
                tenant_id=found.tenant_id,
                invitation_id=found.pk,
                password=SecretBytes(password.encode()),
                totp_key=key,
                code=request.POST.get("code", "")[: sign_in.MAX_CODE],
            )
    except Throttled as error:
        raise _NotTaken(BUSY, status=429) from error
    except FactorsAway as error:
        raise _NotTaken(AWAY, status=503) from error
    except LogRestored as error:
        raise _NotTaken(RESTORED, status=503) from error
    except PasswordRefused as error:
        raise _NotTaken(str(error.detail)) from error
    except CodeRefused as error:
        raise _NotTaken(CODE_REFUSED) from error


def _form(request: HttpRequest, found: Invitation, refusal: str, *, status: int = 200) -> HttpResponse:
    key = _kept_key(request, found)
    if key is None:
        # The same for as long as the session lasts: what was scanned once stays right when the page is shown again.
        key = SecretBytes(secrets.token_bytes(TOTP_KEY_SIZE))
        request.session[_KEPT] = {"id": str(found.pk), "key": key.reveal().hex()}
    context = {
        "refusal": refusal,
        "person": found.person,
        "invited_to": found.tenant,
        **authenticator.shown(key, tenant=found.tenant, email=found.person.email),
    }
    return render(request, "console/sign_in/invitation.html", context, status=status)


def _kept_key(request: HttpRequest, found: Invitation) -> SecretBytes | None:
    kept = request.session.get(_KEPT)
    if not isinstance(kept, dict) or kept.get("id") != str(found.pk):
        return None
    return SecretBytes(bytes.fromhex(kept["key"]))
