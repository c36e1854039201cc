# SPDX-License-Identifier: Apache-2.0
"""How the OpenAPI document describes signed requests and log tokens (docs/formats/requests.md has the bytes)."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema


class SignedRequestScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "tenants.authentication.SignedRequestAuthentication"
    name = ["signedRequest", "logToken"]  # noqa: RUF012 — the base class declares it as an instance's

    def get_security_requirement(self, auto_schema: AutoSchema) -> list[dict[str, list[Any]]]:
        """Return what an address takes: a signature, and where its view says so a log token in its place."""
        taken = getattr(auto_schema.view, "log_token_methods", ())
        return [{"signedRequest": []}, *([{"logToken": []}] if auto_schema.method in taken else [])]

    def get_security_definition(self, auto_schema: AutoSchema) -> list[dict[str, Any]]:
        signed = {
            "type": "apiKey",
            "in": "header",
            "name": "Signature",
            "description": "RFC 9421 HTTP Message Signature, label sig1, tag holdfast-v1, over @method, @target-uri "
            "and, except for GET and HEAD, content-digest. The keyid is the device's or service account's id.",
        }
        token = {
            "type": "http",
            "scheme": "bearer",
            "description": "A log token of the organisation's, in the header Authorization alone. It reads the audit "
            "log and nothing else.",
        }
        return [signed, token]
