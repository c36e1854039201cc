# SPDX-License-Identifier: Apache-2.0
"""How many deposits a proposed policy touches, as counted when it was proposed."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("escrow", "0011_keys_lost")]

    # Without a default: SQLite would make the table anew, and lose the trigger that keeps its rows as they are.
    operations = [migrations.AddField("policyproposal", "touches", models.PositiveIntegerField(null=True))]
