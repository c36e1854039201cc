# SPDX-License-Identifier: Apache-2.0
"""Indexes that others begin with, or that no query uses, are gone: each row had to be written into them as well.

By name and not by altering the field, for which SQLite would copy the table and lose its triggers. It takes no time.
"""

from django.db import migrations, models
from django.db.models import PROTECT

# (its name, table, column)
GONE = [
    ("escrow_consent_tenant_id_807c3705", "escrow_consent", "tenant_id"),
    ("escrow_deposit_tenant_id_3ac6343a", "escrow_deposit", "tenant_id"),
    ("escrow_escrowkey_tenant_id_a3877bb3", "escrow_escrowkey", "tenant_id"),
    ("escrow_escrowkeyproposal_tenant_id_5521c216", "escrow_escrowkeyproposal", "tenant_id"),
    ("escrow_officerkeystatement_tenant_id_0f8e3dcc", "escrow_officerkeystatement", "tenant_id"),
    ("escrow_officerstatement_tenant_id_30da669d", "escrow_officerstatement", "tenant_id"),
    ("escrow_policy_tenant_id_1ebf630e", "escrow_policy", "tenant_id"),
    ("escrow_policyofficer_policy_id_9f43680c", "escrow_policyofficer", "policy_id"),
    ("escrow_policyofficer_tenant_id_de48c770", "escrow_policyofficer", "tenant_id"),
    ("escrow_policyproposal_tenant_id_ffda3045", "escrow_policyproposal", "tenant_id"),
    ("escrow_receipt_tenant_id_4658411b", "escrow_receipt", "tenant_id"),
    ("escrow_resolution_tenant_id_4aca2afe", "escrow_resolution", "tenant_id"),
]


class Migration(migrations.Migration):
    dependencies = [("escrow", "0014_unflagged")]
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
                    if column == "tenant_id"
                ),
                migrations.AlterField(
                    model_name="policyofficer",
                    name="policy",
                    field=models.ForeignKey(
                        db_index=False, on_delete=PROTECT, related_name="officers", to="escrow.policy"
                    ),
                ),
            ],
        ),
    ]
