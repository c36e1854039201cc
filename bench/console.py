# SPDX-License-Identifier: Apache-2.0
"""Console pages and a file of people, with 10,000 people: the server's time beside that of its own SQL.

The floor is what the statements of the very same requests took, so that the ratio is what we add to them. How many
statements there are stands in each row; tests/console/test_lists.py pins them.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from bench import world

PEOPLE: Final = 10_000
TIMES: Final = 15
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
    with tempfile.TemporaryDirectory(prefix="holdfast-bench-hsm-") as directory:
        world.report(_measure(Path(directory)))


def _measure(directory: Path) -> list[dict[str, str]]:
    from tests.cast.administrators import administrator

    with _founded(directory) as made:
        _crowd(made)
        olivia = administrator(made.cast.olivia)
        pages = [*PAGES, ("one person", f"people/{made.cast.alice.pk}/")]
        rows = [_page(olivia.client, name, path) for name, path in pages]
        return rows + list(_file(made, olivia))


@contextmanager
def _founded(directory: Path) -> Iterator[Any]:
    from audit import signing
    from hsm import registry
    from hsm.ceremony import Ceremony
    from hsm.runtime import open_tokens
    from tests.cast.hsm import TENANT, make_home
    from tests.cast.roles import ROLE_KEYS
    from tests.cast.world import World

    signing.install(lambda: ROLE_KEYS)
    config = make_home(directory / "hsm")
    with open_tokens(config, ["root", "log", "escrow"]) as tokens:
        opened = {"root": tokens.root, "log": tokens.log, "escrow": tokens.escrow}
        registry.install(lambda: dict(opened))
        yield World(directory / "release", Ceremony(config).escrow_keys(TENANT)[0], tokens.log.public_key)


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


def _page(client: Any, name: str, path: str) -> dict[str, str]:
    def look() -> None:
        if client.get(f"/console/{path}").status_code != 200:
            raise RuntimeError(f"{path} is not shown")

    look()
    taken = [_timed(look) for _ in range(TIMES)]
    ours, floor = (statistics.median(one) for one in zip(*((all_, sql.seconds) for all_, sql in taken), strict=True))
    return world.row(f"{name}: {taken[0][1].count} statements", ours, floor, "ms", scale=1e3)


def _file(made: Any, olivia: Any) -> Iterator[dict[str, str]]:
    from django.core.files.uploadedfile import SimpleUploadedFile

    from kernel.scope import tenant_scope
    from tenants.imports import services
    from tenants.models import Import

    text = "".join(f"Person {number},p{number}@acme.test,member\n" for number in range(PEOPLE))
    file = SimpleUploadedFile("people.csv", text.encode(), "text/csv")
    yield _once("a file: the dry run", lambda: olivia.client.post("/console/people/import/", {"file": file}))
    row = Import.unscoped.get()
    if row.good != PEOPLE:
        raise RuntimeError(f"{row.good} of {PEOPLE} lines are good")
    yield _once("a file: its page", lambda: olivia.client.get(f"/console/people/import/{row.pk}/"))
    yield _once("a file: looked at and confirmed", lambda: olivia.do("people-import", row))

    def work() -> None:
        with tenant_scope(made.tenant_id):
            while services.go_on(import_id=row.pk):
                pass

    yield _once("a file: the worker's part", work)
    row.refresh_from_db()
    if row.created != PEOPLE:
        raise RuntimeError(f"{row.created} of {PEOPLE} people were invited")


def _once(name: str, work: Callable[[], Any]) -> dict[str, str]:
    taken, sql = _timed(work)
    return world.row(f"{name}: {sql.count:,} statements", taken, sql.seconds, "s")


if __name__ == "__main__":
    main()
