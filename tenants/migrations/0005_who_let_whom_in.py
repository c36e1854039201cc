# SPDX-License-Identifier: Apache-2.0
"""Codes name whoever issued and confirmed them, and people who stand behind others have rows.

What is older names nobody: nobody more is left out of a case for it.
"""

import uuid

import django.db.models.deletion
import django.db.models.manager
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tenants", "0004_ids_per_tenant")]

    operations = [
        migrations.AddField("enrolmentcode", "issuer_id", models.UUIDField(null=True)),
        migrations.AddField("enrolmentcode", "confirmer_id", models.UUIDField(null=True)),
        migrations.CreateModel(
            name="Sponsorship",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("person_id", models.UUIDField()),
                ("sponsor_id", models.UUIDField()),
                ("at", models.DateTimeField()),
                (
                    "tenant",
                    models.ForeignKey(
                        editable=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "abstract": False,
                "base_manager_name": "unscoped",
                "default_manager_name": "unscoped",
                "constraints": [
                    models.UniqueConstraint(fields=["tenant", "person_id", "sponsor_id"], name="sponsorship_once")
                ],
            },
            managers=[
                ("unscoped", django.db.models.manager.Manager()),
            ],
        ),
    ]
