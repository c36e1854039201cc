# SPDX-License-Identifier: Apache-2.0
"""Worker entries of this app. Holds no logic: the verbs are those of `services`, `sign_in` and `notes`.

Implements PLATFORM "Work that takes time".
"""

from __future__ import annotations

from kernel import queue
from kernel.api import sweep_answers
from kernel.models import Job
from kernel.queue import every, handles
from tenants import notes, resets, services, sign_in  # noqa: F401 — `resets` writes mails that `notes` hands over


@every(60, by_age=True)
def sweep() -> None:
    """Delete, once a minute, what no request can meet any more."""
    services.sweep()


@every(600)
def seal_unsealed() -> None:
    """Seal the keys of authenticators from before keys were sealed."""
    sign_in.seal_unsealed()


@handles(notes.MAIL_JOB)
def hand_over(job: Job) -> None:
    """Hand one mail over."""
    notes.give(job)


@every(3600, by_age=True)
def sweep_plumbing() -> None:
    """Delete, once an hour, answers and finished jobs of more than a month ago, which nothing asks for again."""
    sweep_answers()
    queue.sweep()
