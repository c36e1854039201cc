# SPDX-License-Identifier: Apache-2.0
"""When a deposit was shredded, with all keys of its owner."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("escrow", "0012_touches")]

    # Without a default: SQLite would make the table anew, and lose the trigger that keeps its rows as they are.
    operations = [migrations.AddField("deposit", "shredded_at", models.DateTimeField(null=True))]
