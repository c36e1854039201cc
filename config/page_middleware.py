# SPDX-License-Identifier: Apache-2.0
"""What the pages need around a request and the REST API does not: sessions, forms, messages and the browser's rules.

A signed request is no session's, so the API passes them by. What guards every answer stands in the settings as it is.
"""

from __future__ import annotations

from typing import Any

from csp.middleware import CSPMiddleware
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest
from django.middleware.csrf import CsrfViewMiddleware
from django.utils.deprecation import MiddlewareMixin

# Of the REST API. Its page at /api/docs/ is a page.
API = "/api/v1/"


class _OfPages(MiddlewareMixin):
    """Stands before a middleware among a class's bases, and lets what is for the API by."""

    def __call__(self, request: HttpRequest) -> Any:
        if request.path_info.startswith(API):
            return self.get_response(request)
        return super().__call__(request)


class Policy(_OfPages, CSPMiddleware):
    """The content security policy: what a browser may load."""


class Sessions(_OfPages, SessionMiddleware):
    """Who is signed in, by a cookie."""


class Forms(_OfPages, CsrfViewMiddleware):
    """The token against forged forms; the API's views are exempt, as REST framework's are."""


class SignedIn(_OfPages, AuthenticationMiddleware):
    """The person of the session."""


class Messages(_OfPages, MessageMiddleware):
    """What a page says to the next."""
