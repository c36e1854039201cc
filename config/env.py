# SPDX-License-Identifier: Apache-2.0
"""Every setting that comes from outside, read once and failing loudly.

Values come from `HOLDFAST_*` environment variables; a secret comes only from the file that
`HOLDFAST_<NAME>_FILE` names (FAULTS Z3: no secret in the environment or on a command line).
"""

from __future__ import annotations

import json
import os
import secrets
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from config.database import check as check_database
from config.mail import mail
from config.refusal import refuse
from holdfast.core.base import typed

# In the list of trusted proxies: whoever connects to the Unix socket of the web process.
LOCAL_SOCKET = "unix"
PROJECT = Path(__file__).resolve().parent.parent


class Environment(BaseSettings):
    """What the operator decides. Names in the environment carry the prefix HOLDFAST_."""

    model_config = SettingsConfigDict(env_prefix="HOLDFAST_", extra="ignore")

    # What this process does, which decides the HSM tokens it may open.
    role: Literal["web", "worker", "sequencer", "release", "ceremony", "tool"] = "tool"
    # Production settings on a software HSM, to rehearse: nothing real is kept there, and every page says so.
    rehearsal: bool = False
    # Whether the operators' admin is served, at /admin/.
    admin: bool = False
    # Where the embedded form keeps its database, tokens and demo files.
    state_dir: Path = PROJECT / "var"
    public_url: str = "http://127.0.0.1:8000"
    # Where `up` listens, as host:port, when that is not the public address: behind a proxy of the operator's.
    listen: str = ""
    database_url: str = ""
    database_password_file: Path | None = None
    secret_key_file: Path | None = None
    redis_url: str = ""
    # Lists are written with commas, or as JSON. A trusted proxy is an address, a network, or `unix`: the peer at the
    # Unix socket at which the web process listens.
    allowed_hosts: Annotated[list[str], NoDecode] = Field(default_factory=list)
    trusted_proxies: Annotated[list[str], NoDecode] = Field(default_factory=list)
    # The HSM: where the ceremony left hsm.json, the PKCS#11 module, and the directory of this role's PIN files.
    hsm_home: Path | None = None
    hsm_module: Path | None = None
    hsm_softhsm: bool = True
    pin_dir: Path | None = None
    # The key with which this process's role vouches for log entries, and the sequencer's own directory.
    role_key_file: Path | None = None
    sequencer_dir: Path | None = None
    # What the ceremony keeps for itself: the transcripts, and the codes that it hands over.
    ceremony_dir: Path | None = None
    # The release process's own directory; no other process reads it.
    release_dir: Path | None = None
    # How long trusted contacts' shares are held back: a day, and in development not at all, unless said here.
    contacts_delay_seconds: int | None = Field(default=None, ge=0, le=48 * 3600)
    # How many cases one person opens in a day, and others about one person.
    cases_per_day: int = Field(default=3, ge=1, le=1000)
    # Where mail is handed over: smtp://user@host:587 (STARTTLS), smtps://user@host:465, or smtp://127.0.0.1:25.
    email_url: str = ""
    email_password_file: Path | None = None
    email_from: str = "holdfast@localhost"

    @field_validator("allowed_hosts", "trusted_proxies", mode="before")
    @classmethod
    def _list(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        if value.strip().startswith("["):
            try:
                return json.loads(value)
            except json.JSONDecodeError:
                raise ValueError("write the entries with commas between them") from None
        return [entry.strip() for entry in value.split(",") if entry.strip()]

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: list[str]) -> list[str]:
        for entry in value:
            if entry == LOCAL_SOCKET:
                continue
            try:
                ip_network(entry)
            except ValueError:
                raise ValueError(
                    f"{entry!r} is neither an address nor a network; write 10.0.0.5, or 10.0.0.0/8, "
                    "or unix for the peer at the local socket"
                ) from None
        return value

    @field_validator("email_password_file", "database_password_file")
    @classmethod
    def _readable(cls, value: Path | None) -> Path | None:
        if value is not None and not os.access(value, os.R_OK):
            raise ValueError(f"there is no file at {value} that this account can read")
        return value

    @field_validator("database_url")
    @classmethod
    def _database(cls, value: str) -> str:
        check_database(value)
        return value

    @field_validator("email_url")
    @classmethod
    def _mail(cls, value: str) -> str:
        mail(value, password_file=None)
        return value

    @field_validator("public_url")
    @classmethod
    def _origin(cls, value: str) -> str:
        parts = urlsplit(value.rstrip("/"))
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query or parts.username:
            raise ValueError(
                f"{value!r} is no origin of its own, such as https://holdfast.example; paths below one are not served"
            )
        return value

    @field_validator("listen")
    @classmethod
    def _listen(cls, value: str) -> str:
        if not value:
            return value
        parts = urlsplit(f"http://{value}")
        try:
            is_right = bool(parts.hostname and parts.port and parts.netloc == value)
        except ValueError:
            is_right = False
        if not is_right:
            raise ValueError(f"{value!r} is no place to listen at; write host:port, such as 127.0.0.1:8000")
        return value

    @property
    def public_host(self) -> str:
        """The name in the public address, as a Host header writes it, without the port."""
        host = urlsplit(self.public_url).hostname or ""
        return f"[{host}]" if ":" in host else host

    @property
    def listening_at(self) -> str:
        """Where `up` listens: as it was told, or at the public address."""
        parts = urlsplit(self.public_url)
        return self.listen or f"{self.public_host}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def read() -> Environment:
    """Read the environment. Ends the process with one sentence for each wrong value: nothing starts half configured."""
    try:
        return Environment()
    except ValidationError as error:
        wrong = [
            f"HOLDFAST_{str(one['loc'][0]).upper()}: {one['msg'].removeprefix('Value error, ')}."
            for one in error.errors()
        ]
        refuse("\n".join(wrong))


ENV = read()


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
        key = typed.secret_text(path.read_bytes(), str(path))
    except FileNotFoundError:
        raise RuntimeError(f"HOLDFAST_SECRET_KEY_FILE: there is no file at {path}") from None
    if len(key) < 50:
        raise RuntimeError(f"HOLDFAST_SECRET_KEY_FILE: {path} holds fewer than 50 characters")
    return key
