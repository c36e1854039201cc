# SPDX-License-Identifier: Apache-2.0
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("keys", "0007_entries_dated_by_the_database"),
    ]

    operations = [
        migrations.AddField("tenantmasterkey", "mac", models.BinaryField(max_length=32, null=True)),
    ]
