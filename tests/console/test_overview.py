# SPDX-License-Identifier: Apache-2.0
"""The overview says when mails are not taken, to whoever oversees; and of a case kept from its subject, not to them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from kernel import queue
from kernel.actors import system_actor
from kernel.models import Job
from kernel.scope import tenant_scope
from keys import notices
from recovery.models import Notice
from tenants import mails
from tenants.models import Person
from tests.cast.browsers import signed_in, text_of
from tests.cast.mail_server import mail_server
from tests.cast.statements import DAY
from tests.cast.world import World

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def away(settings: Any) -> None:
    """The mail server is away."""
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_TIMEOUT = "127.0.0.1", 1, 1


def seen(world: World, name: str = "olivia") -> tuple[bool, str]:
    """Whether it stands among what has to be done, and what the row of the mail says."""
    text = text_of(signed_in(world.cast.people[name]).get("/console/"))
    row = text.partition("HSM of the web process")[2].partition(" Mail ")[2].partition("Work given up")[0]
    return "manage.py sendtestmail" in text, row.strip()


def promise_mail(world: World, person: Person) -> None:
    with tenant_scope(world.tenant_id), transaction.atomic():
        mails.promise(kind="suspended", to=person, actor=system_actor(world.tenant_id, "worker"))


def promise_notice(world: World, person: Person) -> None:
    with tenant_scope(world.tenant_id), transaction.atomic():
        notices.tell(person.pk, "enrolled", {"device": "d", "name": "Phone"})


def try_again(age: timedelta = timedelta(0)) -> None:
    now = timezone.now()
    Job.unscoped.filter(queue=queue.MAIL).exclude(state="done").update(run_at=now, created_at=now - age)
    queue.run_due(queue.MAIL)


@pytest.mark.parametrize("promise", [promise_mail, promise_notice])
def test_mail_that_is_not_taken_for_ten_minutes_is_an_alarm_until_it_is(
    promise: Callable[[World, Person], None], world: World, away: None, caplog: pytest.LogCaptureFixture, settings: Any
) -> None:
    world.work()
    promise(world, world.cast.bob)
    try_again(timedelta(minutes=9))
    assert seen(world)[0] is False
    assert mails.raise_alarm() == 0
    try_again(timedelta(minutes=11))
    for name in ("olivia", "erin"):
        assert seen(world, name) == (True, "1 not taken by the mail server")
    with caplog.at_level(logging.CRITICAL, logger="holdfast.mails"):
        assert mails.raise_alarm() == 1
    assert "mail is not taken: 1 mails wait" in caplog.text
    with mail_server(settings):
        try_again()
    assert seen(world) == (False, "taken")
    assert mails.raise_alarm() == 0


def test_mail_that_nobody_hands_over_is_an_alarm(world: World) -> None:
    world.work()
    promise_mail(world, world.cast.bob)
    Job.unscoped.filter(queue=queue.MAIL).update(run_at=timezone.now() - timedelta(minutes=11))
    assert seen(world) == (True, "1 not taken by the mail server")
    assert mails.raise_alarm() == 1


def test_notice_that_could_not_be_delivered_is_an_alarm_for_a_day(
    world: World, away: None, caplog: pytest.LogCaptureFixture
) -> None:
    case = world.opened(world.deposit())
    assert seen(world) == (True, f"{_owed(world)} not taken by the mail server")
    Notice.unscoped.update(attempts=mails.MAX_ATTEMPTS - 1)
    try_again()
    assert seen(world) == (True, f"{_owed(world)} given up in the last day")
    assert f"the notice opened of case {case.id} could not be delivered" in caplog.text


def _owed(world: World) -> int:
    return Job.unscoped.filter(kind="recovery.notice", tenant_id=world.tenant_id).count()


def test_subject_of_a_case_that_is_kept_from_them_sees_no_alarm_of_its_notices(
    found: Callable[..., World], away: None
) -> None:
    world = found(max_notice_delay_seconds=DAY, purposes=frozenset({"device-loss", "legal"}))
    deposit, later = world.deposit("carol"), int((timezone.now() + timedelta(hours=1)).timestamp())
    world.opened(deposit, phone=world.directory.phone("alice"), purpose="legal", notice_at=later)
    assert seen(world, "carol") == (False, "taken")
    assert seen(world, "dan")[0] is True
    Notice.unscoped.update(attempts=mails.MAX_ATTEMPTS - 1)
    Job.unscoped.filter(kind="recovery.notice", last_error__gt="").update(run_at=timezone.now() - timedelta(seconds=1))
    queue.run_due(queue.MAIL)
    assert seen(world, "carol") == (False, "taken")
    assert "given up in the last day" in seen(world, "dan")[1]
