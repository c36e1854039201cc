# SPDX-License-Identifier: Apache-2.0
"""How full a mailbox is, and what an account chain says at its head: kept beside them, and not worked out again."""

from __future__ import annotations

from django.db import migrations, models

_ALL = "0" * 32
_SENDER = "CASE WHEN sort = 3 THEN sender_device ELSE sender_user END"
_SORTED = """
UPDATE keys_message SET sort = CASE
  WHEN kind = 'notice' THEN 0
  WHEN sender_user = (SELECT d.user_id FROM keys_device d
                      WHERE d.tenant_id = keys_message.tenant_id AND d.id = keys_message.device_id) THEN 3
  WHEN kind = 'message' THEN 1 ELSE 2 END
"""
_COUNTED = """
INSERT INTO keys_mailboxsize (tenant_id, device_id, sort, sender, messages, octets)
SELECT tenant_id, device_id, sort, {sender}, COUNT(*), SUM(size) FROM keys_message WHERE sort <> 0
GROUP BY tenant_id, device_id, sort{grouped}
"""


class Migration(migrations.Migration):
    dependencies = [("keys", "0012_claims_counted")]

    operations = [
        migrations.AddField("chainhead", "state", models.BinaryField(null=True)),
        migrations.AddField("chainhead", "state_mac", models.BinaryField(max_length=32, null=True)),
        migrations.AddField(
            "message",
            "sort",
            models.PositiveSmallIntegerField(
                choices=[(0, "Notice"), (1, "Message"), (2, "Letter"), (3, "Own")], default=0
            ),
            preserve_default=False,
        ),
        migrations.CreateModel(
            name="MailboxSize",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("tenant_id", models.UUIDField(editable=False)),
                ("device_id", models.UUIDField()),
                (
                    "sort",
                    models.PositiveSmallIntegerField(
                        choices=[(0, "Notice"), (1, "Message"), (2, "Letter"), (3, "Own")]
                    ),
                ),
                ("sender", models.UUIDField()),
                ("messages", models.IntegerField()),
                ("octets", models.BigIntegerField()),
            ],
            options={
                "default_manager_name": "unscoped",
                "base_manager_name": "unscoped",
                "constraints": [
                    models.UniqueConstraint(
                        fields=("tenant_id", "device_id", "sort", "sender"), name="mailbox_size_once"
                    )
                ],
            },
            managers=[("unscoped", models.Manager())],
        ),
        migrations.RunSQL(_SORTED, migrations.RunSQL.noop),
        migrations.RunSQL(
            _COUNTED.format(sender=_SENDER, grouped=f", {_SENDER}"), migrations.RunSQL.noop
        ),
        migrations.RunSQL(_COUNTED.format(sender=f"'{_ALL}'", grouped=""), migrations.RunSQL.noop),
    ]
