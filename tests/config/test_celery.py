# SPDX-License-Identifier: Apache-2.0
"""With Redis and Celery, job ids are hints: a real broker wakes a real worker; one that is away loses nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from django.db import transaction

from config.celery import app, run_job
from kernel import queue
from kernel.models import Job
from kernel.scope import tenant_scope
from tests.cast.postgres import free_port
from tests.cast.server import PROJECT


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        url = f"redis://127.0.0.1:{port}/0"
        before = app.conf.broker_url
        app.conf.broker_url = url
        queue.hint_with(lambda job_id: run_job.apply_async([str(job_id)], retry=False))
        try:
            yield url
        finally:
            queue._hints.clear()
            app.conf.broker_url = before
            process.terminate()
            process.wait(timeout=10)


def promise() -> Job:
    """Promise a job that a worker can only fail at: its notice does not exist. The row shows that it was tried."""
    with tenant_scope(uuid4()), transaction.atomic():
        job = queue.enqueue("recovery.notice", notice=str(uuid4()))
    assert job is not None
    return job


@pytest.mark.django_db(transaction=True)
def test_a_promised_job_reaches_a_celery_worker_by_its_id(
    broker: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOLDFAST_REDIS_URL", broker)
    worker = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "config.celery",
        "worker",
        "--pool",
        "solo",
        "--loglevel",
        "WARNING",
    ]
    with subprocess.Popen(worker, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            job = promise()
            deadline = time.monotonic() + 40
            while not job.last_error and time.monotonic() < deadline:
                time.sleep(0.2)
                job.refresh_from_db()
            assert job.attempts == 1
            assert job.last_error
        finally:
            process.terminate()
            process.wait(timeout=20)


@pytest.mark.django_db(transaction=True)
def test_a_broker_that_is_away_costs_only_time() -> None:
    def away(job_id: object) -> None:
        raise ConnectionError

    queue.hint_with(away)
    try:
        job = promise()
    finally:
        queue._hints.clear()
    assert queue.due("worker") == [job.pk]
