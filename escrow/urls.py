# SPDX-License-Identifier: Apache-2.0
"""Addresses of this app. A single deposit is read in `recovery`, which knows the cases that name it."""

from __future__ import annotations

from django.urls import path

from escrow import acts_api, api, proposals_api

api_urlpatterns = [
    path("escrow/policy", api.PolicyView.as_view(), name="escrow-policy"),
    path("escrow/key", api.KeyView.as_view(), name="escrow-key"),
    path("escrow/deposits", api.DepositsView.as_view(), name="escrow-deposits"),
    path("escrow/coverage", api.CoverageView.as_view(), name="escrow-coverage"),
    path("escrow/officers", api.OfficersView.as_view(), name="escrow-officers"),
    path("escrow/officer-statements", acts_api.OfficerKeysView.as_view(), name="escrow-officer-statements"),
    path("escrow/officer-states", acts_api.OfficerStatesView.as_view(), name="escrow-officer-states"),
    path("escrow/resolutions", acts_api.ResolutionsView.as_view(), name="escrow-resolutions"),
    path("escrow/policy-answers", api.AnswersView.as_view(), name="policy-answers"),
    path("escrow/policy-proposals", proposals_api.PolicyProposalsView.as_view(), name="policy-proposals"),
    path(
        "escrow/policy-proposals/<uuid:proposal_id>/signatures",
        proposals_api.PolicySignaturesView.as_view(),
        name="policy-proposal-signatures",
    ),
    path(
        "escrow/policy-proposals/<uuid:proposal_id>/withdraw",
        proposals_api.PolicyWithdrawView.as_view(),
        name="policy-proposal-withdraw",
    ),
    path("escrow/key-proposals", proposals_api.KeyProposalsView.as_view(), name="key-proposals"),
    path(
        "escrow/key-proposals/<uuid:proposal_id>/signatures",
        proposals_api.KeySignaturesView.as_view(),
        name="key-proposal-signatures",
    ),
    path("statements", api.StatementsView.as_view(), name="statements"),
]
