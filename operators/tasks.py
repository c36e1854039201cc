# SPDX-License-Identifier: Apache-2.0
"""What a worker does to jobs that an operator asked about, and the end of old sessions.

PLATFORM "Work that takes time". Each finds the job as it is now: what has moved on meanwhile is left alone.
"""

from __future__ import annotations

from uuid import UUID

from kernel import queue
from kernel.models import Job
from kernel.queue import every, handles
from operators import sessions


@handles("operators.retry-job")
def retry_job(job: Job) -> None:
    """Let a dead job run again, from its first try."""
    queue.retry(UUID(job.payload["job"]))


@handles("operators.drop-job")
def drop_job(job: Job) -> None:
    """Give a dead job up for good; a notice then counts as one that could not be delivered."""
    queue.drop(UUID(job.payload["job"]))


@handles("operators.release-lease")
def release_lease(job: Job) -> None:
    """Take a job from whoever holds it."""
    queue.release_lease(UUID(job.payload["job"]))


@every(3600, by_age=True)
def sweep_sessions() -> None:
    """Forget operators' sessions whose time is over."""
    sessions.sweep()
