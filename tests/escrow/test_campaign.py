# SPDX-License-Identifier: Apache-2.0
"""Who is told of a policy version, and who has answered it."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core import mail
from django.db import transaction

from audit.models import Entry
from escrow import access, campaign
from kernel.clock import database_now
from kernel.models import Job
from kernel.scope import tenant_scope
from tenants.models import Person
from tests.cast.browsers import signed_in
from tests.cast.world import World

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


def publish(world: World, **terms: Any) -> None:
    world.publish(world.policy(m=2, **terms), signers=[world.founders[name] for name in ("carol", "dan")])


def active(world: World) -> int:
    return int(Person.unscoped.filter(tenant_id=world.tenant_id, state="active").count())


def mails(world: World) -> int:
    rows = Entry.unscoped.filter(tenant_id=world.tenant_id, tag="keys:notice:hand-over")
    return int(rows.filter(body__kind="policy-published").count())


def drain(world: World) -> None:
    for _ in range(10):
        world.work()


def test_everybody_active_is_told_once_however_many_pages_there_are(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign, "PAGE", 2)
    Job.unscoped.all().delete()
    publish(world, delay_seconds=600)
    drain(world)
    assert mails(world) == active(world)
    assert not Job.unscoped.filter(kind=campaign.ANNOUNCE_JOB, state="ready").exists()


def test_those_behind_are_told_when_the_last_of_a_page_is_suspended_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign, "PAGE", 2)
    Job.unscoped.all().delete()
    publish(world, delay_seconds=600)
    people = Person.unscoped.filter(tenant_id=world.tenant_id, state="active").order_by("pk")
    last = people[1]
    with tenant_scope(world.tenant_id):
        campaign.announce(policy_hash=world.policies[-1].hash, after=None)
        Job.unscoped.filter(kind=campaign.ANNOUNCE_JOB, payload__after="").delete()
        Person.objects.filter(pk=last.pk).update(state="suspended")
    drain(world)
    told = Entry.unscoped.filter(tenant_id=world.tenant_id, tag="keys:notice:hand-over", body__kind="policy-published")
    assert {str(person.pk) for person in people} <= set(told.values_list("subject", flat=True))


def test_nobody_is_told_of_a_version_that_another_followed_or_that_was_withdrawn(world: World) -> None:
    Job.unscoped.all().delete()
    publish(world, undelivered_delay_seconds=0)
    world.withdraw(world.policies[-1].hash)
    drain(world)
    assert mails(world) == 0


def test_answers_are_each_persons_last_word_on_the_newest_version(world: World) -> None:
    world.consent("alice")
    world.consent("bob")
    publish(world, delay_seconds=600)
    world.consent("alice")
    world.consent("rex", agreed=False)
    answer = world.directory.phone("carol").send("GET", "/api/v1/escrow/policy-answers").json()
    said = {row["name"]: row["answer"] for row in answer["answers"]}
    assert (said["Alice"], said["Bob"], said["Rex"], said["Carol"]) == ("agreed", "older", "refused", "none")
    counted = {name: answer[name] for name in ("people", "agreed", "refused", "older", "none")}
    people = active(world)
    assert counted == {"people": people, "agreed": 1, "refused": 1, "older": 1, "none": people - 3}
    assert (answer["version"], len(answer["answers"]), answer["more"]) == (2, people, False)
    with tenant_scope(world.tenant_id):
        published = access.newest_policy().published_at
    assert answer["until"][:10] == (published + timedelta(days=90)).strftime("%Y-%m-%d")


def test_later_pages_of_answers_count_nobody(world: World) -> None:
    first = str(world.cast.people["alice"].pk)
    answer = world.directory.phone("carol").send("GET", f"/api/v1/escrow/policy-answers?after={first}").json()
    assert sorted(answer) == ["answers", "more", "until", "version"]
    page = signed_in(world.cast.people["carol"]).get("/console/escrow/answers/?page=2").content.decode()
    assert "never answered." not in page


def test_answer_that_was_taken_back_counts_as_the_last(world: World) -> None:
    world.consent("alice")
    world.consent("alice", agreed=False)
    answer = world.directory.phone("carol").send("GET", "/api/v1/escrow/policy-answers").json()
    assert (answer["agreed"], answer["refused"]) == (0, 1)


def test_answers_are_for_those_who_oversee(world: World) -> None:
    assert world.directory.phone("alice").send("GET", "/api/v1/escrow/policy-answers").status_code == 403


def test_console_shows_who_never_answered_and_what_is_proposed(world: World) -> None:
    world.consent("alice")
    publish(world, delay_seconds=600)
    world.propose(world.policy(m=2, delay_seconds=600, undelivered_delay_seconds=0), "carol")
    browser = signed_in(world.cast.people["carol"])
    shown = browser.get("/console/escrow/").content.decode()
    assert "Proposed policies" in shown
    assert "It lowers the delay when notice fails" in shown
    assert "Answers to version 2" in shown
    answers = browser.get("/console/escrow/answers/").content.decode()
    assert "answered an older version" in answers
    assert "never answered" in answers


def warned(world: World) -> list[tuple[str, str]]:
    """Do the work that is due, and return of what version and kind each mail about an end was, since the last time."""
    seen = len(mail.outbox)
    drain(world)
    found = [re.search(r"version (\d+) of the escrow (policy|key) of", str(one.body)) for one in mail.outbox[seen:]]
    return [(one[1], one[2]) for one in found if one]


def test_officers_and_owners_are_told_once_30_and_7_days_before_the_end(world: World) -> None:
    with tenant_scope(world.tenant_id):
        now = database_now()
    end = int(now.timestamp()) + 100 * 86400
    Job.unscoped.all().delete()
    made = world.policy(m=2, delay_seconds=600)
    made = replace(made, header=replace(made.header, expires_at=end))
    world.publish(made, signers=[world.founders[name] for name in ("carol", "dan")])
    jobs = Job.unscoped.filter(kind=campaign.ENDING_JOB).order_by("run_at")
    assert [round((datetime.fromtimestamp(end, UTC) - job.run_at) / timedelta(days=1)) for job in jobs] == [30, 7]
    assert warned(world) == []
    people = Person.unscoped.filter(tenant_id=world.tenant_id, state="active", role__in=["officer", "owner"]).count()
    for job in jobs:
        Job.unscoped.filter(pk=job.pk).update(run_at=now)
        assert warned(world) == [("2", "policy")] * people
        assert warned(world) == []


def test_nobody_is_told_of_the_end_of_what_another_followed_and_short_ones_warn_less(world: World) -> None:
    Job.unscoped.all().delete()
    with tenant_scope(world.tenant_id):
        now = database_now()
    for delay, days in ((600, 20), (700, 6)):
        made = world.policy(m=2, delay_seconds=delay)
        made = replace(made, header=replace(made.header, expires_at=int(now.timestamp()) + days * 86400))
        world.publish(made, signers=[world.founders[name] for name in ("carol", "dan")])
    (job,) = Job.unscoped.filter(kind=campaign.ENDING_JOB)
    Job.unscoped.filter(pk=job.pk).update(run_at=now)
    assert warned(world) == []
    assert not Job.unscoped.filter(kind=campaign.ENDING_JOB, state="ready").exists()


def test_end_of_an_escrow_key_is_told_until_another_key_follows(world: World) -> None:
    Job.unscoped.all().delete()
    with tenant_scope(world.tenant_id), transaction.atomic():
        now = database_now()
        header = replace(world.tenant_header(), expires_at=int(now.timestamp()) + 40 * 86400)
        campaign.promise_warnings(access.escrow_key_in_force(), header, now=now)
    first, second = Job.unscoped.filter(kind=campaign.ENDING_JOB).order_by("run_at")
    Job.unscoped.filter(pk=first.pk).update(run_at=now)
    assert set(warned(world)) == {("1", "key")}
    Job.unscoped.filter(pk=second.pk).update(run_at=now, payload=second.payload | {"hash": bytes(32).hex()})
    assert warned(world) == []
