# SPDX-License-Identifier: Apache-2.0
"""Addresses of this app."""

from __future__ import annotations

from django.urls import path

from recovery import api
from recovery.contacts import api as contacts_api

api_urlpatterns = [
    path("cases", api.CasesView.as_view(), name="cases"),
    path("cases/<uuid:case_id>", api.CaseView.as_view(), name="case"),
    path("cases/<uuid:case_id>/approvals", api.ApprovalsView.as_view(), name="case-approvals"),
    path("cases/<uuid:case_id>/deny", api.DenyView.as_view(), name="case-deny"),
    path("cases/<uuid:case_id>/veto", api.VetoView.as_view(), name="case-veto"),
    path("cases/<uuid:case_id>/cancel", api.CancelView.as_view(), name="case-cancel"),
    path("cases/<uuid:case_id>/blame", api.BlameView.as_view(), name="case-blame"),
    path("cases/<uuid:case_id>/release", api.ReleaseView.as_view(), name="case-release"),
    path("cases/<uuid:case_id>/successor", api.SuccessorView.as_view(), name="case-successor"),
    path("cases/<uuid:case_id>/attestations", api.AttestationsView.as_view(), name="case-attestations"),
    path("recovery/contacts", contacts_api.ContactSetView.as_view(), name="contacts"),
    path("recovery/contacts/requests", contacts_api.ContactRequestsView.as_view(), name="contact-requests"),
    path(
        "recovery/contacts/requests/<uuid:request_id>",
        contacts_api.ContactRequestView.as_view(),
        name="contact-request",
    ),
    path(
        "recovery/contacts/requests/<uuid:request_id>/shares",
        contacts_api.ContactSharesView.as_view(),
        name="contact-request-shares",
    ),
    path(
        "recovery/contacts/requests/<uuid:request_id>/veto",
        contacts_api.ContactRequestVetoView.as_view(),
        name="contact-request-veto",
    ),
    path(
        "recovery/contacts/requests/<uuid:request_id>/cancel",
        contacts_api.ContactRequestCancelView.as_view(),
        name="contact-request-cancel",
    ),
    path("notices", api.NoticesView.as_view(), name="notices"),
    path("escrow/deposits/<uuid:deposit_id>", api.DepositView.as_view(), name="escrow-deposit"),
]
