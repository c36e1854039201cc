# SPDX-License-Identifier: Apache-2.0
"""How a page shows the key of an authenticator: as a QR code that the server draws, and as text beside it."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING
from urllib.parse import quote

import segno

from holdfast.core.base.secret import SecretBytes

if TYPE_CHECKING:
    from tenants.models import Tenant


def shown(key: SecretBytes, *, tenant: Tenant, email: str) -> dict[str, str]:
    """Return what a template needs of a key: `image`, the address of an SVG, and `secret`, in groups of four."""
    secret = base64.b32encode(key.reveal()).decode()
    name = quote(f"Holdfast:{tenant.slug}:{email}", safe=":")
    uri = f"otpauth://totp/{name}?secret={secret}&issuer=Holdfast"
    return {
        "secret": " ".join(secret[at : at + 4] for at in range(0, len(secret), 4)),
        # On white in every colour scheme: many cameras read no light code on a dark ground.
        "image": segno.make(uri, error="m").svg_data_uri(scale=4, border=3, dark="#000", light="#fff"),
    }
