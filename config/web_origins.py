# SPDX-License-Identifier: Apache-2.0
"""Which other web pages may call the REST API from a browser (CORS), decided by the operator's list of origins.

By the Fetch standard (https://fetch.spec.whatwg.org/#http-cors-protocol). Nothing here authenticates anybody: requests
are signed. It says whose pages read the answers, and never lets a browser add a cookie to what they send.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.cache import patch_vary_headers

from config.page_middleware import API

Handler = Callable[[HttpRequest], HttpResponseBase]
_METHODS: Final = "GET, POST, PUT, DELETE"
# What a client sends beside what any page may (docs/formats/requests.md), and what it reads of an answer's fields.
_SENT: Final = "content-digest, content-type, holdfast-turn, idempotency-key, if-match, signature, signature-input"
_READ: Final = "holdfast-turn, retry-after"
# Chromium keeps it no longer. Each address is asked for by itself, so that a client would ask twice for every act.
_KEPT_SECONDS: Final = 7200


class WebOriginsMiddleware:
    """Answers a browser that asks for a page of a listed origin, and says in each answer of the API who may read it.

    A page of any other origin meets an API that says nothing about pages, as does everybody while the list is empty.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        listed = settings.HOLDFAST_WEB_ORIGINS
        if not listed or not request.path_info.startswith(API):
            return self.get_response(request)
        origin = request.headers.get("origin", "")
        is_listed = origin in listed
        if is_listed and request.method == "OPTIONS" and "access-control-request-method" in request.headers:
            answer: HttpResponseBase = HttpResponse(status=204)
            answer["access-control-allow-methods"] = _METHODS
            answer["access-control-allow-headers"] = _SENT
            answer["access-control-max-age"] = str(_KEPT_SECONDS)
        else:
            answer = self.get_response(request)
        # A cache on the way must not hand to one origin's page what was said to another's.
        patch_vary_headers(answer, ["Origin"])
        if is_listed:
            answer["access-control-allow-origin"] = origin
            answer["access-control-expose-headers"] = _READ
        return answer
