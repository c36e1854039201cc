# SPDX-License-Identifier: Apache-2.0
"""A device keeps who stands behind its enrolment."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("keys", "0007_entries_dated_by_the_database")]

    operations = [
        migrations.AddField("device", "behind", models.JSONField(null=True)),
    ]
