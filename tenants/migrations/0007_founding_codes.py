# SPDX-License-Identifier: Apache-2.0
"""Enrolment codes of a tenant that is being founded are a kind of their own."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tenants", "0006_founding")]

    operations = [
        migrations.AlterField(
            "enrolmentcode",
            "trust",
            models.CharField(
                choices=[("pinned", "Pinned"), ("founding", "Founding"), ("tofu", "Tofu")],
                default="pinned",
                max_length=10,
            ),
        ),
    ]
