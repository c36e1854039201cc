# SPDX-License-Identifier: Apache-2.0
"""When a tenant ends, and when it ended. Reversible, while none ends."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tenants', '0017_tenant_export'),
    ]

    operations = [
        migrations.AddField(
            model_name='tenant',
            name='ended_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='tenant',
            name='ends_at',
            field=models.DateTimeField(null=True),
        ),
    ]
