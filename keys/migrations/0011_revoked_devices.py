# SPDX-License-Identifier: Apache-2.0
"""The revoked devices, which lead to what is left of them."""

from __future__ import annotations

from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("keys", "0010_officers_section")]

    operations = [
        migrations.AddIndex(
            "device", models.Index(fields=["tenant_id", "id", "state"], condition=Q(state="revoked"), name="device_revoked")
        ),
    ]
