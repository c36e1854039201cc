# SPDX-License-Identifier: Apache-2.0
"""The addresses of the console."""

from __future__ import annotations

from django.urls import path

from console import acts, invitation, organisation, overview, password_reset, programs, sign_in
from console.audit import exports, transcripts
from console.audit import pages as audit
from console.cases import pages as cases
from console.escrow import pages as escrow
from console.escrow import proposing
from console.me import browsers, data, factors
from console.me import pages as me
from console.people import device, imports, lacking
from console.people import pages as people

# Below /me/.
me_urlpatterns = [
    path("", me.home, name="me-home"),
    path("devices/", me.devices, name="me-devices"),
    path("recovery/", me.recovery_ways, name="me-recovery"),
    path("sessions/", browsers.sessions, name="me-sessions"),
    path("sessions/end/", browsers.end_sessions, name="me-sessions-end"),
    path("factors/", factors.factors, name="me-factors"),
    path("factors/codes/", factors.new_recovery_codes, name="me-recovery-codes"),
    path("factors/codes/confirm/", factors.confirm_recovery_codes, name="me-recovery-codes-confirm"),
    path("factors/authenticator/", factors.change_authenticator, name="me-authenticator"),
    path("keys/", me.who_could_open, name="me-keys"),
    path("notices/", me.notices, name="me-notices"),
    path("data/", data.my_data, name="me-data"),
]

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
    path("people/devices/", lacking.failing_devices, name="console-failing-devices"),
    path("people/doors/", lacking.few_doors, name="console-few-doors"),
    path("people/export/", imports.people_file, name="console-people-file"),
    path("people/import/", imports.import_form, name="console-import-form"),
    path("people/import/<uuid:import_id>/", imports.import_page, name="console-import"),
    path("people/import/<uuid:import_id>/bad-lines/", imports.bad_lines, name="console-import-bad-lines"),
    path("people/<uuid:person_id>/", people.person_page, name="console-person"),
    path("devices/<uuid:device_id>/", device.device_page, name="console-device"),
    path("organisation/", organisation.organisation_page, name="console-organisation"),
    path("organisation/export/<uuid:export_id>/", organisation.export_file, name="console-export"),
    path("programs/", programs.programs_page, name="console-programs"),
    path("escrow/", escrow.escrow_page, name="console-escrow"),
    path("escrow/answers/", escrow.answers_page, name="console-answers"),
    path("acts/pending/<uuid:pending_id>/", acts.pending_page, name="console-pending-act"),
    path("acts/<slug:name>/", acts.act_page, name="console-act"),
    path("acts/<slug:name>/<uuid:subject_id>/", acts.act_page, name="console-act-on"),
    path("escrow/policy/", proposing.versions_page, name="console-policy"),
    path("escrow/policy/propose/", proposing.propose_page, name="console-policy-propose"),
    path("ceremonies/", audit.ceremonies_page, name="console-ceremonies"),
    path("ceremonies/<int:index>/", transcripts.transcript_page, name="console-transcript"),
    path("ceremonies/<int:index>/text/", transcripts.transcript_text, name="console-transcript-text"),
    path("ceremonies/<int:index>/signed/", transcripts.transcript_signed, name="console-transcript-signed"),
    path("audit/", audit.audit_list, name="console-audit"),
    path("audit/exports/", exports.log_exports, name="console-log-exports"),
    path("audit/exports/verify.html", exports.verifier_file, name="console-verifier"),
    path("audit/exports/<uuid:export_id>/", exports.log_export_file, name="console-log-export"),
    path("audit/<int:index>/", audit.audit_entry, name="console-audit-entry"),
]
