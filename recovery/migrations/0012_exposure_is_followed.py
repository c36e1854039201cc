# SPDX-License-Identifier: Apache-2.0
"""A case keeps when what it exposed was renewed or sealed; of those rotated or sealed before, the state says it."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("recovery", "0011_vetoes_that_delay")]
    operations = [migrations.AddField("case", "renewed_at", models.DateTimeField(null=True))]
