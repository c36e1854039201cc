# SPDX-License-Identifier: Apache-2.0
"""Indexes that others begin with, or that no query uses, are gone: each row had to be written into them as well.

By name and not by altering the field, for which SQLite would copy the table and lose its triggers. It takes no time.
"""

from django.db import migrations, models

# (its name, table, column)
GONE = [
    ("audit_acceptedlog_tenant_id_39681a70", "audit_acceptedlog", "tenant_id"),
    ("audit_checkpoint_tenant_id_5457c2ae", "audit_checkpoint", "tenant_id"),
    ("audit_loghead_tenant_id_38703ee8", "audit_loghead", "tenant_id"),
    ("audit_restored_tenant_id_27d190d7", "audit_restored", "tenant_id"),
    ("audit_rolesstatement_tenant_id_e756a702", "audit_rolesstatement", "tenant_id"),
    ("audit_shownhead_tenant_id_1ee1464b", "audit_shownhead", "tenant_id"),
    ("audit_tally_tenant_id_e5a524c8", "audit_tally", "tenant_id"),
    ("audit_tile_tenant_id_77ab2ae7", "audit_tile", "tenant_id"),
    ("audit_transcript_tenant_id_bf6c0120", "audit_transcript", "tenant_id"),
]


class Migration(migrations.Migration):
    dependencies = [("audit", "0008_waiting")]
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
