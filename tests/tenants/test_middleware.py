# SPDX-License-Identifier: Apache-2.0
"""Every route refuses a host that is not ours, and no scope outlives its request."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.urls import URLPattern, URLResolver, get_resolver

from kernel.api import ApiView
from kernel.scope import UnscopedQuery, current_tenant, open_scope
from tenants.middleware import HostMiddleware, TenantScopeMiddleware
from tenants.permissions import PermissionName
from tests.cast.tenants import Cast


def routes(patterns: list[URLPattern | URLResolver], prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, prefix + str(pattern.pattern))
        else:
            yield prefix + str(pattern.pattern), pattern


ALL = list(routes(get_resolver("tests.tenants.urls").url_patterns))


@pytest.mark.urls("tests.tenants.urls")
@pytest.mark.parametrize("host", ["evil.example", "testserver.evil.example", "testserver:80@evil.example", ""])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_every_route_refuses_a_host_that_is_not_ours(method: str, host: str, db: None, client: Client) -> None:
    for route, _ in ALL:
        answer = client.generic(method, f"/{route}", headers={"Host": host})
        assert answer.status_code == 400, route
        assert "evil" not in answer.content.decode()


def test_host_is_checked_by_itself_before_any_other_middleware_asks() -> None:
    def view(request: HttpRequest) -> HttpResponse:
        raise AssertionError

    with pytest.raises(DisallowedHost):
        HostMiddleware(view)(RequestFactory().get("/", headers={"Host": "evil.example"}))


def test_every_rest_route_declares_its_tenancy_and_its_permissions() -> None:
    seen = 0
    for route, pattern in ALL:
        view = getattr(pattern.callback, "cls", None)
        if view is None:
            assert route.startswith(("console/", "me/")), route
            continue
        seen += 1
        assert issubclass(view, ApiView), route
        assert view.tenancy in {"tenant", "enrolment", "public"}, route
        if view.tenancy == "tenant":
            assert view.permission_names, route
            assert set(view.permission_names.values()) <= set(PermissionName), route
    assert seen


def test_scope_left_by_an_earlier_request_is_closed_before_the_next(world: Cast) -> None:
    def view(request: HttpRequest) -> HttpResponse:
        with pytest.raises(UnscopedQuery):
            current_tenant()
        open_scope(world.acme.pk)
        raise ValueError("whatever happens")

    open_scope(world.other.pk)
    with pytest.raises(ValueError, match="whatever"):
        TenantScopeMiddleware(view)(RequestFactory().get("/"))
    with pytest.raises(UnscopedQuery):
        current_tenant()
