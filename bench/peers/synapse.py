# SPDX-License-Identifier: Apache-2.0
"""Matrix Synapse (AGPL, from PyPI), one process on PostgreSQL: `/keys/upload` and `/keys/claim` with real devices.

Under claims of one device at once it answers some without a key though there are more; those do not count. Its tokens
are bearer tokens, it verifies no signature of a key, and it keeps no log of who took which: it does less.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import psycopg

from bench.peers.venvs import python_of
from bench.world import Serving, serving

_NAME: Final = "bench.test"
_SECRET: Final = "bench"
_KIND: Final = "signed_curve25519"
HANDED_OUT: Final = _KIND.encode()  # in an answer that has a key
# No limit of a second stands in its way, and passwords cost it nothing.
_CONFIG: Final = """\
server_name: {name}
listeners:
  - {{port: {port}, type: http, bind_addresses: ['127.0.0.1'], resources: [{{names: [client], compress: false}}]}}
database:
  name: psycopg2
  args: {{user: {user}, dbname: synapse, host: 127.0.0.1, port: {database_port}, cp_min: 5, cp_max: 10}}
media_store_path: {home}/media
signing_key_path: {home}/signing.key
log_config: {home}/log.yaml
registration_shared_secret: {secret}
macaroon_secret_key: {secret}
form_secret: {secret}
report_stats: false
trusted_key_servers: []
suppress_key_server_warning: true
bcrypt_rounds: 4
rc_login: {{address: {{per_second: 9999, burst_count: 9999}}, account: {{per_second: 9999, burst_count: 9999}}}}
"""
_LOG: Final = "version: 1\ndisable_existing_loggers: false\nroot: {level: WARNING}\n"


class Synapse:
    """A running Synapse with people, each with devices."""

    def __init__(self, serving: Serving) -> None:
        self.serving = serving
        self._tokens: dict[tuple[str, int], str] = {}  # of each device
        self.devices: dict[str, list[str]] = {}  # by person
        self._next_key = 0

    def add_person(self, devices: int) -> None:
        """Register somebody with so many devices."""
        name = f"p{len(self.devices)}"
        nonce = self._call("GET", "/_synapse/admin/v1/register")["nonce"]
        mac = hmac.digest(_SECRET.encode(), "\0".join((nonce, name, "password", "notadmin")).encode(), hashlib.sha1)
        document = {"nonce": nonce, "username": name, "password": "password", "admin": False, "mac": mac.hex()}
        user = self._call("POST", "/_synapse/admin/v1/register", document)["user_id"]
        self.devices[user] = []
        for number in range(devices):
            login = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": name}}
            login |= {"password": "password", "device_id": f"D{number}"}
            token = self._call("POST", "/_matrix/client/v3/login", login)["access_token"]
            self.devices[user].append(f"D{number}")
            self._tokens[user, number] = token

    def have(self, keys: int) -> None:
        """Upload one-time keys until each device has so many at least."""
        left = self._left()
        for user, devices in self.devices.items():
            for number, device in enumerate(devices):
                for _ in range(0, keys - left.get((user, device), 0), 100):
                    self._call("POST", "/_matrix/client/v3/keys/upload", self._keys(100), self._tokens[user, number])

    def upload(self, person: int, keys: int) -> bytes:
        """Make a request that uploads fresh keys for somebody's first device."""
        return self._request("POST", "/_matrix/client/v3/keys/upload", self._keys(keys), self._token(person))

    def claim(self, by: int, of: int, *, devices: int = 1) -> bytes:
        """Make a request by which one person claims a key of each of so many devices of another."""
        user = list(self.devices)[of]
        asked = {user: dict.fromkeys(self.devices[user][:devices], _KIND)}
        return self._request("POST", "/_matrix/client/v3/keys/claim", {"one_time_keys": asked}, self._token(by))

    def _left(self) -> dict[tuple[str, str], int]:
        """Count the keys that are left of each device."""
        with psycopg.connect(_database()) as connection:
            rows = connection.execute(
                "SELECT user_id, device_id, count(*) FROM e2e_one_time_keys_json GROUP BY user_id, device_id"
            )
            return {(user, device): number for user, device, number in rows.fetchall()}

    def _token(self, person: int) -> str:
        return self._tokens[list(self.devices)[person], 0]

    def _keys(self, number: int) -> dict[str, Any]:
        made = {}
        for _ in range(number):
            self._next_key += 1
            signed = {"@u:bench.test": {"ed25519:D": "x" * 86}}
            made[f"{_KIND}:{self._next_key:08}"] = {"key": f"{self._next_key:043}", "signatures": signed}
        return {"one_time_keys": made}

    def _request(self, method: str, path: str, document: Any, token: str) -> bytes:
        body = json.dumps(document).encode()
        head = f"{method} {quote(path)} HTTP/1.1\r\nhost: {_NAME}\r\nauthorization: Bearer {token}\r\n"
        return f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body

    def _call(self, method: str, path: str, document: Any = None, token: str = "") -> Any:
        body = None if document is None else json.dumps(document).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.serving.port}{path}", body, method=method)
        if token:
            request.add_header("authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)


def _database() -> str:
    return os.environ["HOLDFAST_TEST_POSTGRES"].rpartition("/")[0] + "/synapse"


@contextmanager
def synapse() -> Iterator[Synapse]:
    """Run it, with an empty database, until the block ends. Raises NotMeasured when it cannot be installed."""
    from tests.cast.postgres import free_port

    python, home = python_of("synapse"), Path(os.environ["HOLDFAST_STATE_DIR"]) / "synapse"
    home.mkdir()
    with psycopg.connect(os.environ["HOLDFAST_TEST_POSTGRES"], autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS synapse")
        connection.execute("CREATE DATABASE synapse TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'")
    where, port = urlsplit(os.environ["HOLDFAST_TEST_POSTGRES"]), free_port()
    given = {"name": _NAME, "port": port, "user": where.username, "database_port": where.port, "secret": _SECRET}
    (home / "homeserver.yaml").write_text(_CONFIG.format(home=home, **given))
    (home / "log.yaml").write_text(_LOG)
    command = [str(python), "-m", "synapse.app.homeserver", "-c", str(home / "homeserver.yaml")]
    subprocess.run([*command, "--generate-keys"], check=True, capture_output=True)
    with serving(command, {"PORT": str(port)}, path="/health", option="") as made:
        yield Synapse(made)
