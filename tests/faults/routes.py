# SPDX-License-Identifier: Apache-2.0
"""Every address of the product, as Django's own resolver knows it, and a picture of every table.

Implements FAULTS T3 (no route outside the matrix) and L1 (state unchanged). It calls no view.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from django.db import connection
from django.urls import URLPattern, URLResolver, get_resolver, resolve, reverse
from rest_framework.views import APIView

from kernel.api import ApiView

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
# Counters and marks that belong to the request and not to the act; they are kept when an act is refused.
OPERATIONAL = frozenset({"tenants_nonce", "tenants_tokenbucket", "tenants_ratewindow", "tenants_consolesession"})

OPERATIONAL_COLUMNS = frozenset({("tenants_credential", "last_used_on")})


@dataclass(frozen=True)
class Route:
    """One address: its name, its pattern, what answers there, and what stands in its place-holders."""

    name: str
    pattern: str
    view: Any
    kwargs: tuple[str, ...]

    @property
    def template(self) -> str:
        """The address as the OpenAPI document writes it."""
        return "/" + re.sub(r"<\w+:(\w+)>", r"{\1}", self.pattern)

    @property
    def is_api(self) -> bool:
        return self.pattern.startswith("api/v1/")

    @property
    def is_console(self) -> bool:
        return self.pattern.startswith(("console/", "me/"))

    @property
    def view_class(self) -> type[APIView]:
        found: type[APIView] = self.view.cls
        return found

    @property
    def methods(self) -> list[str]:
        """The methods that the view has a handler for, whatever it declares."""
        return [method for method in METHODS if hasattr(self.view_class, method.lower())]


def routes() -> list[Route]:
    """List every address, in the resolver's order."""
    return list(_below(get_resolver().url_patterns, ""))


def _below(patterns: list[Any], prefix: str) -> Iterator[Route]:
    for one in patterns:
        pattern = prefix + str(one.pattern)
        if isinstance(one, URLResolver):
            yield from _below(one.url_patterns, pattern)
        else:
            assert isinstance(one, URLPattern)
            yield Route(one.name or "", pattern, one.callback, tuple(one.pattern.converters))


def api_routes() -> list[Route]:
    return [route for route in routes() if route.is_api]


def api_calls() -> list[tuple[str, str]]:
    """List (route name, method) for every method that an API view has a handler for."""
    return [
        (route.name, method)
        for route in api_routes()
        if issubclass(route.view_class, ApiView)
        for method in route.methods
    ]


def with_ids(uri: str, ids: dict[str, UUID] | None = None) -> str:
    """Return the same address with other ids in it: those given, or ids that nobody has."""
    path, mark, query = uri.partition("?")
    match = resolve(path)
    kwargs = {
        name: (ids or {}).get(name, uuid4()) if isinstance(value, UUID) else value
        for name, value in match.kwargs.items()
    }
    return reverse(match.url_name or "", kwargs=kwargs) + mark + query


def ids_in(uri: str) -> dict[str, UUID]:
    """Return the ids that stand in an address, by the name of their place-holder."""
    return {name: value for name, value in resolve(uri.partition("?")[0]).kwargs.items() if isinstance(value, UUID)}


def picture() -> dict[str, str]:
    """Return a digest of the rows of every table, without what is operational of it."""
    return {table: _digest(rows) for table, rows in _tables() if table not in OPERATIONAL}


def _tables() -> Iterator[tuple[str, list[str]]]:
    with connection.cursor() as cursor:
        for table in sorted(connection.introspection.table_names(cursor)):
            cursor.execute(f"SELECT * FROM {table}")
            kept = [at for at, one in enumerate(cursor.description) if (table, one[0]) not in OPERATIONAL_COLUMNS]
            yield table, sorted(repr([_plain(row[at]) for at in kept]) for row in cursor.fetchall())


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview) else value


def _digest(rows: list[str]) -> str:
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def changed(before: dict[str, str]) -> set[str]:
    """Return the tables whose rows are not what they were."""
    after = picture()
    return {table for table in before | after if before.get(table) != after.get(table)}
