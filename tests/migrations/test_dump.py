# SPDX-License-Identifier: Apache-2.0
"""An upgrade as docs/operations.md has it: a dump that earlier code left is put back, migrated, and all goes on.

PLATFORM "Running it". The dump, the directories beside it and the clients' profiles are of one installation on
PostgreSQL, as the commit before four migrations left it; see README.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from holdfast.client.profile import account as accounts
from holdfast.core.base.secret import SecretBytes
from tests.cast import kept
from tests.cast.pages import blocks
from tests.cast.server import PROJECT, Installation

pytestmark = [pytest.mark.postgres_only, pytest.mark.timeout(600)]
MEMBERS, RESIDENTS = ("alice-laptop", "alice-phone", "bob"), ("carol", "dan", "erin", "otto")


def restoring() -> list[str]:
    """Return the words of the command by which the page has a dump put back, but for where to and where from."""
    (command,) = [words for block in blocks() for words in block.commands() if words[0] == "pg_restore"]
    return command[: command.index("--dbname")]


@pytest.fixture(scope="module")
def upgraded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """The kept installation after the steps of the page, on a database and a port of its own."""
    server = os.environ["HOLDFAST_TEST_POSTGRES"]
    address = f"{server.rpartition('/')[0]}/upgraded"
    with psycopg.connect(server, autocommit=True) as administrator:
        administrator.execute("DROP DATABASE IF EXISTS upgraded WITH (FORCE)")
        administrator.execute("CREATE DATABASE upgraded")
    made = Installation(tmp_path_factory.mktemp("dump"), extra={"HOLDFAST_DATABASE_URL": address})
    kept.unpack(made.state_dir, kept.ON_POSTGRES)
    subprocess.run([*restoring(), "--dbname", address, str(made.state_dir / "holdfast.dump")], check=True)
    for name in (*MEMBERS, *RESIDENTS):
        directory = kept.profile(made.state_dir, name)
        passphrase = SecretBytes((directory / "passphrase").read_bytes().strip())
        with accounts.open_account(directory, passphrase=passphrase) as account:
            account.state.server = made.url
            account.save()
    try:
        yield made
    finally:
        made.stop()
        with psycopg.connect(server, autocommit=True) as administrator:
            administrator.execute("DROP DATABASE IF EXISTS upgraded WITH (FORCE)")


def holdfast(made: Installation, who: str, *arguments: str) -> dict[str, Any]:
    directory = kept.profile(made.state_dir, who)
    command = [sys.executable, "-m", "holdfast.cli", "--json", "--profile", str(directory)]
    done = subprocess.run(
        [*command, "--passphrase-file", str(directory / "passphrase"), *arguments],
        cwd=PROJECT,
        env=made.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, (who, arguments, done.stdout, done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def test_dump_of_before_is_migrated_and_until_then_said_to_be_older(upgraded: Installation) -> None:
    before = upgraded.manage("doctor", check=False, HOLDFAST_ROLE="ceremony").stdout
    assert "lacks migrations of this version" in before
    assert "manage.py migrate" in before
    upgraded.manage("migrate")
    assert upgraded.manage("migrate", "--check", check=False).returncode == 0


def test_services_start_and_the_doctor_finds_nothing_wrong(upgraded: Installation) -> None:
    upgraded.start()
    # As the ceremony: to PostgreSQL all processes of `up` are one user, which as a service's is found wrong.
    said = upgraded.manage("doctor", HOLDFAST_ROLE="ceremony").stdout
    assert "Everything that this account sees is as it has to be." in said


def test_message_that_waited_is_read_and_answered_by_the_profiles_of_before(upgraded: Installation) -> None:
    for device in ("alice-laptop", "alice-phone"):
        texts = [one["text"] for one in holdfast(upgraded, device, "receive")["messages"]]
        assert "Read me after the upgrade." in texts, device
        holdfast(upgraded, device, "maintain")
    draft = upgraded.directory / "draft"
    draft.write_text("Read after the upgrade.")
    draft.chmod(0o600)
    assert holdfast(upgraded, "alice-laptop", "send", "bob@acme.test", "--file", str(draft))["sent"]
    assert "Read after the upgrade." in [one["text"] for one in holdfast(upgraded, "bob", "receive")["messages"]]


def test_deposit_of_before_is_there_and_the_officers_profiles_go_on(upgraded: Installation) -> None:
    assert holdfast(upgraded, "alice-laptop", "escrow", "status")
    for name in ("carol", "dan", "erin"):
        assert holdfast(upgraded, name, "officer", "doors")["doors"]


def test_log_of_before_and_since_is_verified_whole(upgraded: Installation) -> None:
    export = upgraded.directory / "audit.jsonl"
    holdfast(upgraded, "otto", "audit", "export", "--out", str(export))
    command = [sys.executable, "-m", "holdfast.cli", "--json", "audit", "verify", str(export)]
    trust = ("--trust", str(upgraded.demo / "log.vkey"))
    done = subprocess.run([*command, *trust], cwd=PROJECT, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout
