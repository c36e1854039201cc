# SPDX-License-Identifier: Apache-2.0
"""What was asked and done to shred one person's keys. Reversible: the log has both."""

from __future__ import annotations

import django.db.models.manager
import uuid
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('recovery', '0013_disclosures_end'),
    ]

    operations = [
        migrations.CreateModel(
            name='Shredding',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('tenant_id', models.UUIDField(db_index=True, editable=False)),
                ('person_id', models.UUIDField()),
                ('asked_at', models.DateTimeField()),
                ('done', models.JSONField(default=dict)),
                ('finished_at', models.DateTimeField(null=True)),
            ],
            options={
                'abstract': False,
                'base_manager_name': 'unscoped',
                'default_manager_name': 'unscoped',
                'constraints': [models.UniqueConstraint(fields=('tenant_id', 'person_id'), name='shredding_once')],
            },
            managers=[
                ('unscoped', django.db.models.manager.Manager()),
            ],
        ),
    ]
