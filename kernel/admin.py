# SPDX-License-Identifier: Apache-2.0
"""Django's own admin for platform operators: read-only, metadata only (FAULTS T11).

The apps' `admin.py` name what of their rows an operator sees. Who an operator is, and what they may do, stands in
`operators`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, update_wrapper
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.utils import display_for_field, display_for_value, label_for_field, lookup_field, unquote
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from kernel.models import Heartbeat, Job

# A page writes at most an entry for each tenant that it shows rows of.
_PER_PAGE = 50


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Lists rows of all tenants by the columns that are named, and can neither add, change nor delete one.

    shown: the columns of one row's page. list_filter and `tenant_id` are what an address may ask for, by equality
    alone: any other question would tell, sign by sign, what no page shows.
    """

    shown: ClassVar[tuple[str, ...]] = ()
    list_per_page = _PER_PAGE
    list_max_show_all = _PER_PAGE
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    actions = None
    list_display_links: Any = None
    change_list_template = "operators/list.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = self.model._base_manager.only(self.model._meta.pk.name, *self._columns())
        return rows

    def _columns(self) -> set[str]:
        known = {name for field in self.model._meta.fields for name in (field.name, field.attname)}
        return {name for name in (*self.shown, *self.list_display, *self._tenant()) if name in known}

    def _tenant(self) -> tuple[str, ...]:
        return ("tenant_id",) if any(field.attname == "tenant_id" for field in self.model._meta.fields) else ()

    def get_list_display_links(self, request: HttpRequest, list_display: Any) -> Any:
        return list_display[:1]

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Tell whether an address may ask for this: a column that is listed, and no part of its content."""
        return lookup.removesuffix("__exact") in {*map(str, self.list_filter), *self._tenant()}

    def to_field_allowed(self, request: HttpRequest, to_field: str) -> bool:
        return False

    def get_urls(self) -> list[URLPattern]:
        """Return the two addresses of a model: its list, and one of its rows."""
        opts, guarded = self.model._meta, self.admin_site.admin_view
        name = f"{opts.app_label}_{opts.model_name}"
        return [
            path("", guarded(_looking(self.changelist_view)), name=f"{name}_changelist"),
            path("<path:object_id>/", guarded(_looking(self._row)), name=f"{name}_change"),
        ]

    def _row(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Answer with one row. Django's own page is a form, and asks tables that no operator needs."""
        row = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404
        columns = [(label_for_field(name, self.model, self), self._said(name, row)) for name in self.shown]
        context = {
            **self.admin_site.each_context(request),
            "opts": self.model._meta,
            "original": row,
            "columns": columns,
        }
        return TemplateResponse(request, "operators/row.html", context)

    def _said(self, name: str, row: Any) -> Any:
        field, _, value = lookup_field(name, row, self)
        return display_for_field(value, field, "-") if field else display_for_value(value, "-")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return True  # whoever is let in is an operator: the site asks before any view

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def _looking(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Let a view be looked at only."""

    def looked_at(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        return view(request, *args, **kwargs)

    return update_wrapper(partial(looked_at), view)


@admin.register(Job)
class JobAdmin(ReadOnlyAdmin):
    """Work that waits. Its payload names people, and is not shown."""

    list_display = ("id", "kind", "queue", "state", "attempts", "run_at", "lease_until", "tenant_id")
    list_filter = ("state", "queue")
    ordering = ("-created_at",)
    shown = (
        *("id", "tenant_id", "kind", "queue", "state", "attempts", "run_at", "lease_until", "fence"),
        *("last_error", "created_at"),
    )


@admin.register(Heartbeat)
class HeartbeatAdmin(ReadOnlyAdmin):
    """When each lane of the background processes was last at work."""

    list_display = ("name", "at")
    shown = ("name", "at")
    ordering = ("name",)
