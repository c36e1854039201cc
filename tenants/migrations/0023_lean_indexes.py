# SPDX-License-Identifier: Apache-2.0
"""Indexes that others begin with, or that no query uses, are gone: each row had to be written into them as well.

By name and not by altering the field, for which SQLite would copy the table and lose its triggers. It takes no time.
"""

from django.db import migrations, models
from django.db.models import PROTECT, CASCADE

# (its name, table, column)
GONE = [
    ("tenants_credential_tenant_id_76689c7f", "tenants_credential", "tenant_id"),
    ("tenants_enrolmentcode_tenant_id_7f8ab505", "tenants_enrolmentcode", "tenant_id"),
    ("tenants_exportpiece_tenant_id_1925e1c3", "tenants_exportpiece", "tenant_id"),
    ("tenants_formeraddress_tenant_id_e0fb474d", "tenants_formeraddress", "tenant_id"),
    ("tenants_import_tenant_id_a983cb42", "tenants_import", "tenant_id"),
    ("tenants_importchunk_of_id_31342a1d", "tenants_importchunk", "of_id"),
    ("tenants_importchunk_tenant_id_faae5d89", "tenants_importchunk", "tenant_id"),
    ("tenants_invitation_tenant_id_1e73354a", "tenants_invitation", "tenant_id"),
    ("tenants_logtoken_tenant_id_abfb23af", "tenants_logtoken", "tenant_id"),
    ("tenants_mail_tenant_id_4225e196", "tenants_mail", "tenant_id"),
    ("tenants_passwordreset_tenant_id_dc24d811", "tenants_passwordreset", "tenant_id"),
    ("tenants_pendingact_tenant_id_ac608677", "tenants_pendingact", "tenant_id"),
    ("tenants_person_tenant_id_271a0ac7", "tenants_person", "tenant_id"),
    ("tenants_recoverycode_tenant_id_f5461d23", "tenants_recoverycode", "tenant_id"),
    ("tenants_serviceaccount_tenant_id_4318bf6e", "tenants_serviceaccount", "tenant_id"),
    ("tenants_sponsorship_tenant_id_783aa116", "tenants_sponsorship", "tenant_id"),
    ("tenants_tenantexport_tenant_id_f869ffd5", "tenants_tenantexport", "tenant_id"),
]


def _tenant():
    return models.ForeignKey(db_index=False, editable=False, on_delete=PROTECT, related_name="+", to="tenants.tenant")


class Migration(migrations.Migration):
    dependencies = [("tenants", "0022_codes_that_wait")]
    operations = [
        migrations.SeparateDatabaseAndState(
            [
                migrations.RunSQL(f"DROP INDEX IF EXISTS {name}", f"CREATE INDEX {name} ON {table} ({column})")
                for name, table, column in GONE
            ],
            [
                *(
                    migrations.AlterField(model_name=table.partition("_")[2], name="tenant", field=_tenant())
                    for _, table, column in GONE
                    if column == "tenant_id"
                ),
                migrations.AlterField(
                    model_name="importchunk",
                    name="of",
                    field=models.ForeignKey(db_index=False, on_delete=CASCADE, related_name="+", to="tenants.import"),
                ),
            ],
        ),
    ]
