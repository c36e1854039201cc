# SPDX-License-Identifier: Apache-2.0
"""The acts on a person who goes: record that they left, and shred their keys.

Implements ORGANISATION "People" (leaver). They stand in this app because what goes on without somebody, and what stays
openable, is in the vault, in escrow and in cases.
"""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from escrow import access as escrow
from kernel.actors import Actor
from kernel.errors import Conflict
from keys import access as keys
from recovery import access
from recovery.leaving import services, shredding
from recovery.leaving.preview import Custody, Preview, preview
from recovery.leaving.words import custody_warnings, many, openers_line
from tenants import access as tenants_access
from tenants import names
from tenants import services as tenants
from tenants.acts.act import Act, Done, Given, Words
from tenants.models import Person
from tenants.permissions import PermissionName
from tenants.roles import Role
from tenants.states import PersonState


class _OnPerson(Act):
    kind = "person"
    permission = PermissionName.PERSON_ADMINISTER
    is_dangerous = True

    def load(self, actor: Actor, subject_id: UUID | None, *, lock: bool) -> Person:
        assert subject_id is not None
        return tenants_access.person_for_update(subject_id) if lock else tenants_access.person(subject_id)

    def facts(self, subject: Person) -> tuple[tuple[str, str], ...]:
        return (
            ("Name", subject.name),
            ("Address", names.marked(subject.email)),
            ("Role", Role(subject.role).label),
            ("State", subject.get_state_display()),
        )

    def concerns(self, subject: Person) -> UUID:
        return subject.pk


class Leave(_OnPerson):
    """Record that a person has left, for good."""

    name = "person-leave"
    title = "Record that they left"
    summary = "For good. You first see what stops and what could still be opened."
    takes_recovery_code: ClassVar[bool] = False

    def is_offered(self, actor: Actor, subject: Person) -> bool:
        return subject.state != PersonState.LEFT

    def words(self, actor: Actor, subject: Person, given: Given) -> Words:
        if subject.state == PersonState.LEFT:
            raise Conflict(f"{subject.name} has left already.")
        if subject.pk == actor.person_id:
            raise Conflict("You would lock yourself out. Ask another owner.")
        tenants.require_another(subject)
        services.require_succeeded(subject)
        found = preview(subject, reader=actor)
        lines = (*_stops(found), *_custody_lines(found.custody), *_case_lines(found), *_stays(found))
        warnings = (
            "There is no way back: whoever returns is invited anew, as a new person, and gets nothing of this one’s.",
            *custody_warnings(found.custody),
            *(case.text for case in found.cases if case.is_warning),
        )
        return Words(f"Record that {subject.name} left", lines, self.facts(subject), warnings)

    def do(self, actor: Actor, subject: Person, given: Given) -> Done:
        left = services.leave(person=subject, actor=actor)
        off = many(left.devices, "device is", "devices are")
        text = f"{subject.name} has left. {off} off. What stopped, and what can still be opened, stands on their page."
        return Done(text, subject=subject.pk)


def _stops(found: Preview) -> list[str]:
    lines = ["They are recorded as having left. Their sessions, and their devices’ requests, stop with the next one."]
    if found.devices:
        named = ", ".join(found.devices)
        lines.append(
            f"{many(len(found.devices), 'device is', 'devices are')} off for good: {named}. Nobody can begin to write "
            "to them, and what waits in their mailboxes is handed out no more. They can still forbid a case about "
            "their owner: officers alone end that, by a resolution."
        )
    else:
        lines.append("They have no device that could act.")
    if found.ways_in:
        lines.append(
            f"{many(found.ways_in, 'invitation or enrolment code stops', 'invitations and enrolment codes stop')}."
        )
    if found.requests:
        lines.append(f"{many(found.requests, 'request', 'requests')} to their trusted contacts will end.")
    if found.acts:
        waiting = many(found.acts, "act that waits", "acts that wait")
        lines.append(f"{waiting} for a second person, proposed by them or about them, will be withdrawn.")
    return lines


def _stays(found: Preview) -> list[str]:
    lines = [
        "Whoever chose them as a trusted contact is told, and chooses another.",
        "Their address is free again: whoever is invited with it is somebody new.",
    ]
    if found.accounts:
        lines.append(
            f"Service accounts that they made go on: {', '.join(found.accounts)}. Replace the keys that they know."
        )
    return lines


def _custody_lines(custody: Custody) -> list[str]:
    lines = ["What they put into escrow is kept, and nothing new is taken. It is opened by a case, as before."]
    return lines + [openers_line(one.generations, one.officers, one.needed) for one in custody.openers if one.is_open]


def _case_lines(found: Preview) -> list[str]:
    lines = [case.text for case in found.cases if not case.is_warning]
    if found.more_cases:
        lines.append("There are more such cases; for each of them the same holds.")
    return lines


class Shred(_OnPerson):
    """Destroy the keys of a person who has left, so that nobody can ever open what was theirs."""

    name = "person-shred"
    title = "Shred their keys"
    summary = "For good, by two of you: nobody reads what was theirs."
    takes_recovery_code: ClassVar[bool] = False
    needs_two: ClassVar[bool] = True

    def is_offered(self, actor: Actor, subject: Person) -> bool:
        return subject.state == PersonState.LEFT and access.shredding_of(subject.pk) is None

    def words(self, actor: Actor, subject: Person, given: Given) -> Words:
        shredding.require_shreddable(subject)
        deposits, sections = escrow.count_deposits(subject.pk), 1 if keys.vault(subject.pk) else 0
        lines = (
            f"Destroyed for good: {many(deposits, 'deposit', 'deposits')} in escrow with both their halves, "
            f"{'their vault' if sections else 'what there is of a vault'} and "
            f"{many(len(keys.doors(subject.pk)), 'door', 'doors')} to it, messages that wait for them, the shares "
            "that trusted contacts gave them, and what they signed in with.",
            "Cases about them that are open end first, and what was released in earlier ones is destroyed.",
            "It stays: their name, their public keys, what they and others signed, ids and hashes of what was "
            "destroyed, and every entry of the log. What they sent to others is others’.",
            "The worker does it step by step; their page says how far it is, and the log how much it was.",
        )
        warnings = (
            "There is no way back. No officer, no operator and no HSM opens it afterwards.",
            "A backup of the database made before it still holds all of this, and opens as before: have your operator "
            "destroy those backups or let them run out, and shred again after one was put back.",
            "Whoever was given something of theirs before, in a case or by themselves, still has it.",
        )
        return Words(f"Shred the keys of {subject.name}", lines, self.facts(subject), warnings)

    def do(self, actor: Actor, subject: Person, given: Given) -> Done:
        shredding.begin(person=subject, actor=actor)
        return Done(f"The keys of {subject.name} are being shredded. How far it is stands here.", subject=subject.pk)


ACTS: tuple[Act, ...] = (Leave(), Shred())
