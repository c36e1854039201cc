# SPDX-License-Identifier: Apache-2.0
"""Officers' statements and resolutions: what was signed stays, and a resolution only gains signatures until it passed."""

import uuid

import django.db.models.manager
from django.db import migrations, models

STATEMENT, RESOLUTION = "escrow_officerstatement", "escrow_resolution"
FROZEN = "id tenant_id hash act policy_hash proposer_id proposed_at ends_at".split()


def _refused(table):
    if table == STATEMENT:
        return "1 = 1"
    changed = " OR ".join(f"NEW.{name} IS DISTINCT FROM OLD.{name}" for name in FROZEN)
    return f"{changed} OR OLD.passed_at IS NOT NULL OR length(NEW.statement) < length(OLD.statement)"


def _create(table, vendor):
    if vendor == "sqlite":
        refuse = f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        return [f"CREATE TRIGGER {table}_frozen BEFORE UPDATE ON {table} WHEN {_refused(table)} {refuse}"]
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
    for table in (STATEMENT, RESOLUTION):
        for statement in _create(table, schema_editor.connection.vendor):
            schema_editor.execute(statement)


def thaw(apps, schema_editor):
    for table in (STATEMENT, RESOLUTION):
        for statement in _drop(table, schema_editor.connection.vendor):
            schema_editor.execute(statement)


class Migration(migrations.Migration):
    dependencies = [("escrow", "0004_policies_hold")]

    operations = [
        migrations.CreateModel(
            name='OfficerStatement',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('tenant_id', models.UUIDField(db_index=True, editable=False)),
                ('hash', models.BinaryField(max_length=32)),
                ('person_id', models.UUIDField()),
                ('signer_id', models.UUIDField()),
                ('standing', models.PositiveSmallIntegerField()),
                ('reason', models.TextField()),
                ('statement', models.BinaryField()),
                ('issued_at', models.DateTimeField()),
                ('at', models.DateTimeField()),
            ],
            options={
                'abstract': False,
                'base_manager_name': 'unscoped',
                'default_manager_name': 'unscoped',
                'indexes': [models.Index(fields=['tenant_id', 'person_id', 'at'], name='officer_statement_by_person')],
                'constraints': [models.UniqueConstraint(fields=('tenant_id', 'hash'), name='officer_statement_once')],
            },
            managers=[
                ('unscoped', django.db.models.manager.Manager()),
            ],
        ),
        migrations.CreateModel(
            name='Resolution',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('tenant_id', models.UUIDField(db_index=True, editable=False)),
                ('hash', models.BinaryField(max_length=32)),
                ('act', models.PositiveSmallIntegerField()),
                ('policy_hash', models.BinaryField(max_length=32)),
                ('statement', models.BinaryField()),
                ('proposer_id', models.UUIDField()),
                ('proposed_at', models.DateTimeField()),
                ('ends_at', models.DateTimeField()),
                ('passed_at', models.DateTimeField(null=True)),
            ],
            options={
                'abstract': False,
                'base_manager_name': 'unscoped',
                'default_manager_name': 'unscoped',
                'indexes': [models.Index(fields=['tenant_id', 'proposed_at'], name='resolution_by_date')],
                'constraints': [models.UniqueConstraint(fields=('tenant_id', 'hash'), name='resolution_once')],
            },
            managers=[
                ('unscoped', django.db.models.manager.Manager()),
            ],
        ),
        migrations.RunPython(freeze, thaw),
    ]
