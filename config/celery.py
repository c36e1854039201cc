# SPDX-License-Identifier: Apache-2.0
"""Celery as a hint: it carries job ids to workers; the job table stays the truth (PLATFORM "Work that takes time")."""

from __future__ import annotations

from uuid import UUID

from celery import Celery

from config.start import PRODUCTION, require_settings

require_settings(PRODUCTION)
app = Celery("holdfast")
app.config_from_object("django.conf:settings", namespace="CELERY")


@app.task(name="holdfast.run_job", ignore_result=True)  # type: ignore[untyped-decorator]
def run_job(job_id: str) -> None:
    """Run one job by its id. A forged or doubled message does no more than the row says (FAULTS W2, W8)."""
    from kernel import queue
    from kernel.models import Job

    job = Job.unscoped.filter(pk=UUID(job_id), queue="worker").first()
    if job is not None:
        queue.run_one(job.pk)
