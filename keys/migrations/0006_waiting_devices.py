# SPDX-License-Identifier: Apache-2.0
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("keys", "0005_ids_per_tenant"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="device",
            index=models.Index(condition=models.Q(("state", "pending")), fields=["created_at"], name="device_waiting"),
        ),
    ]
