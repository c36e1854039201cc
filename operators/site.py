# SPDX-License-Identifier: Apache-2.0
"""Django's admin site as operators use it: who is let in, which addresses there are, and what of it is written down.

Implements ORGANISATION "Django's admin" and FAULTS T3, T11. Django's own ways in (users of its own, password pages,
history, look-ups for forms) have no address here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, URLResolver, include, path, reverse

from operators import pages, services, sessions
from operators.models import Operator


class OperatorSite(admin.AdminSite):
    """Lets in whoever signed in as an operator, asked of the database at every request, and nobody else."""

    site_header = site_title = "Holdfast for operators"
    index_title = "What there is"
    site_url = None
    enable_nav_sidebar = False

    def has_permission(self, request: HttpRequest) -> bool:
        return getattr(request, "operator", None) is not None

    def admin_view(  # type: ignore[override]  # its own type takes views of a kind that it gives back
        self, view: Callable[..., HttpResponse], cacheable: bool = False
    ) -> Callable[..., HttpResponse]:
        """Guard a view. Without an operator it leads to the sign-in; rows that it shows are written down first."""

        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            operator = sessions.operator_of(request)
            if operator is None:
                return HttpResponseRedirect(reverse("admin:login"))
            request.operator = operator  # type: ignore[attr-defined]
            response = view(request, *args, **kwargs)
            if isinstance(response, TemplateResponse) and response.context_data is not None:
                _record(operator, response.context_data)
            response["cache-control"] = "no-store"
            return response

        return update_wrapper(guarded, view)

    def get_urls(self) -> list[URLPattern | URLResolver]:
        """Return every address below the site's: none but these."""
        return [
            path("", self.admin_view(self.index), name="index"),
            path("sign-in/", pages.sign_in, name="login"),
            path("sign-out/", pages.sign_out, name="logout"),
            path("acts/tenant/<uuid:row_id>/<slug:act>/", self.admin_view(pages.act_on_tenant), name="act-tenant"),
            path("acts/job/<uuid:row_id>/<slug:act>/", self.admin_view(pages.act_on_job), name="act-job"),
            *(
                path(f"{model._meta.app_label}/{model._meta.model_name}/", include(listing.urls))
                for model, listing in self._registry.items()
            ),
            path("<slug:app_label>/", self.admin_view(self.app_index), name="app_list"),
        ]


def _record(operator: Operator, context: dict[str, Any]) -> None:
    """Write down whose rows a page is about to show, and say what may be done with the one that it is about."""
    if "cl" in context:
        rows = list(context["cl"].result_list)
    elif context.get("original") is not None:
        rows = [context["original"]]
        context.update(pages.beside(rows[0]))
    else:
        return
    by_tenant = [one for row in rows if (one := _tenant_of(row)) is not None]
    if by_tenant:
        services.record_reading(operator=operator, kind=rows[0]._meta.model_name, tenant_ids=by_tenant)


def _tenant_of(row: Any) -> UUID | None:
    # Which tenants there are is the operator's own; a row of one is that tenant's.
    found: UUID | None = getattr(row, "tenant_id", None)
    return found
