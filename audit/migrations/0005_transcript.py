# SPDX-License-Identifier: Apache-2.0
"""Signed transcripts of ceremonies: append-only, as all of the log is."""

import importlib
import uuid

import django.db.models.manager
from django.db import migrations, models

_frozen = importlib.import_module("audit.migrations.0002_append_only")

TABLE = "audit_transcript"


def freeze(apps, schema_editor):
    create = _frozen._sqlite if schema_editor.connection.vendor == "sqlite" else _frozen._postgresql
    for statement in create(TABLE, "1 = 1"):
        schema_editor.execute(statement)


def thaw(apps, schema_editor):
    for statement in _frozen._drop(TABLE, schema_editor.connection.vendor):
        schema_editor.execute(statement)


class Migration(migrations.Migration):
    dependencies = [("audit", "0004_signed_by_role")]
    operations = [
        migrations.CreateModel(
            name="Transcript",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("tenant_id", models.UUIDField(db_index=True, editable=False)),
                ("number", models.PositiveIntegerField()),
                ("statement", models.BinaryField()),
                ("text", models.BinaryField()),
                ("hash", models.BinaryField(max_length=32)),
                ("installation_lines", models.PositiveIntegerField()),
                ("own_lines", models.PositiveIntegerField()),
                ("made_at", models.DateTimeField()),
            ],
            options={
                "abstract": False,
                "default_manager_name": "unscoped",
                "base_manager_name": "unscoped",
                "constraints": [
                    models.UniqueConstraint(fields=("tenant_id", "number"), name="transcript_number_once")
                ],
            },
            managers=[("unscoped", django.db.models.manager.Manager())],
        ),
        migrations.RunPython(freeze, thaw),
    ]
