# SPDX-License-Identifier: Apache-2.0
"""Every setting that comes from outside, read once and failing loudly.

Values come from `HOLDFAST_*` environment variables; a secret comes only from the file that
`HOLDFAST_<NAME>_FILE` names (FAULTS Z3: no secret in the environment or on a command line).
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT = Path(__file__).resolve().parent.parent


class Environment(BaseSettings):
    """What the operator decides. Names in the environment carry the prefix HOLDFAST_."""

    model_config = SettingsConfigDict(env_prefix="HOLDFAST_", extra="ignore")

    # What this process does, which decides the HSM tokens it may open.
    role: Literal["web", "worker", "release", "ceremony", "tool"] = "tool"
    # Where the embedded form keeps its database, tokens and demo files.
    state_dir: Path = PROJECT / "var"
    public_url: str = "http://127.0.0.1:8000"
    database_url: str = ""
    secret_key_file: Path | None = None
    redis_url: str = ""
    allowed_hosts: list[str] = Field(default_factory=list)
    trusted_proxies: list[str] = Field(default_factory=list)
    # The HSM: where the ceremony left hsm.json, the PKCS#11 module, and the directory of this role's PIN files.
    hsm_home: Path | None = None
    hsm_module: Path | None = None
    hsm_softhsm: bool = True
    pin_dir: Path | None = None
    # The release process's own directory; no other process reads it.
    release_dir: Path | None = None
    # How long trusted contacts' shares are held back: a day, and in development not at all, unless said here.
    contacts_delay_seconds: int | None = Field(default=None, ge=0, le=48 * 3600)
    email_url: str = ""
    email_from: str = "holdfast@localhost"


ENV = Environment()


def secret_key(*, make: bool = False) -> str:
    """Read Django's secret key from its file, or write a random one first when development asks for it.

    Raises RuntimeError, naming the setting, when there is none or it is short.
    """
    path = ENV.secret_key_file or ENV.state_dir / "secret.key"
    if make and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(64))
    try:
        key = path.read_text().strip()
    except FileNotFoundError:
        raise RuntimeError(f"HOLDFAST_SECRET_KEY_FILE: there is no file at {path}") from None
    if len(key) < 50:
        raise RuntimeError(f"HOLDFAST_SECRET_KEY_FILE: {path} holds fewer than 50 characters")
    return key
