# SPDX-License-Identifier: Apache-2.0
"""Addresses of this app. A single deposit is read in `recovery`, which knows the cases that name it."""

from __future__ import annotations

from django.urls import path

from escrow import api, console

api_urlpatterns = [
    path("escrow/policy", api.PolicyView.as_view(), name="escrow-policy"),
    path("escrow/key", api.KeyView.as_view(), name="escrow-key"),
    path("escrow/deposits", api.DepositsView.as_view(), name="escrow-deposits"),
    path("escrow/coverage", api.CoverageView.as_view(), name="escrow-coverage"),
    path("escrow/officers", api.OfficersView.as_view(), name="escrow-officers"),
    path("statements", api.StatementsView.as_view(), name="statements"),
]

console_urlpatterns = [
    path("people/", console.people_list, name="console-people"),
    path("people/<uuid:person_id>/", console.person_page, name="console-person"),
    path("escrow/", console.escrow_page, name="console-escrow"),
]
