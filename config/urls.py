# SPDX-License-Identifier: Apache-2.0
"""Every address of the product: the REST API, the console, the probes; the operators' admin where it is wanted."""

from __future__ import annotations

from django.conf import settings
from django.contrib import admin
from django.urls import include, path

from audit import urls as audit_urls
from config import views
from console import urls as console_urls
from escrow import urls as escrow_urls
from keys import urls as keys_urls
from recovery import urls as recovery_urls
from tenants import urls as tenants_urls

# In the order in which they are asked the most: an address is looked for from the first on.
APPS = [keys_urls, tenants_urls, escrow_urls, recovery_urls, audit_urls]

urlpatterns = [
    path("", views.front_page, name="front-page"),
    path("livez", views.live, name="livez"),
    path("readyz", views.ready, name="readyz"),
    path("api/schema/", views.api_document, name="schema"),
    path("api/docs/", views.api_page, name="api-page"),
    path("docs/problems", views.problems_page, name="problems-page"),
    *[path("api/v1/", include(app.api_urlpatterns)) for app in APPS],
    path("console/", include(console_urls)),
    *([path("admin/", admin.site.urls)] if settings.HOLDFAST_ADMIN else []),
    path("me/", include(console_urls.me_urlpatterns)),
]

handler400 = "config.views.bad_request"
handler403 = "config.views.forbidden"
handler404 = "config.views.not_found"
handler500 = "config.views.server_error"
