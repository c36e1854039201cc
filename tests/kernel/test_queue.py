# SPDX-License-Identifier: Apache-2.0
"""The job table: leases, fencing, retries, poison (FAULTS W1 to W6, W10)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now
from django.utils import timezone

from kernel import queue
from kernel.errors import Conflict
from kernel.models import Job, JobState
from kernel.scope import current_tenant, tenant_scope

TENANT = uuid4()


@pytest.fixture
def handled() -> Iterator[list[str]]:
    """A kind of job, `test.note`, whose handler notes what it was given."""
    seen: list[str] = []

    def note(job: Job) -> None:
        assert current_tenant() == job.tenant_id
        seen.append(job.payload["what"])

    queue._handlers["test.note"] = note
    yield seen
    del queue._handlers["test.note"]


@pytest.fixture
def failing() -> Iterator[None]:
    def fail(job: Job) -> None:
        raise RuntimeError("poison")

    queue._handlers["test.fail"] = fail
    yield
    del queue._handlers["test.fail"]


def promise(kind: str = "test.note", what: str = "a", **options: object) -> Job:
    with tenant_scope(TENANT), transaction.atomic():
        job = queue.enqueue(kind, what=what, **options)  # type: ignore[arg-type]
    assert job is not None
    return job


@pytest.mark.postgres_only
@pytest.mark.django_db(transaction=True)
def test_worker_whose_clock_is_ahead_takes_no_job_early_and_none_from_another(
    handled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """FAULTS W10."""
    real = timezone.now
    leased = queue._lease(promise(what="held").pk)
    promise(what="later", run_at=real() + timedelta(hours=1))
    monkeypatch.setattr(timezone, "now", lambda: real() + timedelta(hours=2))
    assert queue.run_due("worker") == 0
    promise(what="now")
    monkeypatch.undo()
    assert queue.run_due("worker") == 1
    assert leased is not None
    assert handled == ["now"]


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_lease_of_a_clock_that_was_ahead_holds_no_job_up(handled: list[str]) -> None:
    """FAULTS W10a: it would for as long as the clock was off."""
    job = queue._lease(promise().pk)
    assert job is not None
    assert queue.run_due("worker") == 0
    Job.unscoped.update(lease_until=timezone.now() + timedelta(hours=2))
    assert queue.run_due("worker") == 1
    with pytest.raises(Conflict):
        queue.renew(job)


@pytest.mark.django_db(transaction=True)
def test_enqueue_refuses_outside_a_transaction() -> None:
    with tenant_scope(TENANT), pytest.raises(RuntimeError, match="inside the transaction"):
        queue.enqueue("test.note", what="a")


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_a_job_vanishes_with_the_transaction_that_promised_it(handled: list[str]) -> None:
    with pytest.raises(ZeroDivisionError), tenant_scope(TENANT), transaction.atomic():
        assert queue.enqueue("test.note", what="a") is None or 1 / 0
    assert queue.run_due("worker") == 0
    assert handled == []


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_run_due_does_each_job_once_in_its_tenants_scope(handled: list[str]) -> None:
    promise(what="a")
    promise(what="b")
    assert queue.run_due("worker") == 2
    assert queue.run_due("worker") == 0
    assert sorted(handled) == ["a", "b"]


@pytest.mark.django_db(transaction=True)
def test_run_due_leaves_other_queues_and_later_jobs_alone(handled: list[str]) -> None:
    promise(what="later", run_at=timezone.now() + timedelta(hours=1))
    promise(what="release", queue="release")
    assert queue.run_due("worker") == 0


@pytest.mark.django_db(transaction=True)
def test_enqueue_drops_a_second_promise_of_a_unique_job_while_the_first_is_open(handled: list[str]) -> None:
    promise(unique="x")
    with tenant_scope(TENANT), transaction.atomic():
        assert queue.enqueue("test.note", unique="x", what="b") is None
    queue.run_due("worker")
    promise(unique="x", what="c")
    queue.run_due("worker")
    assert handled == ["a", "c"]


@pytest.mark.django_db(transaction=True)
def test_a_failing_job_waits_longer_each_time_and_dies_after_twenty_attempts(failing: None) -> None:
    job = promise("test.fail")
    for attempt in range(1, queue.MAX_ATTEMPTS + 1):
        Job.unscoped.filter(pk=job.pk).update(run_at=Now())
        assert queue.run_one(job.pk) is False
        job.refresh_from_db()
        assert job.attempts == attempt
    assert job.state == JobState.DEAD
    assert job.last_error == "RuntimeError"
    assert queue.due("worker") == []


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("payload", ["1" * 5000, "[" * 990 + "]" * 990], ids=["digits", "deep"])
def test_job_whose_payload_cannot_be_read_stops_no_other_and_dies_like_any(handled: list[str], payload: str) -> None:
    """Both databases take this JSON, and Python does not. Raised where jobs are leased, it ended the process."""
    poison = promise(what="poison")
    promise(what="after")
    with connection.cursor() as cursor:
        pk = poison.pk if connection.vendor == "postgresql" else poison.pk.hex
        cursor.execute("UPDATE kernel_job SET payload = %s WHERE id = %s", [payload, pk])
    with suppress(ValueError, RecursionError):
        queue.run_due("worker")
    assert handled == ["after"]
    unread = Job.unscoped.defer("payload")
    assert (unread.get(pk=poison.pk).state, unread.get(pk=poison.pk).attempts) == (JobState.READY, 1)
    for _ in range(queue.MAX_ATTEMPTS - 1):
        Job.unscoped.filter(pk=poison.pk).update(run_at=Now())
        queue.run_due("worker")
    assert unread.get(pk=poison.pk).state == JobState.DEAD


@pytest.mark.django_db(transaction=True)
def test_what_stays_broken_is_said_ever_less_often(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(100):
        with queue.apart(TENANT, "count of case 8"):
            raise ZeroDivisionError
    said = [record.getMessage() for record in caplog.records if "count of case 8" in record.getMessage()]
    assert len(said) == 7
    assert "ZeroDivisionError at tests/kernel/test_queue.py:" in said[0]
    assert said[-1].endswith("(64 in a row)")


@pytest.mark.django_db(transaction=True)
def test_a_job_whose_lease_ran_out_is_taken_over_and_its_old_holder_is_fenced(handled: list[str]) -> None:
    job = promise()
    first = queue._lease(job.pk)
    assert first is not None
    assert queue._lease(job.pk) is None
    Job.unscoped.filter(pk=job.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    second = queue._lease(job.pk)
    assert second is not None
    assert second.fence == first.fence + 1
    with pytest.raises(Conflict):
        queue.renew(first)
    assert queue._complete(first) is False
    assert queue._complete(second) is True


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_many_threads_do_each_job_once(handled: list[str]) -> None:
    for number in range(20):
        promise(what=str(number))

    def work() -> None:
        try:
            queue.run_due("worker")
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(handled, key=int) == [str(number) for number in range(20)]
