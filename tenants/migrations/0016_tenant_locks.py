# SPDX-License-Identifier: Apache-2.0
"""Since when a tenant is locked, and when the lock ends. Reversible, while none is locked."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tenants', '0015_log_tokens'),
    ]

    operations = [
        migrations.AddField(
            model_name='tenant',
            name='locked_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='tenant',
            name='unlock_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='tenant',
            name='unlocked_at',
            field=models.DateTimeField(null=True),
        ),
    ]
