# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the audit tests: the log's key in a SoftHSM token of the test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hsm import registry
from hsm.backend import LogToken
from hsm.config import HsmConfig
from hsm.runtime import open_tokens
from tests.cast.hsm import hsm_config, hsm_template  # noqa: F401


@pytest.fixture
def log_token(hsm_config: HsmConfig, monkeypatch: pytest.MonkeyPatch) -> Iterator[LogToken]:  # noqa: F811
    """The sequencer's token, open in this process for the length of the test."""
    with open_tokens(hsm_config, ["log"]) as tokens:
        monkeypatch.setattr(registry, "_opener", lambda: {"log": tokens.log})
        monkeypatch.setattr(registry, "_tokens", None)
        yield tokens.log
