# SPDX-License-Identifier: Apache-2.0
"""How many statements the requests of custody take, BEGIN, COMMIT and the nonce's counted."""

from __future__ import annotations

import pytest

from tests.cast.asked import statements_of
from tests.cast.world import World

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


def test_deposit_takes_few_statements(world: World) -> None:
    world.deposit()
    deposit = world.build()
    asked = statements_of(lambda: world.upload(deposit), status=201)
    assert asked
