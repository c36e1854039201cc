# SPDX-License-Identifier: Apache-2.0
"""The operator's few acts: each asks first, is an entry in that tenant's log or does not happen, and stays outside."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import transaction
from django.db.models.functions import Now
from django.test import Client

from audit.models import Entry
from console.words import audit_words
from kernel import queue
from kernel.clock import database_now
from kernel.models import Job, JobState
from kernel.scope import tenant_scope
from tenants.models import Tenant
from tenants.states import SUSPENDABLE_STATES, TenantState
from tests.cast.browsers import signed_in, text_of
from tests.cast.operators import Desk
from tests.cast.phones import audit_away
from tests.cast.tenants import Cast, give_password, make_device

pytestmark = [pytest.mark.postgres, pytest.mark.usefixtures("_mounted")]


def on_tenant(tenant: Tenant, act: str) -> str:
    return f"/admin/acts/tenant/{tenant.pk}/{act}/"


def on_job(job: Job, act: str) -> str:
    return f"/admin/acts/job/{job.pk}/{act}/"


def entries(tenant: Tenant, tag: str) -> list[Entry]:
    return list(Entry.unscoped.filter(tenant_id=tenant.pk, tag=tag))


def state_of(tenant: Tenant) -> str:
    return str(Tenant.objects.get(pk=tenant.pk).state)


@pytest.fixture
def done() -> list[UUID]:
    """The jobs of the kind `tests.work` that ran."""
    return []


@pytest.fixture
def make_job(world: Cast, done: list[UUID], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Job]:
    handlers: dict[str, Any] = {**queue._handlers, "tests.work": lambda job: done.append(job.pk)}
    monkeypatch.setattr(queue, "_handlers", handlers)

    def make(state: str, **columns: Any) -> Job:
        with tenant_scope(world.acme.pk), transaction.atomic():
            job = queue.enqueue("tests.work")
        assert job is not None
        Job.unscoped.filter(pk=job.pk).update(state=state, **columns)
        return job.reload()

    return make


def test_suspending_asks_first_and_does_nothing_yet(world: Cast, browser: Client) -> None:
    page = browser.get(on_tenant(world.acme, "suspend"))
    assert page.status_code == 200
    assert "Acme (acme)" in text_of(page)
    assert "nobody of it is let in" in text_of(page)
    assert state_of(world.acme) == TenantState.ACTIVE


def test_suspended_tenant_stops_with_the_next_request_and_comes_back(world: Cast, petra: Desk, browser: Client) -> None:
    give_password(world.olivia)
    owner, phone, others = signed_in(world.olivia), make_device(world.alice), make_device(world.mallory)
    uri = theirs = "/api/v1/messages"
    assert owner.get("/console/").status_code == 200
    assert phone.send(Client(), "GET", uri).status_code == 200
    answer = browser.post(on_tenant(world.acme, "suspend"))
    assert answer.status_code == 302
    assert "To undo it, resume" in text_of(browser.get(answer["location"]))
    assert owner.get("/console/").status_code == 302
    assert phone.send(Client(), "GET", uri).status_code == 401
    assert others.send(Client(), "GET", theirs).status_code == 200, "another tenant goes on"
    (entry,) = entries(world.acme, "tenants:tenant:suspend")
    assert (entry.actor, entry.subject) == (f"operator:{petra.operator.pk}", str(world.acme.pk))
    assert entry.person_id is None
    assert not entries(world.other, "tenants:tenant:suspend")
    assert browser.post(on_tenant(world.acme, "resume")).status_code == 302
    assert phone.send(Client(), "GET", uri).status_code == 200
    assert len(entries(world.acme, "tenants:tenant:resume")) == 1


def test_locked_tenant_is_suspended_and_goes_back_to_its_lock(world: Cast, browser: Client) -> None:
    """An operator who must act at night can; and their click ends no lock of the owners'."""
    Tenant.objects.filter(pk=world.acme.pk).update(state=TenantState.LOCKED, locked_at=database_now())
    assert browser.post(on_tenant(world.acme, "suspend")).status_code == 302
    assert state_of(world.acme) == TenantState.SUSPENDED
    assert browser.post(on_tenant(world.acme, "resume")).status_code == 302
    assert state_of(world.acme) == TenantState.LOCKED


@pytest.mark.parametrize("state", [state for state in TenantState if state not in SUSPENDABLE_STATES])
def test_only_an_active_or_locked_tenant_is_suspended(state: str, world: Cast, browser: Client) -> None:
    Tenant.objects.filter(pk=world.acme.pk).update(state=state)
    answer = browser.post(on_tenant(world.acme, "suspend"))
    assert answer.status_code == 409
    assert state_of(world.acme) == state
    assert not entries(world.acme, "tenants:tenant:suspend")


@pytest.mark.parametrize("state", [state for state in TenantState if state != TenantState.SUSPENDED])
def test_only_a_suspended_tenant_is_resumed(state: str, world: Cast, browser: Client) -> None:
    """A tenant that is being founded, or has ended, is not let in by the operator's click."""
    Tenant.objects.filter(pk=world.acme.pk).update(state=state)
    assert browser.post(on_tenant(world.acme, "resume")).status_code == 409
    assert state_of(world.acme) == state


def test_page_of_a_row_offers_what_its_state_allows(world: Cast, browser: Client, make_job: Callable[..., Job]) -> None:
    page = browser.get(f"/admin/tenants/tenant/{world.acme.pk}/").content.decode()
    assert on_tenant(world.acme, "suspend") in page
    assert on_tenant(world.acme, "resume") not in page
    offered = {
        state: {act for act in ("retry", "drop", "release") if on_job(job, act) in page}
        for state in JobState
        for job in [make_job(state)]
        for page in [browser.get(f"/admin/kernel/job/{job.pk}/").content.decode()]
    }
    assert offered == {
        JobState.DEAD: {"retry", "drop"},
        JobState.LEASED: {"release"},
        JobState.READY: set(),
        JobState.DONE: set(),
    }


@pytest.mark.parametrize("act", ["retry", "drop", "release"])
def test_act_on_a_job_asks_first(act: str, world: Cast, browser: Client, make_job: Callable[..., Job]) -> None:
    job = make_job(JobState.LEASED if act == "release" else JobState.DEAD)
    page = browser.get(on_job(job, act))
    assert "tests.work" in text_of(page)
    assert Job.unscoped.count() == 1
    assert not entries(world.acme, f"operators:job:{act}")


@pytest.mark.parametrize("act", ["retry", "drop", "release"])
def test_act_on_a_job_in_another_state_is_refused(
    act: str, world: Cast, browser: Client, make_job: Callable[..., Job]
) -> None:
    for state in JobState:
        if state == (JobState.LEASED if act == "release" else JobState.DEAD):
            continue
        job = make_job(state)
        assert browser.post(on_job(job, act)).status_code == 409
        assert job.reload().state == state
    assert not entries(world.acme, f"operators:job:{act}")


def test_dead_job_runs_again(
    world: Cast, petra: Desk, browser: Client, make_job: Callable[..., Job], done: list[UUID]
) -> None:
    job = make_job(JobState.DEAD, attempts=20)
    answer = browser.post(on_job(job, "retry"))
    assert answer.status_code == 302
    assert job.reload().state == JobState.DEAD, "a worker does it"
    (entry,) = entries(world.acme, "operators:job:retry")
    assert (entry.actor, entry.subject) == (f"operator:{petra.operator.pk}", str(job.pk))
    assert entry.body == {"kind": "tests.work"}
    # Asked twice while nobody did it: once is enough.
    assert browser.post(on_job(job, "retry")).status_code == 409
    assert len(entries(world.acme, "operators:job:retry")) == 1
    queue.run_due("worker")
    queue.run_due("worker")
    assert done == [job.pk]
    assert job.reload().state == JobState.DONE


def test_job_whose_like_was_promised_meanwhile_is_left_alone(world: Cast, make_job: Callable[..., Job]) -> None:
    dead = make_job(JobState.DEAD, unique="one")
    make_job(JobState.READY, unique="one")
    with tenant_scope(world.acme.pk):
        queue.retry(dead.pk)
    assert dead.reload().state == JobState.DEAD


def test_dropped_job_is_gone(world: Cast, browser: Client, make_job: Callable[..., Job], done: list[UUID]) -> None:
    job = make_job(JobState.DEAD)
    assert browser.post(on_job(job, "drop")).status_code == 302
    queue.run_due("worker")
    assert not Job.unscoped.filter(pk=job.pk).exists()
    assert done == []
    (entry,) = entries(world.acme, "operators:job:drop")
    assert entry.subject == str(job.pk)


def test_job_that_lives_again_is_not_dropped_by_an_older_wish(
    world: Cast, browser: Client, make_job: Callable[..., Job]
) -> None:
    job = make_job(JobState.DEAD)
    browser.post(on_job(job, "drop"))
    with tenant_scope(world.acme.pk):
        queue.retry(job.pk)
        queue.drop(job.pk)
    assert Job.unscoped.filter(pk=job.pk, state=JobState.READY).exists()


def test_dropped_notice_counts_as_one_that_was_not_delivered(world: Cast, browser: Client) -> None:
    with tenant_scope(world.acme.pk), transaction.atomic():
        job = queue.enqueue("keys.notice", queue=queue.MAIL, person=str(world.alice.pk), event="device-added", ids="{}")
    assert job is not None
    Job.unscoped.update(state=JobState.DEAD)
    browser.post(on_job(job, "drop"))
    queue.run_due("worker")
    (entry,) = entries(world.acme, "keys:notice:fail")
    assert (entry.subject, entry.body, entry.actor) == (str(world.alice.pk), {"kind": "device-added"}, "system:worker")


def test_notice_that_cannot_be_logged_as_undelivered_is_not_dropped(world: Cast, browser: Client) -> None:
    with tenant_scope(world.acme.pk), transaction.atomic():
        job = queue.enqueue("keys.notice", queue=queue.MAIL, person=str(world.alice.pk), event="device-added", ids="{}")
    assert job is not None
    Job.unscoped.update(state=JobState.DEAD)
    browser.post(on_job(job, "drop"))
    with audit_away():
        queue.run_due("worker")
    assert Job.unscoped.filter(pk=job.pk, state=JobState.DEAD).exists()


def test_lease_is_taken_from_a_holder_who_can_complete_it_no_more(
    world: Cast, browser: Client, make_job: Callable[..., Job], done: list[UUID]
) -> None:
    job = make_job(JobState.LEASED, lease_until=Now() + timedelta(seconds=50), fence=3)
    assert browser.post(on_job(job, "release")).status_code == 302
    queue.run_due("worker")
    queue.run_due("worker")
    assert done == [job.pk]
    assert queue._complete(job) is False, "who held it before"
    assert len(entries(world.acme, "operators:job:release")) == 1


@pytest.mark.parametrize("act", ["suspend", "resume", "retry", "drop", "release"])
def test_act_without_its_entry_does_not_happen(
    act: str, world: Cast, browser: Client, make_job: Callable[..., Job]
) -> None:
    job = make_job(JobState.LEASED if act == "release" else JobState.DEAD)
    if act == "resume":
        Tenant.objects.filter(pk=world.acme.pk).update(state=TenantState.SUSPENDED)
    before = state_of(world.acme)
    browser.raise_request_exception = False
    uri = on_tenant(world.acme, act) if act in ("suspend", "resume") else on_job(job, act)
    with audit_away():
        assert browser.post(uri).status_code == 503
    assert state_of(world.acme) == before
    assert list(Job.unscoped.values_list("pk", flat=True)) == [job.pk], "no worker was asked"


@pytest.mark.parametrize("act", ["found", "end", "lock", "SUSPEND", "drop"])
def test_act_that_there_is_not(act: str, world: Cast, browser: Client) -> None:
    assert browser.post(on_tenant(world.acme, act)).status_code == 404


def test_act_on_what_there_is_not(world: Cast, browser: Client) -> None:
    for uri in (f"/admin/acts/tenant/{uuid4()}/suspend/", f"/admin/acts/job/{uuid4()}/retry/"):
        assert browser.get(uri).status_code == browser.post(uri).status_code == 404


def test_act_from_another_sites_form_is_refused(world: Cast, petra: Desk, browser: Client) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = browser.cookies
    assert strict.post(on_tenant(world.acme, "suspend")).status_code == 403
    assert state_of(world.acme) == TenantState.ACTIVE


def test_page_that_was_open_when_the_operator_was_removed_does_nothing(world: Cast, browser: Client) -> None:
    from operators import accounts

    assert browser.get(on_tenant(world.acme, "suspend")).status_code == 200
    accounts.remove(name="petra")
    assert browser.post(on_tenant(world.acme, "suspend"))["location"] == "/admin/sign-in/"
    assert state_of(world.acme) == TenantState.ACTIVE


def test_every_entry_of_an_operator_has_words() -> None:
    for tag in ("operators:job:drop", "operators:job:release", "operators:job:retry", "operators:rows:read"):
        assert "operator" in audit_words.words(tag)
    for tag in ("tenants:tenant:suspend", "tenants:tenant:resume"):
        assert "operator" in audit_words.words(tag)
