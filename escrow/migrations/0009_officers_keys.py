# SPDX-License-Identifier: Apache-2.0
"""Officers' accounts say which keys are theirs, and what was said stays."""

import uuid

import django.db.models.manager
from django.db import migrations, models

TABLE = "escrow_officerkeystatement"


def freeze(apps, schema_editor):
    if schema_editor.connection.vendor == "sqlite":
        refuse = f"BEGIN SELECT RAISE(ABORT, '{TABLE} is append-only'); END"
        schema_editor.execute(f"CREATE TRIGGER {TABLE}_frozen BEFORE UPDATE ON {TABLE} {refuse}")
        return
    schema_editor.execute(
        f"""
        CREATE FUNCTION {TABLE}_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '{TABLE} is append-only';
        END $$
        """
    )
    schema_editor.execute(
        f"CREATE TRIGGER {TABLE}_frozen BEFORE UPDATE ON {TABLE} FOR EACH ROW EXECUTE FUNCTION {TABLE}_frozen()"
    )


def thaw(apps, schema_editor):
    if schema_editor.connection.vendor == "sqlite":
        schema_editor.execute(f"DROP TRIGGER {TABLE}_frozen")
        return
    schema_editor.execute(f"DROP TRIGGER {TABLE}_frozen ON {TABLE}")
    schema_editor.execute(f"DROP FUNCTION {TABLE}_frozen()")


class Migration(migrations.Migration):
    dependencies = [("escrow", "0008_devices_suspended")]

    operations = [
        migrations.CreateModel(
            name="OfficerKeyStatement",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("tenant_id", models.UUIDField(db_index=True, editable=False)),
                ("person_id", models.UUIDField()),
                ("hash", models.BinaryField(max_length=32)),
                ("statement", models.BinaryField()),
                ("at", models.DateTimeField()),
            ],
            options={
                "abstract": False,
                "base_manager_name": "unscoped",
                "default_manager_name": "unscoped",
                "indexes": [
                    models.Index(fields=["tenant_id", "person_id", "at"], name="officer_keys_by_person"),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("tenant_id", "hash"), name="officer_key_statement_once"),
                ],
            },
            managers=[("unscoped", django.db.models.manager.Manager())],
        ),
        migrations.RunPython(freeze, thaw),
    ]
