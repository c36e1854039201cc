# SPDX-License-Identifier: Apache-2.0
"""Indexes that others begin with, or that no query uses, are gone: each row had to be written into them as well.

By name and not by altering the field, for which SQLite would copy the table and lose its triggers. It takes no time.
"""

from django.db import migrations, models
from django.db.models import PROTECT

# (its name, table, column)
GONE = [
    ("recovery_approval_tenant_id_020d38c7", "recovery_approval", "tenant_id"),
    ("recovery_attestation_tenant_id_18638781", "recovery_attestation", "tenant_id"),
    ("recovery_case_tenant_id_05fe01a1", "recovery_case", "tenant_id"),
    ("recovery_casedeposit_tenant_id_beb12460", "recovery_casedeposit", "tenant_id"),
    ("recovery_contactanswer_request_id_ac0ee8c6", "recovery_contactanswer", "request_id"),
    ("recovery_contactanswer_tenant_id_e86a395b", "recovery_contactanswer", "tenant_id"),
    ("recovery_contactrequest_tenant_id_f337d1ed", "recovery_contactrequest", "tenant_id"),
    ("recovery_contactset_tenant_id_f42e13fb", "recovery_contactset", "tenant_id"),
    ("recovery_notice_tenant_id_fdb494bc", "recovery_notice", "tenant_id"),
    ("recovery_release_tenant_id_ae8a601e", "recovery_release", "tenant_id"),
    ("recovery_releasedshare_release_id_8a3428f1", "recovery_releasedshare", "release_id"),
    ("recovery_releasedshare_tenant_id_e096d66a", "recovery_releasedshare", "tenant_id"),
    ("recovery_sealedshare_approval_id_1b6f5dbf", "recovery_sealedshare", "approval_id"),
    ("recovery_sealedshare_tenant_id_76970544", "recovery_sealedshare", "tenant_id"),
    ("recovery_shredding_tenant_id_6126457c", "recovery_shredding", "tenant_id"),
    ("recovery_veto_tenant_id_b25a6636", "recovery_veto", "tenant_id"),
]


class Migration(migrations.Migration):
    dependencies = [("recovery", "0017_cases_in_pages")]
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
                    model_name="contactanswer",
                    name="request",
                    field=models.ForeignKey(
                        db_index=False, on_delete=PROTECT, related_name="answers", to="recovery.contactrequest"
                    ),
                ),
                migrations.AlterField(
                    model_name="releasedshare",
                    name="release",
                    field=models.ForeignKey(
                        db_index=False, on_delete=PROTECT, related_name="shares", to="recovery.release"
                    ),
                ),
                migrations.AlterField(
                    model_name="sealedshare",
                    name="approval",
                    field=models.ForeignKey(
                        db_index=False, on_delete=PROTECT, related_name="shares", to="recovery.approval"
                    ),
                ),
            ],
        ),
    ]
