# SPDX-License-Identifier: Apache-2.0
"""A case keeps who stands behind it."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("recovery", "0009_cases_end")]

    operations = [
        migrations.AddField("case", "behind", models.JSONField(null=True)),
    ]
