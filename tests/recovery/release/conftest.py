# SPDX-License-Identifier: Apache-2.0
"""Every release process here keeps its facts at each head: the next one goes on from them, and not from the log."""

from __future__ import annotations

import pytest

from recovery.release import log


@pytest.fixture(autouse=True)
def facts_kept_at_each_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "LEAST_FRESH", 1)
