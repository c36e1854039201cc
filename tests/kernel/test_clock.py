# SPDX-License-Identifier: Apache-2.0
"""Whose time counts, and when nothing is deleted by its age (FAULTS W10, W10a)."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest
from django.utils import timezone

from kernel import clock, heartbeats, queue
from kernel.clock import DOUBT, Steps, database_now, is_in_doubt
from kernel.models import Heartbeat


class Clocks:
    """A host's two clocks, of which the first can be set."""

    def __init__(self) -> None:
        self.wall, self.monotonic = 1_800_000_000.0, 50.0

    def steps(self) -> Steps:
        return Steps(lambda: self.wall, lambda: self.monotonic)

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.monotonic += seconds


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    monkeypatch.setattr(clock, "_steps", clocks.steps())
    return clocks


@pytest.mark.postgres
@pytest.mark.django_db
def test_database_tells_the_time_to_the_millisecond() -> None:
    before, now, after = timezone.now(), database_now(), timezone.now()
    leeway = timedelta(milliseconds=1)  # SQLite's are cut off
    assert before - leeway <= now <= after
    assert now.tzinfo is not None


def test_clock_that_was_set_is_noticed_for_an_hour() -> None:
    clocks = Clocks()
    steps = clocks.steps()
    clocks.pass_by(86_400)
    assert not steps.was_set()
    clocks.wall += 7200
    assert steps.was_set()
    clocks.wall -= 7200
    assert steps.was_set(), "set back, which is no reason to believe it at once"
    clocks.pass_by(DOUBT.total_seconds() - 1)
    assert steps.was_set()
    clocks.pass_by(1)
    assert not steps.was_set()


def test_clock_that_is_slewed_is_not_set() -> None:
    clocks = Clocks()
    steps = clocks.steps()
    for _ in range(100):
        clocks.pass_by(3600)
        clocks.wall += 2
        assert not steps.was_set()


@pytest.mark.postgres
@pytest.mark.django_db
@pytest.mark.parametrize("hours", [-2, 2])
def test_nothing_is_deleted_by_its_age_while_the_clocks_differ(
    hours: int, steady: Clocks, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(queue, "_periodic", [])
    done: list[str] = []
    queue.every(60, by_age=True)(lambda: done.append("sweep"))
    queue.every(60)(lambda: done.append("other"))
    real = timezone.now
    with monkeypatch.context() as patch:
        patch.setattr(clock, "database_now", lambda: real() + timedelta(hours=hours))
        for _ in range(2):
            for _, work in queue.periodic():
                work()
    assert done == ["other", "other"]
    assert [record.message.split(":")[0] for record in caplog.records if record.name == clock.log.name] == [
        "this process's clock is 7200 s from the database's"
    ], "said once"
    for _, work in queue.periodic():
        work()
    assert done[2:] == ["sweep", "other"]


@pytest.mark.django_db
def test_nothing_is_deleted_by_its_age_after_the_only_clock_was_set(
    steady: Clocks, caplog: pytest.LogCaptureFixture
) -> None:
    """On SQLite the database's clock is the process's, and jumps with it."""
    assert not is_in_doubt()
    steady.wall += 7200
    assert is_in_doubt()
    steady.wall -= 7200
    assert is_in_doubt()
    steady.pass_by(DOUBT.total_seconds())
    assert not is_in_doubt()
    assert [record.message.split(":")[0] for record in caplog.records if record.levelno == logging.WARNING] == [
        "this process's clock is set within the last hour",
        "the clock is believed again",
    ]


def test_whatever_deletes_or_ends_by_age_waits_for_a_clock_that_is_believed() -> None:
    waiting = {f"{work.__module__}.{work.__name__}" for _, work in queue.periodic() if hasattr(work, "__wrapped__")}
    assert waiting == {
        "audit.tasks.sweep_exports",
        "keys.tasks.sweep_claim_budgets",
        "keys.tasks.sweep_claims",
        "keys.tasks.sweep_messages",
        "keys.tasks.sweep_waiting",
        "operators.tasks.sweep_sessions",
        "recovery.tasks.destroy_released",
        "recovery.tasks.expire_cases",
        "recovery.tasks.expire_contact_requests",
        "tenants.tasks.sweep",
        "tenants.tasks.sweep_exports",
        "tenants.tasks.sweep_imports",
        "tenants.tasks.sweep_log_tokens",
        "tenants.tasks.sweep_mails",
        "tenants.tasks.sweep_plumbing",
    }


@pytest.mark.django_db
def test_lane_that_was_seen_in_the_future_only_is_away() -> None:
    """It would be taken for alive for as long as the clock was off."""
    heartbeats.note("worker/jobs")
    assert heartbeats.ages()["worker/jobs"] < timedelta(seconds=5)
    Heartbeat.objects.update(at=timezone.now() + timedelta(hours=2))
    assert heartbeats.ages()["worker/jobs"] > timedelta(hours=1)
