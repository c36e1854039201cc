# SPDX-License-Identifier: Apache-2.0
"""From one address to Django's DATABASES: SQLite embedded, PostgreSQL in production (PLATFORM "Running it")."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit


def database(url: str, *, state_dir: Path) -> dict[str, Any]:
    """Return the settings of one database. Raises ValueError for an address of another kind."""
    if not url:
        return sqlite(state_dir / "holdfast.sqlite3")
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return sqlite(Path(unquote(parts.path)))
    if parts.scheme in ("postgres", "postgresql"):
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": unquote(parts.path.lstrip("/")),
            "USER": unquote(parts.username or ""),
            "PASSWORD": unquote(parts.password or ""),
            "HOST": parts.hostname or dict(parse_qsl(parts.query)).get("host", ""),
            "PORT": str(parts.port or ""),
            "CONN_MAX_AGE": None,
            "CONN_HEALTH_CHECKS": True,
            "OPTIONS": {
                "connect_timeout": 3,
                # Prepared statements stay on: the hot path's plan is made once (docs/layout.md, speed).
                "prepare_threshold": 2,
                "server_side_binding": True,
                "options": "-c statement_timeout=10000 -c idle_in_transaction_session_timeout=15000",
            },
        }
    raise ValueError(f"HOLDFAST_DATABASE_URL: {parts.scheme!r} is neither sqlite nor postgres")


def sqlite(path: Path) -> dict[str, Any]:
    """SQLite as it survives several processes: WAL, writers announced early, ten seconds of patience."""
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(path),
        "CONN_MAX_AGE": None,
        "OPTIONS": {
            "timeout": 10,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;",
        },
    }
