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
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect, UnreadablePostError

from holdfast.core.signed.requests import TURN
from kernel.scope import close_scope
from tenants.credentials import ANSWERED_TURN
from tenants.permissions import PermissionName
from tenants.sessions import session_actor, session_person
from tenants.sources import is_from_proxy

log = logging.getLogger("holdfast.proxy")

Handler = Callable[[HttpRequest], HttpResponseBase]
_FORWARDED: Final = ("HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO")
_CHUNK: Final = 64 * 1024  # bytes, of what is read only to be thrown away
_MAX_FORM: Final = 64 * 1024  # bytes: three fields of 1,024 characters, in any encoding
# The one page that takes a file; and its bytes: those of the file (`imports.reading.MAX_FILE`), and what is around it.
UPLOAD: Final = "/console/people/import/"
_MAX_UPLOAD: Final = 4 * 1024 * 1024 + 64 * 1024
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
        if is_whole and int(length[:10]) <= max(settings.DATA_UPLOAD_MAX_MEMORY_SIZE, _MAX_UPLOAD):
            with suppress(UnreadablePostError):
                while request.read(_CHUNK):
                    pass
        return response


class TurnMiddleware:
    """Says in the answer to a signed request with a turn which mark was taken, and whether it did not follow.

    In every answer, a refusal too: one that was lost is told by the next.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        answered = getattr(request, ANSWERED_TURN, "")
        if answered:
            response[TURN] = answered
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
    REST API are read elsewhere (`kernel.strict_json`). A longer body is refused before anything of it is read. The one
    page that takes a file reads it line by line, and `UploadMiddleware` lets nobody's through who may not send it.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        typed = [request.GET]
        length = request.META.get("CONTENT_LENGTH") or "0"
        is_upload = request.path == UPLOAD
        most = _MAX_UPLOAD if is_upload else _MAX_FORM
        # Of what is no number, Django reads nothing.
        if not request.path.startswith("/api/") and length.isdecimal() and int(length[:10]) > most:
            raise RequestDataTooBig("a form of this length was sent")
        is_page = request.path.startswith(("/admin/", "/console/", "/me/"))
        if request.method == "POST" and is_page and not is_upload:
            typed.append(request.POST)
        for fields in typed:
            for name, values in fields.lists():
                if any(_CONTROL.search(text) for text in (name, *values)):
                    raise SuspiciousOperation("a control character was sent")
        return self.get_response(request)


class UploadMiddleware:
    """Turns away whoever may upload no file before anything of it is read: to the sign-in, or with 403.

    Stands after the sessions; the token against forged forms is looked for in the body only afterwards.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path == UPLOAD and request.method == "POST":
            person = session_person(request)
            if person is None:
                return HttpResponseRedirect(settings.LOGIN_URL)
            if not session_actor(person).can(PermissionName.PERSON_ADMINISTER):
                raise PermissionDenied
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
