# SPDX-License-Identifier: Apache-2.0
"""Authenticators whose keys are sealed, and links to a new password.

Keys of before are carried over as they are, since no HSM is asked here: the worker seals them, or their next use does. The
table of django-otp's own plugin goes, so that no copy of them stays there.
"""

from __future__ import annotations

import uuid

import django.db.models.deletion
import django.db.models.manager
from django.conf import settings
from django.db import migrations, models

_OPTIONS = {"abstract": False, "base_manager_name": "unscoped", "default_manager_name": "unscoped"}
_BEFORE = "otp_totp_totpdevice"
_BATCH = 500


def carry_over(apps, schema_editor):
    authenticator = apps.get_model("tenants", "Authenticator")
    with schema_editor.connection.cursor() as cursor:
        if _BEFORE not in schema_editor.connection.introspection.table_names(cursor):
            return
        after = -1
        while True:
            cursor.execute(
                f"SELECT id, user_id, name, key, confirmed, last_t FROM {_BEFORE} WHERE id > %s ORDER BY id LIMIT %s",
                [after, _BATCH],
            )
            rows = cursor.fetchall()
            authenticator.objects.bulk_create(
                authenticator(
                    user_id=uuid.UUID(str(user_id)),
                    name=name,
                    unsealed=bytes.fromhex(key),
                    confirmed=bool(confirmed),
                    last_t=last_t,
                )
                for _, user_id, name, key, confirmed, last_t in rows
            )
            if len(rows) < _BATCH:
                break
            after = rows[-1][0]
        cursor.execute(f"DROP TABLE {_BEFORE}")


class Migration(migrations.Migration):
    dependencies = [("tenants", "0009_mails")]

    operations = [
        migrations.CreateModel(
            name="Authenticator",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(help_text="The human-readable name of this device.", max_length=64)),
                ("confirmed", models.BooleanField(default=True, help_text="Is this device ready for use?")),
                (
                    "created_at",
                    models.DateTimeField(
                        auto_now_add=True,
                        help_text="The date and time when this device was initially created in the system.",
                        null=True,
                    ),
                ),
                (
                    "last_used_at",
                    models.DateTimeField(
                        blank=True, help_text="The most recent date and time this device was used.", null=True
                    ),
                ),
                (
                    "throttling_failure_timestamp",
                    models.DateTimeField(
                        blank=True,
                        default=None,
                        help_text=(
                            "A timestamp of the last failed verification attempt. Null if last attempt succeeded."
                        ),
                        null=True,
                    ),
                ),
                (
                    "throttling_failure_count",
                    models.PositiveIntegerField(default=0, help_text="Number of successive failed attempts."),
                ),
                ("serial", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                ("sealed", models.BinaryField(max_length=200, null=True)),
                ("unsealed", models.BinaryField(max_length=40, null=True)),
                ("last_t", models.BigIntegerField(default=-1)),
                (
                    "user",
                    models.ForeignKey(
                        help_text="The user that this device belongs to.",
                        on_delete=django.db.models.deletion.CASCADE,
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "abstract": False,
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("sealed__isnull", True), ("unsealed__isnull", False)),
                            models.Q(("sealed__isnull", False), ("unsealed__isnull", True)),
                            _connector="OR",
                        ),
                        name="authenticator_key_sealed_or_not",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="PasswordReset",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("token_hash", models.BinaryField(max_length=32)),
                ("bound", models.BinaryField(max_length=32)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("expires_at", models.DateTimeField(db_index=True)),
                ("used_at", models.DateTimeField(null=True)),
                (
                    "person",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
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
                **_OPTIONS,
                "constraints": [
                    models.UniqueConstraint(fields=["tenant", "token_hash"], name="password_reset_once")
                ],
            },
            managers=[("unscoped", django.db.models.manager.Manager())],
        ),
        migrations.RunPython(carry_over, migrations.RunPython.noop),
    ]
