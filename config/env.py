# SPDX-License-Identifier: Apache-2.0
"""Every setting that comes from outside, read once and failing loudly.

Values come from `HOLDFAST_*` environment variables; a secret comes only from the file that
`HOLDFAST_<NAME>_FILE` names (FAULTS Z3: no secret in the environment or on a command line).
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from difflib import get_close_matches
from email.utils import parseaddr
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from config.addresses import HOST, host_of, is_trustworthy, origin_of, parts_of
from config.database import check as check_database
from config.mail import mail
from config.mail import password as mail_password
from config.refusal import refuse
from config.secret_files import read_secret
from kernel.files import make_directory, write_durably

# In the list of trusted proxies: whoever connects to the Unix socket of the web process.
LOCAL_SOCKET = "unix"
PROJECT = Path(__file__).resolve().parent.parent
_SHORTEST_KEY: Final = 50  # characters, as Django's own check (security.W009) has it
# What begins like our settings and is none: of the client's command, and between our own processes.
_OTHERS: Final = frozenset(
    {
        "PROFILE",
        "PASSPHRASE_FILE",
        "SUPERVISED",
        "TELL_REFUSAL",
        "TEST_POSTGRES",
        "TEST_SOAK",
        "PICTURES",
        "DOCS_PICTURES",
    }
)


class Environment(BaseSettings):
    """What the operator decides. Names in the environment carry the prefix HOLDFAST_."""

    # An empty value says the same as none.
    model_config = SettingsConfigDict(env_prefix="HOLDFAST_", extra="ignore", env_ignore_empty=True)

    # What this process does, which decides the HSM tokens it may open.
    role: Literal["web", "worker", "sequencer", "release", "ceremony", "tool"] = "tool"
    # Production settings on a software HSM, to rehearse: nothing real is kept there, and every page says so.
    rehearsal: bool = False
    # Whether the operators' admin is served, at /admin/.
    admin: bool = False
    # Where the embedded form keeps its database, tokens and demo files.
    state_dir: Path = PROJECT / "var"
    public_url: str = "http://127.0.0.1:8000"
    # How the logs are written: a line of text for each event, or a line of JSON.
    log_format: Literal["text", "json"] = "text"
    # Where `up` listens, as host:port, when that is not the public address: behind a proxy of the operator's.
    listen: str = ""
    # Where `collectstatic` puts what the web process serves as it is: outside the code, which nobody writes.
    static_root: Path = Path("/var/lib/holdfast/static")
    database_url: str = ""
    database_password_file: Path | None = None
    secret_key_file: Path | None = None
    redis_url: str = ""
    # Lists are written with commas, or as JSON. A trusted proxy is an address, a network, or `unix`: the peer at the
    # Unix socket at which the web process listens.
    allowed_hosts: Annotated[list[str], NoDecode] = Field(default_factory=list)
    trusted_proxies: Annotated[list[str], NoDecode] = Field(default_factory=list)
    # Origins of apps whose pages may call the REST API from a browser, each exactly as browsers write it.
    web_origins: Annotated[list[str], NoDecode] = Field(default_factory=list)
    # The HSM: where the ceremony left hsm.json, the PKCS#11 module, and the directory of this role's PIN files.
    hsm_home: Path | None = None
    hsm_module: Path | None = None
    hsm_softhsm: bool = True
    pin_dir: Path | None = None
    # Where this account remembers that the HSM refused a PIN: in the HSM's home, unless that is not its own to write.
    refused_pins_dir: Path | None = None
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

    @field_validator("allowed_hosts", "trusted_proxies", "web_origins", mode="before")
    @classmethod
    def _list(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        if value.startswith(("[", "{")) and not HOST.fullmatch(value.partition(",")[0].strip()):
            try:
                listed = json.loads(value)
            except (json.JSONDecodeError, RecursionError):
                listed = None
            if not isinstance(listed, list) or not all(isinstance(entry, str) for entry in listed):
                raise ValueError("write the entries with commas between them")
            return [entry.strip() for entry in listed]
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

    @field_validator("web_origins")
    @classmethod
    def _exact_origins(cls, value: list[str]) -> list[str]:
        for entry in value:
            if entry in ("*", "null"):
                raise ValueError(f"{entry!r} is everybody's pages; list each origin, such as https://app.example")
            origin = origin_of(entry)
            if entry != origin:
                raise ValueError(f"browsers write {entry!r} as {origin!r}, and nothing else matches")
            if not is_trustworthy(entry):
                raise ValueError(f"whoever is on the way can change the pages of {entry!r}; https is wanted there")
        return value

    @field_validator("*", mode="before")
    @classmethod
    def _one_line(cls, value: Any) -> Any:
        if isinstance(value, str) and (value != value.strip() or not value.isprintable()):
            raise ValueError("the value has a space or a line end before or after it, or what no text has")
        return value

    @field_validator("*")
    @classmethod
    def _whole_path(cls, value: Any) -> Any:
        if isinstance(value, Path) and value.parts[:1] and value.parts[0].startswith("~"):
            raise ValueError(f"write the whole path: nobody here turns {value.parts[0]} into a home directory")
        # The processes work in another directory than whoever starts them.
        return value.absolute() if isinstance(value, Path) else value

    @field_validator("email_password_file")
    @classmethod
    def _mail_password(cls, value: Path | None) -> Path | None:
        if value is not None:
            mail_password(value)
        return value

    @field_validator("database_password_file")
    @classmethod
    def _readable(cls, value: Path | None) -> Path | None:
        if value is not None:
            read_secret(value)
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
        return origin_of(value)

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts(cls, value: list[str]) -> list[str]:
        for entry in value:
            if not HOST.fullmatch(entry.removeprefix(".")):
                raise ValueError(
                    f"{entry!r} is no host name; write holdfast.example, without https:// and without a port"
                )
        return value

    @field_validator("email_from")
    @classmethod
    def _sender(cls, value: str) -> str:
        address = parseaddr(value)[1]
        if address.count("@") != 1 or not all(address.split("@")):
            raise ValueError(
                f"{value!r} is no sender; write holdfast@mail.example, or Holdfast <holdfast@mail.example>"
            )
        return value

    @field_validator("redis_url")
    @classmethod
    def _broker(cls, value: str) -> str:
        if value:
            parts_of(
                value, "redis", "rediss", "amqp", "amqps", such_as="redis://host:6379/0, or amqp://host for RabbitMQ"
            )
        return value

    @field_validator(
        "state_dir",
        "static_root",
        "hsm_home",
        "pin_dir",
        "refused_pins_dir",
        "sequencer_dir",
        "ceremony_dir",
        "release_dir",
    )
    @classmethod
    def _directory(cls, value: Path | None) -> Path | None:
        if value is not None and value.exists() and not value.is_dir():
            raise ValueError(f"{value} is a file, and a directory is wanted")
        return value

    @field_validator("listen")
    @classmethod
    def _listen(cls, value: str) -> str:
        if not value:
            return value
        said = f"host:port, such as 127.0.0.1:8000; {value!r} is no place to listen at"
        parts = parts_of(f"http://{value}", "http", such_as=said)
        if not parts.port or parts.netloc != value:
            raise ValueError(f"write {said}")
        return value

    @property
    def public_host(self) -> str:
        """The name in the public address, as a Host header writes it, without the port."""
        return host_of(urlsplit(self.public_url))

    @property
    def listening_at(self) -> str:
        """Where `up` listens: as it was told, or at the public address."""
        parts = urlsplit(self.public_url)
        return self.listen or f"{self.public_host}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def read() -> Environment:
    """Read the environment. Ends the process with one sentence for each wrong value: nothing starts half configured."""
    wrong = [
        f"HOLDFAST_{name}: there is no such setting; did you mean HOLDFAST_{meant}?" for name, meant in _misspelt()
    ]
    try:
        made = Environment()
    except ValidationError as error:
        wrong += [
            f"HOLDFAST_{str(one['loc'][0]).upper()}: {one['msg'].removeprefix('Value error, ')}."
            for one in error.errors()
        ]
    if wrong:
        refuse("\n".join(wrong))
    return made


def _misspelt() -> Iterator[tuple[str, str]]:
    """Find what is nearly the name of a setting: it would be passed over, and the operator believe that it counts."""
    known = [name.upper() for name in Environment.model_fields]
    for variable in sorted(os.environ):
        name = variable.removeprefix("HOLDFAST_")
        if name != variable and name.upper() not in {*known, *_OTHERS}:
            yield from ((name, meant) for meant in get_close_matches(name.upper(), known, n=1, cutoff=0.8))


ENV = read()


def make_secret_key(state_dir: Path) -> None:
    """Write a random key of Django's into a state directory, once, unless another file is named: for `make up`."""
    path = _secret_key_file(state_dir)
    if not path.exists():
        make_directory(path.parent)
        write_durably(path, secrets.token_urlsafe(64).encode())


def secret_key(*, needed: bool) -> str:
    """Return Django's secret key from its file. Ends the process with a sentence when that holds none.

    needed: whether there has to be a file. Where not, and none is named, a key of this process's alone does.
    """
    path = _secret_key_file(ENV.state_dir)
    if needed and ENV.secret_key_file is None:
        refuse(
            "HOLDFAST_SECRET_KEY_FILE is not set: it names a file with 50 random characters or more, the same for all "
            "processes (openssl rand -base64 60)."
        )
    if not needed and ENV.secret_key_file is None and not path.exists():
        return secrets.token_urlsafe(64)
    try:
        key = read_secret(path)
    except ValueError as error:
        refuse(f"HOLDFAST_SECRET_KEY_FILE: {error}.")
    if len(key) < _SHORTEST_KEY:
        refuse(
            f"HOLDFAST_SECRET_KEY_FILE: {path} holds fewer than {_SHORTEST_KEY} characters; openssl rand -base64 60."
        )
    return key


def _secret_key_file(state_dir: Path) -> Path:
    return ENV.secret_key_file or state_dir / "secret.key"
