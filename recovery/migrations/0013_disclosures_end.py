# SPDX-License-Identifier: Apache-2.0
"""A case keeps when its disclosure ends; one of before is refused after it all the same, and swept at its expiry."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("recovery", "0012_exposure_is_followed")]
    operations = [migrations.AddField("case", "disclosed_until", models.DateTimeField(null=True))]
