# SPDX-License-Identifier: Apache-2.0
"""Periodic work of the key directory."""

from __future__ import annotations

from keys import services
from kernel.queue import every


@every(seconds=3600)
def sweep_claim_budgets() -> None:
    """Forget the counts of hours that are over."""
    services.sweep_budgets()
