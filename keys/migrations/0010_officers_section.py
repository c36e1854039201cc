# SPDX-License-Identifier: Apache-2.0
"""A vault has a section for officers' keys, behind doors of its own that their owner proves."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("keys", "0009_device_names_who_stands_behind")]

    operations = [
        migrations.AddField("vault", "section", models.CharField(max_length=8, default="vault")),
        migrations.AddField("vault", "epoch", models.PositiveBigIntegerField(null=True)),
        migrations.RemoveConstraint("vault", "one_vault_per_user"),
        migrations.AddConstraint(
            "vault",
            models.UniqueConstraint(fields=("tenant_id", "user_id", "section"), name="one_vault_of_a_section"),
        ),
        migrations.AlterField("vaultdoor", "kind", models.CharField(max_length=20)),
        migrations.AddField("vaultdoor", "epoch", models.PositiveBigIntegerField(null=True)),
        migrations.AddField("vaultdoor", "proof", models.BinaryField(null=True)),
        migrations.AddField("vaultdoor", "proved_at", models.DateTimeField(null=True)),
    ]
