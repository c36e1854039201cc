# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the browser tests: a server of this process over the recovery tests' world."""

from __future__ import annotations

from tests.cast.founded import found, hsm, hsm_home, world  # noqa: F401
