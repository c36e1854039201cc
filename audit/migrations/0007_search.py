# SPDX-License-Identifier: Apache-2.0
"""What leads a search of the log by person and by date to what it looks for."""

from __future__ import annotations

from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("audit", "0006_restored")]

    operations = [
        migrations.AddIndex(
            "entry",
            models.Index(
                fields=["tenant_id", "person_id", "leaf_index"],
                condition=Q(person_id__isnull=False),
                name="entry_person",
            ),
        ),
        migrations.AddIndex("entry", models.Index(fields=["tenant_id", "log", "time", "leaf_index"], name="entry_time")),
    ]
