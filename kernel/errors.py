# SPDX-License-Identifier: Apache-2.0
"""The categories of refusal: one class per reaction a caller can have, not per cause.

Apps subclass one of them in their own `errors.py` and set `code`; the class docstring's first
line is the problem's title in docs/problems.md. Nothing here knows HTTP: `problems.py` does.
"""

from __future__ import annotations

from typing import Any, ClassVar


class DomainError(Exception):
    """Root of what a verb can refuse.

    `detail` is a sentence for a person: what is wrong and the way out. `field` names the
    input at fault; `extra` members are added to the problem document (never secrets).
    """

    code: ClassVar[str] = "error"
    default_detail: ClassVar[str] = ""

    def __init__(self, detail: str = "", *, field: str | None = None, **extra: Any) -> None:
        self.detail = detail or self.default_detail
        self.field = field
        self.extra = extra
        super().__init__(self.detail)


class Invalid(DomainError):
    """The request can never succeed as written."""

    code = "invalid"


class Denied(DomainError):
    """This actor may not do this."""

    code = "denied"
    default_detail = "Your role or your device's state does not allow this."


class NotFound(DomainError):
    """There is no such object for this actor."""

    code = "not-found"
    # One fixed text: an id of another tenant must be answered with the same bytes as an unknown id.
    default_detail = "There is no such object."


class Conflict(DomainError):
    """Somebody moved first: read again and retry."""

    code = "conflict"
    default_detail = "The object changed meanwhile. Read it again, then retry."


class Unavailable(DomainError):
    """A dependency is away: retry later, nothing was done."""

    code = "unavailable"
    retry_after: ClassVar[int] = 5  # seconds
    default_detail = "A part of the service is away. Nothing was done; retry in a moment."


class Throttled(DomainError):
    """Too many requests: wait as long as retry-after says."""

    code = "too-many-requests"
    default_detail = "Too many requests. Wait, then retry."

    def __init__(self, detail: str = "", *, retry_after: int = 1, **extra: Any) -> None:
        super().__init__(detail, **extra)
        self.retry_after = retry_after


class LimitReached(Conflict):
    """As many of these are kept as may be; `detail` says how room is made."""

    code = "limit-reached"

    def __init__(self, detail: str, *, limit: str, most: int, **extra: Any) -> None:
        super().__init__(detail, limit=limit, most=most, **extra)


class Unauthenticated(DomainError):
    """The request is not signed by a key that is registered and active."""

    code = "unauthenticated"
    default_detail = "The request's signature was not accepted."


class MalformedRequest(Invalid):
    """A field of the request is missing, unknown or not of the form the API asks for."""

    code = "malformed-request"


class InvalidJson(Invalid):
    """The body is not strict JSON."""

    code = "invalid-json"


class MethodNotAllowed(Invalid):
    """This address does not take this method."""

    code = "method-not-allowed"


class UnsupportedMediaType(Invalid):
    """The body must be application/json."""

    code = "unsupported-media-type"


class TooLarge(Invalid):
    """The body is larger than this address takes."""

    code = "too-large"


class Internal(DomainError):
    """The server failed; nothing was done that is not in the log."""

    code = "internal"
