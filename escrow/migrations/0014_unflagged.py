# SPDX-License-Identifier: Apache-2.0
"""What is not flagged yet, by the device that made it."""

from __future__ import annotations

from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("escrow", "0013_shredded")]

    operations = [
        migrations.AddIndex(
            "deposit",
            models.Index(fields=["tenant_id", "device_id"], condition=Q(flagged_at=None), name="deposit_unflagged"),
        ),
    ]
