# SPDX-License-Identifier: Apache-2.0
"""m officers suspend a device: a resolution names it, and each veto asks whether one does."""

from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("escrow", "0007_exposed")]
    operations = [
        migrations.AddField("resolution", "device_id", models.UUIDField(null=True)),
        migrations.AddIndex(
            "resolution",
            models.Index(fields=["tenant_id", "device_id"], condition=~Q(device_id=None), name="resolution_by_device"),
        ),
    ]
