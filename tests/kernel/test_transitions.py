# SPDX-License-Identifier: Apache-2.0
"""Every state table of the product, pair by pair, and the compare-and-set."""

from __future__ import annotations

import importlib
import itertools

import pytest

from kernel.transitions import TransitionTable

TABLES = [
    (app, name, table)
    for app in ("tenants", "keys", "escrow", "operators", "recovery")
    for module in [importlib.import_module(f"{app}.states")]
    for name, table in vars(module).items()
    if isinstance(table, TransitionTable)
]


@pytest.mark.parametrize(("app", "name", "table"), TABLES, ids=[f"{app}.{name}" for app, name, _ in TABLES])
def test_table_allows_exactly_what_it_lists(app: str, name: str, table: TransitionTable) -> None:
    states = set(table.table) | {target for targets in table.table.values() for target in targets}
    for origin, target in itertools.product(states, states):
        listed = target in table.table.get(origin, frozenset())
        assert table.allows(origin, target) is listed
        if not listed:
            with pytest.raises(ValueError, match="no transition"):
                table.check(origin, target)


@pytest.mark.parametrize(("app", "name", "table"), TABLES, ids=[f"{app}.{name}" for app, name, _ in TABLES])
def test_every_state_but_the_first_is_reached_from_another(app: str, name: str, table: TransitionTable) -> None:
    targets = {target for targets in table.table.values() for target in targets}
    starts = [state for state in table.table if state not in targets]
    assert len(starts) <= 1
