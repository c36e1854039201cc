# SPDX-License-Identifier: Apache-2.0
"""Backups that were put back: the mark of a tenant, heads that clients showed, and what officers accepted for ever."""

import importlib
import uuid

import django.db.models.manager
from django.db import migrations, models

_frozen = importlib.import_module("audit.migrations.0002_append_only")

TABLE = "audit_acceptedlog"


def freeze(apps, schema_editor):
    create = _frozen._sqlite if schema_editor.connection.vendor == "sqlite" else _frozen._postgresql
    for statement in create(TABLE, "1 = 1"):
        schema_editor.execute(statement)


def thaw(apps, schema_editor):
    for statement in _frozen._drop(TABLE, schema_editor.connection.vendor):
        schema_editor.execute(statement)


def _rows(name, constraint, unique, *fields):
    return migrations.CreateModel(
        name=name,
        fields=[
            ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
            ("tenant_id", models.UUIDField(db_index=True, editable=False)),
            *fields,
        ],
        options={
            "abstract": False,
            "default_manager_name": "unscoped",
            "base_manager_name": "unscoped",
            "constraints": [models.UniqueConstraint(fields=("tenant_id", *unique), name=constraint)],
        },
        managers=[("unscoped", django.db.models.manager.Manager())],
    )


class Migration(migrations.Migration):
    dependencies = [("audit", "0005_transcript")]
    operations = [
        _rows(
            "Restored", "restored_once", (), ("by", models.CharField(max_length=16)), ("since", models.DateTimeField())
        ),
        _rows(
            "ShownHead",
            "shown_head_once",
            ("log",),
            ("log", models.CharField(choices=[("audit", "Audit"), ("keys", "Keys")], max_length=8)),
            ("size", models.BigIntegerField()),
            ("note", models.TextField()),
        ),
        _rows(
            "AcceptedLog",
            "accepted_log_once",
            ("hash",),
            ("hash", models.BinaryField(max_length=32)),
            ("statement", models.BinaryField()),
            ("audit_size", models.BigIntegerField()),
            ("keys_size", models.BigIntegerField()),
            ("at", models.DateTimeField()),
        ),
        migrations.RunPython(freeze, thaw),
    ]
