# SPDX-License-Identifier: Apache-2.0
"""The order of the tests' files when processes share them: who begins with the longest, ends together."""

from __future__ import annotations

import pytest

# What takes more than twelve seconds, the longest first. What is not here keeps its place behind them.
LONG = (
    "test_six_desks",
    "test_demo",
    "test_memory",
    "test_ways_back",
    "test_kills",
    "test_rotation",
    "test_store_kills",
    "test_recovery_by_user",
    "test_sign_in",
    "test_console",
    "test_fuzz",
    "test_messages",
    "test_up",
    "test_package",
    "test_vault_with_python",
    "test_escrow_in_a_page",
    "test_database_away",
    "test_quickstart",
    "test_officers_keys",
    "test_officers_acts",
    "test_installation",
    "test_separate_accounts",
    "test_ceremonies",
    "test_door_cuts",
    "test_cli",
    "test_parsers",
    "test_ceremony",
    "test_documents",
)


def long_files_first(items: list[pytest.Item]) -> list[pytest.Item]:
    """Return the tests with those of the long files in front; within a file their order stays."""
    place = {name: number for number, name in enumerate(LONG)}
    return sorted(items, key=lambda item: place.get(item.path.stem, len(LONG)))
