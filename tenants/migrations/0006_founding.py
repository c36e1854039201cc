# SPDX-License-Identifier: Apache-2.0
"""Tenants that are being founded, invitations to the console, and recovery codes."""

from __future__ import annotations

import uuid

import django.db.models.deletion
import django.db.models.manager
from django.conf import settings
from django.db import migrations, models

_OPTIONS = {"abstract": False, "base_manager_name": "unscoped", "default_manager_name": "unscoped"}
_MANAGERS = [("unscoped", django.db.models.manager.Manager())]


def _own(*fields: tuple[str, models.Field]) -> list[tuple[str, models.Field]]:
    return [
        ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
        *fields,
        (
            "person",
            models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="+", to=settings.AUTH_USER_MODEL
            ),
        ),
        (
            "tenant",
            models.ForeignKey(
                editable=False, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="tenants.tenant"
            ),
        ),
    ]


class Migration(migrations.Migration):
    dependencies = [("tenants", "0005_who_let_whom_in")]

    operations = [
        migrations.AlterField(
            "tenant",
            "state",
            models.CharField(
                choices=[
                    ("founding", "Founding"),
                    ("active", "Active"),
                    ("suspended", "Suspended"),
                    ("locked", "Locked"),
                    ("ending", "Ending"),
                    ("ended", "Ended"),
                ],
                default="active",
                max_length=10,
            ),
        ),
        migrations.CreateModel(
            name="Invitation",
            fields=_own(
                ("token_hash", models.BinaryField(max_length=32)),
                ("created_by", models.CharField(max_length=60)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("expires_at", models.DateTimeField()),
                ("used_at", models.DateTimeField(null=True)),
            ),
            options={
                **_OPTIONS,
                "constraints": [models.UniqueConstraint(fields=["tenant", "token_hash"], name="invitation_once")],
            },
            managers=_MANAGERS,
        ),
        migrations.CreateModel(
            name="RecoveryCode",
            fields=_own(
                ("code_hash", models.BinaryField(max_length=32)),
                ("used_at", models.DateTimeField(null=True)),
            ),
            options={
                **_OPTIONS,
                "constraints": [models.UniqueConstraint(fields=["tenant", "code_hash"], name="recovery_code_once")],
            },
            managers=_MANAGERS,
        ),
    ]
