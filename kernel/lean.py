# SPDX-License-Identifier: Apache-2.0
"""The base of the few views that are asked the most: the same rules as every REST view, by a shorter way.

Implements the speed goal of claims. A request that says what nearly all say (JSON in, JSON out) passes content
negotiation, parsers and renderers by; any other goes REST framework's own way, and so is refused in its words. What a
body may be is decided by `kernel.strict_json` on both ways, and who may do what by the same classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.request import Request
from rest_framework.response import Response

from kernel.actors import ANONYMOUS
from kernel.api import ApiView
from kernel.strict_json import JsonRenderer, dumps, loads

_JSON: Final = "application/json"
_ACCEPTED: Final = frozenset({None, "*/*", _JSON})
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class LeanRequest(Request):
    """REST framework's request without what finds out how to read and to answer it: both are known."""

    accepted_renderer = JsonRenderer()

    def __init__(self, request: HttpRequest, view: LeanView) -> None:
        # Not the framework's own, which makes parsers, a negotiator and copies of the settings' lists each time.
        self._request = request
        self.method = request.method
        self.headers = request.headers
        self.parser_context = {"view": view}
        self._user: Any = ANONYMOUS
        self._most = view.max_body
        self._body: Any = None

    @property
    def data(self) -> Any:
        """The body, decoded. Raises as `strict_json.loads` does."""
        if self._body is None:
            body = self._request.body
            self._body = loads(body, max_size=self._most) if body else {}
        return self._body


class LeanView(ApiView):
    """One address that is asked often. Its methods are written, and answer, as those of any other view."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        handler = self._handler(request)
        if handler is None:
            return super().dispatch(request, *args, **kwargs)
        self.args, self.kwargs = args, kwargs
        asked = LeanRequest(request, self)
        self.request = asked
        try:
            for authenticator in self.get_authenticators():
                found = authenticator.authenticate(asked)
                if found is not None:
                    asked._user = found[0]
            self.check_permissions(asked)
            self.before_handler(asked)
            response = handler(asked, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 — as the framework: what nobody foresaw is raised again
            response = self.handle_exception(error)
        return self._written(self.spent(response))

    def _handler(self, request: HttpRequest) -> Callable[..., Response] | None:
        """Return the method that answers, unless something about the request is out of the ordinary."""
        method, meta = request.method or "", request.META
        if method not in self.permission_names or meta.get("HTTP_ACCEPT") not in _ACCEPTED:
            return None
        if method in _WITH_BODY and not (
            meta.get("CONTENT_TYPE") == _JSON and (meta.get("CONTENT_LENGTH") or "").isdecimal()
        ):
            return None
        handler: Callable[..., Response] = getattr(self, method.lower())
        return handler

    def _written(self, response: Response) -> HttpResponse:
        """Return the answer with its octets, as the framework's renderer would write them."""
        data: Any = response.data
        body = b"" if data is None else data if isinstance(data, bytes) else dumps(data)
        answer = HttpResponse(body, status=response.status_code, content_type=response.content_type or _JSON)
        for name, value in response.items():
            if name.lower() != "content-type":
                answer[name] = value
        if not body:
            del answer["content-type"]
        answer["allow"] = ", ".join(self.allowed_methods)
        answer["content-length"] = str(len(body))
        self.guard_from_caches(answer)
        return answer
