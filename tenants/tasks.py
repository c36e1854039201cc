# SPDX-License-Identifier: Apache-2.0
"""Worker entries of this app. Holds no logic: the verb is `services.sweep`.

Implements PLATFORM "Work that takes time".
"""

from __future__ import annotations

from kernel import queue
from kernel.api import sweep_answers
from kernel.queue import every
from tenants import services


@every(60, by_age=True)
def sweep() -> None:
    """Delete, once a minute, what no request can meet any more."""
    services.sweep()


@every(3600, by_age=True)
def sweep_plumbing() -> None:
    """Delete, once an hour, answers and finished jobs of more than a month ago, which nothing asks for again."""
    sweep_answers()
    queue.sweep()
