# SPDX-License-Identifier: Apache-2.0
"""A deposit is marked, once, when a case has opened its generation and no device is left to replace the key."""

from importlib import import_module

from django.db import migrations, models

append_only = import_module("escrow.migrations.0002_append_only")
DEPOSIT = append_only.DEPOSIT
_MARKED_ONCE = "(OLD.exposed_at IS NOT NULL AND NEW.exposed_at IS DISTINCT FROM OLD.exposed_at)"


def _drop(schema_editor):
    for statement in append_only._drop(DEPOSIT, schema_editor.connection.vendor):
        schema_editor.execute(statement)


def _create(schema_editor, *, also=""):
    refused = append_only._refused(DEPOSIT)
    for statement in append_only._create(DEPOSIT, schema_editor.connection.vendor):
        schema_editor.execute(statement.replace(refused, refused + also))


def mark_once(apps, schema_editor):
    _drop(schema_editor)
    _create(schema_editor, also=f" OR {_MARKED_ONCE}")


def mark_never(apps, schema_editor):
    _drop(schema_editor)
    _create(schema_editor)


class Migration(migrations.Migration):
    dependencies = [("escrow", "0006_receipts")]
    operations = [
        migrations.AddField("deposit", "exposed_at", models.DateTimeField(null=True)),
        migrations.RunPython(mark_once, mark_never),
    ]
