# SPDX-License-Identifier: Apache-2.0
"""What `manage.py check --deploy` refuses of contacts' delay, the database driver, directories (FAULTS R2, U6, L14)."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from audit import journal
from config.checks import check_posture
from tests.cast.roles import ROOT


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


@pytest.mark.parametrize("loose", ["SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE", "HOLDFAST_ADMIN_COOKIE", ""])
def test_posture_refuses_an_admin_whose_cookies_leave_https(loose: str, settings: Any) -> None:
    settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = True
    settings.HOLDFAST_ADMIN_COOKIE = "__Host-operator"
    if loose:
        setattr(settings, loose, "operator" if loose == "HOLDFAST_ADMIN_COOKIE" else False)
    settings.HOLDFAST_ADMIN = False
    assert "holdfast.E016" not in {finding.id for finding in check_posture(None)}
    settings.HOLDFAST_ADMIN = True
    assert ("holdfast.E016" in {finding.id for finding in check_posture(None)}) == bool(loose)


@pytest.mark.parametrize("mode", [0o701, 0o710, 0o740, 0o755])
@pytest.mark.parametrize("name", ["HOLDFAST_SEQUENCER_DIR", "HOLDFAST_RELEASE_DIR"])
def test_posture_refuses_a_memory_of_heads_that_others_may_enter(
    name: str, mode: int, settings: Any, tmp_path: Path
) -> None:
    settings.HOLDFAST_SEQUENCER_DIR, settings.HOLDFAST_RELEASE_DIR = tmp_path / "sequencer", tmp_path / "release"
    assert "holdfast.E014" not in {finding.id for finding in check_posture(None)}, "one that is not made yet is sound"
    journal.pin_root(uuid4(), ROOT.public)
    (tmp_path / "release").mkdir(mode=0o700)
    assert "holdfast.E014" not in {finding.id for finding in check_posture(None)}, "as the processes make them"
    getattr(settings, name).chmod(mode)
    (said,) = [str(finding.hint) for finding in check_posture(None) if finding.id == "holdfast.E014"]
    assert name in said
