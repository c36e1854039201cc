# SPDX-License-Identifier: Apache-2.0
"""An installation that earlier code made is carried over: after the migrations all of it is there, and proven."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from uuid import UUID

import pytest

from config.ceremonies.root import public_key
from holdfast.client.profile import account as accounts
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import verify
from holdfast.core.log import merkle, tiles
from holdfast.core.log.checkpoint import NoteVerifier
from hsm.ceremony import Ceremony
from tests.cast import kept
from tests.cast.server import PROJECT, Installation

# As they stood when the installation was stopped.
CASES = {
    "98765a65-6e65-9755-f2aa-908d2a932c30": "rotated",
    "42e8384f-ff50-1150-2ab4-0ce4dd1e7e36": "cancelled",
    "40f85c85-4dea-3210-5e8d-04c049a0df46": "cancelled",
    "f607debc-5498-a93c-c5a2-fe79602ee548": "requested",
    "b5aa6bb7-d3d7-30a9-4457-26916c51d414": "vetoed",
    "d7e23a72-108d-4ac7-c840-1feca9c22aad": "released",
    "36f6a3db-d595-6dad-9f09-9932dc2078bf": "waiting",
}
DEPOSITS = 4
PEOPLE = {"olivia", "carol", "dan", "erin", "rex", "otto", "alice", "bob"}
ENTRIES = {"audit": 253, "keys": 24}
# It was stopped between the last approval and the next head: these wait for their numbers.
PENDING = {"audit": 4, "keys": 0}
PROFILES = ("olivia", "carol", "dan", "erin", "otto", "alice-tablet", "alice-slate", "bob", "bob-phone")


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The kept installation, unpacked and migrated as `up` would."""
    made = kept.unpacked(tmp_path_factory.mktemp("kept"))
    made.manage("migrate")
    return made


def rows(installation: Installation, query: str, *values: object) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(installation.state_dir / "holdfast.sqlite3")) as database:
        return database.execute(query, values).fetchall()


def test_every_migration_is_made(migrated: Installation) -> None:
    assert migrated.manage("migrate", "--check", check=False).returncode == 0


def test_cases_deposits_and_people_are_all_there(migrated: Installation) -> None:
    cases = {UUID(str(case)): state for case, state in rows(migrated, "SELECT id, state FROM recovery_case")}
    assert cases == {UUID(case): state for case, state in CASES.items()}
    assert rows(migrated, "SELECT count(*) FROM escrow_deposit") == [(DEPOSITS,)]
    assert {str(email).partition("@")[0] for (email,) in rows(migrated, "SELECT email FROM tenants_person")} == PEOPLE


def test_sizes_of_mailboxes_are_those_of_a_count(migrated: Installation) -> None:
    kept_sizes = rows(migrated, "SELECT device_id, sort, sender, messages, octets FROM keys_mailboxsize")
    counted: dict[tuple[object, ...], list[int]] = {}
    waiting = """
        SELECT m.device_id, m.kind, m.sender_user, m.sender_device, m.size, d.user_id
        FROM keys_message m JOIN keys_device d ON d.id = m.device_id AND d.tenant_id = m.tenant_id
    """
    for device, kind, user, sender, size, owner in rows(migrated, waiting):
        if kind == "notice":
            continue
        sort = 3 if user == owner else 1 if kind == "message" else 2
        for whose in ("0" * 32, sender if user == owner else user):
            count = counted.setdefault((device, sort, whose), [0, 0])
            count[0], count[1] = count[0] + 1, count[1] + int(str(size))
    assert counted
    assert {row[:3]: list(row[3:]) for row in kept_sizes} == counted


@pytest.mark.parametrize("log", ENTRIES)
def test_the_leaves_and_the_tiles_of_a_log_are_those_that_its_head_was_signed_over(
    log: str, migrated: Installation
) -> None:
    found = rows(migrated, "SELECT leaf FROM audit_entry WHERE log = ? ORDER BY leaf_index", log)
    pending = rows(migrated, "SELECT count(*) FROM audit_waiting WHERE log = ?", log)
    assert (len(found), pending) == (ENTRIES[log], [(PENDING[log],)])
    note, vkey = rows(
        migrated, "SELECT note, vkey FROM audit_checkpoint WHERE log = ? ORDER BY size DESC LIMIT 1", log
    )[0]
    trusted = NoteVerifier.from_text((migrated.demo / "log.vkey").read_text().strip())
    verifier = NoteVerifier.from_text(str(vkey))
    assert verifier.key == trusted.key
    head = verifier.open_checkpoint(str(note))
    assert head.size == ENTRIES[log]

    def tile(level: int, index: int) -> bytes:
        query = 'SELECT hashes FROM audit_tile WHERE log = ? AND level = ? AND "index" = ?'
        (hashes,) = rows(migrated, query, log, level, index)[0]
        assert isinstance(hashes, bytes)
        return hashes

    leaves = [leaf for (leaf,) in found if isinstance(leaf, bytes)]
    assert merkle.root([merkle.leaf_hash(leaf) for leaf in leaves]) == head.root
    assert tiles.root(tile, head.size) == head.root


def test_a_log_exported_then_is_verified_now(migrated: Installation) -> None:
    command = [sys.executable, "-m", "holdfast.cli", "--json", "audit", "verify"]
    file, trust = migrated.demo / "members" / "audit.jsonl", migrated.demo / "log.vkey"
    done = subprocess.run(
        [*command, str(file), "--trust", str(trust)], cwd=PROJECT, text=True, capture_output=True, check=False
    )
    assert (done.returncode, json.loads(done.stdout)["size"]) == (0, 190)


def test_the_tenant_root_signs(migrated: Installation) -> None:
    ceremony = Ceremony(kept.hsm_of(migrated.state_dir))
    signature = ceremony.sign_with_tenant_root(kept.TENANT, b"what a ceremony signs")
    root = ceremony.tenant_root(kept.TENANT)
    verify(public_key(root), signature, b"what a ceremony signs")


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_opens(name: str, migrated: Installation) -> None:
    directory = kept.profile(migrated.state_dir, name)
    passphrase = SecretBytes((directory / "passphrase").read_bytes().strip())
    with accounts.open_account(directory, passphrase=passphrase) as account:
        assert account.state.server == f"http://127.0.0.1:{kept.PORT}"
