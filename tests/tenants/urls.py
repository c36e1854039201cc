# SPDX-License-Identifier: Apache-2.0
"""The app's own addresses, and probes that show what authentication and permissions let through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from console import urls as console_urls
from console.frame import console_page
from kernel.actors import Actor
from kernel.api import ApiView
from kernel.errors import NotFound
from kernel.lean import LeanView
from kernel.scope import current_tenant
from tenants import urls
from tenants.limits import is_first
from tenants.permissions import PermissionName


class Probe(ApiView):
    """Answers with who asked."""

    permission_names: ClassVar = {
        "GET": PermissionName.DEVICE_READ,
        "POST": PermissionName.CHAIN_WRITE,
        "PUT": PermissionName.CASE_APPROVE,
    }
    max_body: ClassVar = 1000

    def _answer(self) -> Response:
        return Response({"actor": self.actor.label, "role": self.actor.role, "tenant": str(current_tenant())})

    def get(self, request: Request) -> Response:
        return self._answer()

    def post(self, request: Request) -> Response:
        _ = request.data
        return self._answer()

    def put(self, request: Request) -> Response:
        return self._answer()

    def delete(self, request: Request) -> Response:
        """Reached by nobody: not declared."""
        raise AssertionError


class Crashed(Exception):
    """A fault of the view's own, which no answer foresees."""


class ActProbe(ApiView):
    """Spends its requests in their act, and fails where the body says: before it, in it, or in something it raises."""

    permission_names: ClassVar = {"POST": PermissionName.CHAIN_WRITE, "PUT": PermissionName.CASE_APPROVE}
    spends_in_act: ClassVar = frozenset({"POST", "PUT"})
    raised: ClassVar[dict[str, type[Exception]]] = {
        "refused": NotFound,
        "conflict": IntegrityError,
        "crash": Crashed,
    }

    def put(self, request: Request) -> Response:
        """Reached by nobody of the cast who has a device."""
        raise AssertionError

    def post(self, request: Request) -> Response:
        asked: Any = request.data
        if asked["where"] == "before":
            raise self.raised[asked["how"]]
        if asked["where"] == "no act":
            return Response({"answered": True})
        try:
            with self.writing(request) as reply:
                is_first("act", 1, expires_at=timezone.now())
                if asked["where"] == "in":
                    raise self.raised[asked["how"]]
                reply.send({"done": True})
        except IntegrityError:
            if not asked.get("answers"):
                raise
            # As a claim does: what stands already is given again.
            return Response({"answered": True})
        return reply.response


class _Twin:
    """What two addresses do alike, of which one goes the short way."""

    permission_names: ClassVar[Mapping[str, str]] = {
        "GET": PermissionName.DEVICE_READ,
        "POST": PermissionName.CHAIN_WRITE,
        "PUT": PermissionName.CASE_APPROVE,
    }
    max_body: ClassVar[int] = 1000

    def get(self, request: Request) -> Response:
        return Response({"asked": request.query_params.get("asked", "")})

    def post(self, request: Request) -> Response:
        body: Any = request.data
        if body == {"refuse": True}:
            raise NotFound
        if body == {"empty": True}:
            return Response(status=204, headers={"etag": '"x"'})
        return Response({"body": body}, status=201, headers={"idempotent-replay": "true"})

    def put(self, request: Request) -> Response:
        """Reached by nobody of the cast who has a device."""
        raise AssertionError


class OrdinaryTwin(_Twin, ApiView):
    """By REST framework's way."""


class LeanTwin(_Twin, LeanView):
    """By the short way."""


class OpenProbe(ApiView):
    tenancy: ClassVar = "enrolment"

    def post(self, request: Request) -> Response:
        return Response({"actor": self.actor.kind})


@console_page(PermissionName.CONSOLE_ENTER)
def home(request: HttpRequest, actor: Actor) -> HttpResponse:
    return HttpResponse(f"{actor.label} {current_tenant()}")


@console_page(PermissionName.AUDIT_READ)
def audit_page(request: HttpRequest, actor: Actor) -> HttpResponse:
    return HttpResponse("audit")


urlpatterns = [
    path("api/v1/", include(urls.api_urlpatterns)),
    path("api/v1/probe", Probe.as_view()),
    path("api/v1/ordinary", OrdinaryTwin.as_view()),
    path("api/v1/lean", LeanTwin.as_view()),
    path("api/v1/act", ActProbe.as_view()),
    path("api/v1/open", OpenProbe.as_view()),
    path("console/", home),
    path("console/audit/", audit_page),
    path("console/", include(console_urls)),
    path("me/", include(console_urls.me_urlpatterns)),
]
