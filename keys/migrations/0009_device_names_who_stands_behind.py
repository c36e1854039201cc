# SPDX-License-Identifier: Apache-2.0
"""A device keeps who stands behind its enrolment."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("keys", "0008_bound_tenant_keys")]

    operations = [
        migrations.AddField("device", "behind", models.JSONField(null=True)),
    ]
