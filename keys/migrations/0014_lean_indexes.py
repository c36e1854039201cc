# SPDX-License-Identifier: Apache-2.0
"""Indexes that others begin with, or that no query uses, are gone: each row had to be written into them as well.

By name and not by altering the field, for which SQLite would copy the table and lose its triggers. It takes no time.
"""

from django.db import migrations, models

# (its name, table, column)
GONE = [
    ("keys_chainentry_tenant_id_79a2c7bb", "keys_chainentry", "tenant_id"),
    ("keys_chainfork_tenant_id_521d68aa", "keys_chainfork", "tenant_id"),
    ("keys_chainhead_tenant_id_1a100c78", "keys_chainhead", "tenant_id"),
    ("keys_claim_tenant_id_91fdf253", "keys_claim", "tenant_id"),
    ("keys_claimbudget_tenant_id_d20fb74d", "keys_claimbudget", "tenant_id"),
    ("keys_device_tenant_id_dd168a5b", "keys_device", "tenant_id"),
    ("keys_messagecontent_tenant_id_2e00c927", "keys_messagecontent", "tenant_id"),
    ("keys_prekeybatch_tenant_id_df8131bb", "keys_prekeybatch", "tenant_id"),
    ("keys_signedprekey_tenant_id_05e356d1", "keys_signedprekey", "tenant_id"),
    ("keys_tenantmasterkey_tenant_id_574a9a2c", "keys_tenantmasterkey", "tenant_id"),
    ("keys_vault_tenant_id_4bdfc44b", "keys_vault", "tenant_id"),
    ("keys_vaultdoor_tenant_id_a7727afd", "keys_vaultdoor", "tenant_id"),
]


class Migration(migrations.Migration):
    dependencies = [("keys", "0013_kept_beside")]
    operations = [
        migrations.SeparateDatabaseAndState(
            [
                migrations.RunSQL(f"DROP INDEX IF EXISTS {name}", f"CREATE INDEX {name} ON {table} ({column})")
                for name, table, column in GONE
            ],
            [
                *(
                    migrations.AlterField(
                        model_name=table.partition("_")[2], name="tenant_id", field=models.UUIDField(editable=False)
                    )
                    for _, table, column in GONE
                ),
            ],
        ),
    ]
