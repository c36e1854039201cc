# SPDX-License-Identifier: Apache-2.0
"""Entries wait in a table of their own, and are moved to their index: a long table takes new rows, and changes none.

Goes over the log twice, without writing it (PostgreSQL: the new condition of a column; SQLite rewrites the rows, as it
drops a column), and is done in seconds for 10^6 entries.
"""

import importlib

import django.db.models.manager
from django.db import migrations, models
from django.db.models import Q

_frozen = importlib.import_module("audit.migrations.0002_append_only")
_signed = importlib.import_module("audit.migrations.0004_signed_by_role")

_SAME = ("id", "tenant_id", "log", "leaf", "tag", "actor", "person_id", "subject", "time", "body")
_COLUMNS = ", ".join(("seq", *_SAME))


def _as_it_waited(one, other):
    return " AND ".join(f"{one}.{name} IS NOT DISTINCT FROM {other}.{name}" for name in ("seq", *_SAME))


# Table → which update is refused. Of what waits, no more is ever said than why it gets no index.
REFUSED = {
    **_signed.REFUSED,
    "audit_entry": "1 = 1",
    "audit_waiting": f"OLD.refused <> '' OR NEW.refused = '' OR {_frozen._changed('seq', *_SAME)}",
}
# Table → which new row is refused.
REFUSED_NEW = {
    **_signed.REFUSED_NEW,
    # The sequencer alone numbers, and only what waits already.
    "audit_entry": "NEW.leaf_index IS NULL OR NEW.leaf_index < 0 OR NOT EXISTS (SELECT 1 FROM audit_waiting AS one"
    f" WHERE one.refused = '' AND {_as_it_waited('one', 'NEW')})",
    "audit_waiting": "NEW.refused <> ''",
}
# What waits goes once it is numbered.
_KEPT = f"NOT EXISTS (SELECT 1 FROM audit_entry AS one WHERE {_as_it_waited('one', 'OLD')})"
# Whoever inserts does not say when: the time for searching is the database's. (The leaf keeps its writer's.)
_DATED = "NEW.time = statement_timestamp();"


def _sqlite():
    return [
        "DROP TRIGGER audit_waiting_kept",
        f"CREATE TRIGGER audit_waiting_kept BEFORE DELETE ON audit_waiting WHEN {_KEPT}"
        " BEGIN SELECT RAISE(ABORT, 'audit_waiting is append-only'); END",
    ]


def _postgresql():
    return [
        f"""
        CREATE OR REPLACE FUNCTION audit_waiting_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'TRUNCATE' THEN
                RAISE EXCEPTION 'audit_waiting is append-only';
            END IF;
            IF TG_OP = 'DELETE' THEN
                IF {_KEPT} THEN
                    RAISE EXCEPTION 'audit_waiting is append-only';
                END IF;
                RETURN OLD;
            END IF;
            IF {REFUSED["audit_waiting"]} THEN
                RAISE EXCEPTION 'audit_waiting is append-only';
            END IF;
            RETURN NEW;
        END $$
        """,
        f"""
        CREATE OR REPLACE FUNCTION audit_waiting_fresh() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF {REFUSED_NEW["audit_waiting"]} THEN
                RAISE EXCEPTION 'audit_waiting: not a row to insert';
            END IF;
            {_DATED}
            RETURN NEW;
        END $$
        """,
        f"""
        CREATE OR REPLACE FUNCTION audit_entry_fresh() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF {REFUSED_NEW["audit_entry"]} THEN
                RAISE EXCEPTION 'audit_entry: not a row to insert';
            END IF;
            RETURN NEW;
        END $$
        """,
    ]


def freeze(apps, schema_editor):
    on_sqlite = schema_editor.connection.vendor == "sqlite"
    for table, refused in REFUSED.items():
        for statement in (_frozen._sqlite if on_sqlite else _frozen._postgresql)(table, refused):
            schema_editor.execute(statement)
    for table, refused in REFUSED_NEW.items():
        for statement in (_signed._sqlite_new if on_sqlite else _signed._postgresql_new)(table, refused):
            schema_editor.execute(statement)
    for statement in (_sqlite if on_sqlite else _postgresql)():
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


def move_what_waits(apps, schema_editor):
    """Move the rows without an index, and let their numbers go on from where they are."""
    run = schema_editor.execute
    run(
        f"INSERT INTO audit_waiting ({_COLUMNS}, refused)"
        f" SELECT {_COLUMNS}, refused FROM audit_entry WHERE leaf_index IS NULL"
    )
    run("DELETE FROM audit_entry WHERE leaf_index IS NULL")
    if schema_editor.connection.vendor == "sqlite":
        run("DELETE FROM sqlite_sequence WHERE name = 'audit_waiting'")
        run(
            "INSERT INTO sqlite_sequence (name, seq) SELECT 'audit_waiting', seq FROM sqlite_sequence"
            " WHERE name = 'audit_entry'"
        )
        run("ALTER TABLE audit_entry DROP COLUMN refused")
        return
    run(
        "SELECT setval(pg_get_serial_sequence('audit_waiting', 'seq'),"
        " nextval(pg_get_serial_sequence('audit_entry', 'seq')), false)"
    )
    run(
        "ALTER TABLE audit_entry ALTER COLUMN seq DROP IDENTITY, ALTER COLUMN leaf_index SET NOT NULL,"
        " DROP COLUMN refused"
    )


# The types are said, so that both halves have the same and conditions reach each half's own indexes.
VIEW = f"""
CREATE VIEW audit_entries AS
SELECT {_COLUMNS}, leaf_index, CAST('' AS varchar(16)) AS refused FROM audit_entry
UNION ALL
SELECT {_COLUMNS}, CAST(NULL AS bigint) AS leaf_index, refused FROM audit_waiting
"""


def _columns(seq, id_, *more):
    return [
        ("tenant_id", models.UUIDField(editable=False)),
        ("log", models.CharField(choices=[("audit", "Audit"), ("keys", "Keys")], max_length=8)),
        ("leaf", models.BinaryField()),
        ("tag", models.CharField(max_length=80)),
        ("actor", models.CharField(max_length=80)),
        ("person_id", models.UUIDField(null=True)),
        ("subject", models.CharField(max_length=200)),
        ("time", models.DateTimeField()),
        ("body", models.JSONField(default=dict)),
        ("seq", seq),
        ("id", id_),
        *more,
    ]


_OPTIONS = {"abstract": False, "default_manager_name": "unscoped", "base_manager_name": "unscoped"}
_MANAGERS = [("unscoped", django.db.models.manager.Manager())]


class Migration(migrations.Migration):
    dependencies = [("audit", "0007_search")]
    operations = [
        migrations.RunPython(_signed.thaw, migrations.RunPython.noop),
        migrations.RemoveIndex(model_name="entry", name="entry_waiting"),
        migrations.CreateModel(
            name="Waiting",
            fields=_columns(
                models.BigAutoField(primary_key=True, serialize=False),
                models.UUIDField(editable=False, unique=True),
                ("refused", models.CharField(db_default="", default="", max_length=16)),
            ),
            options={
                **_OPTIONS,
                "indexes": [
                    models.Index(condition=Q(refused=""), fields=["tenant_id", "log", "seq"], name="entry_waiting")
                ],
            },
            managers=_MANAGERS,
        ),
        migrations.SeparateDatabaseAndState(
            [migrations.RunPython(move_what_waits)],
            [
                migrations.RemoveField(model_name="entry", name="refused"),
                migrations.AlterField(
                    model_name="entry", name="seq", field=models.BigIntegerField(primary_key=True, serialize=False)
                ),
                migrations.AlterField(
                    model_name="entry", name="id", field=models.UUIDField(editable=False, unique=True)
                ),
                migrations.AlterField(model_name="entry", name="leaf_index", field=models.BigIntegerField()),
                migrations.AlterModelTable(name="entry", table="audit_entry"),
                migrations.RenameModel(old_name="Entry", new_name="Numbered"),
            ],
        ),
        migrations.CreateModel(
            name="Entry",
            fields=_columns(
                models.BigIntegerField(primary_key=True, serialize=False),
                models.UUIDField(editable=False),
                ("leaf_index", models.BigIntegerField(null=True)),
                ("refused", models.CharField(max_length=16)),
            ),
            options={**_OPTIONS, "db_table": "audit_entries", "managed": False},
            managers=_MANAGERS,
        ),
        migrations.RunSQL(VIEW, "DROP VIEW audit_entries"),
        migrations.RunPython(freeze, thaw),
    ]
