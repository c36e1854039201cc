# SPDX-License-Identifier: Apache-2.0
"""Mails to people, as text and HTML: how every one of the house is sent, and those that acts of this app promise.

Implements ORGANISATION "Mails". Handed over means that the mail system took it; nothing is said of reading. What a
notice that was not delivered means for a recovery case, `recovery` knows (ESCROW "Case").
"""

from __future__ import annotations

import logging
import re
import smtplib
import textwrap
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.core.mail import EmailMultiAlternatives, get_connection
from django.core.mail.backends.base import BaseEmailBackend
from django.db import transaction
from django.db.models import OuterRef, Subquery
from django.template.loader import render_to_string

from audit import access as audit_access
from audit import services as audit
from holdfast.core.base.secret import SecretBytes
from holdfast.core.base.text import written_out
from kernel.actors import Actor, system_actor
from kernel.clock import database_now
from kernel.queue import MAIL as MAIL_QUEUE
from kernel.queue import RunLater, apart, count_late_everywhere, enqueue, enqueue_each
from kernel.retries import pause_seconds
from kernel.scope import resting
from kernel.sweeps import delete_in_batches
from kernel.transitions import advance
from tenants import access
from tenants.models import Mail, Person
from tenants.roles import Role
from tenants.states import MAIL, MailState, PersonState

log = logging.getLogger("holdfast.mails")

MAIL_JOB: Final = "tenants.mail"
# Of every mail of the house, notices too: in growing steps, about two days. A mail server that is away for a day loses
# nothing, and whoever mends it sees within half an hour that it is.
MAX_ATTEMPTS: Final = 102
FIRST_PAUSE_SECONDS: Final = 20
LONGEST_PAUSE_SECONDS: Final = 1800
# A mail server that starts again, or has whoever is new to it come again, takes mails by then.
LATE: Final = timedelta(minutes=10)
KEPT: Final = timedelta(days=30)  # after it was settled; the log says for ever that it was
MAX_VALUE: Final = 300  # characters of one value: a mail is no place for more
MOST_OF_AN_ACT: Final = 100  # mails of one act that are shown
_INDENT: Final = "    "
RESTORED: Final = "restored"  # the one kind that goes out while a backup is not accepted: it tells of that

# The kinds that can be promised, and the values that each takes.
KINDS: Final[dict[str, frozenset[str]]] = {
    kind: frozenset(values.split())
    for kind, values in {
        "address-changed": "old new",
        "ending": "until",
        "enrolment-code": "",
        "factor-reset": "",
        "invitation": "",
        "left": "",
        "password-changed": "",
        "password-reset": "source",
        "pending-act": "what until page",
        "restored": "",
        "resumed": "",
        "role-changed": "before after",
        "sessions-ended": "",
        "suspended": "",
        "tenant-locked": "",
        "tenant-unlocking": "until",
    }.items()
}
# Their link lets in whoever has it: it is made when the mail is handed over, and stands in no row.
WITH_SECRET_LINK: Final = frozenset({"invitation", "password-reset"})
# And these bring such a secret as text, to be typed.
WITH_SECRET: Final = WITH_SECRET_LINK | {"enrolment-code"}
_BUTTONS: Final = {
    "invitation": "Set password and authenticator",
    "password-reset": "Choose a new password",
    "pending-act": "Look at it in the console",
}


class Outcome(StrEnum):
    """What the mail system said to one mail."""

    TAKEN = "taken"
    AWAY = "away"  # it was not reached, or said to come again
    REFUSED = "refused"  # it said that this mail will never be taken


@dataclass(frozen=True)
class Link:
    """What lets in whoever has it. text: the whole address, or code, a secret until used; expires_at is UTC."""

    text: SecretBytes
    expires_at: datetime


# Returns None where there is nothing to bring any more: the person has been let in, or may not be.
LinkMaker = Callable[[Mail, Actor], Link | None]
_makers: dict[str, LinkMaker] = {}


def links_by(kind: str, make: LinkMaker) -> None:
    """Say once, at start, who makes the link or code of a kind in WITH_SECRET when its mail is handed over."""
    _makers[kind] = make


def promise(
    *, kind: str, to: Person, actor: Actor, address: str = "", act: str = "", values: Mapping[str, str] | None = None
) -> Mail:
    """Promise a mail to a person, in the transaction of the act that it tells of: both are, or neither.

    address: where to, if not to the address that they have when it is sent. act: an id by which `of_act` finds it.
    values: those that KINDS names for the kind; `page` is a path below /console/. The mail names whoever acts.
    Raises ValueError for other values or kinds, and RuntimeError outside a transaction (programming errors).
    """
    values = dict(values or {})
    _check_kind(kind, values)
    if not values.get("page", "/console/").startswith("/console/"):
        raise ValueError("a mail leads to a page of the console")
    mail: Mail = Mail.objects.create(
        kind=kind,
        person=to,
        address=address,
        by_id=access.person_behind(actor),
        act=act,
        values={name: value[:MAX_VALUE] for name, value in values.items()},
    )
    enqueue(MAIL_JOB, queue=MAIL_QUEUE, unique=str(mail.pk), mail=str(mail.pk))
    return mail


def tell_restored() -> int:
    """Promise a mail to the officers and owners of each tenant that is read-only, once for a backup; return how many.

    They decide, and see by themselves only that nothing works. Each tenant in a transaction of its own.
    """
    count = 0
    for tenant_id in resting():
        with apart(tenant_id, "mails about its backup"), transaction.atomic():
            mark = audit_access.restored_mark()
            if mark is None:
                continue  # it was accepted a moment ago
            people = [one for one in access.people(roles=[Role.OFFICER, Role.OWNER]) if one.state == PersonState.ACTIVE]
            told = told_of(str(mark.pk), [one.pk for one in people])
            for person in people:
                if person.pk not in told:
                    promise(kind=RESTORED, to=person, actor=system_actor(tenant_id, "worker"), act=str(mark.pk))
                    count += 1
    return count


def told_of(act: str, person_ids: Collection[UUID]) -> set[UUID]:
    """Return which of these people a mail of an act was promised to."""
    return set(Mail.objects.filter(act=act, person_id__in=person_ids).values_list("person_id", flat=True))


def promise_each(*, kind: str, people: Collection[Person], actor: Actor) -> list[Mail]:
    """Promise each of these people a mail of a kind that takes no values, in two statements. Raises as `promise`."""
    _check_kind(kind, {})
    by_id = access.person_behind(actor)
    rows: list[Mail] = Mail.objects.bulk_create([Mail(kind=kind, person=one, by_id=by_id) for one in people])
    enqueue_each(MAIL_JOB, [{"mail": str(row.pk)} for row in rows], queue=MAIL_QUEUE)
    return rows


def _check_kind(kind: str, values: Mapping[str, str]) -> None:
    if kind not in KINDS or KINDS[kind] != set(values):
        raise ValueError(f"a mail {kind} does not take {sorted(values)}")
    if kind in WITH_SECRET and kind not in _makers:
        raise ValueError(f"nobody makes what {kind} brings")


def give(*, mail_id: UUID, actor: Actor) -> None:
    """Hand one promised mail over, and log that it was, or that it cannot be.

    Raises RunLater while the mail system is away. Done once: what is settled stays as it is. A crash before the entry's
    commit sends a mail twice, never not at all.
    """
    mail: Mail | None = Mail.objects.select_related("person").filter(pk=mail_id).first()
    if mail is None or mail.state != MailState.WAITING:
        return
    if mail.kind != RESTORED and audit_access.is_restored():
        # Of a backup, which may have sent it long ago: what it tells of may be lost, and its link lets nobody in.
        raise RunLater(database_now() + LATE, "the organisation is read-only")
    # Outside any transaction: a mail server may hang.
    outcome = _give(mail, actor)
    if outcome is Outcome.AWAY and mail.attempts + 1 < MAX_ATTEMPTS:
        Mail.objects.filter(pk=mail.pk).update(attempts=mail.attempts + 1, why=Mail.Why.AWAY)
        raise RunLater(database_now() + pause_after(mail.attempts + 1), "mail was not taken")
    if outcome is None:
        _settle(mail, MailState.NEEDLESS, "drop", "", actor)
    elif outcome is Outcome.TAKEN:
        _settle(mail, MailState.HANDED_OVER, "hand-over", "", actor)
    else:
        _settle(mail, MailState.FAILED, "fail", str(outcome), actor)


def _give(mail: Mail, actor: Actor) -> Outcome | None:
    """Say what became of it; None where it need not be sent."""
    newer = Mail.objects.filter(person_id=mail.person_id, kind=mail.kind, created_at__gt=mail.created_at)
    if mail.kind in WITH_SECRET_LINK and newer.exists():
        return None  # its link would be void with the newer one's
    connection = get_connection(fail_silently=False)
    try:
        try:
            # Before a link is made: while nobody takes it, the one before stays good.
            connection.open()
        except (OSError, smtplib.SMTPException) as error:
            log.warning("mail %s waits: %s", mail.pk, type(error).__name__)
            return Outcome.AWAY
        shown: dict[str, Any] = {name: written_out(value) for name, value in mail.values.items()}
        link = f"{settings.HOLDFAST_PUBLIC_URL}{shown['page']}" if "page" in shown else ""
        if mail.kind in WITH_SECRET:
            made = _makers[mail.kind](mail, actor)
            if made is None:
                return None
            text = made.text.reveal().decode()
            if mail.kind in WITH_SECRET_LINK:
                link = text
            else:
                shown |= {"secret": text, "server": settings.HOLDFAST_PUBLIC_URL}
            shown["until"] = written_time(made.expires_at)
        by = access.people_by_id([mail.by_id]).get(mail.by_id) if mail.by_id else None
        context = {
            "person": mail.person,
            "tenant": access.tenant(),
            "by": by,
            "at": written_time(mail.created_at),
            **shown,
        }
        # A link that lets somebody in goes to one place, and so does what was addressed.
        if mail.address or mail.kind in WITH_SECRET_LINK:
            to = mail.address or mail.person.email
            return send(template=mail.kind, context=context, to=to, link=link, connection=connection)
        return tell(mail.person, template=mail.kind, context=context, link=link, connection=connection)
    finally:
        connection.close()


def pause_after(tries: int) -> timedelta:
    """Return how long a mail waits that was not taken in so many tries."""
    return timedelta(seconds=pause_seconds(tries, first=FIRST_PAUSE_SECONDS, longest=LONGEST_PAUSE_SECONDS))


def patience_after(tries: int) -> timedelta:
    """Return how long from the last of so many tries it is to the one after which a mail is given up."""
    return sum((pause_after(n) for n in range(tries, MAX_ATTEMPTS)), timedelta())


def _settle(mail: Mail, state: MailState, verb: str, why: str, actor: Actor) -> None:
    with transaction.atomic():
        advance(mail, MAIL, state, settled_at=database_now(), why=why)
        audit.append(
            tag=f"tenants:mail:{verb}",
            actor=actor,
            subject=str(mail.person_id),
            body={"kind": mail.kind, "mail": str(mail.pk)},
        )


def message(
    *,
    template: str,
    context: Mapping[str, Any],
    to: str,
    link: str = "",
    connection: BaseEmailBackend | None = None,
) -> EmailMultiAlternatives:
    """Return one mail, as text and as HTML of the same words, that its own `send` hands over.

    template: a file's name in templates/email, where a hyphen is written as `_`. Its first line is the subject; its
    body may show `link` in a line of its own, which becomes the button. No value makes a header: a subject is one line.
    """
    text = render_to_string(f"email/{template.replace('-', '_')}.txt", {**context, "link": link})
    head, _, body = text.partition("\n\n")
    subject = written_out(head.removeprefix("Subject: ").strip())
    shown = {"subject": subject, "blocks": _blocks(body, link), "button": _BUTTONS.get(template, "Open")}
    made = EmailMultiAlternatives(
        subject=subject,
        body=body,
        to=[to],
        # No holiday answers it.
        headers={"Auto-Submitted": "auto-generated"},
        connection=connection,
    )
    made.attach_alternative(render_to_string("email/page.html", shown), "text/html")
    return made


def send(
    *,
    template: str,
    context: Mapping[str, Any],
    to: str,
    link: str = "",
    connection: BaseEmailBackend | None = None,
) -> Outcome:
    """Hand one mail, made as `message` says, to the mail system, and return what it said."""
    used = connection or get_connection(fail_silently=False)
    made = message(template=template, context=context, to=to, link=link, connection=used)
    try:
        return Outcome.TAKEN if made.send(fail_silently=False) == 1 else Outcome.REFUSED
    except (OSError, smtplib.SMTPException, ValueError) as error:
        # ValueError: an address that cannot be written as one.
        outcome = Outcome.REFUSED if isinstance(error, ValueError) or _is_final(error) else Outcome.AWAY
        log.warning("a mail of %s was not taken: %s", template, type(error).__name__)
        return outcome
    finally:
        if connection is None:
            used.close()  # what was opened in part as well, where it was refused


def tell(
    person: Person,
    *,
    template: str,
    context: Mapping[str, Any],
    link: str = "",
    connection: BaseEmailBackend | None = None,
) -> Outcome:
    """Send a person what they are told, also at the addresses that they had within 30 days; as `send` otherwise.

    Whoever changed somebody's address has to keep this from them for a month (FAULTS R3). What is returned is of the
    address of today. The others go with it, once it was taken or refused, and what they come to is in the log alone.
    """
    outcome = send(template=template, context=context, to=person.email, link=link, connection=connection)
    if outcome is not Outcome.AWAY:
        for address in access.former_addresses(person.pk):
            send(template=template, context=context, to=address, link=link, connection=connection)
    return outcome


def _is_final(error: Exception) -> bool:
    """Tell whether the mail system refused this mail for good (RFC 5321 section 4.2.1: 5yz).

    What it says to our own address or account is for the operator to mend, and the mail waits.
    """
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return all(code >= 500 for code, _ in error.recipients.values())
    return isinstance(error, smtplib.SMTPDataError) and error.smtp_code >= 500


@dataclass(frozen=True)
class Block:
    """A part of a mail's body: a paragraph, lines that keep their form, or the link."""

    form: str
    text: str


def _blocks(body: str, link: str) -> list[Block]:
    found = []
    for part in re.split(r"\n[ \t]*\n", body.strip("\n")):
        if not part.strip():
            continue
        lines = part.rstrip().split("\n")
        if not all(line.startswith(_INDENT) for line in lines):
            found.append(Block("paragraph", " ".join(line.strip() for line in lines)))
        elif link and part.strip() == link:
            found.append(Block("link", link))
        else:
            found.append(Block("lines", textwrap.dedent(part.rstrip())))
    return found


def written_time(at: datetime) -> str:
    """Return a time as mails say it: `2026-01-31 09:05 UTC`."""
    return at.strftime("%Y-%m-%d %H:%M UTC")


def newest(person_ids: Collection[UUID], *, kind: str) -> dict[UUID, Mail]:
    """Return the newest mail of a kind that each of these people was promised within 30 days. One query."""
    rows = Mail.objects.filter(person_id=OuterRef("person_id"), kind=kind).order_by("-created_at", "-pk")
    found = Mail.objects.filter(person_id__in=person_ids, kind=kind, pk=Subquery(rows.values("pk")[:1]))
    return {row.person_id: row for row in found}


def of_person(person_id: UUID, *, limit: int) -> list[Mail]:
    """Return a person's mails of the last 30 days, newest first, at most `limit`. One query."""
    return list(
        Mail.objects.filter(person_id=person_id).select_related("person").order_by("-created_at", "-pk")[:limit]
    )


def of_act(act: str) -> list[Mail]:
    """Return the mails that tell of an act, oldest first, at most a hundred. One query."""
    rows = Mail.objects.filter(act=act).exclude(act="").select_related("person")
    return list(rows.order_by("created_at", "pk")[:MOST_OF_AN_ACT])


def raise_alarm() -> int:
    """Say in the process's log how many mails of any kind, in every tenant, have waited too long; return how many."""
    late = count_late_everywhere(MAIL_QUEUE, since=database_now() - LATE)
    if late:
        log.critical("mail is not taken: %d mails wait. manage.py sendtestmail says what is wrong", late)
    return late


def sweep() -> int:
    """Delete what was settled 30 days ago, with the addresses in it, in every tenant; return how many mails."""
    return delete_in_batches(Mail.unscoped.filter(settled_at__lt=database_now() - KEPT))
