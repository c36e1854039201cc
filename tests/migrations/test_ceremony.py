# SPDX-License-Identifier: Apache-2.0
"""`ceremony roles` over the kept installation: what it refuses, that it goes on where it stopped, keys that change."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from holdfast.core.base.encoding import Fields, decode, encode
from holdfast.core.crypto.keys import SIGNING_KINDS, decode_public_key
from holdfast.core.identity.roles import Roles, verify_roles
from holdfast.core.log.writers import Role
from holdfast.core.signed.cose import Sign1
from tests.cast import kept
from tests.cast.server import Installation


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    made = kept.unpacked(tmp_path_factory.mktemp("kept"))
    made.manage("migrate")
    return made


@pytest.fixture
def installation(migrated: Installation, tmp_path: Path) -> Installation:
    """The kept installation after its migrations, of this test's own."""
    made = Installation(tmp_path)
    shutil.copytree(migrated.state_dir, made.state_dir)
    return made


@pytest.fixture(scope="module")
def carried(migrated: Installation, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    made = Installation(tmp_path_factory.mktemp("carried"))
    shutil.copytree(migrated.state_dir, made.state_dir)
    assert ceremony(made).returncode == 0
    return made


def ceremony(installation: Installation, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ("ceremony", "roles", "acme", "--yes", *arguments)
    return installation.manage(*command, check=False, HOLDFAST_ROLE="ceremony")


def database(installation: Installation) -> Any:
    return closing(sqlite3.connect(installation.state_dir / "holdfast.sqlite3", isolation_level=None))


def published(installation: Installation) -> list[Roles]:
    """The versions that are stored, oldest first, each held to the pinned root and to the one before."""
    with database(installation) as rows:
        stored = rows.execute("SELECT statement FROM audit_rolesstatement ORDER BY version").fetchall()
    if not stored:
        return []
    pinned = (installation.state_dir / "sequencer" / kept.TENANT / "root").read_bytes()
    root, found, seen = decode_public_key(pinned, expect=SIGNING_KINDS), [], None
    for (statement,) in stored:
        seen = verify_roles(Sign1.parse(statement), tenant=UUID(kept.TENANT).bytes, root_key=root, seen=seen)
        found.append(seen.roles)
    return found


def numbered(installation: Installation) -> int:
    with database(installation) as rows:
        (size,) = rows.execute("SELECT size FROM audit_loghead WHERE log = 'audit'").fetchone()
    return int(size)


def test_stored_entry_that_was_changed_is_never_pinned(installation: Installation) -> None:
    with database(installation) as rows:
        for (name,) in rows.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            rows.execute(f"DROP TRIGGER {name}")
        rows.execute(
            "UPDATE audit_entry SET leaf = CAST(leaf || x'00' AS BLOB) WHERE log = 'audit' AND leaf_index = 17"
        )
    done = ceremony(installation)
    assert done.returncode != 0
    assert "The stored log is not the one that was signed" in done.stderr
    assert (published(installation), numbered(installation)) == ([], 253)


def test_log_that_the_release_process_did_not_follow_is_never_pinned(installation: Installation) -> None:
    path = installation.state_dir / "release" / kept.TENANT / "follower"
    before, policy = path.read_bytes(), path.with_name("policy").read_bytes()
    path.with_name("policy").write_bytes(encode([1, bytes(32)]))
    assert "the policy history is not the one seen before" in ceremony(installation).stderr
    path.with_name("policy").write_bytes(policy)
    fields = Fields(decode(before), "log follower", (1, 2, 3))
    changed = fields.octets(2)[:-1] + bytes([fields.octets(2)[-1] ^ 1])
    path.write_bytes(encode({1: fields.text(1), 2: changed, 3: fields.uint(3)}))
    done = ceremony(installation)
    assert done.returncode != 0
    assert "followed another log than the one stored" in done.stderr
    assert (published(installation), path.exists()) == ([], True)
    # What is put right is taken up where it stopped.
    path.write_bytes(before)
    assert ceremony(installation).returncode == 0
    (roles,) = published(installation)
    assert roles.unsigned is not None
    assert roles.unsigned[0] == 257
    assert not path.exists()


def test_it_asks_before_anything_is_done(installation: Installation) -> None:
    done = installation.manage("ceremony", "roles", "acme", check=False, HOLDFAST_ROLE="ceremony")
    assert done.returncode != 0
    assert "have the tenant root sign version 1 of the roles" in done.stdout
    assert not (installation.state_dir / "roles").exists()
    of_no_role = installation.manage("ceremony", "roles", "acme", "--yes", check=False)
    assert "HOLDFAST_ROLE=ceremony" in of_no_role.stderr


def test_a_key_is_followed_by_another_and_ends(carried: Installation, tmp_path: Path) -> None:
    (first,) = published(carried)
    old = next(first.of(Role.WEB))
    # Made on an account of its own: only its public half comes here.
    elsewhere = Installation(tmp_path)
    line = elsewhere.manage("role_key", HOLDFAST_ROLE="web").stdout
    public = tmp_path / "web.pub"
    public.write_text(line)
    assert elsewhere.manage("role_key", HOLDFAST_ROLE="web").stdout == line
    wrong = ceremony(carried, "--key", f"worker={public}")
    assert "holds a key of the role web, not of worker" in wrong.stderr
    alone = ceremony(carried, "--end", "web", old.kid.hex())
    assert "web would be left without a key" in alone.stderr
    assert ceremony(carried, "--key", f"web={public}").returncode == 0
    assert ceremony(carried, "--key", f"web={public}").stdout.startswith("Nothing is missing")
    ended = ceremony(carried, "--key", f"web={public}", "--end", "web", old.kid.hex())
    assert ended.returncode == 0, ended.stderr
    _, _, third = published(carried)
    row = third.named(old.kid)
    assert row is not None
    assert row.until == numbered(carried)
    assert len(list(third.of(Role.WEB))) == 1
    assert third.unsigned == first.unsigned
    again = ceremony(carried, "--key", f"web={public}", "--end", "web", old.kid.hex())
    assert again.stdout.startswith("Nothing is missing")
    in_use = ceremony(carried, "--end", "log", next(third.of(Role.LOG)).kid.hex())
    assert "put its next in place first" in in_use.stderr
    unknown = ceremony(carried, "--end", "worker", "00" * 16)
    assert "The roles name no key" in unknown.stderr


def test_roles_that_the_release_process_saw_are_not_signed_anew_when_rows_are_gone(
    carried: Installation, tmp_path: Path
) -> None:
    """A database that was put back would have the root give one number twice, and name a key again that has ended."""
    made = Installation(tmp_path)
    shutil.copytree(carried.state_dir, made.state_dir)
    with database(made) as rows:
        for (name,) in rows.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            rows.execute(f"DROP TRIGGER {name}")
        rows.execute("DELETE FROM audit_rolesstatement")
    done = ceremony(made)
    assert done.returncode != 0
    assert "not those that the release process saw (they are gone)" in done.stderr
    assert published(made) == []
