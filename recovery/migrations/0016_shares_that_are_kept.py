# SPDX-License-Identifier: Apache-2.0
"""What leads the worker to the shares of contacts that are kept, however many requests have ended."""

from __future__ import annotations

from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("recovery", "0015_cases_in_state")]

    operations = [
        migrations.AddIndex(
            "contactanswer",
            models.Index(fields=["request"], condition=Q(sealed__isnull=False), name="contact_answer_sealed"),
        ),
    ]
