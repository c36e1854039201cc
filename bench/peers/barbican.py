# SPDX-License-Identifier: Apache-2.0
"""OpenStack Barbican (from PyPI) on PostgreSQL: a secret of 256 bits stored and read, sealed by its simple crypto.

Without Keystone, so it authenticates nobody, and it keeps no log of who read what: it does less. Served as ours is.
"""

from __future__ import annotations

import json
import os
import secrets
import urllib.request
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import psycopg

from bench.peers.venvs import python_of
from bench.world import Serving, serving

_CONFIG: Final = """\
[DEFAULT]
host_href = http://127.0.0.1
log_file = {home}/log
db_auto_create = true
[database]
connection = postgresql+psycopg2://{user}@127.0.0.1:{port}/barbican
[secretstore]
enabled_secretstore_plugins = store_crypto
[crypto]
enabled_crypto_plugins = simple_crypto
[simple_crypto_plugin]
kek = {kek}
[oslo_policy]
enforce_scope = false
enforce_new_defaults = false
"""
_PASTE: Final = """\
[composite:main]
use = egg:Paste#urlmap
/v1: api
[pipeline:api]
pipeline = context microversion apiapp
[app:apiapp]
paste.app_factory = barbican.api.app:create_main_app
[filter:context]
paste.filter_factory = barbican.api.middleware.context:ContextMiddleware.factory
[filter:microversion]
paste.filter_factory = barbican.api.middleware.microversion:MicroversionMiddleware.factory
"""
# It gives the database octets for columns of text, which psycopg2 would write as hexadecimal literals.
_APP: Final = """\
from paste import deploy
from psycopg2.extensions import QuotedString, register_adapter
from barbican.common import config
config.parse_args(config.CONF, args=[])
register_adapter(bytes, lambda octets: QuotedString(octets.decode()))
application = deploy.loadapp("config:{home}/paste.ini")
"""
# What Keystone's middleware would have put there.
_HEAD: Final = (
    "host: 127.0.0.1\r\nx-identity-status: Confirmed\r\nx-project-id: bench\r\nx-user-id: bench\r\n"
    "x-roles: admin,creator,member\r\n"
)


class Barbican:
    """A running Barbican."""

    def __init__(self, serving: Serving) -> None:
        self.serving = serving

    def store(self) -> bytes:
        """Make a request that stores a fresh secret."""
        body = self._secret()
        head = f"POST /v1/secrets HTTP/1.1\r\n{_HEAD}content-type: application/json\r\n"
        return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body

    def read(self, reference: str) -> bytes:
        """Make a request that reads a stored secret."""
        path = f"/v1/secrets/{reference}/payload"
        return f"GET {path} HTTP/1.1\r\n{_HEAD}accept: application/octet-stream\r\ncontent-length: 0\r\n\r\n".encode()

    def stored(self) -> str:
        """Store a secret, and return its reference."""
        headers = dict(line.split(": ") for line in _HEAD.splitlines()) | {"content-type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.serving.port}/v1/secrets", self._secret(), headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(json.load(answer)["secret_ref"]).rpartition("/")[2]

    @staticmethod
    def _secret() -> bytes:
        payload = b64encode(secrets.token_bytes(32)).decode()
        document = {"name": "bench", "payload": payload, "payload_content_encoding": "base64"}
        kind = {"payload_content_type": "application/octet-stream", "algorithm": "aes", "bit_length": 256}
        return json.dumps(document | kind).encode()


@contextmanager
def barbican() -> Iterator[Barbican]:
    """Run it, with an empty database, until the block ends. Raises NotMeasured when it cannot be installed."""
    python, home = python_of("barbican"), Path(os.environ["HOLDFAST_STATE_DIR"]) / "barbican"
    home.mkdir()
    with psycopg.connect(os.environ["HOLDFAST_TEST_POSTGRES"], autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS barbican")
        connection.execute("CREATE DATABASE barbican")
    where, kek = urlsplit(os.environ["HOLDFAST_TEST_POSTGRES"]), urlsafe_b64encode(secrets.token_bytes(32)).decode()
    config = _CONFIG.format(home=home, user=where.username, port=where.port, kek=kek)
    # Each of its modules reads the configuration for itself, from where it is looked for.
    (home / ".barbican").mkdir()
    for name, text in {
        ".barbican/barbican.conf": config,
        "paste.ini": _PASTE,
        "app.py": _APP.format(home=home),
    }.items():
        (home / name).write_text(text)
    command = [str(python), "-m", "granian", "--interface", "wsgi", "app:application", "--no-ws"]
    command += ["--workers", "1", "--blocking-threads", "8", "--backpressure", "64", "--log-level", "error"]
    with serving(command, {"HOME": str(home)}, path="/v1", cwd=home) as made:
        yield Barbican(made)
