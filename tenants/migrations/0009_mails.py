# SPDX-License-Identifier: Apache-2.0
"""The mails that acts promise, and what became of each. Reversible: what waits is forgotten."""

from __future__ import annotations

import django.db.models.deletion
import django.db.models.manager
import uuid
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tenants', '0008_administration'),
    ]

    operations = [
        migrations.CreateModel(
            name='Mail',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('kind', models.CharField(max_length=30)),
                ('address', models.CharField(default='', max_length=254)),
                ('by_id', models.UUIDField(null=True)),
                ('act', models.CharField(default='', max_length=64)),
                ('values', models.JSONField(default=dict)),
                ('state', models.CharField(choices=[('waiting', 'Waiting'), ('handed-over', 'Handed Over'), ('failed', 'Failed'), ('needless', 'Needless')], default='waiting', max_length=12)),
                ('why', models.CharField(choices=[('away', 'Away'), ('refused', 'Refused')], default='', max_length=10)),
                ('attempts', models.PositiveIntegerField(default=0)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('settled_at', models.DateTimeField(null=True)),
                ('person', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL)),
                ('tenant', models.ForeignKey(editable=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='tenants.tenant')),
            ],
            options={
                'abstract': False,
                'base_manager_name': 'unscoped',
                'default_manager_name': 'unscoped',
                'indexes': [models.Index(fields=['tenant', 'person', 'created_at'], name='mail_of_person'), models.Index(condition=models.Q(('act', ''), _negated=True), fields=['tenant', 'act'], name='mail_of_act'), models.Index(condition=models.Q(('settled_at__isnull', False)), fields=['settled_at'], name='mail_settled')],
            },
            managers=[
                ('unscoped', django.db.models.manager.Manager()),
            ],
        ),
    ]
