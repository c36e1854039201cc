# SPDX-License-Identifier: Apache-2.0
"""One line for each request: which page, how it ended, how long it took, for whom; and a number to find it again.

PLATFORM "Running it". What a person or a link says stands in no line: neither the values of a query nor a token in an
address. Who did what is in the audit log, and only there.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Callable
from typing import Final

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from structlog.contextvars import bound_contextvars

from tenants.sources import source_of

log = logging.getLogger("holdfast.access")

HEADER: Final = "x-request-id"
_NUMBER_BYTES: Final = 8  # enough that none comes twice among the requests of a year
_PLACE: Final = re.compile(r"<(?:(\w+):)?(\w+)>")
# The converters of ours whose values name a row or a page. Of any other (`str`) the name is said: it may be a token.
_SHOWN: Final = frozenset({"uuid", "int", "slug"})

Handler = Callable[[HttpRequest], HttpResponseBase]


class AccessMiddleware:
    """Numbers each request, for whatever is logged while it is served and for whoever asked; then writes its line."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        # Ours and nobody else's: what a client sends could be made to look like another request's.
        number, began = secrets.token_hex(_NUMBER_BYTES), time.monotonic()
        with bound_contextvars(request=number):
            response = self.get_response(request)
            response[HEADER] = number
            said = {
                "method": request.method,
                "path": shown_path(request, is_found=response.status_code < 400),
                "status": response.status_code,
                "ms": round((time.monotonic() - began) * 1000),
                "source": source_of(request),
            }
            log.info("%(method)s %(path)s %(status)d %(ms)d ms from %(source)s", said, extra=said)
        return response


def shown_path(request: HttpRequest, *, is_found: bool) -> str:
    """Return the page that an address means, without what may be a token in it. is_found: whether there is one."""
    match = request.resolver_match
    if match is not None:
        return "/" + _PLACE.sub(lambda place: _value(place, match.kwargs), match.route)
    is_file = is_found and request.path_info.startswith(settings.STATIC_URL)
    # What was not found may be half of a link with a token in it.
    return request.path_info if is_file else "(no address of ours)"


def _value(place: re.Match[str], values: dict[str, object]) -> str:
    converter, name = place.groups()
    return str(values[name]) if converter in _SHOWN else place[0]
