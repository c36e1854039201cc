# SPDX-License-Identifier: Apache-2.0
"""Addresses of this app."""

from __future__ import annotations

from django.urls import path

from tenants import api

api_urlpatterns = [
    path("enrolment-codes", api.EnrolmentCodesView.as_view(), name="enrolment-codes"),
]
