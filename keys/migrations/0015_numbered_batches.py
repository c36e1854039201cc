# SPDX-License-Identifier: Apache-2.0
"""Batches have numbers, and keys cost no check of their batch."""

from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models

# By their ids, which ascend with an honest client; any order would do, since a number only says that it is taken.
NUMBERED = """
UPDATE keys_prekeybatch SET number = numbered.place
  FROM (SELECT id, row_number() OVER (PARTITION BY tenant_id, device_id ORDER BY first_key_id, id) AS place
          FROM keys_prekeybatch) AS numbered
 WHERE numbered.id = keys_prekeybatch.id
"""


class Migration(migrations.Migration):
    dependencies = [("keys", "0014_lean_indexes")]

    operations = [
        migrations.AlterField(
            "onetimeprekey",
            "batch",
            models.ForeignKey(
                "keys.prekeybatch",
                on_delete=django.db.models.deletion.PROTECT,
                db_index=False,
                db_constraint=False,
                related_name="+",
            ),
        ),
        migrations.AddField("prekeybatch", "number", models.PositiveIntegerField(null=True)),
        migrations.RunSQL(NUMBERED, migrations.RunSQL.noop),
        migrations.AlterField("prekeybatch", "number", models.PositiveIntegerField()),
        migrations.AddConstraint(
            "prekeybatch",
            models.UniqueConstraint(fields=["tenant_id", "device_id", "number"], name="pre_key_batch_number"),
        ),
        migrations.AddIndex(
            "prekeybatch",
            models.Index(fields=["tenant_id", "device_id", "last_key_id"], name="pre_key_batch_ids"),
        ),
    ]
