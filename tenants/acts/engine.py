# SPDX-License-Identifier: Apache-2.0
"""The one way to an act of administration: look at it in words, confirm exactly these with a code, and it is done.

Implements ORGANISATION "Acts" and FAULTS A6, A7. What was shown is bound to the session or
credential it was shown to and to five minutes; the code is spent, authority read again, and the act done, in one
transaction. Acts of one tenant come one after another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.core import signing
from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.urls import reverse

from audit import services as audit
from holdfast.core.base.encoding import b64u, label
from holdfast.core.escrow.sponsors import still_behind
from kernel.actors import Actor
from kernel.clock import database_now
from kernel.errors import Conflict, Denied, LimitReached, NotFound
from kernel.scope import current_tenant
from kernel.strict_json import dumps
from kernel.transitions import advance
from tenants import access, mails, sign_in
from tenants.acts.act import WITHOUT_SUBJECT, Act, Done, Given, Words, all_acts, cleaned, named
from tenants.errors import NotASecondPerson, StepUpRefused, WordsChanged
from tenants.models import Authenticator, PendingAct, Person, Tenant
from tenants.permissions import device_permissions, roles_with, session_permissions
from tenants.sponsors import let_in
from tenants.states import ENTERED_STATES, PENDING_ACT, PendingState, PersonState

# ORGANISATION "Acts": given for this act within five minutes.
STEP_UP_SECONDS: Final = 300
# Long enough for a second person who is away for some days; a proposal of last month was made for other reasons.
PENDING_LIFE: Final = timedelta(days=7)
# A second person who came yesterday may have come for this act.
SECOND_SINCE: Final = timedelta(days=7)
MAX_PENDING: Final = 50  # open proposals of one tenant: more than anybody reads
_SALT: Final = "holdfast.acts"


@dataclass(frozen=True)
class Look:
    """An act as it is shown before it is done. token: proves later that exactly this was shown here."""

    act: Act
    subject: Any
    subject_id: UUID | None
    given: Given
    words: Words
    token: str
    expires_at: datetime

    @property
    def takes_two(self) -> bool:
        """Whether another person has to confirm it."""
        return self.act.takes_two(self.subject)


@dataclass(frozen=True)
class _Shown:
    """All that whoever confirms an act reads, and for whom it was written."""

    actor: Actor
    act: Act
    subject_id: UUID | None
    given: Given
    words: Words
    pending: UUID | None = None

    def digest(self) -> bytes:
        """Return the hash of who, which act, about whom, what was typed, and every word."""
        shown = {
            "tenant": str(self.actor.tenant_id),
            "person": str(self.actor.person_id),
            "act": self.act.name,
            "subject": str(self.subject_id or ""),
            "given": dict(sorted(self.given.items())),
            "pending": str(self.pending or ""),
            "title": self.words.title,
            "lines": list(self.words.lines),
            "facts": [list(one) for one in self.words.facts],
            "warnings": list(self.words.warnings),
        }
        return hashlib.sha256(label("act", dumps(shown))).digest()


@dataclass(frozen=True)
class Outcome:
    """What came of it: done, or waiting for a second person."""

    done: Done | None
    pending: PendingAct | None = None


def offered(actor: Actor, kind: str, subject: Any) -> list[Act]:
    """List the acts that this actor could do to a subject as it is, in the order of their buttons."""
    return [
        act for act in all_acts() if act.kind == kind and actor.can(act.permission) and act.is_offered(actor, subject)
    ]


def blank(actor: Actor, name: str, subject_id: UUID | None) -> tuple[Act, Any]:
    """Return an act and its subject, for its form. Raises NotFound, Denied."""
    act = _permitted(actor, name)
    return act, _loaded(act, actor, subject_id, lock=False)


def look(actor: Actor, name: str, subject_id: UUID | None, given: Given, *, bound_to: str) -> Look:
    """Say what an act would do, and make the token by which it can be confirmed from where `bound_to` names.

    Changes nothing. Raises NotFound, Denied, and what the act's rule refuses, naming the field.
    """
    act = _permitted(actor, name)
    # Rules are the same as in the act itself, and lock what they decide by.
    with transaction.atomic():
        subject = _loaded(act, actor, subject_id, lock=False)
        taken = cleaned(act, subject, given)
        words = act.words(actor, subject, taken)
    token = _token(_Shown(actor, act, subject_id, taken, words), bound_to)
    return Look(act, subject, subject_id, taken, words, token, database_now() + timedelta(seconds=STEP_UP_SECONDS))


def perform(
    actor: Actor, name: str, subject_id: UUID | None, given: Given, *, token: str, code: str, bound_to: str
) -> Outcome:
    """Do what was looked at, or propose it to a second person when it needs one.

    Raises WordsChanged when it is no more what was shown, StepUpRefused for a code that is wrong, spent, or of a kind
    that does not confirm this act; NotFound, Denied, and what the act's rule refuses. Then nothing was done.
    """
    with _confirmed(actor, code) as (now_actor, opened):
        act = _permitted(now_actor, name)
        subject = _loaded(act, now_actor, subject_id, lock=True)
        taken = cleaned(act, subject, given)
        words = act.words(now_actor, subject, taken)
        shown = _Shown(now_actor, act, subject_id, taken, words)
        _check_token(token, shown, bound_to)
        _spend(now_actor, act, code, opened)
        if not act.takes_two(subject):
            return Outcome(act.do(now_actor, subject, taken))
        return Outcome(None, _propose(shown, subject))


def _propose(shown: _Shown, subject: Any) -> PendingAct:
    actor, act, subject_id = shown.actor, shown.act, shown.subject_id
    assert actor.person_id is not None
    now = database_now()
    if _waiting().count() >= MAX_PENDING:
        raise LimitReached(
            "As many acts wait for a second person as may. Let them be confirmed, or withdraw one.",
            limit="pending-acts",
            most=MAX_PENDING,
        )
    if _waiting().filter(act=act.name, subject_id=subject_id).exists():
        raise Conflict("This waits for a second person already. Withdraw that first, to propose it otherwise.")
    row: PendingAct = PendingAct.objects.create(
        act=act.name,
        subject_id=subject_id,
        concerns_id=act.concerns(subject),
        given=dict(shown.given),
        shown=_proposed(shown.words),
        proposer_id=actor.person_id,
        proposed_at=now,
        expires_at=now + PENDING_LIFE,
    )
    audit.append(
        tag="tenants:act:propose",
        actor=actor,
        subject=str(subject_id or actor.tenant_id),
        body={"act": act.name, "pending": str(row.pk)},
    )
    page = reverse("console-pending-act", args=[row.pk])
    until = mails.written_time(row.expires_at)
    for one in possible_seconds(row, act):
        mails.promise(
            kind="pending-act",
            to=one,
            actor=actor,
            act=str(row.pk),
            values={"what": shown.words.title, "until": until, "page": page},
        )
    return row


def _proposed(words: Words) -> bytes:
    """Return the hash of what the first person agreed to, whoever reads it; warnings may change while it waits."""
    said = {"title": words.title, "lines": list(words.lines), "facts": [list(one) for one in words.facts]}
    return hashlib.sha256(label("act-proposed", dumps(said))).digest()


def pending(actor: Actor) -> list[PendingAct]:
    """List the acts that wait for a second person and that this actor may see, the oldest first; at most "
    "MAX_PENDING."""
    rows = _waiting().order_by("proposed_at", "id")[:MAX_PENDING]
    return [row for row in rows if actor.can(named(row.act).permission)]


def pending_about(actor: Actor, person_id: UUID) -> list[PendingAct]:
    """List the waiting acts about a person that this actor may see, the oldest first."""
    rows = _waiting().filter(concerns_id=person_id).order_by("proposed_at", "id")[:MAX_PENDING]
    return [row for row in rows if actor.can(named(row.act).permission)]


def confirmable(actor: Actor, rows: Collection[PendingAct]) -> set[UUID]:
    """Return the ids of those of these waiting acts that this actor could be the second person behind. Two queries."""
    if actor.person_id is None or not rows:
        return set()
    now = database_now()
    seconds = int(now.timestamp())
    me, sponsors = (
        access.person(actor.person_id),
        access.sponsors_of([actor.person_id, *(row.proposer_id for row in rows)]),
    )
    behind_me = still_behind(sponsors.get(me.pk, {}), seconds)
    return {
        row.pk
        for row in rows
        if _is_settled(me, now)
        and me.pk not in (row.proposer_id, row.concerns_id)
        and row.proposer_id not in behind_me
        and me.pk not in still_behind(sponsors.get(row.proposer_id, {}), seconds)
    }


def look_pending(actor: Actor, pending_id: UUID, *, bound_to: str) -> tuple[PendingAct, Look]:
    """Say what a waiting act would do now, and make the token to confirm it. Raises NotFound, Denied, Conflict."""
    row = _waiting_row(pending_id, lock=False)
    act = _permitted(actor, row.act)
    with transaction.atomic():
        subject = _loaded(act, actor, row.subject_id, lock=False)
        words = act.words(actor, subject, row.given)
    token = _token(_Shown(actor, act, row.subject_id, row.given, words, row.pk), bound_to)
    expires_at = database_now() + timedelta(seconds=STEP_UP_SECONDS)
    return row, Look(act, subject, row.subject_id, row.given, words, token, expires_at)


def confirm(actor: Actor, pending_id: UUID, *, token: str, code: str, bound_to: str) -> Outcome:
    """Be the second person behind a waiting act: it is done.

    Raises NotASecondPerson for whoever proposed it, is the one it is about, is active for less than seven days, or let
    the proposer in or was let in by them within 90 days; Conflict when the proposer could not do it any more, or it is
    not what they were shown; and what perform raises.
    """
    with _confirmed(actor, code) as (now_actor, opened):
        row = _waiting_row(pending_id, lock=True)
        act = _permitted(now_actor, row.act)
        _check_second(now_actor, row)
        _check_proposer(row, act)
        subject = _loaded(act, now_actor, row.subject_id, lock=True)
        words = act.words(now_actor, subject, row.given)
        if bytes(row.shown) != _proposed(words):
            raise Conflict("It is not any more what was proposed. Withdraw it, and propose it anew as it is now.")
        _check_token(token, _Shown(now_actor, act, row.subject_id, row.given, words, row.pk), bound_to)
        _spend(now_actor, act, code, opened)
        advance(row, PENDING_ACT, PendingState.CONFIRMED, second_id=now_actor.person_id, ended_at=database_now())
        audit.append(
            tag="tenants:act:confirm",
            actor=now_actor,
            subject=str(row.subject_id or now_actor.tenant_id),
            body={"act": act.name, "pending": str(row.pk), "proposer": str(row.proposer_id)},
        )
        done = act.do_together(now_actor, subject, row.given, proposer_id=row.proposer_id)
        if row.concerns_id is not None:
            # Both let them in again, not the second alone.
            let_in(row.concerns_id, [row.proposer_id, now_actor.person_id])
        return Outcome(done)


def withdraw(actor: Actor, pending_id: UUID) -> None:
    """Take a waiting act back. Whoever may do the act may, whether or not they proposed it: it only stops something."""
    with transaction.atomic():
        row = _waiting_row(pending_id, lock=True)
        if actor.person_id is None:
            raise Denied
        _permitted(_as_of_now(actor, actor.person_id), row.act)
        _withdraw(row, actor)


def count_pending_of(person_id: UUID) -> int:
    """Count the acts that wait for a second person and that a person proposed, or that are about them."""
    return int(_waiting_of(person_id).count())


def withdraw_of(person_id: UUID, *, actor: Actor) -> int:
    """Withdraw the acts that a person proposed, or that are about them, as they leave; return how many.

    In the caller's transaction.
    """
    rows = list(_waiting_of(person_id).select_for_update().order_by("pk"))
    for row in rows:
        _withdraw(row, actor)
    return len(rows)


def _waiting_of(person_id: UUID) -> QuerySet[PendingAct]:
    return _waiting().filter(Q(proposer_id=person_id) | Q(concerns_id=person_id))


def _withdraw(row: PendingAct, actor: Actor) -> None:
    advance(row, PENDING_ACT, PendingState.WITHDRAWN, ended_at=database_now())
    audit.append(
        tag="tenants:act:withdraw",
        actor=actor,
        subject=str(row.subject_id or actor.tenant_id),
        body={"act": row.act, "pending": str(row.pk)},
    )


def possible_seconds(row: PendingAct, act: Act) -> list[Person]:
    """List who could be the second person behind a waiting act, by name; empty when the tenant has nobody."""
    now = database_now()
    people = access.people(roles=roles_with(act.permission), state=PersonState.ACTIVE)
    behind = access.standing_behind(row.proposer_id, now)
    sponsors, seconds = access.sponsors_of([one.pk for one in people]), int(now.timestamp())
    return [
        one
        for one in people
        if one.pk not in (row.proposer_id, row.concerns_id)
        and one.pk not in behind
        and row.proposer_id not in still_behind(sponsors.get(one.pk, {}), seconds)
        and _is_settled(one, now)
    ]


def _is_settled(person: Person, now: datetime) -> bool:
    return person.active_since is not None and person.active_since <= now - SECOND_SINCE


def _check_second(actor: Actor, row: PendingAct) -> None:
    person_id, now = actor.person_id, database_now()
    assert person_id is not None
    if person_id in (row.proposer_id, row.concerns_id):
        raise NotASecondPerson("Whoever proposed an act, and whoever it is about, cannot confirm it: ask another.")
    if not _is_settled(access.person(person_id), now):
        raise NotASecondPerson("Whoever confirms has to be active for seven days: ask somebody who is.")
    # Two who are one behind the scenes are one.
    if person_id in access.standing_behind(row.proposer_id, now) or row.proposer_id in access.standing_behind(
        person_id, now
    ):
        raise NotASecondPerson(
            "One of you let the other in within 90 days, directly or not: a third person has to confirm it."
        )


def _check_proposer(row: PendingAct, act: Act) -> None:
    proposer = access.person_for_update(row.proposer_id)
    permissions = session_permissions(proposer.role, access.tenant().state)
    if proposer.state != PersonState.ACTIVE or act.permission not in permissions:
        raise Conflict("Whoever proposed this could not do it any more. Withdraw it, and propose it yourself.")


@contextmanager
def _confirmed(actor: Actor, code: str) -> Iterator[tuple[Actor, Authenticator | None]]:
    """Open the transaction of an act, with the actor's authority read again in it, one act of a tenant at a time.

    Gives the actor as they are now, and their authenticator: opened by the HSM before the transaction begins. Raises
    FactorsAway while it is away.
    """
    if actor.person_id is None:
        raise Denied("Programs do no act of administration: a person confirms it with their one-time code.")
    person = access.person(actor.person_id)
    opened = None if sign_in.is_recovery_code(code) else sign_in.open_authenticator(person)
    is_refused = False
    with transaction.atomic():
        Tenant.objects.select_for_update().get(pk=current_tenant())
        try:
            with transaction.atomic():
                yield _as_of_now(actor, actor.person_id), opened
        except _WrongCode:
            is_refused = True
            # After the roll-back: the wait after a wrong code, and the record of it, outlast the act that is not done.
            # And before the next act begins: whoever sends many codes at once has no more tries than one at a time.
            if opened is not None:
                sign_in.accept_code(person=person, code=code, opened=opened)
            sign_in.record_step_up_refused(actor=actor)
    if is_refused:
        raise StepUpRefused(field="code")


class _WrongCode(Exception):
    """The code does not confirm anything; whatever was done in its transaction is undone."""


def _spend(actor: Actor, act: Act, code: str, opened: Authenticator | None) -> None:
    assert actor.person_id is not None
    is_recovery_code = sign_in.is_recovery_code(code)
    if is_recovery_code and not act.takes_recovery_code:
        raise StepUpRefused(
            "A recovery code confirms no change of factors, roles or addresses. Type the authenticator's code.",
            field="code",
        )
    if opened is None and not is_recovery_code:
        raise _WrongCode
    if sign_in.accept_code(person=access.person(actor.person_id), code=code, opened=opened) is None:
        raise _WrongCode


def _as_of_now(actor: Actor, person_id: UUID) -> Actor:
    """Read the actor's authority again, locked (FAULTS A6). Raises Denied for whoever lost it since they asked."""
    try:
        person = access.person_for_update(person_id)
        state = access.credential_state(actor.id) if actor.kind == "device" and actor.id else ""
    except NotFound:
        raise Denied from None
    tenant_state = access.tenant().state
    if person.state != PersonState.ACTIVE or tenant_state not in ENTERED_STATES:
        raise Denied
    permissions = (
        device_permissions(person.role, state, tenant_state)
        if actor.kind == "device"
        else session_permissions(person.role, tenant_state)
    )
    return replace(actor, role=person.role, permissions=permissions, credential_state=state)


def _permitted(actor: Actor, name: str) -> Act:
    act = named(name)
    if not actor.can(act.permission):
        raise Denied
    if act.lets_in:
        access.require_letting_in()
    return act


def _loaded(act: Act, actor: Actor, subject_id: UUID | None, *, lock: bool) -> Any:
    if (subject_id is None) != (act.kind in WITHOUT_SUBJECT):
        raise NotFound
    return act.load(actor, subject_id, lock=lock)


def _waiting() -> QuerySet[PendingAct]:
    return PendingAct.objects.filter(state=PendingState.PROPOSED, expires_at__gt=Now())


def _waiting_row(pending_id: UUID, *, lock: bool) -> PendingAct:
    rows = _waiting().filter(pk=pending_id)
    found: PendingAct | None = (rows.select_for_update() if lock else rows).first()
    if found is None:
        raise NotFound
    return found


def _token(shown: _Shown, bound_to: str) -> str:
    return signing.TimestampSigner(salt=_SALT).sign(_bound(shown, bound_to))


def _check_token(token: str, shown: _Shown, bound_to: str) -> None:
    try:
        was_shown = signing.TimestampSigner(salt=_SALT).unsign(token, max_age=STEP_UP_SECONDS)
    except signing.SignatureExpired:
        raise WordsChanged("This was shown more than five minutes ago. Read it again, then confirm it.") from None
    except signing.BadSignature:
        raise WordsChanged from None
    # Both sides are hashes of public text under our own signature: nothing to learn from how long it takes.
    if was_shown != _bound(shown, bound_to):
        raise WordsChanged


def _bound(shown: _Shown, bound_to: str) -> str:
    return b64u(hashlib.sha256(label("act-shown", shown.digest(), bound_to)).digest())
