# SPDX-License-Identifier: Apache-2.0
"""Entries are signed by roles: what is not gets no index; rows that are not the sequencer's to write are refused."""

import importlib
import uuid

import django.db.models.manager
from django.db import migrations, models
from django.db.models import Q

_frozen = importlib.import_module("audit.migrations.0002_append_only")


# Table → which update is refused.
REFUSED = {
    **_frozen.REFUSED,
    # An entry gets its index once, or a word for why it never does; nothing else of it ever changes.
    "audit_entry": "OLD.leaf_index IS NOT NULL OR OLD.refused <> '' OR (NEW.leaf_index IS NULL) = (NEW.refused = '') OR "
    + _frozen._changed("seq", "id", "tenant_id", "log", "leaf", "tag", "actor", "person_id", "subject", "time", "body"),
    "audit_rolesstatement": "1 = 1",
}
# Table → which new row is refused.
REFUSED_NEW = {
    # The sequencer alone numbers, and only what is there already.
    "audit_entry": "NEW.leaf_index IS NOT NULL OR NEW.refused <> ''",
    # No head beyond what is numbered: it would be the newest for ever.
    "audit_checkpoint": "NOT EXISTS (SELECT 1 FROM audit_loghead AS head WHERE head.tenant_id = NEW.tenant_id"
    " AND head.log = NEW.log AND head.size >= NEW.size)",
}
# Whoever inserts does not say when: the time for searching is the database's. (The leaf keeps its writer's.)
_DATED = {"audit_entry": "NEW.time = statement_timestamp();"}


def _sqlite_new(table, refused):
    refuse = f"BEGIN SELECT RAISE(ABORT, '{table}: not a row to insert'); END"
    return [f"CREATE TRIGGER {table}_fresh BEFORE INSERT ON {table} WHEN {refused} {refuse}"]


def _postgresql_new(table, refused):
    return [
        f"""
        CREATE FUNCTION {table}_fresh() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF {refused} THEN
                RAISE EXCEPTION '{table}: not a row to insert';
            END IF;
            {_DATED.get(table, "")}
            RETURN NEW;
        END $$
        """,
        f"CREATE TRIGGER {table}_fresh BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION {table}_fresh()",
    ]


def freeze(apps, schema_editor):
    on_sqlite = schema_editor.connection.vendor == "sqlite"
    for table, refused in REFUSED.items():
        for statement in (_frozen._sqlite if on_sqlite else _frozen._postgresql)(table, refused):
            schema_editor.execute(statement)
    for table, refused in REFUSED_NEW.items():
        for statement in (_sqlite_new if on_sqlite else _postgresql_new)(table, refused):
            schema_editor.execute(statement)


def thaw(apps, schema_editor):
    vendor = schema_editor.connection.vendor
    for table in REFUSED:
        for statement in _frozen._drop(table, vendor):
            schema_editor.execute(statement)
    for table in REFUSED_NEW:
        on = "" if vendor == "sqlite" else f" ON {table}"
        schema_editor.execute(f"DROP TRIGGER {table}_fresh{on}")
        if vendor != "sqlite":
            schema_editor.execute(f"DROP FUNCTION {table}_fresh()")


class Migration(migrations.Migration):
    dependencies = [("audit", "0003_tally")]
    operations = [
        migrations.RunPython(_frozen.thaw, _frozen.freeze),
        migrations.CreateModel(
            name="RolesStatement",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("tenant_id", models.UUIDField(db_index=True, editable=False)),
                ("version", models.PositiveIntegerField()),
                ("hash", models.BinaryField(max_length=32)),
                ("statement", models.BinaryField()),
                ("published_at", models.DateTimeField()),
            ],
            options={
                "abstract": False,
                "default_manager_name": "unscoped",
                "base_manager_name": "unscoped",
                "constraints": [models.UniqueConstraint(fields=("tenant_id", "version"), name="roles_version_once")],
            },
            managers=[("unscoped", django.db.models.manager.Manager())],
        ),
        migrations.RemoveIndex(model_name="entry", name="entry_pending"),
        migrations.AddField(model_name="entry", name="refused", field=models.CharField(default="", max_length=16)),
        migrations.AddIndex(
            model_name="entry",
            index=models.Index(
                condition=Q(leaf_index=None, refused=""), fields=["tenant_id", "log", "seq"], name="entry_waiting"
            ),
        ),
        migrations.AddField(model_name="loghead", name="signed_size", field=models.BigIntegerField(default=0)),
        migrations.AddIndex(
            model_name="loghead",
            index=models.Index(
                condition=Q(size__gt=models.F("signed_size")), fields=["tenant_id"], name="head_unsigned"
            ),
        ),
        migrations.RunPython(freeze, thaw),
    ]
