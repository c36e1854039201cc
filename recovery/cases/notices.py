# SPDX-License-Identifier: Apache-2.0
"""Telling people about cases: one message each, whose hand-over or failure is an entry in the log.

Implements ESCROW "Case" (notice); FAULTS R3. It promises nothing about reading: handed over means that the
mail system took it.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction

from audit import services as audit
from escrow import access as escrow
from holdfast.core.base.text import written_out
from kernel.actors import Actor
from kernel.clock import database_now, is_in_doubt
from kernel.queue import MAIL, RunLater, enqueue
from kernel.rows import insert
from kernel.transitions import advance
from recovery import access
from recovery.cases.counting import recount
from recovery.models import Case, Notice
from recovery.states import NOTICE, NoticeState
from tenants import access as tenants
from tenants import mails

log = logging.getLogger("holdfast.mails")

NOTICE_JOB = "recovery.notice"
# However little time a case has: a mail server that starts again is back by then.
FEWEST_ATTEMPTS = 5
# Reports of wrong shares in one case that are told by mail: a recipient who reports on and on would flood officers.
MAX_SHARE_NOTICES = 5


def owe(row: Case, person_id: UUID, kind: str, due_at: datetime) -> None:
    """Promise one notice, once, in the transaction that is open."""
    notice = Notice(tenant_id=row.tenant_id, case_id=row.id, person_id=person_id, kind=kind, due_at=due_at)
    # Of two at once the other stands, and this one was never there.
    if insert(notice, once=True):
        enqueue(NOTICE_JOB, queue=MAIL, run_at=due_at, unique=str(notice.pk), notice=str(notice.pk))


def give_notice(*, notice_id: UUID, actor: Actor) -> None:
    """Hand one notice over to the mail system, and log that it was, or that it could not be.

    While the mail server is away it is tried for about two days; that of an opening for no longer than `latest_try`
    says. Raises RunLater between tries. Done once: a notice that is settled stays as it is.
    """
    notice = Notice.objects.get(pk=notice_id)
    if notice.state != NoticeState.PENDING:
        return
    # Outside the transaction: a mail server may hang. A crash before the commit sends it twice, never not at all.
    outcome, tries = _send(notice), notice.attempts + 1
    if outcome is mails.Outcome.AWAY and (next_try := _next_try(notice, tries)) is not None:
        Notice.objects.filter(pk=notice.pk).update(attempts=tries)
        raise RunLater(next_try, "mail was not taken")
    _settle(notice, NoticeState.HANDED_OVER if outcome is mails.Outcome.TAKEN else NoticeState.FAILED, actor)


def _next_try(notice: Notice, tries: int) -> datetime | None:
    """Return when a notice is tried again that was not taken so often; None when it is given up."""
    now, last = database_now(), None
    if notice.kind == access.OPENED:
        last = latest_try(notice, Case.objects.get(id=notice.case_id), now)
        # By its time, which nobody goes by while a clock is in doubt.
        if now >= last and tries >= FEWEST_ATTEMPTS and not is_in_doubt():
            return None
    if tries >= mails.MAX_ATTEMPTS:
        return None
    later = now + mails.pause_after(tries)
    return later if last is None or now >= last else min(later, last)


def latest_try(notice: Notice, case: Case, now: datetime) -> datetime:
    """Return until when the notice of an opening is tried, while the case waits for it: until then its delay stands.

    Half of the time that the case has beside the long delay, which begins when it is given up: a case could otherwise
    expire before it is over. ESCROW "Case".
    """
    _, terms, _ = access.terms_of(case, now)
    long = timedelta(seconds=max(terms.delay_seconds, terms.undelivered_delay_seconds))
    return notice.due_at + max(case.expiry - notice.due_at - long, timedelta()) / 2


def fail_notice(*, notice_id: UUID, actor: Actor) -> None:
    """Log that one notice could not be handed over, unless it is settled already: it was given up."""
    _settle(Notice.objects.get(pk=notice_id), NoticeState.FAILED, actor)


def _settle(notice: Notice, state: NoticeState, actor: Actor) -> None:
    with transaction.atomic():
        case = access.lock_case(notice.case_id)
        notice.refresh_from_db()
        if notice.state != NoticeState.PENDING:
            return
        now = database_now()
        advance(notice, NOTICE, state, settled_at=now)
        verb = "hand-over" if state == NoticeState.HANDED_OVER else "fail"
        if state == NoticeState.FAILED:
            log.critical(
                "tenant %s: the notice %s of case %s could not be delivered", case.tenant_id, notice.kind, case.id
            )
        audit.append(
            tag=f"recovery:notice:{verb}",
            actor=actor,
            subject=str(case.id),
            body={"kind": notice.kind, "person": str(notice.person_id)},
        )
        if notice.kind == access.OPENED and case.state == "quorate":
            recount(case, now=now, actor=actor)


def _send(notice: Notice) -> mails.Outcome:
    person = tenants.person(notice.person_id)
    case = Case.objects.get(id=notice.case_id)
    context = {
        "person": person,
        "tenant": tenants.tenant(),
        "case": case,
        # Officers signed it as one of their policy's purposes; a mail has lines of its own all the same.
        "purpose": written_out(case.purpose),
        "url": f"{settings.HOLDFAST_PUBLIC_URL}/console/",
    }
    # Of several of a kind each has its number behind it.
    kind = notice.kind.partition("-")[0]
    return mails.tell(person, template=f"case_{kind}", context=context)


def owe_release_notice(case: Case, now: datetime) -> None:
    """Promise the subject the notice that their keys were released, in the transaction that is open."""
    owe(case, case.subject_id, "released", max(now, case.notice_at))


def owe_share_notices(case: Case) -> None:
    """Promise the officers who may give a share that a case lacks the notice of it, once for each report."""
    now, before = database_now(), access.share_notices(case)
    if before == MAX_SHARE_NOTICES:
        return
    kind = f"share-{before + 1}" if before else "share"
    holders = frozenset[UUID]().union(*(one.holders for one in access.shares_wanted(case)))
    for officer in access.eligible_for(case, escrow.policy_named(bytes(case.policy_hash)), now):
        if officer.person_id in holders:
            owe(case, officer.person_id, kind, now)


def owe_end_notices(case: Case) -> None:
    """Promise whoever asked and the subject the notice that a case ended by no act of theirs."""
    now = database_now()
    owe(case, case.requester_id, "voided", now)
    # The subject is told no sooner than of the case itself.
    if case.subject_id != case.requester_id:
        owe(case, case.subject_id, "voided", max(now, case.notice_at))
