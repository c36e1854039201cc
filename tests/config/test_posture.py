# SPDX-License-Identifier: Apache-2.0
"""What `manage.py check --deploy` refuses about the delay of trusted contacts (FAULTS R2, U6)."""

from __future__ import annotations

from typing import Any

import pytest

from config.checks import check_posture


@pytest.mark.parametrize(("seconds", "is_refused"), [(0, True), (3599, True), (3600, False), (86_400, False)])
def test_posture_refuses_a_delay_that_leaves_no_time_for_a_veto(seconds: int, is_refused: bool, settings: Any) -> None:
    settings.HOLDFAST_CONTACTS_DELAY_SECONDS = seconds
    assert ("holdfast.E007" in {finding.id for finding in check_posture(None)}) == is_refused
