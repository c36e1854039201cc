# SPDX-License-Identifier: Apache-2.0
"""What `manage.py check --deploy` refuses about contacts' delay and the database driver (FAULTS R2, U6)."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from config.checks import check_posture


@pytest.mark.parametrize(("seconds", "is_refused"), [(0, True), (3599, True), (3600, False), (86_400, False)])
def test_posture_refuses_a_delay_that_leaves_no_time_for_a_veto(seconds: int, is_refused: bool, settings: Any) -> None:
    settings.HOLDFAST_CONTACTS_DELAY_SECONDS = seconds
    assert ("holdfast.E007" in {finding.id for finding in check_posture(None)}) == is_refused


@pytest.mark.parametrize(("implementation", "is_refused"), [("binary", True), ("python", False), ("c", False)])
def test_posture_refuses_a_libpq_that_debian_does_not_mend(
    implementation: str, is_refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("psycopg.pq.__impl__", implementation)
    assert ("holdfast.E012" in {finding.id for finding in check_posture(None)}) == is_refused


def test_driver_of_this_installation_is_on_the_systems_libpq() -> None:
    assert psycopg.pq.__impl__ != "binary"
