# SPDX-License-Identifier: Apache-2.0
"""An installation that earlier code made is started by `up` as it is: it carries itself over, and goes on."""

from __future__ import annotations

import json
import secrets
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from holdfast.client.profile import account as accounts
from holdfast.client.profile.private_files import write_private
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import SIGNING_KINDS, decode_public_key
from holdfast.core.identity.roles import Roles, check_leaf, verify_roles
from holdfast.core.log import merkle
from holdfast.core.signed.cose import Sign1
from tests.cast import kept
from tests.cast.server import PROJECT, Installation, wait_for

pytestmark = pytest.mark.timeout(300)

OLD = 257  # entries older than signatures, the four that waited included
WAITING, REQUESTED, RELEASED = (
    "36f6a3db-d595-6dad-9f09-9932dc2078bf",
    "f607debc-5498-a93c-c5a2-fe79602ee548",
    "d7e23a72-108d-4ac7-c840-1feca9c22aad",
)
PROFILES = ("carol", "dan", "erin", "otto")
# After this the released case has expired, as cases do.
EXPIRES = datetime(2026, 12, 29, tzinfo=UTC)


def move_profiles(installation: Installation) -> None:
    """Have the kept profiles ask this installation, at a port of its own, in place of the one that is gone."""
    for name in PROFILES:
        directory = kept.profile(installation.state_dir, name)
        passphrase = SecretBytes((directory / "passphrase").read_bytes().strip())
        with accounts.open_account(directory, passphrase=passphrase) as account:
            account.state.server = installation.url
            account.save()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The kept installation after a plain `up`, on a port of its own."""
    directory = tmp_path_factory.mktemp("carried")
    made = Installation(directory)
    kept.unpack(made.state_dir)
    move_profiles(made)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def rows(installation: Installation, query: str, *values: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(installation.state_dir / "holdfast.sqlite3")) as database:
        return database.execute(query, values).fetchall()


def state_of(installation: Installation, case: str) -> tuple[str, str]:
    ((state, why),) = rows(installation, "SELECT state, why FROM recovery_case WHERE id = ?", UUID(case).hex)
    return str(state), str(why)


def holdfast(installation: Installation, who: str | Path, *arguments: str, expect: int = 0) -> dict[str, Any]:
    """Run one command as the holder of a kept profile, or of one in a directory."""
    directory = who if isinstance(who, Path) else kept.profile(installation.state_dir, who)
    command = [sys.executable, "-m", "holdfast.cli", "--json", "--profile", str(directory)]
    done = subprocess.run(
        [*command, "--passphrase-file", str(directory / "passphrase"), *arguments],
        cwd=PROJECT,
        env=installation.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == expect, (who, arguments, done.stdout, done.stderr)
    found: dict[str, Any] = json.loads((done.stdout or done.stderr).strip().splitlines()[-1])
    return found


def roles_of(installation: Installation) -> Roles:
    """The roles that the ceremony published, held to the root that the sequencer was given."""
    ((statement,),) = rows(installation, "SELECT statement FROM audit_rolesstatement")
    pinned = (installation.state_dir / "sequencer" / kept.TENANT / "root").read_bytes()
    root = decode_public_key(pinned, expect=SIGNING_KINDS)
    return verify_roles(Sign1.parse(statement), tenant=UUID(kept.TENANT).bytes, root_key=root).roles


def test_up_says_what_it_carries_over_and_does_it_once(running: Installation) -> None:
    said = running.log.read_text()
    assert "acme was founded by an earlier version: carrying it over" in said
    again = running.manage("ceremony", "roles", "acme", "--yes", HOLDFAST_ROLE="ceremony")
    assert "Nothing is missing; nothing was changed." in again.stdout


def test_tenant_keys_of_before_are_bound_once_and_a_key_without_its_bond_never_again(running: Installation) -> None:
    assert "The tenants' master keys were made by an earlier version: binding them" in running.log.read_text()
    ((mac,),) = rows(running, "SELECT mac FROM keys_tenantmasterkey")
    assert len(mac) == 32
    ((tag, actor),) = rows(running, "SELECT tag, actor FROM audit_entries WHERE tag = 'keys:tenant-key:bind'")
    assert (tag, actor) == ("keys:tenant-key:bind", "system:ceremony")
    # Whoever writes the database takes the bond away and waits for the next ceremony: there is none.
    again = running.manage("ceremony", "tenant-keys", "--yes", HOLDFAST_ROLE="ceremony")
    assert "Nothing is missing; nothing was changed." in again.stdout


def test_tenant_keys_that_a_backup_of_before_brings_back_are_bound_by_the_operators_word(running: Installation) -> None:
    ((before,),) = rows(running, "SELECT mac FROM keys_tenantmasterkey")
    with closing(sqlite3.connect(running.state_dir / "holdfast.sqlite3")) as database, database:
        database.execute("UPDATE keys_tenantmasterkey SET mac = NULL")
    held = partial(running.manage, "ceremony", "tenant-keys", HOLDFAST_ROLE="ceremony")
    assert "Nothing is missing; nothing was changed." in held("--yes").stdout
    said = held("--yes", "--restored").stdout
    assert "You vouch that nobody but you has written this database" in said
    assert "acme, key 1: bound; it opens records of this tenant." in said
    assert rows(running, "SELECT mac FROM keys_tenantmasterkey") == [(before,)]
    assert "Nothing is missing; nothing was changed." in held("--yes", "--restored").stdout


def test_entries_of_before_are_pinned_and_those_since_are_signed_by_their_roles(running: Installation) -> None:
    roles = roles_of(running)

    def leaves() -> list[bytes]:
        found = rows(running, "SELECT leaf FROM audit_entry WHERE log = 'audit' ORDER BY leaf_index")
        return [bytes(leaf) for (leaf,) in found]

    wait_for(lambda: len(leaves()) > OLD)
    log = leaves()
    assert roles.unsigned == (OLD, merkle.root([merkle.leaf_hash(leaf) for leaf in log[:OLD]]))
    entries = [check_leaf(leaf, index=index, roles=roles) for index, leaf in enumerate(log)]
    assert not any(entry.kid for entry in entries[:OLD])
    assert "audit:roles:publish" in {entry.tag for entry in entries[OLD:]}
    assert rows(running, "SELECT count(*) FROM audit_waiting WHERE refused <> ''") == [(0,)]


def test_release_directory_keeps_its_keys_by_name_and_nothing_of_its_older_form(running: Installation) -> None:
    directory = running.state_dir / "release" / kept.TENANT
    wait_for((directory / "heads").exists)
    assert {path.name for path in directory.iterdir()} >= {"keys", "trust", "roles", "spent", "heads"}
    assert not {path.name for path in directory.iterdir()} & {"signing.seed", "sealing.seed", "policy", "follower"}
    assert len(list((directory / "keys").glob("*.seed"))) == 2


def test_cases_under_way_have_ended_and_say_so(running: Installation) -> None:
    assert [state_of(running, case) for case in (WAITING, REQUESTED)] == [("held", "voided")] * 2
    asked = rows(
        running, "SELECT count(*) FROM recovery_notice WHERE kind = 'voided' AND case_id = ?", UUID(WAITING).hex
    )
    assert asked == [(1,)]  # alice, who had asked for their own


@pytest.mark.skipif(datetime.now(UTC) >= EXPIRES, reason="the kept case has expired")
def test_case_that_was_released_is_still_collected(running: Installation) -> None:
    done = holdfast(running, "dan", "recover", "escrow", "collect", "--wait", "30")
    assert (done["generations"], done["blamed"]) == ([1], [])


def test_old_deposits_are_released_in_a_new_case_by_the_kept_officers(running: Installation) -> None:
    device = running.directory / "alice-new"
    device.mkdir(mode=0o700)
    write_private(device / "passphrase", secrets.token_urlsafe(18))
    ((alice,),) = rows(running, "SELECT id FROM tenants_person WHERE email = 'alice@acme.test'")
    code = running.directory / "alice-new.code"
    holdfast(running, "carol", "officer", "code", str(UUID(alice)), "--out", str(code))
    enrolling = ("enrol", "--server", running.url, "--code-file", str(code), "--name", "new", "--development")
    holdfast(running, device, *enrolling)
    asked = holdfast(running, device, "recover", "escrow", "open", "--reason", "All devices lost.")
    words, case_id = asked["recipient_words"], asked["case_id"]
    for name in ("dan", "erin"):
        asked = holdfast(running, name, "officer", "show", case_id)["ask_words"]
        heard = [option for place in asked for option in ("--word", f"{place}={words[place - 1]}")]
        holdfast(running, name, "officer", "approve", case_id, "--yes", "--identity-check", "Call.", *heard)
    done = holdfast(running, device, "recover", "escrow", "collect", "--wait", "90")
    assert (sorted(done["generations"]), done["blamed"]) == ([1, 2], [])


def test_log_is_exported_and_verified_whole(running: Installation) -> None:
    export = running.directory / "audit.jsonl"
    holdfast(running, "otto", "audit", "export", "--out", str(export))
    command = [sys.executable, "-m", "holdfast.cli", "--json", "audit", "verify", str(export)]
    trust = ("--trust", str(running.demo / "log.vkey"))
    done = subprocess.run([*command, *trust], cwd=PROJECT, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["size"] > OLD
