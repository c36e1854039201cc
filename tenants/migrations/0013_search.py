# SPDX-License-Identifier: Apache-2.0
"""People are searched for in a form that both databases compare alike."""

from __future__ import annotations

import unicodedata
from typing import Any, Final

from django.db import migrations, models

_ROWS: Final = 1000  # read and written at a time


def _folded(text: str) -> str:
    for _ in range(2):
        text = unicodedata.normalize("NFKD", text).casefold()
    plain = "".join(sign for sign in text if unicodedata.category(sign) not in ("Mn", "Me"))
    return " ".join(unicodedata.normalize("NFKC", plain).replace("ı", "i").split())


def fill(apps: Any, schema_editor: Any) -> None:
    """Fold every name and address that is there."""
    people = apps.get_model("tenants", "Person")._base_manager.using(schema_editor.connection.alias)
    last = None
    while True:
        rows = people.order_by("pk") if last is None else people.filter(pk__gt=last).order_by("pk")
        found = list(rows.only("pk", "name", "email")[:_ROWS])
        if not found:
            return
        for row in found:
            row.search = "\n".join((_folded(row.name), _folded(row.email)))
        people.bulk_update(found, ["search"])
        last = found[-1].pk


class Migration(migrations.Migration):
    dependencies = [("tenants", "0012_last_use_of_a_credential")]

    operations = [
        migrations.AddField("person", "search", models.TextField(default="", editable=False)),
        migrations.RunPython(fill, migrations.RunPython.noop),
        migrations.AddIndex("person", models.Index(fields=["tenant", "search", "id"], name="person_by_search")),
        migrations.AddIndex("person", models.Index(fields=["tenant", "created_at", "id"], name="person_by_date")),
    ]
