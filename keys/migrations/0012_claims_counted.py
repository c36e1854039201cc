# SPDX-License-Identifier: Apache-2.0
"""An hour's claims are counted from their rows."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("keys", "0011_revoked_devices")]

    operations = [
        migrations.AddIndex(
            "claim",
            models.Index(fields=["tenant_id", "requester_id", "claimed_at"], name="claim_rate_of_requester"),
        ),
    ]
