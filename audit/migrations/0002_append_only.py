# SPDX-License-Identifier: Apache-2.0
"""Entries are append-only: a trigger refuses deletion, and every change but giving an index once."""

from django.db import migrations

COLUMNS = ("seq", "id", "tenant_id", "log", "leaf", "tag", "actor", "person_id", "subject", "time", "body")

SQLITE = [
    f"""
    CREATE TRIGGER audit_entry_frozen BEFORE UPDATE ON audit_entry
    WHEN OLD.leaf_index IS NOT NULL OR NEW.leaf_index IS NULL
         OR {" OR ".join(f"NEW.{name} IS NOT OLD.{name}" for name in COLUMNS)}
    BEGIN SELECT RAISE(ABORT, 'audit entries are append-only'); END
    """,
    """
    CREATE TRIGGER audit_entry_kept BEFORE DELETE ON audit_entry
    BEGIN SELECT RAISE(ABORT, 'audit entries are append-only'); END
    """,
]

POSTGRES = [
    f"""
    CREATE FUNCTION audit_entry_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP <> 'UPDATE' OR OLD.leaf_index IS NOT NULL OR NEW.leaf_index IS NULL
           OR {" OR ".join(f"NEW.{name} IS DISTINCT FROM OLD.{name}" for name in COLUMNS)} THEN
            RAISE EXCEPTION 'audit entries are append-only';
        END IF;
        RETURN NEW;
    END $$
    """,
    "CREATE TRIGGER audit_entry_frozen BEFORE UPDATE OR DELETE ON audit_entry"
    " FOR EACH ROW EXECUTE FUNCTION audit_entry_frozen()",
    "CREATE TRIGGER audit_entry_kept BEFORE TRUNCATE ON audit_entry EXECUTE FUNCTION audit_entry_frozen()",
]

DROP = {
    "sqlite": ["DROP TRIGGER audit_entry_frozen", "DROP TRIGGER audit_entry_kept"],
    "postgresql": [
        "DROP TRIGGER audit_entry_frozen ON audit_entry",
        "DROP TRIGGER audit_entry_kept ON audit_entry",
        "DROP FUNCTION audit_entry_frozen()",
    ],
}


def freeze(apps, schema_editor):
    for statement in SQLITE if schema_editor.connection.vendor == "sqlite" else POSTGRES:
        schema_editor.execute(statement)


def thaw(apps, schema_editor):
    for statement in DROP[schema_editor.connection.vendor]:
        schema_editor.execute(statement)


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_initial")]
    operations = [migrations.RunPython(freeze, thaw)]
