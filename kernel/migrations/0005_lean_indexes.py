# SPDX-License-Identifier: Apache-2.0
"""Indexes that others begin with, or that no query uses, are gone: each row had to be written into them as well.

By name and not by altering the field, for which SQLite would copy the table and lose its triggers. It takes no time.
"""

from django.db import migrations, models
from django.db.models import Q

# (its name, table, column)
GONE = [
    ("kernel_job_tenant_id_09e74624", "kernel_job", "tenant_id"),
    ("kernel_replayableanswer_tenant_id_bd5d15cc", "kernel_replayableanswer", "tenant_id"),
]


class Migration(migrations.Migration):
    dependencies = [("kernel", "0004_answers_by_age")]
    operations = [
        migrations.SeparateDatabaseAndState(
            [
                migrations.RunSQL(f"DROP INDEX IF EXISTS {name}", f"CREATE INDEX {name} ON {table} ({column})")
                for name, table, column in GONE
            ],
            [
                *(
                    migrations.AlterField(
                        model_name=table.partition("_")[2], name="tenant_id", field=models.UUIDField(editable=False)
                    )
                    for _, table, column in GONE
                ),
            ],
        ),
        migrations.AddIndex("job", models.Index(fields=["tenant_id"], condition=Q(state="dead"), name="job_dead")),
    ]
