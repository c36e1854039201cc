# SPDX-License-Identifier: Apache-2.0
"""A case's id is unique in its tenant, no longer in the whole database; what names a case names its tenant too."""

from importlib import import_module

from django.db import migrations, models
from django.db.models import Q

# SQLite makes the table anew, and its trigger goes with the old one.
terminal_states = import_module("recovery.migrations.0002_terminal_states")

# Rows that name a case by a foreign key, and what is unique in each case.
NAMING = {
    "approval": {"approval_index_once": "index", "approval_person_once": "person_id"},
    "attestation": {"attestation_index_once": "index"},
    "casedeposit": {"case_deposit_once": "deposit_id"},
    "notice": {"notice_once": "person_id kind"},
    "release": {"release_once": "deposit_id"},
    "veto": {"veto_once": "device_id"},
}


def free_primary_key(apps, schema_editor):
    """Make room for the new primary key: SQLite does it as it makes the table anew."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("ALTER TABLE recovery_case DROP CONSTRAINT recovery_case_pkey")


def bind(apps, schema_editor):
    """Have PostgreSQL hold what names a case to one of the same tenant."""
    if schema_editor.connection.vendor == "postgresql":
        for model in NAMING:
            schema_editor.execute(
                f"ALTER TABLE recovery_{model} ADD CONSTRAINT {model}_of_case FOREIGN KEY (tenant_id, case_id)"
                " REFERENCES recovery_case (tenant_id, id) DEFERRABLE INITIALLY DEFERRED"
            )


def _named(model):
    """Turn a foreign key into a plain column of the same name, its values as they are."""
    return [
        *(migrations.RemoveConstraint(model, name) for name in NAMING[model]),
        migrations.AlterField(model, "case", models.UUIDField(db_column="case_id")),
        migrations.RenameField(model, "case", "case_id"),
        migrations.AlterField(model, "case_id", models.UUIDField()),
        *(
            migrations.AddConstraint(
                model, models.UniqueConstraint(fields=("tenant_id", "case_id", *fields.split()), name=name)
            )
            for name, fields in NAMING[model].items()
        ),
    ]


class Migration(migrations.Migration):
    dependencies = [("recovery", "0005_cases_by_requester")]

    operations = [
        migrations.RunPython(terminal_states.thaw),
        *(operation for model in NAMING for operation in _named(model)),
        migrations.RunPython(free_primary_key),
        migrations.AddField("case", "row_id", models.BigAutoField(primary_key=True, serialize=False)),
        migrations.AlterField("case", "id", models.UUIDField(editable=False)),
        migrations.AddConstraint("case", models.UniqueConstraint(fields=("tenant_id", "id"), name="case_id_once")),
        migrations.RunPython(bind),
        migrations.RunPython(terminal_states.freeze),
        migrations.RemoveConstraint("contactrequest", "one_open_request_per_device"),
        migrations.AddConstraint(
            "contactrequest",
            models.UniqueConstraint(
                fields=("tenant_id", "device_id"), condition=Q(("state", "open")), name="one_open_request_per_device"
            ),
        ),
    ]
