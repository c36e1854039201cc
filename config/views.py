# SPDX-License-Identifier: Apache-2.0
"""Pages that belong to no app: the front page, the probes, the API page, the problem list, the error pages."""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.views.decorators.http import require_safe
from drf_spectacular.generators import SchemaGenerator

from config import readiness
from kernel import errors, problems


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


@lru_cache(maxsize=1)
def _operations() -> list[dict[str, Any]]:
    """Flatten the OpenAPI document into one row per operation, grouped by the page by its first path part."""
    document = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
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
def api_page(request: HttpRequest) -> HttpResponse:
    """Show the OpenAPI document as a page a person can read."""
    return render(request, "api.html", {"operations": _operations()})


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
