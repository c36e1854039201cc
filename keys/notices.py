# SPDX-License-Identifier: Apache-2.0
"""Telling a person what happened to their keys: at once in their devices' mailboxes, and by mail as a job.

Implements PROTOCOL section 6 (doors are served after notice) and FAULTS R3: that mail was handed over, or could not be,
is an entry in the log. It promises nothing about reading.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable
from typing import Final
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from audit import services as audit
from kernel.actors import Actor
from kernel.clock import database_now
from kernel.models import Job
from kernel.queue import MAIL, RunLater, enqueue
from keys import access, mailbox
from tenants import access as tenants
from tenants import mails

log = logging.getLogger("holdfast.mails")

NOTICE_JOB: Final = "keys.notice"


def owe(*, person_ids: Iterable[UUID], event: str, with_mail: Iterable[UUID] = (), **ids: str) -> None:
    """Tell people of an event, in the transaction of the act: nothing is done of which they are not told.

    A notice goes into the mailbox of every active device of `person_ids`, and a mail is promised to each of
    `with_mail`, made from the template `email/<event>.txt`. ids: text of ours, never a person's.
    """
    devices = [device.id for person_id in person_ids for device in access.active_devices(person_id)]
    owe_device(device_ids=devices, event=event, **ids)
    at = timezone.now().strftime("%Y-%m-%d %H:%M UTC")
    for person_id in with_mail:
        enqueue(NOTICE_JOB, queue=MAIL, person=str(person_id), event=event, ids=json.dumps({**ids, "at": at}))


def owe_device(*, device_ids: Collection[UUID], event: str, **ids: str) -> None:
    """Tell devices by name, also ones that wait for their chain, in the transaction of the act. ids: as in `owe`."""
    mailbox.notify(device_ids=device_ids, event={"event": event, **ids})


def tell(person_id: UUID, event: str, ids: dict[str, str]) -> None:
    """Tell one person, at all their devices and by mail: how an app below has somebody told."""
    owe(person_ids=[person_id], with_mail=[person_id], event=event, **ids)


def give(*, job: Job, actor: Actor) -> None:
    """Hand one mail over, and log that it was, or after the last try that it could not be: about two days later.

    Raises RunLater between tries. A crash before the entry's commit sends a mail twice, never not at all.
    """
    person_id, event = UUID(job.payload["person"]), job.payload["event"]
    # Outside the transaction: a mail server may hang.
    outcome = _send(person_id, event, json.loads(job.payload["ids"]))
    if outcome is mails.Outcome.AWAY and job.attempts < mails.MAX_ATTEMPTS:
        raise RunLater(database_now() + mails.pause_after(job.attempts), "mail was not taken", counts=True)
    is_taken = outcome is mails.Outcome.TAKEN
    with transaction.atomic():
        _log("hand-over" if is_taken else "fail", job, actor)


def fail(*, job: Job, actor: Actor) -> None:
    """Log that a mail could not be handed over: it was given up. In the transaction that is open."""
    _log("fail", job, actor)


def _log(verb: str, job: Job, actor: Actor) -> None:
    person_id, event = job.payload["person"], job.payload["event"]
    if verb == "fail":
        log.critical("tenant %s: a notice %s could not be delivered", job.tenant_id, event)
    audit.append(tag=f"keys:notice:{verb}", actor=actor, subject=person_id, body={"kind": event})


def _send(person_id: UUID, event: str, ids: dict[str, str]) -> mails.Outcome:
    # `by` names whoever did it, if a person did.
    by = UUID(ids["by"]) if ids.get("by") else None
    people = tenants.people_by_id(one for one in (person_id, by) if one)
    person = people[person_id]
    named = {"person": person, "tenant": tenants.tenant(), "other": people.get(by) if by else None}
    return mails.tell(person, template=event, context={**named, **ids})
