# SPDX-License-Identifier: Apache-2.0
"""An officer may approve anew after a suspension; shares are named by their numbers in their own deposits."""

from django.db import migrations, models

# Until now an approval was taken only where each share's number was that of its officer in the case's policy.
NUMBER = (
    'UPDATE recovery_sealedshare SET "index" ='
    ' (SELECT a."index" FROM recovery_approval a WHERE a.id = recovery_sealedshare.approval_id)'
)


class Migration(migrations.Migration):
    dependencies = [("recovery", "0007_why_since")]

    operations = [
        migrations.RemoveConstraint("approval", "approval_index_once"),
        migrations.RemoveConstraint("approval", "approval_person_once"),
        migrations.AddConstraint(
            "approval",
            models.UniqueConstraint(fields=("tenant_id", "case_id", "statement_hash"), name="approval_statement_once"),
        ),
        migrations.AddField(
            "sealedshare", "index", models.PositiveSmallIntegerField(default=0), preserve_default=False
        ),
        migrations.RunSQL(NUMBER, migrations.RunSQL.noop),
    ]
