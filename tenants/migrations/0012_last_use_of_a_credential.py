# SPDX-License-Identifier: Apache-2.0
"""The day on which a credential last signed a request. Of what was before, nothing is known."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tenants", "0011_sessions_of_people")]

    operations = [
        migrations.AddField("credential", "last_used_on", models.DateField(null=True)),
    ]
