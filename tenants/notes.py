# SPDX-License-Identifier: Apache-2.0
"""Mail about a person's sign-in: promised in the transaction of the act, written and handed over by the worker.

Implements ORGANISATION "Signing in". That a mail was handed over, or could not be, is an entry in the log. A job holds
ids: what is secret in a mail is made when it is written.
"""

from __future__ import annotations

import json
import logging
import smtplib
from collections.abc import Callable
from typing import Final
from uuid import UUID

from django.core.mail import EmailMessage
from django.db import transaction
from django.template.loader import render_to_string
from django.utils import timezone

from audit import services as audit
from kernel.actors import system_actor
from kernel.models import Job
from kernel.queue import MAIL, enqueue
from tenants import access
from tenants.models import Person

log = logging.getLogger("holdfast.mail")

MAIL_JOB: Final = "tenants.mail"
MAX_ATTEMPTS: Final = 8  # in growing steps, about four minutes

# Writes what only the moment of sending knows: the template's values, or None when the mail is not to be sent.
Writer = Callable[[Person, dict[str, str]], "dict[str, str] | None"]
_writers: dict[str, Writer] = {}


class MailNotTaken(Exception):
    """The mail system did not take a mail; the job's own delay brings the next try."""


def written_by(kind: str, writer: Writer) -> None:
    """Say once, at start, what writes the values of one kind of mail; others have those of their promise."""
    _writers[kind] = writer


def promise(*, person_id: UUID, kind: str, **ids: str) -> None:
    """Promise a mail to a person of the open tenant, in the open transaction, from the template `email/<kind>.txt`.

    ids: text of ours, never a secret. An id that is nobody's is promised alike, and nothing comes of it.
    """
    at = timezone.now().strftime("%Y-%m-%d %H:%M UTC")
    enqueue(MAIL_JOB, queue=MAIL, person=str(person_id), mail=kind, ids=json.dumps({**ids, "at": at}))


def give(job: Job) -> None:
    """Write one mail and hand it over; log that it was, or after the last try that it could not be.

    Raises MailNotTaken between tries. A crash before the entry's commit sends a mail twice, never not at all.
    """
    ids: dict[str, str] = json.loads(job.payload["ids"])
    person, kind = access.person_to_write_to(UUID(job.payload["person"])), job.payload["mail"]
    values: dict[str, str] | None = None
    if person is not None:
        values = _writers[kind](person, ids) if kind in _writers else ids
    if person is None or values is None:
        return
    # Outside the transaction: a mail server may hang.
    is_taken = _send(person, kind, values)
    if not is_taken and job.attempts < MAX_ATTEMPTS:
        raise MailNotTaken
    with transaction.atomic():
        audit.append(
            tag=f"tenants:mail:{'hand-over' if is_taken else 'fail'}",
            actor=system_actor(job.tenant_id, "worker"),
            subject=str(person.pk),
            body={"kind": kind},
        )


def _send(person: Person, kind: str, values: dict[str, str]) -> bool:
    named = {"person": person, "tenant": person.tenant}
    text = render_to_string(f"email/{kind.replace('-', '_')}.txt", {**named, **values})
    subject, _, body = text.partition("\n\n")
    message = EmailMessage(subject=subject.removeprefix("Subject: ").strip(), body=body, to=[person.email])
    try:
        return message.send(fail_silently=False) == 1
    except (OSError, smtplib.SMTPException) as error:
        log.warning("a mail of %s was not taken: %s", kind, type(error).__name__)
        return False
