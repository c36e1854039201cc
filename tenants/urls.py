# SPDX-License-Identifier: Apache-2.0
"""Addresses of this app."""

from __future__ import annotations

from django.urls import path

from tenants import api, console

api_urlpatterns = [
    path("enrolment-codes", api.EnrolmentCodesView.as_view(), name="enrolment-codes"),
]

console_urlpatterns = [
    path("sign-in/", console.sign_in_password, name="console-sign-in"),
    path("sign-in/code/", console.sign_in_code, name="console-sign-in-code"),
    path("sign-out/", console.sign_out, name="console-sign-out"),
]
