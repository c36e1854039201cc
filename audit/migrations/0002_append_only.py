# SPDX-License-Identifier: Apache-2.0
"""The logs are append-only: triggers refuse every deletion, and every change but growth."""

from django.db import migrations


def _changed(*columns):
    return " OR ".join(f"NEW.{name} IS DISTINCT FROM OLD.{name}" for name in columns)


# Table → which update is refused.
REFUSED = {
    # An entry gets its index once; nothing else of it ever changes.
    "audit_entry": "OLD.leaf_index IS NOT NULL OR NEW.leaf_index IS NULL OR "
    + _changed("seq", "id", "tenant_id", "log", "leaf", "tag", "actor", "person_id", "subject", "time", "body"),
    # A tile is extended to the right.
    "audit_tile": _changed("id", "tenant_id", "log", "level", '"index"')
    + " OR length(NEW.hashes) < length(OLD.hashes) OR length(NEW.hashes) > 8192"
    " OR substr(NEW.hashes, 1, length(OLD.hashes)) <> OLD.hashes",
    # A log grows; at one size it has one edge.
    "audit_loghead": _changed("id", "tenant_id", "log")
    + f" OR NEW.size < OLD.size OR (NEW.size = OLD.size AND {_changed('edge')})",
    # A size has one root for ever; signing it again renews the note and its time.
    "audit_checkpoint": _changed("id", "tenant_id", "log", "size", "root") + " OR NEW.signed_at < OLD.signed_at",
}


def _sqlite(table, refused):
    refuse = f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    return [
        f"CREATE TRIGGER {table}_frozen BEFORE UPDATE ON {table} WHEN {refused} {refuse}",
        f"CREATE TRIGGER {table}_kept BEFORE DELETE ON {table} {refuse}",
    ]


def _postgresql(table, refused):
    # A row-level condition cannot stand in a trigger for TRUNCATE, so the function tells them apart.
    return [
        f"""
        CREATE FUNCTION {table}_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP <> 'UPDATE' THEN
                RAISE EXCEPTION '{table} is append-only';
            END IF;
            IF {refused} THEN
                RAISE EXCEPTION '{table} is append-only';
            END IF;
            RETURN NEW;
        END $$
        """,
        f"CREATE TRIGGER {table}_frozen BEFORE UPDATE OR DELETE ON {table}"
        f" FOR EACH ROW EXECUTE FUNCTION {table}_frozen()",
        f"CREATE TRIGGER {table}_kept BEFORE TRUNCATE ON {table} EXECUTE FUNCTION {table}_frozen()",
    ]


def _drop(table, vendor):
    if vendor == "sqlite":
        return [f"DROP TRIGGER {table}_frozen", f"DROP TRIGGER {table}_kept"]
    on = f"ON {table}"
    return [f"DROP TRIGGER {table}_frozen {on}", f"DROP TRIGGER {table}_kept {on}", f"DROP FUNCTION {table}_frozen()"]


def freeze(apps, schema_editor):
    create = _sqlite if schema_editor.connection.vendor == "sqlite" else _postgresql
    for table, refused in REFUSED.items():
        for statement in create(table, refused):
            schema_editor.execute(statement)


def thaw(apps, schema_editor):
    for table in REFUSED:
        for statement in _drop(table, schema_editor.connection.vendor):
            schema_editor.execute(statement)


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_initial")]
    operations = [migrations.RunPython(freeze, thaw)]
