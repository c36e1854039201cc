# SPDX-License-Identifier: Apache-2.0
"""How many statements the requests of custody take, BEGIN, COMMIT and the nonce's counted."""

from __future__ import annotations

from uuid import UUID

import pytest

from tests.cast.asked import on, statements_of
from tests.cast.world import World

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


def test_deposit_takes_few_statements(world: World) -> None:
    world.deposit()
    deposit = world.build()
    asked = statements_of(lambda: world.upload(deposit), status=201)
    # Credential, nonce, its ground in keys and in escrow, BEGIN, lock, what stands, deposit, entry, COMMIT.
    assert len(asked) <= on(postgresql=10, sqlite=12), asked
    path = f"/api/v1/escrow/deposits/{UUID(bytes=deposit.header.deposit_id)}"
    read = statements_of(lambda: world.directory.phone("alice").send("GET", path), status=200)
    assert len(read) <= on(postgresql=8, sqlite=10), read


def test_consent_takes_few_statements(world: World) -> None:
    world.consent()
    asked = statements_of(world.consent)
    assert len(asked) <= on(postgresql=13, sqlite=15), asked
