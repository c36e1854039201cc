# SPDX-License-Identifier: Apache-2.0
"""A credential's id is unique in its tenant, no longer in the whole database; so are its nonces."""

from django.db import migrations, models

KEY = "tenant_id, credential_id, nonce"


def free_primary_key(apps, schema_editor):
    """Make room for the new primary key: SQLite does it as it makes the table anew."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("ALTER TABLE tenants_credential DROP CONSTRAINT tenants_credential_pkey")


def key_nonces(apps, schema_editor):
    """Give nonces the longer primary key; those that were used stay used. Django changes no composite key."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(f"ALTER TABLE tenants_nonce DROP CONSTRAINT tenants_nonce_pkey, ADD PRIMARY KEY ({KEY})")
        return
    schema_editor.execute("ALTER TABLE tenants_nonce RENAME TO tenants_nonce_before")
    schema_editor.create_model(apps.get_model("tenants", "Nonce"))
    schema_editor.execute(f"INSERT INTO tenants_nonce ({KEY}, expires_at) SELECT {KEY}, expires_at FROM tenants_nonce_before")
    schema_editor.execute("DROP TABLE tenants_nonce_before")


class Migration(migrations.Migration):
    dependencies = [("tenants", "0003_sign_in_place")]

    operations = [
        migrations.RunPython(free_primary_key),
        migrations.AddField("credential", "row_id", models.BigAutoField(primary_key=True, serialize=False)),
        migrations.AlterField("credential", "id", models.UUIDField(editable=False)),
        migrations.AddConstraint(
            "credential", models.UniqueConstraint(fields=("tenant", "id"), name="credential_id_once")
        ),
        migrations.AddConstraint(
            "credential", models.UniqueConstraint(fields=("id", "public_key"), name="credential_key_once")
        ),
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterField(
                    "nonce",
                    "pk",
                    models.CompositePrimaryKey(
                        "tenant_id", "credential_id", "nonce", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                )
            ],
        ),
        migrations.RunPython(key_nonces),
        migrations.AlterField(
            "tokenbucket", "key", models.CharField(max_length=80, primary_key=True, serialize=False)
        ),
    ]
