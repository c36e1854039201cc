# SPDX-License-Identifier: Apache-2.0
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("kernel", "0003_heartbeat"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="replayableanswer",
            index=models.Index(fields=["tenant_id", "actor_id", "created_at"], name="answer_by_age"),
        ),
    ]
