# SPDX-License-Identifier: Apache-2.0
"""From one address to Django's mail settings (PLATFORM "Running it")."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote

from config.addresses import parts_of
from config.secret_files import read_secret

# A mail server that accepts and then says nothing holds one notice for this long, and nobody else.
TIMEOUT_SECONDS = 10
_LOCAL = ("127.0.0.1", "::1", "localhost")


def mail(url: str, *, password_file: Path | None) -> dict[str, Any]:
    """Return Django's EMAIL_ settings for smtp:// (STARTTLS, unless on this machine) or smtps://; none for "".

    Raises ValueError for another address, and for a password in the address: environments are
    read by too many.
    """
    if not url:
        return {}
    such_as = "smtp://user@host:587 or smtps://user@host:465"
    parts = parts_of(url, "smtp", "smtps", such_as=such_as)
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(f"nothing comes after the host; write {such_as}")
    if parts.password:
        raise ValueError("put the password into a file, and name that in HOLDFAST_EMAIL_PASSWORD_FILE")
    is_smtps = parts.scheme == "smtps"
    return {
        "EMAIL_HOST": parts.hostname,
        "EMAIL_PORT": parts.port or (465 if is_smtps else 587),
        "EMAIL_HOST_USER": unquote(parts.username or ""),
        "EMAIL_HOST_PASSWORD": read_secret(password_file) if password_file else "",
        "EMAIL_USE_SSL": is_smtps,
        "EMAIL_USE_TLS": not is_smtps and parts.hostname not in _LOCAL,
        "EMAIL_TIMEOUT": TIMEOUT_SECONDS,
    }
