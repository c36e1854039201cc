# SPDX-License-Identifier: Apache-2.0
"""A veto of a device that m officers have suspended gives the long delay; none of before did."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("recovery", "0010_who_stands_behind")]
    operations = [migrations.AddField("veto", "delays", models.BooleanField(default=False))]
