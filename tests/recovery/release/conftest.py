# SPDX-License-Identifier: Apache-2.0
"""Every release process here keeps its facts at each head, so that the next one goes on from them."""

from __future__ import annotations

import pytest

from recovery.release import log


@pytest.fixture(autouse=True)
def facts_kept_at_each_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "LEAST_FRESH", 1)
