# SPDX-License-Identifier: Apache-2.0
"""What django-axes counts failed sign-ins by: the account and the source, each on its own.

Implements FAULTS A1 and I10a: spraying is stopped per source, guessing per account. Whoever signs in from where they
have before is stopped by neither, only by wrong tries of their own account from there; and no stranger can lock out
the last officer a tenant has. It refuses nobody itself; django-axes does. W10a: a failure
that a clock has dated ahead locks nobody, so a lock lasts no longer from now than it is long.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from axes.handlers.database import AxesDatabaseHandler
from axes.handlers.proxy import AxesProxyHandler
from axes.helpers import get_cool_off
from axes.models import AccessAttempt
from django.conf import settings
from django.db.models import QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from kernel.clock import SKEW
from tenants.models import Person, SignInPlace
from tenants.roles import Role
from tenants.sources import source_of
from tenants.states import PersonState

_NORMAL = [["username"], ["ip_address"]]
# At a place where the account has signed in before, strangers' tries do not count: neither those on other accounts from
# there, as behind one office's address, nor those on this account from elsewhere.
_KNOWN_PLACE = [["username", "ip_address"]]
# The account is then counted per source: whoever guesses from elsewhere does not stand in the officer's way.
_LAST_OFFICER = [["username", "ip_address"], ["ip_address"]]
# Home, office, and the networks of a season's travels; a person who has been away for a quarter is new at a place.
_PLACES_OF_ACCOUNT = 10
PLACE_LIFE = timedelta(days=90)


class Handler(AxesDatabaseHandler):  # type: ignore[misc]  # it has no types
    """AXES_HANDLER: django-axes' own, for which a failure of the future is none."""

    def get_user_attempts(self, request: HttpRequest, credentials: Any = None) -> list[QuerySet[AccessAttempt]]:
        """Return the failures that count, a query for each of `parameters`."""
        counted = super().get_user_attempts(request, credentials)
        return [attempts.filter(attempt_time__lte=timezone.now() + SKEW) for attempts in counted]


def name_attempt(request: HttpRequest, *, slug: str, email_key: str) -> None:
    """Say for which account this request tries to sign in, before any back end is asked."""
    request.holdfast_account = _account(slug, email_key)  # type: ignore[attr-defined]
    request.holdfast_slug = slug  # type: ignore[attr-defined]


def turn_away(request: HttpRequest) -> bool:
    """Tell whether the account or the source is locked, and mark the request as refused for it."""
    if AxesProxyHandler.is_allowed(request, {}):
        return False
    request.axes_locked_out = True  # type: ignore[attr-defined]
    return True


def forgive(request: HttpRequest) -> None:
    """Forget the account's failures after a complete sign-in, and remember that it was made from this source.

    The source's own failures stay: a sprayer may have one account.
    """
    AxesProxyHandler.reset_attempts(username=username(request))
    account = getattr(request, "holdfast_account", "")
    SignInPlace.objects.update_or_create(account=account, source=source(request), defaults={"last_at": timezone.now()})
    places = SignInPlace.objects.filter(account=account).order_by("-last_at")
    for old in places.values_list("source", flat=True)[_PLACES_OF_ACCOUNT:]:
        SignInPlace.objects.filter(account=account, source=old).delete()


def is_locked(request: HttpRequest) -> bool:
    """Tell whether django-axes refused, or has just begun to refuse, this request's account or source."""
    return bool(getattr(request, "axes_locked_out", False))


def lock_stood_before(request: HttpRequest) -> bool:
    """Tell whether a lock turned this request away before it was tried, so that nothing new happened."""
    return is_locked(request) and getattr(request, "axes_failures_since_start", None) is None


def username(request: HttpRequest, _credentials: Any = None) -> str | None:
    """AXES_USERNAME_CALLABLE: the account as one opaque name, whether it exists or not."""
    return getattr(request, "holdfast_account", None)


def source(request: HttpRequest) -> str:
    """AXES_CLIENT_IP_CALLABLE: the address that counts."""
    return source_of(request)


def response(_request: HttpRequest, original: HttpResponse, _credentials: Any = None) -> HttpResponse:
    """AXES_LOCKOUT_CALLABLE: the sign-in page has said it already, in its own words."""
    return original


def parameters(attempted: Any, _credentials: Any = None) -> list[list[str]]:
    """AXES_LOCKOUT_PARAMETERS: by account and by source; at a known place only by both together; for the one officer
    who must not be locked, by source only.

    Asked once per request. The same three queries run for an account that exists and for one that does not.
    """
    if not isinstance(attempted, HttpRequest):
        return _NORMAL
    known: list[list[str]] | None = getattr(attempted, "holdfast_lockout", None)
    if known is None:
        must_stay_open, is_at_home = _must_stay_open(attempted), is_at_known_place(attempted)
        known = _KNOWN_PLACE if is_at_home else _LAST_OFFICER if must_stay_open else _NORMAL
        attempted.holdfast_lockout = known  # type: ignore[attr-defined]
    return known


def is_at_known_place(request: HttpRequest) -> bool:
    """Tell whether the account has signed in from this source in the last quarter. Asked once per request."""
    known: bool | None = getattr(request, "holdfast_known_place", None)
    if known is None:
        known = SignInPlace.objects.filter(
            account=getattr(request, "holdfast_account", ""),
            source=source_of(request),
            last_at__gte=timezone.now() - PLACE_LIFE,
        ).exists()
        request.holdfast_known_place = known  # type: ignore[attr-defined]
    return known


def _must_stay_open(request: HttpRequest) -> bool:
    """Tell whether every officer of the tenant is at the limit, and this account is the one that stays open."""
    slug, account = getattr(request, "holdfast_slug", ""), getattr(request, "holdfast_account", "")
    officers = Person.unscoped.filter(tenant__slug=slug, role=Role.OFFICER, state=PersonState.ACTIVE)
    accounts = {_account(slug, key) for key in officers.values_list("email_key", flat=True)}
    at_limit = _at_limit(accounts | {account})
    return bool(accounts) and accounts <= at_limit and account == min(accounts)


def _at_limit(accounts: Iterable[str]) -> set[str]:
    cool_off = get_cool_off()
    assert cool_off is not None
    now = timezone.now()
    recent = AccessAttempt.objects.filter(
        username__in=list(accounts), attempt_time__gte=now - cool_off, attempt_time__lte=now + SKEW
    ).order_by()
    counted = recent.values("username").annotate(failures=Sum("failures_since_start"))
    return {row["username"] for row in counted if row["failures"] >= settings.AXES_FAILURE_LIMIT}


def _account(slug: str, email_key: str) -> str:
    # Hashed, so that what people mistype into the form is kept nowhere.
    return hashlib.sha256(f"{slug}\n{email_key}".encode()).hexdigest()
