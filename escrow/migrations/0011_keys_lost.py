# SPDX-License-Identifier: Apache-2.0
"""An officer's keys are lost with a device: when that was, beside each row that names them."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("escrow", "0010_proposals")]
    operations = [migrations.AddField("policyofficer", "keys_lost_at", models.DateTimeField(null=True))]
