# SPDX-License-Identifier: Apache-2.0
"""The addresses of the console."""

from __future__ import annotations

from django.urls import path

from console import acts, invitation, overview, password_reset, sign_in
from console.audit import pages as audit
from console.cases import pages as cases
from console.escrow import pages as escrow
from console.people import device, imports
from console.people import pages as people

urlpatterns = [
    path("", overview.overview, name="console-overview"),
    path("sign-in/", sign_in.sign_in_password, name="console-sign-in"),
    path("sign-in/code/", sign_in.sign_in_code, name="console-sign-in-code"),
    path("invitation/<uuid:tenant_id>/<str:token>/", invitation.invitation, name="console-invitation"),
    path("password-reset/", password_reset.ask, name="console-password-reset"),
    path("password-reset/<uuid:tenant_id>/<str:token>/", password_reset.link, name="console-password-reset-link"),
    path("sign-out/", sign_in.sign_out, name="console-sign-out"),
    path("cases/", cases.case_index, name="console-cases"),
    path("cases/<uuid:case_id>/", cases.case_page, name="console-case"),
    path("people/", people.people_list, name="console-people"),
    path("people/export/", imports.people_file, name="console-people-file"),
    path("people/import/", imports.import_form, name="console-import-form"),
    path("people/import/<uuid:import_id>/", imports.import_page, name="console-import"),
    path("people/import/<uuid:import_id>/bad-lines/", imports.bad_lines, name="console-import-bad-lines"),
    path("people/<uuid:person_id>/", people.person_page, name="console-person"),
    path("devices/<uuid:device_id>/", device.device_page, name="console-device"),
    path("escrow/", escrow.escrow_page, name="console-escrow"),
    path("escrow/answers/", escrow.answers_page, name="console-answers"),
    path("acts/pending/<uuid:pending_id>/", acts.pending_page, name="console-pending-act"),
    path("acts/<slug:name>/", acts.act_page, name="console-act"),
    path("acts/<slug:name>/<uuid:subject_id>/", acts.act_page, name="console-act-on"),
    path("audit/", audit.audit_list, name="console-audit"),
    path("audit/<int:index>/", audit.audit_entry, name="console-audit-entry"),
]
