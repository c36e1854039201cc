# SPDX-License-Identifier: Apache-2.0
"""What leads the worker to the cases that are not over, and to those of which something is still to be renewed."""

from __future__ import annotations

from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("recovery", "0014_shredding")]

    operations = [
        migrations.AddIndex("case", models.Index(fields=["state", "expiry"], name="case_in_state")),
        migrations.AddIndex(
            "case", models.Index(fields=["collected_at"], condition=Q(renewed_at=None), name="case_unrenewed")
        ),
    ]
