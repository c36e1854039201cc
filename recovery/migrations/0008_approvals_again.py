# SPDX-License-Identifier: Apache-2.0
"""An officer whose share was void signs again: what they have signed is told apart by its hash."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("recovery", "0007_why_since")]
    operations = [
        migrations.RemoveConstraint("approval", "approval_index_once"),
        migrations.RemoveConstraint("approval", "approval_person_once"),
        migrations.AddConstraint(
            "approval",
            models.UniqueConstraint(fields=("tenant_id", "case_id", "statement_hash"), name="approval_statement_once"),
        ),
    ]
