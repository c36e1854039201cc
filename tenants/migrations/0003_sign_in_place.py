# SPDX-License-Identifier: Apache-2.0
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0002_token_buckets"),
    ]

    operations = [
        migrations.CreateModel(
            name="SignInPlace",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey("account", "source", blank=True, editable=False, primary_key=True, serialize=False),
                ),
                ("account", models.CharField(max_length=64)),
                ("source", models.CharField(max_length=45)),
                ("last_at", models.DateTimeField(db_index=True)),
            ],
        ),
    ]
