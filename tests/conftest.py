# SPDX-License-Identifier: Apache-2.0
"""What every test shares: the choice of database, and the tests that belong to PostgreSQL alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from kernel import api
from kernel.scope import close_scope
from tenants.limits import leases
from tests import order, prepared, soak
from tests.cast.postgres import ON_POSTGRES

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On PostgreSQL run what is marked `postgres`, or a part of the soak; elsewhere leave out what it alone can run."""
    chosen: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        postgres, only = item.get_closest_marker("postgres"), item.get_closest_marker("postgres_only")
        keep = bool(postgres or only or soak.PART) if ON_POSTGRES else not only
        (chosen if keep and soak.is_wanted(item, config.option.markexpr or "") else left_out).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = order.long_files_first(chosen) if hasattr(config, "workerinput") else chosen


def pytest_unconfigure() -> None:
    """Delete what was prepared for this run."""
    prepared.delete()


@pytest.fixture(scope="session", autouse=True)
def _emptying_between_tests() -> Iterator[None]:
    """Let the test runner empty the database in our way, the append-only tables with it; nothing else may."""
    from django.test import TransactionTestCase

    from tests.emptying import empty

    # For the whole session: a patch of one test's own would be gone before the database is emptied.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda _: empty())
        yield


@pytest.fixture(scope="session", autouse=True)
def _role_keys() -> None:
    """Give this process, which is every part of the server in one, the keys of all of them."""
    from audit import signing
    from tests.cast.roles import ROLE_KEYS

    signing.install(lambda: ROLE_KEYS)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, once for all that one process tests in it: a second one would find the first one's loop running."""
    from tests.cast.chromium import chromium

    # Playwright keeps an event loop in this thread, and Django would refuse the database to it; nothing of ours
    # runs in that loop.
    with pytest.MonkeyPatch.context() as patch, chromium() as started:
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        yield started


@pytest.fixture(autouse=True)
def _sequencer_of_its_own(settings: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let no test's sequencer remember what another's signed: ids of tenants come again. Nothing is made before use."""
    settings.HOLDFAST_SEQUENCER_DIR = tmp_path_factory.getbasetemp() / "sequencer" / uuid4().hex


@pytest.fixture(autouse=True)
def _no_tokens_of_another_test() -> None:
    """Let no test spend what another's bucket gave in advance: sources and tenants come again, their rows do not."""
    leases.forget()


@pytest.fixture(autouse=True)
def _no_scope_left_open() -> Iterator[None]:
    """Begin each test in no tenant's scope. A sign-in opens one until its request ends, and a bare call has no end."""
    close_scope()
    yield
    close_scope()


@pytest.fixture(autouse=True)
def _nothing_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what one write in a hundred does, so that statements can be counted; its own test calls for it."""
    monkeypatch.setattr(api, "TRIM_ONE_IN", 10**12)


@pytest.fixture(scope="session")
def django_db_modify_db_settings_xdist_suffix(request: pytest.FixtureRequest) -> None:
    """Tests side by side share a PostgreSQL server, so their databases differ by name; SQLite's by directory."""
    from django.conf import settings

    worker = getattr(request.config, "workerinput", {}).get("workerid")
    if ON_POSTGRES and worker:
        database = settings.DATABASES["default"]
        database.setdefault("TEST", {})["NAME"] = f"test_{database['NAME']}_{worker}"
