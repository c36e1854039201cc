# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the fault tests: the two tenants, built once for a module and taken back after each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import transaction
from django.test import override_settings
from pytest_django import DjangoDbBlocker

from audit import journal
from hsm import registry
from hsm.ceremony import Ceremony
from hsm.runtime import open_tokens
from tests.cast.hsm import OTHER_TENANT, TENANT, make_home
from tests.cast.roles import ROOT
from tests.faults.world import Hsm, Installation, build


@pytest.fixture(scope="package")
def hsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hsm]:
    config = make_home(tmp_path_factory.mktemp("hsm") / "home")
    ceremony = Ceremony(config)
    keys = (ceremony.escrow_keys(TENANT)[0], ceremony.create_escrow_key(OTHER_TENANT))
    with open_tokens(config, ["root", "log", "escrow"]) as tokens:
        yield Hsm(tokens, keys)


@pytest.fixture(scope="module")
def _built(
    hsm: Hsm,
    tmp_path_factory: pytest.TempPathFactory,
    django_db_setup: None,
    django_db_blocker: DjangoDbBlocker,
) -> Iterator[Installation]:
    opened = {"root": hsm.tokens.root, "log": hsm.tokens.log, "escrow": hsm.tokens.escrow}
    registry.install(lambda: dict(opened))
    # Ids of tenants come again, so no module's sequencer remembers what another's signed.
    sequencer = override_settings(HOLDFAST_SEQUENCER_DIR=tmp_path_factory.mktemp("sequencer"))
    with sequencer, django_db_blocker.unblock(), transaction.atomic():
        yield build(tmp_path_factory.mktemp("release"), hsm.escrow_keys, hsm.tokens.log.public_key)
        transaction.set_rollback(True)
    registry.install(dict)


@pytest.fixture
def db(_built: Installation) -> Iterator[None]:
    """Stand in for pytest-django's own, which knows no database that outlasts a test: only the test's changes go."""
    for one in (_built.acme, _built.other):
        # The journal is each test's own, and the database is back at what was built: its root stands in both.
        journal.pin_root(one.tenant_id, ROOT.public)
    with _built.undone():
        yield


@pytest.fixture
def installation(db: None, _built: Installation) -> Installation:
    """Acme and the other tenant, as they were built."""
    return _built
