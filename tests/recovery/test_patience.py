# SPDX-License-Identifier: Apache-2.0
"""A mail server that is away for a day loses nothing that somebody has to be told, whatever kind of job brings it.

FAULTS R3; ESCROW "Case" (notice), ORGANISATION "Mails". The mail server is one, at a port that is closed meanwhile; a
day goes by as the jobs' own times have it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from audit.models import Entry
from kernel import queue
from kernel.actors import system_actor
from kernel.clock import database_now
from kernel.models import Job, JobState
from kernel.scope import tenant_scope
from keys import notices as of_keys
from recovery.cases import notices
from recovery.models import Case, Notice
from tenants import invitations, mails
from tests.cast.mail_server import MailServer, mail_server
from tests.cast.world import World

pytestmark = pytest.mark.django_db(transaction=True)
A_DAY = timedelta(hours=24)


@pytest.fixture
def server(settings: object) -> Iterator[MailServer]:
    with mail_server(settings) as running:
        yield running


def of_a_mail(kind: str) -> Callable[[World], None]:
    def promise(world: World) -> None:
        bob, olivia = world.cast.people["bob"], system_actor(world.tenant_id, "worker")
        if kind == "invitation":
            invitations.promise(person=bob, actor=olivia)
        else:
            mails.promise(kind=kind, to=bob, actor=olivia, values=VALUES.get(kind, {}))

    return promise


VALUES = {"password-reset": {"source": "127.0.0.1"}, "tenant-unlocking": {"until": "tomorrow"}}


def of_keys_told(world: World) -> None:
    of_keys.tell(world.cast.people["bob"].pk, "door-read", {"door": "password", "device": "d"})


PROMISES: dict[str, Callable[[World], None]] = {
    **{kind: of_a_mail(kind) for kind in ("invitation", "password-changed", "factor-reset", "tenant-locked", "left")},
    "a notice of keys": of_keys_told,
}


def wait_until_due() -> timedelta:
    """Let the time go by until the mail that waits is tried again, and return how much that was."""
    job = Job.unscoped.get(queue=queue.MAIL, state=JobState.READY)
    waits: timedelta = max(job.run_at - timezone.now(), timedelta())
    Job.unscoped.filter(pk=job.pk).update(run_at=timezone.now() - timedelta(seconds=1))
    return waits


def through_the_day(server: MailServer) -> None:
    server.raw.clear()
    server.down()
    gone, longest = timedelta(), timedelta()
    while gone < A_DAY:
        assert queue.run_due(queue.MAIL) == 0
        waits = wait_until_due()
        gone, longest = gone + waits, max(longest, waits)
    # It is nobody's to hammer a server that is away, and whoever mends it has not to wait long.
    assert timedelta(minutes=20) < longest <= timedelta(minutes=31)
    assert queue.count_late_everywhere(queue.MAIL, since=timezone.now() + timedelta(seconds=1)) == 1, "an alarm"
    server.up()


@pytest.mark.parametrize("kind", PROMISES)
def test_mail_that_waits_for_a_day_is_handed_over(world: World, server: MailServer, kind: str) -> None:
    Job.unscoped.filter(queue=queue.MAIL).delete()
    with tenant_scope(world.tenant_id), transaction.atomic():
        PROMISES[kind](world)
    through_the_day(server)
    assert queue.run_due(queue.MAIL) == 1
    assert len(server.mails) == 1
    assert not Entry.unscoped.filter(tag__endswith=":fail").exists()


def owed(world: World, kind: str, *, days: int) -> None:
    """Have the subject of a case that expires in so many days owed one notice, and nobody any other mail."""
    case = world.opened(world.deposit(), expiry=int(time.time()) + days * 86_400)
    Job.unscoped.filter(queue=queue.MAIL).delete()
    Notice.unscoped.all().delete()
    with tenant_scope(world.tenant_id), transaction.atomic():
        row = Case.objects.get(id=case.id)
        notices.owe(row, row.subject_id, kind, timezone.now() - timedelta(seconds=1))


@pytest.mark.parametrize("kind", ["opened", "released", "voided", "share"])
def test_notice_of_a_case_that_waits_for_a_day_is_handed_over(world: World, server: MailServer, kind: str) -> None:
    owed(world, kind, days=30)
    through_the_day(server)
    assert queue.run_due(queue.MAIL) == 1
    assert (len(server.mails), Notice.unscoped.get().state) == (1, "handed-over")


@pytest.mark.parametrize(("days", "hours"), [(30, 48), (16, 24), (15, 12), (14, 0)])
def test_notice_of_an_opening_is_given_up_while_the_long_delay_fits_into_the_case(
    found: Callable[..., World], server: MailServer, days: int, hours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tried too long, the case would expire before its delay is over: the mail server would forbid the recovery."""
    owed(found(undelivered_delay_seconds=14 * 86_400), "opened", days=days)
    server.down()
    gone = timedelta()
    monkeypatch.setattr(notices, "database_now", lambda: database_now() + gone)
    while queue.run_due(queue.MAIL) == 0:
        job = Job.unscoped.get(queue=queue.MAIL, state=JobState.READY)
        gone = job.run_at - timezone.now()
        Job.unscoped.filter(pk=job.pk).update(run_at=timezone.now() - timedelta(seconds=1))
    notice = Notice.unscoped.get()
    assert notice.state == "failed"
    assert notice.attempts + 1 >= notices.FEWEST_ATTEMPTS
    assert abs(gone - timedelta(hours=hours)) < timedelta(hours=1), gone
