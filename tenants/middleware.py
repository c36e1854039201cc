# SPDX-License-Identifier: Apache-2.0
"""What surrounds every request: the right host name, and no tenant scope left over from another request.

Implements FAULTS I17a and T5. It authenticates nobody: signatures and sessions do, and open the scope.
"""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase

from kernel.scope import close_scope

Handler = Callable[[HttpRequest], HttpResponseBase]


class HostMiddleware:
    """Refuses a request for a host that is not ours with 400, on every route.

    Django checks ALLOWED_HOSTS only when somebody asks for the host, which most views never do.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request.get_host()  # raises DisallowedHost, which Django answers with 400
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
