# SPDX-License-Identifier: Apache-2.0
"""RFC 9457 problem documents: the only place where a refusal meets an HTTP status.

The stable list of codes is `catalogue()`, printed in docs/problems.md. It logs nothing that a
client sent, and it never shows an unexpected error's text.
Specification: https://www.rfc-editor.org/rfc/rfc9457 section 3.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, InternalError, OperationalError
from django.http import Http404, HttpResponse
from django.utils import timezone
from rest_framework import exceptions as drf
from rest_framework.response import Response
from rest_framework.views import set_rollback

from kernel import errors

log = logging.getLogger("holdfast.problems")

STATUS: dict[type[errors.DomainError], int] = {
    errors.Invalid: 422,
    errors.Denied: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Unavailable: 503,
    errors.Throttled: 429,
    errors.Unauthenticated: 401,
}

# Errors of framework-free packages, named by the composition root: exception type → our refusal.
_translations: list[tuple[type[Exception], type[errors.DomainError]]] = []


_FIXED_STATUS: dict[type[errors.DomainError], int] = {
    errors.MalformedRequest: 400,
    errors.InvalidJson: 400,
    errors.MethodNotAllowed: 405,
    errors.UnsupportedMediaType: 415,
    errors.TooLarge: 413,
    errors.Internal: 500,
}


def translate(source: type[Exception], target: type[errors.DomainError]) -> None:
    """Say once, at start, which refusal an exception of a framework-free package becomes."""
    _translations.append((source, target))


def status_of(error: type[errors.DomainError]) -> int:
    """Return the HTTP status of a refusal: its own, or its category's."""
    for cls in error.__mro__:
        if cls in _FIXED_STATUS:
            return _FIXED_STATUS[cls]
        if cls in STATUS:
            return STATUS[cls]
    return 500


def title_of(error: type[errors.DomainError]) -> str:
    """Return the first line of the refusal's docstring, which is its title."""
    return (error.__doc__ or error.code).strip().splitlines()[0]


def catalogue() -> list[tuple[str, int, str]]:
    """List every (code, status, title) the product can answer with, sorted by code."""

    def below(cls: type[errors.DomainError]) -> Iterator[type[errors.DomainError]]:
        for sub in cls.__subclasses__():
            yield sub
            yield from below(sub)

    rows = {(cls.code, status_of(cls), title_of(cls)) for cls in below(errors.DomainError)}
    return sorted(rows)


def body_of(error: errors.DomainError) -> dict[str, Any]:
    """Build the problem document of a refusal."""
    body: dict[str, Any] = {
        "type": f"{settings.HOLDFAST_PUBLIC_URL}/docs/problems#{error.code}",
        "title": title_of(type(error)),
        "status": status_of(type(error)),
        "code": error.code,
        "detail": error.detail,
    }
    if error.field:
        body["errors"] = [{"field": error.field, "detail": error.detail}]
    if isinstance(error, errors.Unauthenticated):
        # A client with a wrong clock corrects itself by this (PROTOCOL section 3).
        body["server_time"] = timezone.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    body.update(error.extra)
    return body


def response_for(error: errors.DomainError) -> Response:
    """Build the HTTP answer of a refusal."""
    response = Response(body_of(error), status=status_of(type(error)), content_type="application/problem+json")
    if isinstance(error, errors.Throttled):
        response["retry-after"] = str(error.retry_after)
    if isinstance(error, errors.Unavailable):
        response["retry-after"] = str(error.retry_after)
    if isinstance(error, errors.Unauthenticated):
        response["www-authenticate"] = 'Signature realm="holdfast"'
    return response


def http_problem(error: errors.DomainError) -> HttpResponse:
    """Build the same answer where no REST view is in play: middleware and the 404 and 500 pages."""
    from kernel.strict_json import dumps

    status = status_of(type(error))
    headers = {"cache-control": "no-store"}
    return HttpResponse(dumps(body_of(error)), status=status, content_type="application/problem+json", headers=headers)


def handle(exc: Exception, context: Mapping[str, Any]) -> Response | None:
    """REST framework's exception handler: everything expected becomes a problem, the rest stays a 500."""
    error = _domain_error(exc)
    if error is None:
        return None
    set_rollback()
    return response_for(error)


def unavailable(exc: BaseException | None) -> errors.Unavailable | None:
    """Return the refusal, when what was raised outside REST means that a part is away or has no room."""
    error = _domain_error(exc) if isinstance(exc, Exception) else None
    return error if isinstance(error, errors.Unavailable) else None


def _domain_error(exc: Exception) -> errors.DomainError | None:
    if isinstance(exc, errors.DomainError):
        return exc
    for source, target in _translations:
        if isinstance(exc, source):
            # The text of a core error is written for people and names no secret; a dependency's is not.
            detail = str(exc) if issubclass(target, errors.Invalid) else ""
            return target(detail, field=getattr(exc, "field", None))
    return _from_framework(exc)


def _from_framework(exc: Exception) -> errors.DomainError | None:  # noqa: PLR0911 — a table in the form of a match
    match exc:
        case drf.ValidationError():
            return _from_validation(exc)
        case OperationalError() | InternalError() | InterfaceError():
            # The database is locked, full, read-only or away; the transaction is undone: a retry is safe (FAULTS D4).
            return errors.Unavailable()
        case Http404() | drf.NotFound():
            return errors.NotFound()
        case drf.NotAuthenticated() | drf.AuthenticationFailed():
            return errors.Unauthenticated()
        case PermissionDenied() | drf.PermissionDenied():
            return errors.Denied()
        case drf.MethodNotAllowed():
            return errors.MethodNotAllowed("This address does not take this method. See /api/schema/.")
        case drf.UnsupportedMediaType():
            return errors.UnsupportedMediaType("Send the body as application/json.")
        case drf.NotAcceptable():
            return errors.MalformedRequest("Answers are application/json only.", field="accept")
        case drf.ParseError():
            return errors.InvalidJson("The body is not valid JSON.")
        case drf.Throttled():
            return errors.Throttled()
    return None


def _from_validation(exc: drf.ValidationError) -> errors.MalformedRequest:
    rows = list(_flatten(exc.detail))
    first = rows[0]["field"] if rows else ""
    error = errors.MalformedRequest(f"{first}: {rows[0]['detail']}" if rows else "The request is malformed.")
    error.extra["errors"] = rows
    return error


def _flatten(detail: Any, path: str = "") -> Iterator[dict[str, str]]:
    if isinstance(detail, dict):
        for name, inner in detail.items():
            # A list's errors come under the number of the item.
            place = f"{path}[{name}]" if isinstance(name, int) else f"{path}.{name}" if path else name
            yield from _flatten(inner, place)
    elif isinstance(detail, list):
        for index, inner in enumerate(detail):
            yield from _flatten(inner, path if isinstance(inner, str) else f"{path}[{index}]")
    else:
        yield {"field": path, "detail": str(detail)}
