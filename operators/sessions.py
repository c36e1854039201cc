# SPDX-License-Identifier: Apache-2.0
"""How an operator signs in, and who a request of the admin is: read from the database at every request.

Implements ORGANISATION "Django's admin" and FAULTS A1 to A6, A13. It shares nothing with people's sessions: another
cookie, another table, no back end of Django's that a console page would ask.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import Final

from django.conf import settings
from django.contrib.auth.signals import user_login_failed
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare
from django_otp.oath import TOTP

from holdfast.core.base import typed
from holdfast.core.base.encoding import label
from kernel.clock import SKEW
from kernel.sweeps import delete_in_batches
from operators.models import Operator, OperatorSession
from operators.states import OperatorState
from tenants import hashing, lockout
from tenants.limits import is_first

# A working day, as for people; nobody's browser is an operator's for longer.
LIFE: Final = timedelta(hours=8)
_TOKEN_BYTES: Final = 32
_CODE: Final = re.compile(r"[0-9]{6}", re.ASCII)
_STEP_SECONDS: Final = 30
# RFC 6238 section 5.2: one step for the time that a person and the network take.
_TOLERANCE: Final = 1
# How long a code that was used is remembered beyond its own time. A clock that is off by less lets none be used twice.
_SPENT: Final = timedelta(days=1)
# In place of a tenant's short name where failures are counted: no tenant can have it.
_SLUG: Final = "/admin"


def sign_in(request: HttpRequest, *, name: str, password: str, code: str) -> Operator | None:
    """Return the active operator whose password and unspent code these are, else None, with the same work for a name
    that there is not.

    A refusal counts against the account and the source, as people's do (`tenants.lockout`); `lockout.is_locked` then
    says whether it was for that. Raises Throttled when more passwords are tried at once than may be hashed.
    """
    lockout.name_attempt(request, slug=_SLUG, email_key=name)
    if lockout.turn_away(request):
        return None
    operator = Operator.objects.filter(name=name, state=OperatorState.ACTIVE).first()
    with hashing.turn(is_known=lockout.is_at_known_place(request)):
        if operator is None:
            hashing.waste(password)
        is_right = operator is not None and hashing.is_right(password, operator.password)
    if operator is not None and is_right and _spend_code(operator, code):
        lockout.forgive(request)
        return operator
    user_login_failed.send(sender=__name__, credentials={}, request=request)
    return None


def begin(response: HttpResponse, operator: Operator) -> None:
    """Make the browser that gets this answer the operator's, under a token that nobody knew before."""
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    OperatorSession.objects.create(token_hash=_hash(token), operator=operator, bound=_bound(operator), created_at=Now())
    response.set_cookie(
        settings.HOLDFAST_ADMIN_COOKIE,
        token,
        max_age=int(LIFE.total_seconds()),
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Strict",
    )


def operator_of(request: HttpRequest) -> Operator | None:
    """Return the operator who signed in with this browser, while the account stands as it stood then; else None."""
    token = request.COOKIES.get(settings.HOLDFAST_ADMIN_COOKIE, "")
    # By the database's clock. One that was begun by a clock ahead would last for as long as it was off.
    row = (
        OperatorSession.objects.select_related("operator")
        .filter(token_hash=_hash(token), created_at__gt=Now() - LIFE, created_at__lte=Now() + SKEW)
        .first()
    )
    if row is None or row.operator.state != OperatorState.ACTIVE:
        return None
    return row.operator if constant_time_compare(row.bound, _bound(row.operator)) else None


def end(request: HttpRequest, response: HttpResponse) -> None:
    """End this browser's session."""
    token = request.COOKIES.get(settings.HOLDFAST_ADMIN_COOKIE, "")
    OperatorSession.objects.filter(token_hash=_hash(token)).delete()
    response.delete_cookie(settings.HOLDFAST_ADMIN_COOKIE, samesite="Strict")


def sweep() -> int:
    """Delete the sessions whose time is over, and return how many."""
    return delete_in_batches(OperatorSession.objects.filter(created_at__lte=Now() - LIFE))


def _spend_code(operator: Operator, code: str) -> bool:
    """Use up the authenticator's code of now or one step either side; False for any other, and for one used before."""
    code = typed.ungrouped(code)
    if not _CODE.fullmatch(code):
        return False
    totp = TOTP(bytes.fromhex(operator.totp_key), step=_STEP_SECONDS, t0=0, digits=6, drift=0)
    totp.time = time.time()
    if not totp.verify(int(code), tolerance=_TOLERANCE):
        return False
    step = totp.t()
    expires_at = datetime.fromtimestamp(step * _STEP_SECONDS, UTC) + _SPENT
    return is_first(f"totp:operator:{operator.pk}", step, expires_at=expires_at)


def _hash(token: str) -> bytes:
    return hashlib.sha256(label("operator-session", token)).digest()


def _bound(operator: Operator) -> str:
    return hashlib.sha256(label("operator-bound", operator.password, operator.totp_key)).hexdigest()
