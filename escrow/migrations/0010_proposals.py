# SPDX-License-Identifier: Apache-2.0
"""Policies and escrow keys that are proposed: what was proposed stays, and gains signatures until it is over."""

import uuid

import django.db.models.manager
from django.db import migrations, models

# What never changes, and what is set once: then nothing changes any more.
FROZEN = {
    "escrow_policyproposal": (
        "id tenant_id hash payload version predecessor held_in_force proposer_id proposed_at ends_at",
        "published_at withdrawn_at",
    ),
    "escrow_escrowkeyproposal": (
        "id tenant_id hash version policy_hash cka_id proposed_at ends_at",
        "published_at",
    ),
}


def _refused(table):
    columns, ends = FROZEN[table]
    changed = " OR ".join(f"NEW.{name} IS DISTINCT FROM OLD.{name}" for name in columns.split())
    over = " OR ".join(f"OLD.{name} IS NOT NULL" for name in ends.split())
    return f"{changed} OR {over} OR length(NEW.statement) < length(OLD.statement)"


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
    for table in FROZEN:
        for statement in _create(table, schema_editor.connection.vendor):
            schema_editor.execute(statement)


def thaw(apps, schema_editor):
    for table in FROZEN:
        for statement in _drop(table, schema_editor.connection.vendor):
            schema_editor.execute(statement)


OPTIONS = {"abstract": False, "base_manager_name": "unscoped", "default_manager_name": "unscoped"}


class Migration(migrations.Migration):
    dependencies = [("escrow", "0009_officers_keys")]

    operations = [
        migrations.CreateModel(
            name="PolicyProposal",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("tenant_id", models.UUIDField(db_index=True, editable=False)),
                ("hash", models.BinaryField(max_length=32)),
                ("payload", models.BinaryField()),
                ("version", models.PositiveIntegerField()),
                ("predecessor", models.BinaryField(max_length=32)),
                ("held_in_force", models.BinaryField(max_length=32)),
                ("statement", models.BinaryField(default=b"")),
                ("proposer_id", models.UUIDField()),
                ("proposed_at", models.DateTimeField()),
                ("ends_at", models.DateTimeField()),
                ("published_at", models.DateTimeField(null=True)),
                ("withdrawn_at", models.DateTimeField(null=True)),
            ],
            options={
                **OPTIONS,
                "indexes": [models.Index(fields=["tenant_id", "proposed_at"], name="policy_proposal_by_date")],
                "constraints": [models.UniqueConstraint(fields=("tenant_id", "hash"), name="policy_proposal_once")],
            },
            managers=[("unscoped", django.db.models.manager.Manager())],
        ),
        migrations.CreateModel(
            name="EscrowKeyProposal",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("tenant_id", models.UUIDField(db_index=True, editable=False)),
                ("hash", models.BinaryField(max_length=32)),
                ("version", models.PositiveIntegerField()),
                ("policy_hash", models.BinaryField(max_length=32)),
                ("statement", models.BinaryField()),
                ("cka_id", models.BinaryField(max_length=16)),
                ("proposed_at", models.DateTimeField()),
                ("ends_at", models.DateTimeField()),
                ("published_at", models.DateTimeField(null=True)),
            ],
            options={
                **OPTIONS,
                "indexes": [models.Index(fields=["tenant_id", "proposed_at"], name="key_proposal_by_date")],
                "constraints": [
                    models.UniqueConstraint(fields=("tenant_id", "hash"), name="escrow_key_proposal_once")
                ],
            },
            managers=[("unscoped", django.db.models.manager.Manager())],
        ),
        migrations.RunPython(freeze, thaw),
    ]
