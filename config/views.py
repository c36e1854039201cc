# SPDX-License-Identifier: Apache-2.0
"""Pages that belong to no app: the front page, the probes, the API page, the problem list, the error pages."""

from __future__ import annotations

import hashlib
import sys
import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.views.decorators.cache import cache_control, never_cache
from django.views.decorators.http import condition, require_safe
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer

from config import readiness
from kernel import errors, problems

# How long a browser or a proxy may keep what changes with a release: then it asks again, and mostly gets 304.
API_SECONDS: Final = 3600


@require_safe
def front_page(request: HttpRequest) -> HttpResponse:
    """Say what runs here and where to go."""
    return render(request, "front.html")


@require_safe
def live(request: HttpRequest) -> JsonResponse:
    """Answer while the process answers: for the supervisor, which restarts it otherwise."""
    return JsonResponse({"status": "ok"})


@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """Answer 200 while requests can be served: for the load balancer. Names each part that is away or late."""
    found = readiness.look()
    return JsonResponse(found.document(), status=200 if found.can_serve else 503)


@dataclass(frozen=True)
class _Made:
    """What this process answers about its API, in octets: it changes with a release only."""

    document: bytes
    document_tag: str
    page: bytes
    page_tag: str


_making = threading.Lock()


def _api() -> _Made:
    # The lock: threads that ask at the same moment wait for one generator, which takes a second of the processor.
    with _making:
        return _made()


@lru_cache(maxsize=1)
def _made() -> _Made:
    document = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    octets = OpenApiJsonRenderer().render(document, renderer_context={})
    page = render_to_string("api.html", {"operations": _operations(document)}).encode()
    return _Made(octets, _tag(octets), page, _tag(page))


def _tag(octets: bytes) -> str:
    return f'"{hashlib.sha256(octets).hexdigest()[:32]}"'


def _operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Flatten the OpenAPI document into one row per operation, grouped by the page by its first path part."""
    rows = []
    for path, methods in sorted(document["paths"].items()):
        for method, operation in methods.items():
            parts = path.removeprefix("/api/v1/").split("/")
            rows.append(
                {
                    "group": parts[0],
                    "path": path,
                    "method": method.upper(),
                    "summary": operation.get("summary") or operation.get("description", "").split("\n")[0],
                    "text": operation.get("description", ""),
                    "request": _fields(document, _json_schema(operation.get("requestBody", {}))),
                    "answers": [
                        {
                            "status": status,
                            "text": answer.get("description", ""),
                            "fields": _fields(document, _json_schema(answer)),
                        }
                        for status, answer in operation["responses"].items()
                    ],
                }
            )
    return rows


def _json_schema(part: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = part.get("content", {})
    return dict(content.get("application/json", {}).get("schema", {}))


def _fields(document: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, str]]:
    """List the fields of a referenced schema: name, type, whether it must be there, what it is."""
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[-1]]
    required = schema.get("required", [])
    return [
        {
            "name": name,
            "type": _type_of(field),
            "required": "required" if name in required else "optional",
            "text": field.get("description", ""),
        }
        for name, field in schema.get("properties", {}).items()
    ]


def _type_of(field: dict[str, Any]) -> str:
    kind = field.get("type", "object")
    if isinstance(kind, list):
        kind = " or ".join(kind)
    if kind == "array":
        return f"list of {_type_of(field.get('items', {}))}"
    return str(field.get("format", kind))


@require_safe
@cache_control(public=True, max_age=API_SECONDS)
@condition(etag_func=lambda _request: _api().document_tag)
def api_document(request: HttpRequest) -> HttpResponse:
    """The OpenAPI 3.1 document, made once for this process."""
    return HttpResponse(_api().document, content_type="application/vnd.oai.openapi+json")


@require_safe
@cache_control(public=True, max_age=API_SECONDS)
@condition(etag_func=lambda _request: _api().page_tag)
def api_page(request: HttpRequest) -> HttpResponse:
    """Show the OpenAPI document as a page a person can read."""
    return HttpResponse(_api().page)


@require_safe
def problems_page(request: HttpRequest) -> HttpResponse:
    """List every problem code with its status and meaning: the page that problem documents point to."""
    return render(request, "problems.html", {"problems": problems.catalogue()})


def _error(request: HttpRequest, error: errors.DomainError, template: str) -> HttpResponse:
    if request.path.startswith("/api/"):
        return problems.http_problem(error)
    return render(request, template, status=problems.status_of(type(error)))


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """400, as a problem or a page."""
    return _error(request, errors.MalformedRequest("The request could not be read."), "400.html")


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """403, as a problem or a page."""
    return _error(request, errors.Denied(), "403.html")


@never_cache
def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """403 for a form that did not come from a page of this browser's: what happened, and the way out."""
    if request.path.startswith("/api/"):
        return problems.http_problem(errors.Denied("This address takes no form of a browser's."))
    # Of the pages with a form, those of the sign-in open again; those about oneself begin anew; sign-out stands on
    # every page, and what asks before an operator's act is reached from the row that it is about.
    home = next((one for one in ("/admin/", "/me/") if request.path.startswith(one)), "/console/")
    again = request.path if request.path.startswith((settings.LOGIN_URL, "/admin/sign-in/")) else home
    return render(request, "csrf.html", {"again": again}, status=403)


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """404, as a problem or a page: the same octets for an unknown address and another tenant's object."""
    return _error(request, errors.NotFound(), "404.html")


def server_error(request: HttpRequest) -> HttpResponse:
    """500: says that something failed, and nothing of what. 503 when what failed is a part that is away or full."""
    error = problems.unavailable(sys.exc_info()[1])
    if error is not None:
        if request.path.startswith("/api/"):
            return problems.http_problem(error)
        # Without the request: who is signed in stands in the database that is away.
        page = HttpResponse(render_to_string("503.html"), status=503)
        page["retry-after"] = "5"
        return page
    return _error(request, errors.Internal("The server failed. Nothing was lost; try again."), "500.html")
