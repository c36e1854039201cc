# SPDX-License-Identifier: Apache-2.0
"""The loop of background processes: lanes that do not wait for each other, and what is away is waited for."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from django.db import OperationalError, transaction

from config import loop
from config.loop import LoopCommand
from config.schedule import Schedule
from hsm.errors import HsmUnavailable
from kernel import heartbeats, queue
from kernel.models import Heartbeat, Job
from kernel.scope import tenant_scope

log = logging.getLogger("holdfast.test")


def told_to_stop_after(count: int) -> Callable[[], int]:
    """A step that works, and has the process told to stop after so many turns."""
    turns = iter(range(count))

    def step() -> int:
        if next(turns, None) is None:
            os.kill(os.getpid(), signal.SIGTERM)
        return 1

    return step


@pytest.fixture(autouse=True)
def _restore_signals() -> Any:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.django_db(transaction=True)
def test_a_lane_that_hangs_keeps_no_other_from_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_LAST_SECONDS", 0.1)
    hang, done = threading.Event(), threading.Event()

    def hangs() -> int:
        assert hang.wait(10), "the others had no turn meanwhile"
        return 0

    def works() -> int:
        done.set()
        return 0

    LoopCommand().run_until_told({"test/first": told_to_stop_after(5), "test/hangs": hangs, "test/works": works}, log)
    assert done.wait(5)
    ages = heartbeats.ages()
    hang.set()
    assert "test/first" in ages
    assert "test/hangs" not in ages


@pytest.mark.django_db(transaction=True)
def test_a_lane_may_finish_what_it_is_at_when_the_process_is_told_to_stop() -> None:
    has_begun, finished = threading.Event(), threading.Event()

    def hands_a_mail_over() -> int:
        has_begun.set()
        time.sleep(0.5)
        finished.set()
        return 0

    def told_meanwhile() -> int:
        assert has_begun.wait(5)
        os.kill(os.getpid(), signal.SIGTERM)
        return 1

    LoopCommand().run_until_told({"test/first": told_meanwhile, "test/mail": hands_a_mail_over}, log)
    assert finished.is_set()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "trouble",
    [
        OperationalError("database or disk is full"),
        HsmUnavailable("away"),
        OSError(28, "No space left on device", "head"),
    ],
)
def test_a_lane_waits_for_what_is_away_and_says_which(
    trouble: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loop, "_AWAY_SECONDS", 0.01)
    troubles = [trouble, trouble]
    end = told_to_stop_after(1)

    def step() -> int:
        if troubles:
            raise troubles.pop()
        return end()

    LoopCommand().run_until_told({"test/lane": step}, log)
    said = [record.getMessage() for record in caplog.records if record.name == log.name]
    assert len(said) == 2
    assert all(line.startswith("test/lane: ") for line in said)
    if isinstance(trouble, OSError):
        assert "head: No space left on device" in said[0]


@pytest.mark.django_db(transaction=True)
def test_step_that_fails_in_a_way_of_its_own_is_tried_again_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loop, "_AWAY_SECONDS", 0.01)
    troubles = [ZeroDivisionError("the secret"), ZeroDivisionError("the secret")]
    end, others = told_to_stop_after(1), []

    def fails() -> int:
        if troubles:
            raise troubles.pop()
        return end()

    def works() -> int:
        others.append(1)
        return 0

    LoopCommand().run_until_told({"test/fails": fails, "test/works": works}, log)
    said = [record.getMessage() for record in caplog.records if record.name == log.name]
    assert [line.rpartition("(")[2] for line in said] == ["1 in a row)", "2 in a row)"]
    assert all(line.startswith("test/fails failed: ZeroDivisionError at tests/config/test_loop.py:") for line in said)
    assert others


@pytest.mark.django_db(transaction=True)
def test_lane_that_ends_by_what_is_no_failure_ends_the_process() -> None:
    def ends() -> int:
        raise SystemExit(3)

    def rests() -> int:
        return 0

    with pytest.raises(SystemExit):
        LoopCommand().run_until_told({"test/first": rests, "test/ends": ends}, log)


@pytest.mark.django_db(transaction=True)
def test_a_heartbeat_is_written_once_in_five_seconds() -> None:
    now = [0.0]
    beat = heartbeats.Beat("test/lane", clock=lambda: now[0])
    for _ in range(10):
        beat.give()
    first = Heartbeat.objects.get(name="test/lane").at
    now[0] = 5.0
    beat.give()
    assert Heartbeat.objects.get(name="test/lane").at > first


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_nobodys_job_waits_for_another_tenants_flood() -> None:
    def promise(tenant: Any) -> Job:
        with tenant_scope(tenant), transaction.atomic():
            job = queue.enqueue("test.note")
        assert job is not None
        return job

    flood, quiet = uuid4(), uuid4()
    for _ in range(30):
        promise(flood)
    last = promise(quiet)
    assert last.pk in queue.due("worker", limit=2)
    assert len(queue.due("worker", limit=100)) == 31


@pytest.mark.django_db(transaction=True)
def test_one_of_many_that_fails_is_named_and_the_next_has_its_turn(caplog: pytest.LogCaptureFixture) -> None:
    tenant, done = uuid4(), []
    for part in (0, 1):
        with queue.apart(tenant, "count of case 7"):
            done.append(1 // part)
    assert done == [1]
    assert f"count of case 7 of tenant {tenant} failed: ZeroDivisionError" in caplog.text


def test_work_that_fails_at_every_interval_is_said_ever_less_often(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fails = True

    def work() -> None:
        if fails:
            raise OperationalError("text of a query")

    monkeypatch.setattr(queue, "_periodic", [(2.0, work)])
    schedule = Schedule()
    for now in range(0, 200, 2):
        schedule.tick(float(now))
    assert len(caplog.records) == 7, "the 1st, 2nd, 4th, 8th, 16th, 32nd and 64th"
    assert "periodic work failed: OperationalError" in caplog.text
    assert "text of a query" not in caplog.text
    fails = False
    schedule.tick(200.0)
    fails = True
    schedule.tick(202.0)
    assert caplog.text.endswith("(1 in a row)\n")
