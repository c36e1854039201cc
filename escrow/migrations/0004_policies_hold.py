# SPDX-License-Identifier: Apache-2.0
"""A version can be withdrawn before it is in force: the one thing of a policy's row that is ever set, and once."""

from django.db import migrations, models

TABLE = "escrow_policy"
COLUMNS = "id tenant_id version hash statement m n published_at in_force_from".split()
CHANGED = " OR ".join(f"NEW.{name} IS DISTINCT FROM OLD.{name}" for name in COLUMNS)
SET_AGAIN = "(OLD.withdrawn_at IS NOT NULL AND NEW.withdrawn_at IS DISTINCT FROM OLD.withdrawn_at)"


def _refuse(schema_editor, condition):
    """Make the trigger anew, so that it refuses an update that fulfils `condition`."""
    if schema_editor.connection.vendor == "sqlite":
        schema_editor.execute(f"DROP TRIGGER IF EXISTS {TABLE}_frozen")
        refuse = f"BEGIN SELECT RAISE(ABORT, '{TABLE} is append-only'); END"
        schema_editor.execute(f"CREATE TRIGGER {TABLE}_frozen BEFORE UPDATE ON {TABLE} WHEN {condition} {refuse}")
        return
    schema_editor.execute(
        f"""
        CREATE OR REPLACE FUNCTION {TABLE}_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF {condition} THEN RAISE EXCEPTION '{TABLE} is append-only'; END IF;
            RETURN NEW;
        END $$
        """
    )


def allow_withdrawal(apps, schema_editor):
    _refuse(schema_editor, f"{CHANGED} OR {SET_AGAIN}")


def forbid_withdrawal(apps, schema_editor):
    _refuse(schema_editor, "1 = 1")


class Migration(migrations.Migration):
    dependencies = [("escrow", "0003_ids_per_tenant")]

    operations = [
        migrations.AddField("policy", "withdrawn_at", models.DateTimeField(null=True)),
        migrations.RunPython(allow_withdrawal, forbid_withdrawal),
        migrations.AddIndex("deposit", models.Index(fields=["tenant_id", "policy_hash"], name="deposit_by_policy")),
    ]
