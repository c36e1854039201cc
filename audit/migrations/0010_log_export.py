# SPDX-License-Identifier: Apache-2.0
"""Exports of long logs, in pieces. Reversible: what was made is forgotten."""

from __future__ import annotations

import django.db.models.deletion
import django.db.models.manager
import uuid
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('audit', '0009_lean_indexes'),
    ]

    operations = [
        migrations.CreateModel(
            name='LogExport',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('tenant_id', models.UUIDField(editable=False)),
                ('owner', models.CharField(max_length=80)),
                ('log', models.CharField(choices=[('audit', 'Audit'), ('keys', 'Keys')], max_length=8)),
                ('size', models.BigIntegerField()),
                ('vkey', models.CharField(max_length=400)),
                ('note', models.TextField()),
                ('roles', models.BinaryField(default=b'')),
                ('withheld', models.JSONField(default=list)),
                ('created_at', models.DateTimeField()),
                ('expires_at', models.DateTimeField(db_index=True)),
                ('ready_at', models.DateTimeField(null=True)),
                ('done', models.BigIntegerField(default=0)),
                ('pieces', models.PositiveIntegerField(default=0)),
                ('octets', models.BigIntegerField(default=0)),
            ],
            options={
                'abstract': False,
                'base_manager_name': 'unscoped',
                'default_manager_name': 'unscoped',
                'indexes': [models.Index(fields=['tenant_id', 'owner'], name='log_export_owner')],
            },
            managers=[
                ('unscoped', django.db.models.manager.Manager()),
            ],
        ),
        migrations.CreateModel(
            name='LogExportPiece',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('tenant_id', models.UUIDField(editable=False)),
                ('number', models.PositiveIntegerField()),
                ('octets', models.BinaryField()),
                ('size', models.PositiveIntegerField()),
                ('export', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='audit.logexport')),
            ],
            options={
                'abstract': False,
                'base_manager_name': 'unscoped',
                'default_manager_name': 'unscoped',
                'constraints': [models.UniqueConstraint(fields=('export', 'number'), name='log_export_piece_once')],
            },
            managers=[
                ('unscoped', django.db.models.manager.Manager()),
            ],
        ),
    ]
