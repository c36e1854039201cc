# SPDX-License-Identifier: Apache-2.0
"""The floor of a claim: a bundle read, a key taken, an entry written, in one prepared statement and one commit.

Run bare by PostgreSQL's own pgbench, and behind a bare Django view (django_view.py); on SQLite by as many processes.
"""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import time
from typing import Final

import psycopg

from bench.world import NotMeasured

DEVICES: Final = 32
STOCK: Final = 2_000  # keys of each device, topped up before each round
SECONDS: Final = 2
_LEAF, _PROOF, _STATEMENT = 50, 224, 300  # bytes, as in suite 1
_TABLES: Final = (
    "CREATE TABLE bare_device (id int PRIMARY KEY, statement {bytes}, signed_pre_key {bytes}, head {bytes})",
    "CREATE TABLE bare_key (id {serial}, device int, leaf {bytes}, proof {bytes})",
    "CREATE INDEX bare_key_device ON bare_key (device, id)",
    "CREATE TABLE bare_entry (id {serial}, leaf {bytes})",
)
CLAIM: Final = """
WITH taken AS (
  DELETE FROM bare_key WHERE id = (
    SELECT id FROM bare_key WHERE device = {device} ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED)
  RETURNING leaf, proof
), entry AS (
  INSERT INTO bare_entry (leaf) SELECT leaf || proof FROM taken
)
SELECT d.statement, d.signed_pre_key, d.head, t.leaf, t.proof FROM bare_device d, taken t WHERE d.id = {device}
"""


def _address() -> str:
    return os.environ["HOLDFAST_DATABASE_URL"]


def stock() -> None:
    """Make the tables, or top up the keys."""
    with psycopg.connect(_address(), autocommit=True) as connection:
        if connection.execute("SELECT to_regclass('bare_key')").fetchone() == (None,):
            for table in _TABLES:
                connection.execute(table.format(bytes="bytea", serial="bigserial PRIMARY KEY"))
            connection.execute(
                "INSERT INTO bare_device SELECT n, %b::bytea, %b::bytea, %b::bytea FROM generate_series(1, %s) n",
                [os.urandom(_STATEMENT), os.urandom(_STATEMENT), os.urandom(32), DEVICES],
            )
        connection.execute(
            "INSERT INTO bare_key (device, leaf, proof) SELECT d.id, %b::bytea, %b::bytea FROM bare_device d,"
            " LATERAL generate_series(1, %s - (SELECT count(*) FROM bare_key k WHERE k.device = d.id)) n",
            [os.urandom(_LEAF), os.urandom(_PROOF), STOCK],
        )


def pgbench(clients: int) -> float:
    """Return how many claims a second PostgreSQL's own pgbench makes. Raises NotMeasured where it is missing."""
    from tests.cast.postgres import CANDIDATES

    stock()
    program = next((path / "pgbench" for path in CANDIDATES if (path / "pgbench").exists()), None)
    if program is None:
        raise NotMeasured("pgbench is not installed; Debian has it in postgresql")
    script = f"\\set device random(1, {DEVICES})\n" + CLAIM.format(device=":device").replace("\n", " ") + ";\n"
    threads = min(clients, os.cpu_count() or 1)
    options = ["-n", "-M", "prepared", "-c", str(clients), "-j", str(threads), "-T", str(SECONDS), "-f", "-"]
    done = subprocess.run([program, *options, _address()], input=script, text=True, capture_output=True, check=True)
    rate = re.search(r"tps = ([0-9.]+) \(without", done.stdout)
    assert rate is not None, done.stdout
    return float(rate[1])


def _path() -> str:
    return f"{os.environ['HOLDFAST_STATE_DIR']}/bare.sqlite3"


def open_sqlite() -> sqlite3.Connection:
    """Return a connection to a database of its own with the tables, under our own pragmas."""
    connection = sqlite3.connect(_path(), isolation_level=None)
    connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'bare_key'").fetchone():
        for table in _TABLES:
            connection.execute(table.format(bytes="blob", serial="INTEGER PRIMARY KEY"))
    return connection


def sqlite(clients: int) -> float:
    """Return how many claims a second so many processes make on sqlite3, under our own pragmas."""
    connection = open_sqlite()
    connection.execute("BEGIN")
    with connection:
        connection.executemany(
            "INSERT OR REPLACE INTO bare_device VALUES (?, ?, ?, ?)",
            [(at, os.urandom(_STATEMENT), os.urandom(_STATEMENT), os.urandom(32)) for at in range(DEVICES)],
        )
        connection.executemany(
            "INSERT INTO bare_key (device, leaf, proof) VALUES (?, ?, ?)",
            [(at % DEVICES, os.urandom(_LEAF), os.urandom(_PROOF)) for at in range(DEVICES * STOCK // 4)],
        )
    connection.close()
    started = [
        subprocess.Popen([sys.executable, "-m", "bench.peers.bare_sql", _path()], stdout=subprocess.PIPE, text=True)
        for _ in range(clients)
    ]
    return sum(int(process.communicate()[0]) for process in started) / SECONDS


def _claims(path: str) -> int:
    connection = sqlite3.connect(path, timeout=30, isolation_level=None)
    connection.executescript("PRAGMA synchronous=FULL;")
    made, end = 0, time.monotonic() + SECONDS
    while time.monotonic() < end:
        device = made % DEVICES
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("SELECT statement, signed_pre_key, head FROM bare_device WHERE id = ?", [device]).fetchone()
        taken = connection.execute(
            "DELETE FROM bare_key WHERE id = (SELECT id FROM bare_key WHERE device = ? ORDER BY id LIMIT 1)"
            " RETURNING leaf, proof",
            [device],
        ).fetchall()
        connection.execute("INSERT INTO bare_entry (leaf) VALUES (?)", [b"".join(taken[0])])
        connection.execute("COMMIT")
        made += 1
    return made


if __name__ == "__main__":
    print(_claims(sys.argv[1]))
