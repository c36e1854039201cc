# SPDX-License-Identifier: Apache-2.0
"""Sessions say whose they are. Those of before do not, so they end: everybody signs in again, once."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tenants", "0010_sealed_factors")]

    operations = [
        migrations.CreateModel(
            "ConsoleSession",
            [
                (
                    "session_key",
                    models.CharField(max_length=40, primary_key=True, serialize=False, verbose_name="session key"),
                ),
                ("session_data", models.TextField(verbose_name="session data")),
                ("expire_date", models.DateTimeField(db_index=True, verbose_name="expire date")),
                ("person_id", models.UUIDField(db_index=True, null=True)),
                ("tenant_id", models.UUIDField(null=True)),
                ("agent", models.CharField(default="", max_length=40)),
                ("source", models.CharField(default="", max_length=45)),
                ("started_at", models.DateTimeField()),
                ("last_seen_at", models.DateTimeField()),
            ],
            options={"verbose_name": "session", "verbose_name_plural": "sessions", "abstract": False},
        ),
        # Django's own table, which nothing reads any more: no session is left lying in it.
        migrations.RunSQL("DROP TABLE IF EXISTS django_session", migrations.RunSQL.noop),
    ]
