# SPDX-License-Identifier: Apache-2.0
"""Four processes under four accounts, of the system and of PostgreSQL: all is done, and none does another's.

FAULTS L14, L15 and L17; PLATFORM "Running it". On real tokens, files with their owners, and users as granted.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from config.database_roles import PROCESSES
from config.refusal import REFUSED
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import KeyKind, SigningKey
from holdfast.core.log.log_entry import LogEntry, log_origin
from tests.cast.accounts import Hands, Separated, as_account, have_root_run, interpreter, separated
from tests.cast.server import PROJECT, wait_for
from tests.journeys.demo import Walk

pytestmark = pytest.mark.postgres_only
IS_ROOT = os.geteuid() == 0
TAG = "audit:entries:read"


@pytest.mark.skipif(IS_ROOT, reason="it is root who runs these tests")
def test_accounts_are_kept_apart_when_root_runs_these_tests() -> None:
    have_root_run(__file__)


@pytest.fixture(scope="module")
def house() -> Iterator[Separated]:
    if not IS_ROOT:
        pytest.skip("starting processes as other accounts takes root")
    if interpreter() is None:
        pytest.skip("other accounts can run neither this Python nor the system's, or cannot read the project")
    # Not below pytest's own directory, which no other account enters.
    with tempfile.TemporaryDirectory(prefix="holdfast-accounts-") as directory, separated(Path(directory)) as made:
        yield made


@pytest.fixture
def web(house: Separated) -> Iterator[Hands]:
    with house.hands("web") as hands:
        yield hands


def owner(house: Separated, sql: str, *arguments: Any) -> Any:
    with psycopg.connect(house.owner_url, autocommit=True) as connection:
        return connection.execute(sql, arguments).fetchall()


def tenant_of(house: Separated) -> UUID:
    ((tenant,),) = owner(house, "SELECT id FROM tenants_tenant")
    return UUID(str(tenant))


def leaf(house: Separated, tag: str = TAG, *, role: str = "web") -> bytes:
    """Sign an entry with what lies in a role's key file; only the web process's is the forger's."""
    key = SigningKey.from_seed(KeyKind.ED25519, SecretBytes((house.home(role) / "role.key").read_bytes()))
    entry = LogEntry(uuid4().bytes, tag, "device:x", b"", "", 1_700_000_000)
    return entry.to_signed_leaf(origin=log_origin(str(tenant_of(house)), "audit"), key=key)


def insert(house: Separated, hands: Hands, octets: bytes, **changes: Any) -> tuple[str, dict[str, Any]]:
    entry = LogEntry.from_leaf(octets)
    row = {
        "id": str(UUID(bytes=entry.entry_id)),
        "tenant_id": str(tenant_of(house)),
        "log": "audit",
        "leaf": octets,
        "tag": entry.tag,
        "actor": entry.actor,
        "subject": entry.subject,
        "time": "2001-01-01T00:00:00Z",
        "body": "{}",
    } | changes
    columns = ", ".join(row)
    done = hands.sql(f"INSERT INTO audit_waiting ({columns}) VALUES ({', '.join(['%s'] * len(row))})", *row.values())
    return str(row["id"]), done


def numbered(house: Separated, entry_id: str) -> bool:
    """Tell whether an entry has its index, and a signed head covers it."""
    found = owner(
        house,
        "SELECT e.leaf_index < max(c.size) FROM audit_entry e JOIN audit_checkpoint c USING (tenant_id, log)"
        " WHERE e.id = %s GROUP BY e.leaf_index",
        entry_id,
    )
    return bool(found == [(True,)])


def test_web_account_forges_nothing_and_the_sequencer_goes_on(house: Separated, web: Hands) -> None:
    bare = LogEntry(uuid4().bytes, TAG, "device:x", b"", "", 1_700_000_000)
    honest = [insert(house, web, leaf(house))]
    forged = {
        insert(house, web, bare.to_leaf())[0]: "unsigned",
        **{
            insert(house, web, leaf(house, tag))[0]: "role"
            for tag in ("recovery:notice:hand-over", "recovery:release:finish", "audit:log:accept")
        },
        insert(house, web, leaf(house), tag="recovery:release:finish")[0]: "columns",
    }
    replayed = leaf(house)
    honest += [insert(house, web, replayed), insert(house, web, leaf(house, "tenants:person:activate"))]
    forged[insert(house, web, replayed, id=str(uuid4()))[0]] = "columns"
    for statement in (
        "UPDATE audit_entry SET leaf_index = 0",
        "DELETE FROM audit_entry",
        "TRUNCATE audit_entry",
        "INSERT INTO audit_entry SELECT * FROM audit_entry",
        "UPDATE audit_waiting SET refused = 'key'",
        "DELETE FROM audit_waiting",
        "TRUNCATE audit_waiting",
        "INSERT INTO audit_checkpoint SELECT * FROM audit_checkpoint",
        "UPDATE audit_loghead SET size = size + 1",
        "UPDATE audit_tile SET hashes = ''",
        "DELETE FROM audit_rolesstatement",
        "UPDATE escrow_policyofficer SET index = 9",
        "DELETE FROM recovery_veto",
        "SET ROLE " + house.prefix + "sequencer",
    ):
        assert "permission denied" in web.sql(statement)["why"], statement
    for given in ({"refused": "key"}, {"seq": -1}):
        assert "permission denied" in insert(house, web, leaf(house), **given)[1]["why"]
    honest.append(insert(house, web, leaf(house)))
    assert [done for _, done in honest] == [{"rows": []}] * len(honest)
    wait_for(lambda: all(numbered(house, entry_id) for entry_id, _ in honest))
    found = owner(house, "SELECT id, refused FROM audit_waiting WHERE refused <> ''")
    assert {str(entry_id): why for entry_id, why in found} == forged
    ((recent,),) = owner(house, "SELECT bool_and(time > now() - interval '10 minutes') FROM audit_entries")
    assert recent, "the time of a row is the database's"
    assert all(f"entry {entry_id} gets no index: {why}" in house.log("sequencer") for entry_id, why in forged.items())


def test_no_account_reads_what_is_anothers(house: Separated) -> None:
    for process in PROCESSES:
        with house.hands(process) as hands:
            assert "bytes" in hands.read(house.home(process) / "role.key"), "its own"
            others = [other for other in PROCESSES if other != process]
            secrets = [
                *(house.home(other) / "role.key" for other in others),
                *(house.home(other) / "hsm" / "pins" for other in others),
                *(house.home(other) / other for other in ("sequencer", "release") if other != process),
                *(house.ceremony / name for name in ("roles", "hsm/pins/ceremony.pin", "sequencer", "secret.key")),
            ]
            for path in secrets:
                assert path.exists(), path
                assert hands.read(path).get("refused") == "PermissionError", (process, path)


def start_and_end(house: Separated, process: str, **changes: str) -> str:
    """Start a process of production that has to refuse, and return what it said."""
    found = interpreter()
    assert found is not None
    done = subprocess.run(
        [found[0], "manage.py", process],
        cwd=PROJECT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": found[1], "PYTHONDONTWRITEBYTECODE": "1"}
        | house.environment(process)
        | changes,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **as_account(process),
    )
    assert done.returncode == REFUSED, done
    return str(done.stderr)


def test_process_does_not_start_as_somebody_else(house: Separated) -> None:
    assert "holdfast.E013" in start_and_end(house, "sequencer", HOLDFAST_DATABASE_URL=house.owner_url)
    assert "holdfast.E015" in start_and_end(house, "release", HOLDFAST_DATABASE_URL=house.database_url("web"))
    key = house.home("web") / "role.key"
    assert "The role key" in start_and_end(house, "sequencer", HOLDFAST_ROLE_KEY_FILE=str(key))
    for process in ("sequencer", "release"):
        (house.home(process) / process).chmod(0o755)
        try:
            assert "holdfast.E014" in start_and_end(house, process)
        finally:
            (house.home(process) / process).chmod(0o700)


@pytest.mark.timeout(1800)
@pytest.mark.soak("accounts")
def test_the_whole_work_is_done_by_accounts_that_have_no_more_than_they_need(
    house: Separated, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in house.owner_environment.items():
        monkeypatch.setenv(name, value)
    walk = Walk(house.url, house.ceremony / "demo")
    walk.run()
    assert len(walk.steps) == 41
    for process in PROCESSES:
        said = house.log(process)
        assert "ProgrammingError" not in said, said
        assert "permission denied" not in said, said
