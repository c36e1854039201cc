# SPDX-License-Identifier: Apache-2.0
"""Some vetoes count, wrong shares are void, and what was released is destroyed.

Vetoes of before count as none: whether their cases had a quorum is not known, and their entries name no statement.
"""

from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("recovery", "0008_approvals_by_person")]
    operations = [
        migrations.AddField("veto", "counts", models.BooleanField(default=False)),
        migrations.AddField("release", "destroyed_at", models.DateTimeField(null=True)),
        migrations.AddField("releasedshare", "blamed_at", models.DateTimeField(null=True)),
        migrations.AddIndex("release", models.Index(fields=["at"], condition=Q(destroyed_at=None), name="release_kept")),
    ]
