# SPDX-License-Identifier: Apache-2.0
"""Each process's database user may do what that process does, and nothing else (FAULTS L14, PLATFORM "Running it")."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import Model

from config import checks
from config.database_roles import PROCESSES, RIGHTS_OF_THE_USER, columns, differing, grants, role_name, statements
from config.env import ENV
from tests.cast.database_roles import acting_as, database_users

# Beside the models, Django's list of the migrations that are made, by which a process knows the version of its tables.
MODELS: dict[str, type[Model]] = {
    model._meta.db_table: model for model in apps.get_models(include_auto_created=True)
} | {MigrationRecorder.Migration._meta.db_table: MigrationRecorder.Migration}
RUNNING = ("web", "worker", "release")


def test_every_table_stands_in_the_list_once_and_no_other_does() -> None:
    assert sorted(grants()) == sorted(MODELS), "a new model has its row in config/database_roles.py"
    for table, cells in grants().items():
        assert tuple(cells) == PROCESSES, table
        assert all(
            "riud".translate({ord(c): None for c in "riud" if c not in letters}) == letters
            for letters in cells.values()
        ), table


def test_every_column_that_a_right_is_limited_to_is_one_of_its_table() -> None:
    for table, cells in grants().items():
        known = {field.column for field in MODELS[table]._meta.local_fields if field.column}
        for process, letters in cells.items():
            for verb in "riud":
                limited = columns(table, verb, process)
                assert set(limited) <= known, (table, verb, process)
                assert not limited or verb in letters, (table, verb, process)
                assert not limited or verb != "d", "a row is deleted whole"


def may(verb: str, table: str) -> set[str]:
    return {process for process, letters in grants()[table].items() if verb in letters}


def test_the_sequencer_alone_numbers_and_publishes() -> None:
    assert may("i", "audit_entry") == {"sequencer"}
    assert not may("u", "audit_entry") | may("d", "audit_entry")
    # What waits goes by a trigger only, once the very same row stands at its index.
    assert may("u", "audit_waiting") == may("d", "audit_waiting") == {"sequencer"}
    assert columns("audit_waiting", "u", "sequencer") == ["refused"]
    for process in PROCESSES:
        assert columns("audit_waiting", "i", process)
        assert {"seq", "refused"}.isdisjoint(columns("audit_waiting", "i", process))
    for table in ("audit_loghead", "audit_tile", "audit_checkpoint"):
        assert may("i", table) == may("u", table) == {"sequencer"}
        assert not may("d", table)


def test_what_the_root_or_officers_sign_is_written_by_none_that_runs() -> None:
    owners_own = ("audit_rolesstatement", "tenants_tenant", "keys_tenantmasterkey")
    for table in owners_own:
        assert not may("i", table) | may("d", table), table
    # Of a tenant, its lock and its coming end alone: what it is called and whose root it has is the ceremony's.
    for process in ("web", "worker"):
        assert {"slug", "root_key", "root_pin", "is_development"}.isdisjoint(columns("tenants_tenant", "u", process))
    # The web process publishes what officers have signed with the last signature that it needs. A row proves nothing:
    # clients and the release process believe a version or a key by its signatures, from the pin.
    for table in ("escrow_policy", "escrow_policyofficer", "escrow_escrowkey"):
        assert (may("i", table), may("d", table)) == ({"web"}, set()), table
    # What the root has signed comes from a ceremony alone.
    assert not may("i", "escrow_escrowkeyproposal")
    assert columns("escrow_escrowkeyproposal", "u", "web") == ["statement", "published_at"]
    # A policy is locked by changes of its cases, which takes the right to a column that a trigger keeps as it is; that
    # a version was withdrawn, or where an officer stands, is a row's word: the release process reads what was signed.
    given = {process: columns("escrow_policy", "u", process) for process in may("u", "escrow_policy")}
    assert given == {"web": ["id", "withdrawn_at"], "worker": ["id"], "release": ["id"]}
    assert may("u", "escrow_policyofficer") == {"web"}
    assert columns("escrow_policyofficer", "u", "web") == ["state", "keys_lost_at"]
    assert not may("u", "audit_rolesstatement") | may("u", "escrow_escrowkey")


def test_what_a_person_signed_is_neither_changed_nor_deleted() -> None:
    for table in (
        *("recovery_approval", "recovery_veto", "recovery_casedeposit", "recovery_attestation", "escrow_consent"),
        *("keys_chainentry", "keys_chainfork", "keys_prekeybatch"),
    ):
        assert not may("u", table) | may("d", table), table
        assert may("i", table) == {"web"}, table
    assert not may("d", "recovery_case") | may("d", "escrow_deposit") | may("d", "recovery_notice")
    for process in PROCESSES:
        assert not {"statement", "q", "policy_hash", "expiry"} & set(columns("recovery_case", "u", process))


def test_who_finds_a_restored_backup_sets_the_mark_and_nobody_who_runs_takes_it_away() -> None:
    assert may("i", "audit_restored") == {"web", "sequencer", "release"}
    assert not may("u", "audit_restored") | may("d", "audit_restored") | may("d", "audit_shownhead")
    # What officers accepted, the ceremony writes down.
    assert may("r", "audit_acceptedlog") == {"web"}
    assert not may("i", "audit_acceptedlog") | may("u", "audit_acceptedlog") | may("d", "audit_acceptedlog")


def test_a_release_is_recorded_by_the_release_process_alone() -> None:
    for table in ("recovery_release", "recovery_releasedshare"):
        assert may("i", table) == {"release"}
    # Whoever ends a case destroys what was released in it; the web process may only say that a share is wrong.
    assert may("u", "recovery_release") == may("d", "recovery_releasedshare") == {"release", "worker"}
    assert not may("d", "recovery_release")
    assert columns("recovery_release", "u", "worker") == ["half", "destroyed_at"]
    # Where another share was handed on, the time for which it is kept begins anew.
    assert columns("recovery_release", "u", "release") == ["half", "destroyed_at", "at"]
    assert may("u", "recovery_releasedshare") == {"web"}
    assert columns("recovery_releasedshare", "u", "web") == ["blamed_at"]
    written = {table for table in grants() if any(verb in grants()[table]["release"] for verb in "iud")}
    assert written == {
        *(
            "audit_waiting",
            "audit_restored",
            "audit_tally",
            "kernel_heartbeat",
            "kernel_job",
            "escrow_policy",
            "escrow_receipt",
        ),
        *("recovery_case", "recovery_notice", "recovery_release", "recovery_releasedshare", "recovery_sealedshare"),
    }


def test_the_sequencer_reads_nothing_of_people_vaults_or_escrow() -> None:
    seen = {table for table, cells in grants().items() if cells["sequencer"] and not table.startswith("audit_")}
    assert seen == {"django_migrations", "kernel_heartbeat", "recovery_case", "tenants_nonce", "tenants_tenant"}
    assert columns("tenants_nonce", "r", "sequencer") == ["tenant_id", "expires_at"]
    assert columns("recovery_case", "r", "sequencer") == ["tenant_id", "state"]
    assert columns("tenants_tenant", "r", "sequencer") == ["slug", "is_development"]


def test_no_process_that_runs_makes_an_operator_or_changes_one() -> None:
    assert not may("i", "operators_operator") | may("u", "operators_operator") | may("d", "operators_operator")
    assert may("r", "operators_operator") == {"web"}
    assert may("u", "operators_operatorsession") == set()
    # Of jobs the web process promises new ones; what operators ask of old ones, a worker does.
    assert grants()["kernel_job"]["web"] == "ri"
    assert not any(grants()["django_admin_log"].values())


@pytest.mark.parametrize("prefix", ["", "Holdfast_", "1_", 'x"; DROP', "a" * 42])
def test_a_prefix_that_would_need_quotes_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="small letters"):
        list(statements("holdfast", prefix=prefix))


def test_the_command_is_for_postgresql_and_for_no_process_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(ENV, "role", "web")
        with pytest.raises(CommandError, match="as the owner"):
            call_command("database_roles")
    if connection.vendor != "postgresql":
        with pytest.raises(CommandError, match="SQLite"):
            call_command("database_roles")


@pytest.fixture
def prefix(db: None) -> Iterator[str]:
    with database_users() as made:
        yield made


@pytest.mark.postgres_only
@pytest.mark.django_db
def test_the_command_says_which_users_are_missing_and_grants_nothing() -> None:
    said = StringIO()
    with pytest.raises(CommandError) as refused:
        call_command("database_roles", prefix="nobody_", stdout=said)
    assert all(f"CREATE ROLE nobody_{process} LOGIN;" in str(refused.value) for process in PROCESSES)
    assert not said.getvalue()
    with pytest.raises(CommandError, match="small letters"):
        call_command("database_roles", prefix="No_", stdout=said)


@pytest.mark.postgres_only
def test_the_command_prints_what_it_grants_and_takes_back_what_was_granted_by_hand(prefix: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"GRANT ALL ON audit_entry, audit_loghead TO {role_name('web', prefix=prefix)}")
        cursor.execute(f"GRANT UPDATE (leaf) ON audit_entry TO {role_name('sequencer', prefix=prefix)}")
    printed = StringIO()
    call_command("database_roles", "--sql", prefix=prefix, stdout=printed)
    assert _differing("web", prefix), "--sql changes nothing"
    for _ in range(2):
        said = StringIO()
        call_command("database_roles", prefix=prefix, stdout=said)
        assert printed.getvalue() == f"BEGIN;\n{said.getvalue()}COMMIT;\n"
        for process in PROCESSES:
            assert _differing(process, prefix) == []


_BEYOND_TABLES = """
SELECT has_schema_privilege(%(name)s, 'public', 'CREATE'),
       has_database_privilege(%(name)s, current_database(), 'TEMP'),
       has_function_privilege(%(name)s, 'of_later()', 'EXECUTE'),
       (SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace
           AND CASE WHEN relkind = 'S' THEN has_sequence_privilege(%(name)s, oid, 'USAGE, UPDATE') END)
"""


@pytest.mark.postgres_only
def test_each_user_has_the_rights_of_its_process_and_of_no_other(prefix: str) -> None:
    for process in PROCESSES:
        assert _differing(process, prefix) == []
        for other in PROCESSES:
            assert other == process or _differing(process, prefix, of=other)
    with connection.cursor() as cursor:
        cursor.execute("CREATE FUNCTION of_later() RETURNS int LANGUAGE sql AS 'SELECT 1'")
        for process in PROCESSES:
            name = role_name(process, prefix=prefix)
            cursor.execute(_BEYOND_TABLES, {"name": name})
            assert cursor.fetchone() == (False, False, False, 0), process


def _differing(process: str, prefix: str, *, of: str = "") -> list[str]:
    with acting_as(process, prefix=prefix), connection.cursor() as cursor:
        cursor.execute(RIGHTS_OF_THE_USER)
        return differing(of or process, cursor.fetchall())


@pytest.mark.postgres_only
def test_a_process_does_not_start_as_the_owner_or_with_other_rights_than_its_own(
    prefix: str, settings: pytest.MonkeyPatch
) -> None:
    for process in PROCESSES:
        settings.HOLDFAST_ROLE = process  # type: ignore[attr-defined]
        assert [one.id for one in checks.database_user()] == ["holdfast.E013"], "the tests' own user is a superuser"
        with acting_as(process, prefix=prefix):
            assert list(checks.database_user()) == []
        with acting_as("sequencer" if process != "sequencer" else "web", prefix=prefix):
            (one,) = checks.database_user()
            assert one.id == "holdfast.E015"
            assert "manage.py database_roles" in str(one.hint)
        owner = f"{prefix}owner"
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"CREATE ROLE {owner}")
            cursor.execute(f"GRANT {owner} TO {role_name(process, prefix=prefix)}")
            cursor.execute(f"ALTER TABLE audit_entry OWNER TO {owner}")
            with acting_as(process, prefix=prefix):
                assert [one.id for one in checks.database_user()] == ["holdfast.E013"], "a member of the owner is one"
            transaction.set_rollback(True)
    settings.HOLDFAST_ROLE = "ceremony"  # type: ignore[attr-defined]
    assert list(checks.database_user()) == [], "a ceremony is the owner's"
