# SPDX-License-Identifier: Apache-2.0
"""Console pages with 10,000 people: the server's time beside that of its own SQL.

The floor is what the statements of the very same requests took, so that the ratio is what we add to them. How many
statements there are stands in each row; tests/console/test_lists.py pins them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, Final

from bench import world

PEOPLE: Final = 10_000
TIMES: Final = 7
PAGES: Final = (
    ("overview", ""),
    ("people, first page", "people/"),
    ("people, searched and sorted", "people/?q=crowd&sort=-email&page=150"),
    ("people with few doors", "people/doors/"),
)


class Statements:
    """What the database was asked meanwhile. seconds: spent in it."""

    def __init__(self) -> None:
        self.count, self.seconds = 0, 0.0

    def __call__(self, execute: Callable[..., Any], *given: Any) -> Any:
        begun = time.perf_counter()
        try:
            return execute(*given)
        finally:
            self.seconds += time.perf_counter() - begun
            self.count += 1


def main() -> None:
    """Measure and report."""
    world.start()
    from tests.cast.administrators import administrator

    with world.hsm():
        made = world.founded()
        _crowd(made)
        olivia = administrator(made.cast.olivia)
        pages = [*PAGES, ("one person", f"people/{made.cast.alice.pk}/")]
        world.report([_page(olivia.client, name, path) for name, path in pages])


def _crowd(made: Any) -> None:
    """Put people in by rows alone."""
    from django.db import connection

    from tenants.models import Person

    Person.unscoped.bulk_create(
        [
            Person(
                tenant_id=made.tenant_id,
                email=f"crowd-{number}@acme.test",
                email_key=f"crowd-{number}@acme.test",
                name=f"Crowd {number:05}",
                search=f"crowd {number:05}\ncrowd-{number}@acme.test",
                state="active",
            )
            for number in range(PEOPLE)
        ],
        batch_size=1000,
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def _timed(work: Callable[[], Any]) -> tuple[float, Statements]:
    from django.db import connection

    statements = Statements()
    with connection.execute_wrapper(statements):
        begun = time.perf_counter()
        work()
        return time.perf_counter() - begun, statements


def _page(client: Any, name: str, path: str) -> world.Row:
    world.say(name)

    def look() -> None:
        if client.get(f"/console/{path}").status_code != 200:
            raise RuntimeError(f"{path} is not shown")

    look()
    ours, floor = [], []
    for _ in range(world.ROUNDS):
        taken = [_timed(look) for _ in range(TIMES)]
        ours.append(statistics.median(seconds for seconds, _ in taken))
        floor.append(statistics.median(sql.seconds for _, sql in taken))
    return world.row(f"{name}: {taken[0][1].count} statements", ours, floor, "ms", scale=1e3)


if __name__ == "__main__":
    main()
