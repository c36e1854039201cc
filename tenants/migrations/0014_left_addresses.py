# SPDX-License-Identifier: Apache-2.0
"""An address is its person's until they leave: whoever is invited with it afterwards is somebody else.

Reversible as long as nobody came after somebody who had left with the same address.
"""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tenants", "0013_search")]

    operations = [
        migrations.RemoveConstraint("person", "person_once_per_address"),
        migrations.AddConstraint(
            "person",
            models.UniqueConstraint(
                condition=models.Q(("state", "left"), _negated=True),
                fields=("tenant", "email_key"),
                name="person_once_per_address",
            ),
        ),
    ]
