# SPDX-License-Identifier: Apache-2.0
"""The audit app's own addresses, alone."""

from __future__ import annotations

from django.urls import include, path

from audit import urls

urlpatterns = [path("api/v1/", include(urls.api_urlpatterns))]
