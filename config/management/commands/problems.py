# SPDX-License-Identifier: Apache-2.0
"""`manage.py problems`: print docs/problems.md, the list of every code that the API answers with."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from kernel.problems import catalogue

HEAD = """# Problem codes

Every refusal of the REST API is a problem document (RFC 9457) with one of these codes. Codes are API: they are not
renamed. `detail` says what is wrong and the way out; `errors` names the field. Written by
`manage.py problems > docs/problems.md`; a test compares.

| code | status | meaning |
|---|---|---|
"""


def page() -> str:
    """Return the page as it must stand in docs/problems.md."""
    return HEAD + "".join(f"| `{code}` | {status} | {title} |\n" for code, status, title in catalogue())


class Command(BaseCommand):
    help = "Print docs/problems.md."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(page(), ending="")
