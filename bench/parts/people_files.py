# SPDX-License-Identifier: Apache-2.0
"""Files of people, read and then done: the server's time beside that of its own SQL.

The floor is the time that the database took for the same statements, as Django's cursor saw it.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from typing import Any

from bench import world

PEOPLE = 3_000  # in a file; one file each round, so that the last finds those of the others there


class _Sql:
    """Counts statements, and the seconds that the database had them."""

    def __init__(self) -> None:
        self.count, self.seconds = 0, 0.0

    def __call__(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        begun = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            self.count, self.seconds = self.count + 1, self.seconds + time.perf_counter() - begun


def main() -> None:
    """Measure and report."""
    world.start()
    from tests.cast.phones import Directory

    olivia = Directory().phone("olivia")
    seconds: dict[str, list[float]] = {"read": [], "done": []}
    sql: dict[str, list[_Sql]] = {"read": [], "done": []}
    for number in range(world.ROUNDS):
        world.say(f"a file of people, round {number + 1} of {world.ROUNDS}")
        text = _file(number)
        for what, work in (("read", _read), ("done", _done)):
            asked, taken = _measured(lambda work=work, text=text: work(olivia, text))
            seconds[what].append(taken)
            sql[what].append(asked)
    rows = []
    for what, taken in seconds.items():
        asked = [one.seconds for one in sql[what]]
        said = f"a file of {PEOPLE:,} people, {what}: {sql[what][0].count:,} statements"
        rows.append(world.row(said, taken, asked, "s"))
    tracemalloc.start()
    _read(olivia, _file(world.ROUNDS))
    rows.append(world.figure("most memory while a file is read", tracemalloc.get_traced_memory()[1] / 2**20, "MiB"))
    world.report(rows)


def _file(number: int) -> str:
    return "name,email,role\n" + "".join(f"Person {at},person{at}@{number}.test,member\n" for at in range(PEOPLE))


def _measured(work: Callable[[], object]) -> tuple[_Sql, float]:
    from django.db import connection

    sql, begun = _Sql(), time.perf_counter()
    with connection.execute_wrapper(sql):
        work()
    return sql, time.perf_counter() - begun


def _read(olivia: Any, text: str) -> None:
    from kernel.scope import tenant_scope
    from tenants.imports import services

    with tenant_scope(olivia.person.tenant_id):
        assert services.read(text=text, actor=olivia.actor()).good == PEOPLE


def _done(olivia: Any, text: str) -> None:
    from django.db import transaction

    from kernel import queue
    from kernel.scope import tenant_scope
    from tenants.imports import services
    from tenants.models import Import

    with tenant_scope(olivia.person.tenant_id):
        row = Import.objects.latest("created_at")
        with transaction.atomic():
            services.begin(row=services.import_of(row.pk, lock=True), actor=olivia.actor())
    while queue.due("worker"):
        queue.run_due("worker")
    assert Import.unscoped.get(pk=row.pk).created == PEOPLE


if __name__ == "__main__":
    main()
