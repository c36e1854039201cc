# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a tenant whose escrow is founded, on tokens of SoftHSM."""

from __future__ import annotations

from tests.cast.founded import found, hsm, hsm_home, world

__all__ = ["found", "hsm", "hsm_home", "world"]
