# SPDX-License-Identifier: Apache-2.0
"""A deposit's id is unique in its tenant, no longer in the whole database."""

from importlib import import_module

from django.db import migrations, models

# SQLite makes the table anew, and its triggers go with the old one.
append_only = import_module("escrow.migrations.0002_append_only")


def free_primary_key(apps, schema_editor):
    """Make room for the new primary key: SQLite does it as it makes the table anew."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("ALTER TABLE escrow_deposit DROP CONSTRAINT escrow_deposit_pkey")


class Migration(migrations.Migration):
    dependencies = [("escrow", "0002_append_only")]

    operations = [
        migrations.RunPython(append_only.thaw),
        migrations.RunPython(free_primary_key),
        migrations.AddField("deposit", "row_id", models.BigAutoField(primary_key=True, serialize=False)),
        migrations.AlterField("deposit", "id", models.UUIDField(editable=False)),
        migrations.AddConstraint(
            "deposit", models.UniqueConstraint(fields=("tenant_id", "id"), name="deposit_id_once")
        ),
        migrations.RunPython(append_only.freeze),
    ]
