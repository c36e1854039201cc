# SPDX-License-Identifier: Apache-2.0
"""Addresses of this app."""

from __future__ import annotations

from django.urls import path

from tenants import (
    api,
    openapi,  # noqa: F401 — it registers itself, where there are addresses to describe
)
from tenants.acts import api as acts
from tenants.imports import api as imports

api_urlpatterns = [
    path("organisation/acts", acts.ActsView.as_view(), name="acts"),
    path("organisation/acts/<slug:name>", acts.ActView.as_view(), name="act"),
    path("organisation/acts/<slug:name>/words", acts.WordsView.as_view(), name="act-words"),
    path("organisation/people", api.PeopleView.as_view(), name="people"),
    path("organisation/imports", imports.ImportsView.as_view(), name="imports"),
    path("organisation/imports/<uuid:import_id>", imports.ImportView.as_view(), name="import"),
    path("organisation/pending", acts.PendingActsView.as_view(), name="pending-acts"),
    path("organisation/pending/<uuid:pending_id>", acts.PendingActView.as_view(), name="pending-act"),
    path("organisation/pending/<uuid:pending_id>/confirm", acts.ConfirmView.as_view(), name="pending-confirm"),
    path("organisation/pending/<uuid:pending_id>/withdraw", acts.WithdrawView.as_view(), name="pending-withdraw"),
    path("enrolment-codes", api.EnrolmentCodesView.as_view(), name="enrolment-codes"),
    path("enrolment-codes/person", api.EnrolleeView.as_view(), name="enrolment-code-person"),
    path(
        "enrolment-codes/<uuid:code_id>/confirm",
        api.ConfirmationView.as_view(),
        name="enrolment-code-confirm",
    ),
]
