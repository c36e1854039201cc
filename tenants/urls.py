# SPDX-License-Identifier: Apache-2.0
"""Addresses of this app."""

from __future__ import annotations

from django.urls import path

from tenants import api

api_urlpatterns = [
    path("enrolment-codes", api.EnrolmentCodesView.as_view(), name="enrolment-codes"),
    path("enrolment-codes/person", api.EnrolleeView.as_view(), name="enrolment-code-person"),
    path(
        "enrolment-codes/<uuid:code_id>/confirm",
        api.ConfirmationView.as_view(),
        name="enrolment-code-confirm",
    ),
]
