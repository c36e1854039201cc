# SPDX-License-Identifier: Apache-2.0
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("keys", "0006_waiting_devices"),
    ]

    # Who dates an entry is no matter of the table.
    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterField(model_name="chainentry", name="appended_at", field=models.DateTimeField()),
            ],
        ),
    ]
