# SPDX-License-Identifier: Apache-2.0
"""The acts on enrolment codes: issue one for a person, be the second person behind one, void those that are unused.

Implements ORGANISATION "Devices". A code that is made here passed through the server: it pins nothing, and the client
that it enrols trusts what it meets first and says so.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from kernel.actors import Actor
from kernel.errors import Conflict, Denied
from tenants import access, codes, mails, names, services
from tenants.acts.act import Act, Done, Field, Given, Words
from tenants.acts.people import OnPerson, named_person
from tenants.models import EnrolmentCode, Person
from tenants.permissions import PermissionName
from tenants.roles import GUARDED_ROLES, Role
from tenants.states import PersonState, TenantState

_HOW: Final = Field(
    "how",
    "How they get the code",
    kind="choice",
    choices=(("shown", "Shown to me once, to hand over in person"), ("mail", "By mail, to their address")),
    value="shown",
)
_TOFU: Final = (
    "The code was made by the server, so it proves nothing about it: their device trusts what it meets first, and "
    "shows words to compare with an officer. A code from an officer’s own client pins the tenant from the start."
)


class IssueCode(OnPerson):
    """Make a code by which a person enrols a device."""

    name = "code-issue"
    title = "Issue an enrolment code"
    summary = "With it they enrol a new device."
    lets_in = True
    permission = PermissionName.ENROLMENT_CREATE
    takes_recovery_code = False
    states = frozenset({PersonState.INVITED, PersonState.ACTIVE})
    wanted = "invited or active"

    def form(self) -> tuple[Field, ...]:
        return (_HOW,)

    def is_offered(self, actor: Actor, subject: Person) -> bool:
        is_other = subject.pk != actor.person_id
        return super().is_offered(actor, subject) and is_other and access.tenant().state == TenantState.ACTIVE

    def words(self, actor: Actor, subject: Person, given: Given) -> Words:
        self.require_state(subject)
        if access.tenant().state != TenantState.ACTIVE:
            raise Conflict("Until the tenant is founded, codes carry its root: the operator’s ceremony makes them.")
        if subject.pk == actor.person_id:
            # Password and authenticator alone make no device: for an owner or officer, nobody would be behind it.
            raise Conflict("A code for your own new device comes from a device of yours, or from somebody else.")
        services.require_room_for_a_code(person=subject, actor=actor)
        days = services.CODE_LIFE.days
        by_mail = f"A mail to {names.marked(subject.email)} brings it."
        lines = [
            f"{subject.name} can enrol one device with it, once, within {days} days. They are told that you issued it.",
            by_mail if given["how"] == "mail" else "It is shown to you, and to nobody ever again.",
        ]
        if access.has_active_device(subject.pk):
            lines.append("They have a device already: the new one waits until that one, or a door, lets it in.")
        warnings = [_TOFU]
        if given["how"] == "mail":
            warnings.append("Whoever reads that mail first can enrol a device in their place.")
        if subject.role in GUARDED_ROLES:
            warnings.append("It works only once a second owner or officer has confirmed it, on this person’s page.")
        return Words(
            f"Issue an enrolment code for {subject.name}", tuple(lines), named_person(subject), tuple(warnings)
        )

    def do(self, actor: Actor, subject: Person, given: Given) -> Done:
        undo = "Void their unused codes."
        if given["how"] == "mail":
            codes.promise(person=subject, actor=actor)
            return Done(f"The code for {subject.name} is on its way by mail.", undo, subject.pk)
        made = codes.make(person=subject, actor=actor)
        return Done(
            f"Hand the code to {subject.name} yourself: it is shown this once.",
            undo,
            subject.pk,
            once_label=f"The enrolment code of {subject.name}, until {made.row.expires_at:%Y-%m-%d %H:%M} UTC",
            once=made.text,
        )


class VoidCodes(OnPerson):
    """End a person's codes that nobody has used."""

    name = "code-void"
    title = "Void their unused codes"
    summary = "Codes that nobody has used yet stop, whoever issued them."
    permission = PermissionName.ENROLMENT_CREATE

    def is_offered(self, actor: Actor, subject: Person) -> bool:
        return super().is_offered(actor, subject) and access.has_open_code(subject.pk)

    def words(self, actor: Actor, subject: Person, given: Given) -> Words:
        open_ones = access.open_codes(subject.pk)
        if not open_ones:
            raise Conflict(f"{subject.name} has no code that could be used.")
        lines = (
            f"{len(open_ones)} code{'s' if len(open_ones) > 1 else ''} that nobody has used stop at once. "
            "One that has just been used is not affected: look at their devices.",
        )
        return Words(f"Void the unused codes of {subject.name}", lines, named_person(subject))

    def do(self, actor: Actor, subject: Person, given: Given) -> Done:
        count = services.void_codes(person=subject, actor=actor)
        return Done(f"{count} of {subject.name}’s codes stopped.", "Issue a new code.", subject.pk)


class ConfirmCode(Act):
    """Be the second person behind a code for an owner or officer."""

    name = "code-confirm"
    title = "Confirm the code"
    summary = "As the second person behind a code for an owner or officer."
    lets_in = True
    kind = "code"
    permission = PermissionName.ENROLMENT_CREATE
    takes_recovery_code = False

    def load(self, actor: Actor, subject_id: UUID | None, *, lock: bool) -> EnrolmentCode:
        assert subject_id is not None
        return access.code_for_confirmation(actor, subject_id) if lock else access.open_code(subject_id)

    def is_offered(self, actor: Actor, subject: EnrolmentCode) -> bool:
        try:
            services.require_second(code=subject, actor=actor)
        except (Conflict, Denied):
            return False
        return True

    def words(self, actor: Actor, subject: EnrolmentCode, given: Given) -> Words:
        services.require_second(code=subject, actor=actor)
        person = subject.person
        issuer = access.people_by_id([subject.issuer_id] if subject.issuer_id else [])
        by = next(iter(issuer.values())).name if issuer else "Nobody who is known"
        lines = (
            f"{by} issued an enrolment code for {person.name}, who is {Role(person.role).label.lower()} here.",
            "With your confirmation it works, once. You then stand behind their device as well.",
        )
        warnings = (
            f"Ask {by} whom they let in, and {person.name} whether they asked for it, by a way that you trust: a code "
            "in a stranger’s hands is a stranger’s device.",
        )
        facts = (
            ("Issued by", by),
            *named_person(person),
            ("Made", mails.written_time(subject.created_at)),
            ("Until", mails.written_time(subject.expires_at)),
        )
        return Words(f"Confirm the code for {person.name}", lines, facts, warnings)

    def do(self, actor: Actor, subject: EnrolmentCode, given: Given) -> Done:
        services.confirm_enrolment_code(code=subject, actor=actor)
        return Done(f"The code for {subject.person.name} works now.", "Void their unused codes.", subject.person_id)

    def concerns(self, subject: EnrolmentCode) -> UUID:
        person_id: UUID = subject.person_id
        return person_id


ACTS: tuple[Act, ...] = (IssueCode(), VoidCodes(), ConfirmCode())
