# SPDX-License-Identifier: Apache-2.0
"""How the OpenAPI document describes signed requests (docs/formats/requests.md has the bytes)."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema


class SignedRequestScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "tenants.authentication.SignedRequestAuthentication"
    name = "signedRequest"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return {
            "type": "apiKey",
            "in": "header",
            "name": "Signature",
            "description": "RFC 9421 HTTP Message Signature, label sig1, tag holdfast-v1, over @method, @target-uri "
            "and, except for GET and HEAD, content-digest. The keyid is the device's or service account's id.",
        }
