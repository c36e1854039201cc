# SPDX-License-Identifier: Apache-2.0
"""A file of 10,000 people, read and then done, against the SQL of it alone: the server's time beside its statements'.

The floor is the time that the database took for the same statements, as Django's cursor saw it.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from typing import Any

from bench import world

PEOPLE = 10_000


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
    text = "name,email,role\n" + "".join(f"Person {at},person{at}@acme.test,member\n" for at in range(PEOPLE))
    rows = []
    for what, work in (("read", _read), ("done", _done)):
        sql, seconds = _measured(lambda work=work: work(olivia, text))
        rows.append(world.row(f"a file of {PEOPLE:,} people, {what}", seconds, sql.seconds, "s"))
        rows.append({"what": f"  statements, {what}", "ours": f"{sql.count:,}"})
    tracemalloc.start()
    _read(olivia, text.replace("@acme", "@other"))
    rows.append(
        {"what": "  most memory while it is read", "ours": f"{tracemalloc.get_traced_memory()[1] / 2**20:.1f} MiB"}
    )
    world.report(rows)


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
        row = Import.objects.get()
        with transaction.atomic():
            services.begin(row=services.import_of(row.pk, lock=True), actor=olivia.actor())
    while queue.due("worker"):
        queue.run_due("worker")
    assert Import.unscoped.get(pk=row.pk).created == PEOPLE


if __name__ == "__main__":
    main()
