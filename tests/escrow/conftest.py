# SPDX-License-Identifier: Apache-2.0
"""The escrow tests stand on the same tenant and tokens as those of recovery."""

from __future__ import annotations

from tests.cast.founded import found, hsm, hsm_home, world  # noqa: F401 — fixtures by name
