# SPDX-License-Identifier: Apache-2.0
"""From one address to Django's DATABASES: SQLite embedded, PostgreSQL in production (PLATFORM "Running it")."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from config.addresses import parts_of
from config.secret_files import read_secret

# What libpq is told of the encrypted connection (PostgreSQL, "SSL Support"). Anything else in the query is refused.
_TLS = ("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl")
_TLS_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

# A machine that is gone says so to nobody: without these a process would wait for its answer for a quarter of an hour,
# and longer. Asked after 4 s without a word, given up after 2 questions or after 8 s in which it took nothing (libpq,
# "Parameter Key Words").
_GONE = {"keepalives_idle": 4, "keepalives_interval": 2, "keepalives_count": 2, "tcp_user_timeout": 8000}


def check(url: str) -> None:
    """Raise ValueError, in words for the operator, for an address that `database` cannot or must not take."""
    if not url:
        return
    scheme, _, rest = url.partition("://")
    if scheme not in ("sqlite", "postgres", "postgresql"):
        raise ValueError(f"{scheme!r} is neither sqlite nor postgres")
    such_as = "postgres://user@host:5432/name, or sqlite:///a/whole/path.sqlite3"
    if scheme == "sqlite":
        if not rest.startswith("/"):
            raise ValueError(f"write {such_as}")
        return
    # With the host in the query, a Unix socket, none stands before the name.
    parts = parts_of(url.replace("///", "//localhost/", 1).replace("@/", "@localhost/", 1), scheme, such_as=such_as)
    if parts.password:
        raise ValueError("put the password into a file, and name that in HOLDFAST_DATABASE_PASSWORD_FILE")
    if not parts.path.strip("/"):
        raise ValueError(f"the name of the database is missing; write {such_as}")
    asked = dict(parse_qsl(parts.query))
    if asked.get("sslmode", _TLS_MODES[0]) not in _TLS_MODES:
        raise ValueError(f"sslmode is one of {', '.join(_TLS_MODES)}")
    if unknown := asked.keys() - {"host", *_TLS}:
        raise ValueError(f"{min(unknown)} is not understood; known are host, {', '.join(_TLS)}")


def is_exposed(settings: dict[str, Any]) -> bool:
    """Whether a database is on another machine, and nothing proves that it is the one that is meant."""
    host = settings.get("HOST", "")
    is_here = not host or host.startswith("/") or host in ("127.0.0.1", "::1", "localhost")
    return not is_here and settings.get("OPTIONS", {}).get("sslmode") != "verify-full"


def database(url: str, *, state_dir: Path, password_file: Path | None = None) -> dict[str, Any]:
    """Return the settings of one database. Raises ValueError as `check` does."""
    check(url)
    if not url:
        return sqlite(state_dir / "holdfast.sqlite3")
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return sqlite(Path(unquote(parts.path)))
    if parts.scheme in ("postgres", "postgresql"):
        return {
            "ENGINE": "kernel.postgres",
            "NAME": unquote(parts.path.lstrip("/")),
            "USER": unquote(parts.username or ""),
            "PASSWORD": read_secret(password_file) if password_file else "",
            "HOST": parts.hostname or dict(parse_qsl(parts.query)).get("host", ""),
            "PORT": str(parts.port or ""),
            "CONN_MAX_AGE": None,
            "CONN_HEALTH_CHECKS": True,
            "OPTIONS": {
                **{name: value for name, value in parse_qsl(parts.query) if name in _TLS},
                "connect_timeout": 3,
                **_GONE,
                # The statements of the hot paths are prepared once per connection (kernel.postgres). The driver
                # prepares none: with the first rollback it would drop its own and these.
                "prepare_threshold": None,
                "server_side_binding": True,
                "options": "-c statement_timeout=10000 -c idle_in_transaction_session_timeout=15000",
            },
        }
    raise AssertionError("unreachable")


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
