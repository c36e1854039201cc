# SPDX-License-Identifier: Apache-2.0
"""Policies, escrow keys, consents and deposits are append-only: only a deposit's flag is ever set, once."""

from django.db import migrations

SIGNED = ("escrow_policy", "escrow_escrowkey", "escrow_consent")
DEPOSIT = "escrow_deposit"
DEPOSIT_COLUMNS = (
    "id tenant_id user_id device_id generation record_hash half_hash ak_commitment policy_hash escrow_key_hash created_at"
).split()


def _refused(table):
    if table != DEPOSIT:
        return "1 = 1"
    # `sealed` may be written again: the tenant master key rotates, and what is inside proves itself by its hash.
    changed = " OR ".join(f"NEW.{name} IS DISTINCT FROM OLD.{name}" for name in DEPOSIT_COLUMNS)
    return f"{changed} OR (OLD.flagged_at IS NOT NULL AND NEW.flagged_at IS DISTINCT FROM OLD.flagged_at)"


def _create(table, vendor):
    if vendor == "sqlite":
        refuse = f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        return [
            f"CREATE TRIGGER {table}_frozen BEFORE UPDATE ON {table} WHEN {_refused(table)} {refuse}",
        ]
    return [
        f"""
        CREATE FUNCTION {table}_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF {_refused(table)} THEN RAISE EXCEPTION '{table} is append-only'; END IF;
            RETURN NEW;
        END $$
        """,
        f"CREATE TRIGGER {table}_frozen BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION {table}_frozen()",
    ]


def _drop(table, vendor):
    if vendor == "sqlite":
        return [f"DROP TRIGGER {table}_frozen"]
    return [f"DROP TRIGGER {table}_frozen ON {table}", f"DROP FUNCTION {table}_frozen()"]


def freeze(apps, schema_editor):
    for table in (*SIGNED, DEPOSIT):
        for statement in _create(table, schema_editor.connection.vendor):
            schema_editor.execute(statement)


def thaw(apps, schema_editor):
    for table in (*SIGNED, DEPOSIT):
        for statement in _drop(table, schema_editor.connection.vendor):
            schema_editor.execute(statement)


class Migration(migrations.Migration):
    dependencies = [("escrow", "0001_initial")]
    operations = [migrations.RunPython(freeze, thaw)]
