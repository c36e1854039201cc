# SPDX-License-Identifier: Apache-2.0
"""What surrounds every request: the right host name, and no tenant scope left over from another request.

Implements FAULTS I4a, I17a and T5. It authenticates nobody: signatures and sessions do, and open the scope.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from django.conf import settings
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.http import HttpRequest, HttpResponseBase, UnreadablePostError

from kernel.scope import close_scope
from tenants.sources import is_from_proxy

log = logging.getLogger("holdfast.proxy")

Handler = Callable[[HttpRequest], HttpResponseBase]
_FORWARDED: Final = ("HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO")
_CHUNK: Final = 64 * 1024  # bytes, of what is read only to be thrown away
_MAX_FORM: Final = 64 * 1024  # bytes: three fields of 1,024 characters, in any encoding
# Of C0, C1 and DEL all but tab and the ends of lines.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


class WholeBodyMiddleware:
    """Reads what an answer left unread of a body that the proxy has whole, so that the proxy gets the answer.

    Otherwise the server closes the socket while the proxy still writes to it, and what was refused with a reason (401,
    404, 413) reaches its sender as 503. A body that a stranger sends without a proxy is left alone: it may never end.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        # Asked before other middleware can change what the request says of itself.
        length = request.META.get("CONTENT_LENGTH") or "0"
        is_whole = is_from_proxy(request) and length.isdecimal()
        response = self.get_response(request)
        if is_whole and int(length[:10]) <= settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            with suppress(UnreadablePostError):
                while request.read(_CHUNK):
                    pass
        return response


class ProxyMiddleware:
    """Forgets what only a trusted proxy may say of a request, such as that it came encrypted, when another says it.

    A proxy that is not on the operator's list makes all its clients one source: the log says so, once.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response
        self._has_told = False

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not is_from_proxy(request):
            is_forwarded = [request.META.pop(name, None) is not None for name in _FORWARDED]
            if any(is_forwarded) and not self._has_told:
                self._has_told = True
                peer = request.META.get("REMOTE_ADDR") or "the local socket"
                log.error(
                    "a request was forwarded by %s, which HOLDFAST_TRUSTED_PROXIES does not list: if that is your "
                    "proxy, all who come through it count as one source, and one of them locks out all",
                    peer,
                )
        return self.get_response(request)


class HostMiddleware:
    """Refuses a request for a host that is not ours with 400, on every route.

    Django checks ALLOWED_HOSTS only when somebody asks for the host, which most views never do.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request.get_host()  # raises DisallowedHost, which Django answers with 400
        return self.get_response(request)


class PlainTextMiddleware:
    """Refuses control characters in the query of any address and in the forms of our pages, with 400.

    Nobody types them, PostgreSQL stores no NUL, and a log or a terminal would act on the others. The bodies of the
    REST API are read elsewhere (`kernel.strict_json`). A longer body is refused before anything of it is read: no page
    takes a file, and Django would put a stranger's on the disk.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        typed = [request.GET]
        length = request.META.get("CONTENT_LENGTH") or "0"
        # Of what is no number, Django reads nothing.
        if not request.path.startswith("/api/") and length.isdecimal() and int(length[:10]) > _MAX_FORM:
            raise RequestDataTooBig("a form of this length was sent")
        if request.method == "POST" and request.path.startswith(("/admin/", "/console/", "/me/")):
            typed.append(request.POST)
        for fields in typed:
            for name, values in fields.lists():
                if any(_CONTROL.search(text) for text in (name, *values)):
                    raise SuspiciousOperation("a control character was sent")
        return self.get_response(request)


class TenantScopeMiddleware:
    """Closes the tenant scope around each request: a thread that served one tenant serves another next."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        close_scope()
        try:
            return self.get_response(request)
        finally:
            close_scope()
