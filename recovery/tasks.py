# SPDX-License-Identifier: Apache-2.0
"""Work that takes time: notices, expiry, recounts, following rotations; and the entry of the release queue.

PLATFORM "Work that takes time": ids in, one service call each. Time limits are transitions made here, never by a read.
"""

from __future__ import annotations

from datetime import timedelta
from itertools import islice
from uuid import UUID

from kernel.actors import system_actor
from kernel.clock import database_now
from kernel.models import Job
from kernel.queue import apart, every, given_up, handles, renew
from kernel.retries import MOST, Retries
from kernel.scope import awake
from recovery import access
from recovery.cases import collection, counting, endings, many, notices, standing
from recovery.cases.counting import RELEASE_JOB
from recovery.cases.notices import NOTICE_JOB
from recovery.contacts import services as contacts
from recovery.contacts.access import contact_requests_past_expiry
from recovery.leaving import services as leaving
from recovery.leaving import shredding
from recovery.leaving.services import CONTACT_LEFT_JOB
from recovery.leaving.shredding import SHRED_JOB
from recovery.release import process

CLOSE_AFTER = timedelta(days=30)
# ESCROW "Case": until then a recipient whose device broke while it collected may collect again.
DESTROY_AFTER = timedelta(days=90)
# Cases of one round: each is a transaction, and the next round goes on where this one stopped.
DESTROY_AT_ONCE = 100
# What a round did not get rid of is left alone for a round, then longer, up to a day: it would stand before all others.
_tried = Retries(first=600, longest=86_400)


@handles(NOTICE_JOB)
def give_notice(job: Job) -> None:
    """Hand one notice over."""
    notices.give_notice(notice_id=UUID(job.payload["notice"]), actor=system_actor(job.tenant_id, "worker"))


@given_up(NOTICE_JOB)
def fail_notice(job: Job) -> None:
    """Say that one notice was not delivered: nobody tries any more."""
    notices.fail_notice(notice_id=UUID(job.payload["notice"]), actor=system_actor(job.tenant_id, "worker"))


@handles(RELEASE_JOB)
def release(job: Job) -> None:
    """Attempt one case. The queue is the release process's own: no worker leases its jobs."""
    process.run_job(job)


@handles(CONTACT_LEFT_JOB)
def tell_contacts(job: Job) -> None:
    """Tell the next people who chose somebody who has left as a trusted contact."""
    after = UUID(job.payload["after"]) if job.payload["after"] else None
    leaving.tell_contacts(person_id=UUID(job.payload["person"]), after=after)


@handles(SHRED_JOB)
def shred(job: Job) -> None:
    """Shred the keys of a person who has left."""
    shredding.shred(
        person_id=UUID(job.payload["person"]),
        actor=system_actor(job.tenant_id, "worker"),
        renew=lambda: renew(job),
    )


@every(seconds=2, by_age=True)
def expire_cases() -> None:
    """End the cases whose time is over."""
    for case_id, tenant_id in awake(access.past_expiry(database_now())):
        with apart(tenant_id, f"expiry of case {case_id}"):
            endings.expire_case(case_id=case_id, actor=system_actor(tenant_id, "worker"))


@every(seconds=5, by_age=True)
def expire_contact_requests() -> None:
    """End the requests to trusted contacts whose time is over, and destroy the shares of all that are."""
    for request_id, tenant_id in awake(contact_requests_past_expiry(database_now())):
        with apart(tenant_id, f"expiry of request {request_id}"):
            contacts.expire_request(request_id=request_id, actor=system_actor(tenant_id, "worker"))


@every(seconds=5)
def settle_cases() -> None:
    """Count again the cases that a count moves, now that an officer left or came back, or an approval ran out.

    And reckon the delay anew of those whose subject can object no more.
    """
    now = database_now()
    for case_id, tenant_id in awake(many.to_settle(now)):
        with apart(tenant_id, f"count of case {case_id}"):
            counting.settle_case(case_id=case_id, actor=system_actor(tenant_id, "worker"))
    for case_id, tenant_id in awake(many.to_lengthen(now)):
        with apart(tenant_id, f"delay of case {case_id}"):
            counting.lengthen_delay(case_id=case_id, actor=system_actor(tenant_id, "worker"))


@every(seconds=600, by_age=True)
def destroy_released() -> None:
    """Destroy what was released in cases that were collected 90 days ago, or whose disclosure has ended."""
    now = database_now()
    # As many as can be left alone, and those of one round.
    found = access.outlived_releases(now, until=now - DESTROY_AFTER, limit=MOST + DESTROY_AT_ONCE)
    for case_id, tenant_id in list(islice((one for one in awake(found) if not _tried.left(one)), DESTROY_AT_ONCE)):
        _tried.failed((case_id, tenant_id))
        with apart(tenant_id, f"end of what case {case_id} released"):
            collection.destroy_collected(case_id=case_id, actor=system_actor(tenant_id, "worker"), after=DESTROY_AFTER)


@every(seconds=60)
def raise_alarms() -> None:
    """Say which cases are stuck."""
    standing.raise_alarms()


@every(seconds=5)
def follow_rotations() -> None:
    """Follow what was exposed until its subjects have renewed it, and close old cases."""
    for case_id, tenant_id in awake(many.to_follow(database_now(), close_after=CLOSE_AFTER)):
        actor = system_actor(tenant_id, "worker")
        with apart(tenant_id, f"rotation after case {case_id}"):
            collection.follow_rotation(case_id=case_id, actor=actor)
            collection.close_case(case_id=case_id, actor=actor, after=CLOSE_AFTER)
