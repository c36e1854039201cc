# SPDX-License-Identifier: Apache-2.0
"""What has the list of cases in its order, those not over and those over, and leads a recipient to their own."""

from __future__ import annotations

from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("recovery", "0016_shares_that_are_kept")]

    operations = [
        migrations.AddIndex(
            "case",
            models.Index(
                fields=["tenant_id", "opened_at", "id"], condition=Q(ended_at__isnull=True), name="case_open_by_date"
            ),
        ),
        migrations.AddIndex(
            "case",
            models.Index(
                fields=["tenant_id", "opened_at", "id"], condition=Q(ended_at__isnull=False), name="case_over_by_date"
            ),
        ),
        migrations.AddIndex("case", models.Index(fields=["tenant_id", "recipient_person_id"], name="case_by_recipient")),
    ]
