# SPDX-License-Identifier: Apache-2.0
"""Claims over HTTP, signature, nonce and audit entry included, against the same SQL run bare by as many clients."""

from __future__ import annotations

import secrets
import socket
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from bench import world

KEYS = 4_000
PER_RUN = 800
CLIENTS = (1, 8, 32)


def main() -> None:
    """Measure and report."""
    world.start()
    from keys import services
    from tests.cast.phones import Directory

    # The floor takes as many keys as the server does, from one device.
    services.MAX_UNISSUED = 10**9  # type: ignore[misc]
    directory = Directory()
    bob, alice = directory.phone("bob"), directory.phone("alice")
    alice.publish(batches=[100] * (2 * len(CLIENTS) * PER_RUN // 100 + 4))
    rows = []
    with world.server() as (host, port, worker):
        _load(host, port, bob, alice, 1, 100)
        for clients in CLIENTS:
            before = world.cpu_seconds(worker)
            ours = _load(host, port, bob, alice, clients, PER_RUN)
            cpu = (world.cpu_seconds(worker) - before) / PER_RUN
            bare = _bare(bob, alice, clients, PER_RUN)
            line = world.row(f"claims per second, {clients} client(s)", ours, bare, "/s")
            rows.append(line)
            cost = f"{cpu * 1e3:.2f} ms"
            rows.append({"what": f"  server CPU per claim, {clients} client(s)", "ours": cost})
    world.report(rows)


def _requests(port: int, bob: Any, alice: Any, number: int) -> list[bytes]:
    """Sign as many claims beforehand: a client's signature is not the server's cost."""
    from holdfast.core.signed.requests import SignatureParameters, content_digest

    body, path = b"{}", f"/api/v1/devices/{alice.id}/claim"
    digest = content_digest(body)
    made = []
    for _ in range(number):
        parameters = SignatureParameters(
            method="POST", created=int(time.time()), keyid=bob.id, nonce=secrets.token_bytes(16)
        )
        signed = bob.isk.sign(parameters.base(target_uri=f"http://127.0.0.1:{port}{path}", digest=digest))
        fields = {**parameters.fields(signed), "content-digest": digest, "idempotency-key": uuid.uuid4().hex}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        made.append(
            f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n{head}\r\n".encode()
            + body
        )
    return made


def _load(host: str, port: int, bob: Any, alice: Any, clients: int, number: int) -> float:
    """Send `number` claims over `clients` persistent connections; returns claims per second. Fails on any refusal."""
    queue = _requests(port, bob, alice, number)
    failures: list[bytes] = []

    def work(mine: list[bytes]) -> None:
        with socket.create_connection((host, port)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for request in mine:
                connection.sendall(request)
                answer = _answer(connection)
                if not answer.startswith(b"HTTP/1.1 200") or b'"handed-out"' not in answer:
                    failures.append(answer[:400])

    seconds = _timed([lambda part=queue[at::clients]: work(part) for at in range(clients)])
    if failures:
        raise RuntimeError(f"{len(failures)} claims failed: {failures[0]!r}")
    return number / seconds


def _answer(connection: socket.socket) -> bytes:
    held = b""
    while b"\r\n\r\n" not in held:
        held += connection.recv(65536)
    head, _, rest = held.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
    )
    while len(rest) < length:
        rest += connection.recv(65536)
    return head + b"\r\n\r\n" + rest


def _timed(works: list[Callable[[], None]]) -> float:
    threads = [threading.Thread(target=work) for work in works]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begun


def _bare(bob: Any, alice: Any, clients: int, number: int) -> float:
    from django.db import connection

    one_client = _bare_postgres if connection.vendor == "postgresql" else _bare_sqlite
    share = number // clients
    return share * clients / _timed([lambda: one_client(bob, alice, share) for _ in range(clients)])


def _audit_insert(place: str) -> tuple[str, list[Any]]:
    columns = "id, tenant_id, log, leaf, tag, actor, subject, time, body"
    return f"INSERT INTO audit_waiting ({columns}) VALUES ({', '.join([place] * 9)})", []


def _bare_postgres(bob: Any, alice: Any, number: int) -> None:
    """The statements of one claim on psycopg: look-up, nonce; then claim and audit entry in one transaction."""
    import psycopg
    from django.conf import settings
    from django.utils import timezone

    from keys.claims import _POSTGRES_BY, HOUR
    from tenants import credentials

    database = settings.DATABASES["default"]
    tenant = alice.person.tenant_id
    insert, _ = _audit_insert("%s")
    with psycopg.connect(
        host=database["HOST"], port=database["PORT"], user=database["USER"], dbname=database["NAME"], autocommit=True
    ) as connection:
        connection.prepare_threshold = 2
        for _ in range(number):
            now = timezone.now()
            connection.execute(credentials._LOOK_UP, [bob.id]).fetchone()
            connection.execute(credentials._SPEND, [bob.id, secrets.token_bytes(16), tenant, now])
            with connection.transaction():
                values = {"tenant": tenant, "target": alice.id, "requester": bob.id, "key": uuid.uuid4().hex}
                values |= {"now": now, "hour": int(now.timestamp()) // HOUR, "limit": 100}
                connection.execute(_POSTGRES_BY["device"], values).fetchall()
                leaf = secrets.token_bytes(200)
                entry = [uuid.uuid4(), tenant, "audit", leaf, "keys:pre-key:claim", "device:x", "device:y", now, "{}"]
                connection.execute(insert, entry)


def _bare_sqlite(bob: Any, alice: Any, number: int) -> None:
    """The same steps on sqlite3, under the same pragmas."""
    from django.conf import settings

    from keys import claims
    from tenants import credentials

    tenant, hour = alice.person.tenant_id.hex, int(time.time()) // claims.HOUR
    insert, _ = _audit_insert("?")
    connection = sqlite3.connect(settings.DATABASES["default"]["NAME"], timeout=30, isolation_level=None)
    connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;")
    targets, take, record, spend, look_up, nonce = (
        sql.replace("%s", "?")
        for sql in (
            claims._TARGETS_BY["device"],
            claims._TAKE,
            claims._RECORD,
            claims._SPEND,
            credentials._LOOK_UP,
            credentials._SPEND,
        )
    )
    for _ in range(number):
        connection.execute(look_up, [bob.id.hex]).fetchone()
        connection.execute(nonce, [bob.id.hex, secrets.token_bytes(16), tenant, "2030-01-01 00:00:00"])
        connection.execute("BEGIN IMMEDIATE")
        for ordinal, found in enumerate(connection.execute(targets, [tenant, alice.id.hex, 100]).fetchall()):
            device, _, head, _, _, spk_id, epoch = found
            batch, *key = connection.execute(take, [tenant, device, epoch]).fetchone()
            connection.execute("SELECT statement FROM keys_prekeybatch WHERE id = ?", [batch]).fetchone()
            who = [uuid.uuid4().hex, tenant, bob.id.hex, uuid.uuid4().hex, ordinal, alice.id.hex, device]
            connection.execute(record, [*who, head, spk_id, batch, *key, "2026-01-01 00:00:00"])
            connection.execute(spend, [uuid.uuid4().hex, tenant, "target", device, hour, 1]).fetchall()
        connection.execute(spend, [uuid.uuid4().hex, tenant, "requester", bob.id.hex, hour, 1]).fetchall()
        leaf = secrets.token_bytes(200)
        entry = [
            uuid.uuid4().hex,
            tenant,
            "audit",
            leaf,
            "keys:pre-key:claim",
            "device:x",
            "device:y",
            "2026-01-01",
            "{}",
        ]
        connection.execute(insert, entry)
        connection.execute("COMMIT")
    connection.close()


if __name__ == "__main__":
    main()
