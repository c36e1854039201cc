# SPDX-License-Identifier: Apache-2.0
"""A device's id is unique in its tenant, no longer in the whole database; what names a device names its tenant too."""

from django.db import migrations, models
from django.db.models import Q

# Rows that name a device by a foreign key, and the name of the one that takes its place.
NAMING = {"keys_signedprekey": "signed_pre_key_of_device", "keys_prekeybatch": "pre_key_batch_of_device"}


def free_primary_key(apps, schema_editor):
    """Make room for the new primary key: SQLite does it as it makes the table anew."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("ALTER TABLE keys_device DROP CONSTRAINT keys_device_pkey")


def bind(apps, schema_editor):
    """Have PostgreSQL hold what names a device to one of the same tenant."""
    if schema_editor.connection.vendor == "postgresql":
        for table, name in NAMING.items():
            schema_editor.execute(
                f"ALTER TABLE {table} ADD CONSTRAINT {name} FOREIGN KEY (tenant_id, device_id)"
                " REFERENCES keys_device (tenant_id, id) DEFERRABLE INITIALLY DEFERRED"
            )


def _named(model):
    """Turn a foreign key into a plain column of the same name, its values as they are."""
    return [
        migrations.AlterField(model, "device", models.UUIDField(db_column="device_id")),
        migrations.RenameField(model, "device", "device_id"),
        migrations.AlterField(model, "device_id", models.UUIDField()),
    ]


class Migration(migrations.Migration):
    dependencies = [("keys", "0004_claims_end")]

    operations = [
        migrations.RemoveConstraint("signedprekey", "signed_pre_key_id_once"),
        migrations.RemoveConstraint("signedprekey", "one_current_signed_pre_key"),
        migrations.RemoveConstraint("prekeybatch", "pre_key_batch_once"),
        *_named("signedprekey"),
        *_named("prekeybatch"),
        migrations.RunPython(free_primary_key),
        migrations.AddField("device", "row_id", models.BigAutoField(primary_key=True, serialize=False)),
        migrations.AlterField("device", "id", models.UUIDField(editable=False)),
        migrations.AddConstraint(
            "device", models.UniqueConstraint(fields=("tenant_id", "id"), name="device_id_once")
        ),
        migrations.AddConstraint(
            "signedprekey",
            models.UniqueConstraint(fields=("tenant_id", "device_id", "key_id"), name="signed_pre_key_id_once"),
        ),
        migrations.AddConstraint(
            "signedprekey",
            models.UniqueConstraint(
                fields=("tenant_id", "device_id"), condition=Q(("is_current", True)), name="one_current_signed_pre_key"
            ),
        ),
        migrations.AddConstraint(
            "prekeybatch",
            models.UniqueConstraint(fields=("tenant_id", "device_id", "batch_id"), name="pre_key_batch_once"),
        ),
        migrations.RunPython(bind),
        migrations.RemoveIndex("onetimeprekey", "one_time_pre_key_next"),
        migrations.AddIndex(
            "onetimeprekey",
            models.Index(fields=["tenant_id", "device_id", "epoch", "id"], name="one_time_pre_key_next"),
        ),
        migrations.RemoveIndex("claim", "claim_rate"),
        migrations.AddIndex("claim", models.Index(fields=["tenant_id", "device_id", "claimed_at"], name="claim_rate")),
        migrations.RemoveIndex("message", "message_next"),
        migrations.AddIndex("message", models.Index(fields=["tenant_id", "device_id", "seq"], name="message_next")),
    ]
