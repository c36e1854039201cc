# SPDX-License-Identifier: Apache-2.0
"""The act on a file of people that was read: invite those whom its good lines name.

Implements ORGANISATION "People from a file".
"""

from __future__ import annotations

from uuid import UUID

from kernel.actors import Actor
from tenants.acts.act import Act, Done, Given, Words
from tenants.acts.people import GUARDED_WARNING
from tenants.imports import services
from tenants.models import Import
from tenants.permissions import PermissionName
from tenants.roles import GUARDED_ROLES, Role
from tenants.states import ImportState


def _people(count: int) -> str:
    return "1 person" if count == 1 else f"{count:,} people"


class ImportPeople(Act):
    """Invite the people of a file."""

    name = "people-import"
    title = "Invite these people"
    summary = "Each gets a link by mail. Bad lines are left out."
    lets_in = True
    kind = "import"
    permission = PermissionName.PERSON_ADMINISTER
    takes_recovery_code = False

    def load(self, actor: Actor, subject_id: UUID | None, *, lock: bool) -> Import:
        assert subject_id is not None
        return services.import_of(subject_id, lock=lock)

    def is_offered(self, actor: Actor, subject: Import) -> bool:
        return bool(subject.state == ImportState.READ and subject.good)

    def words(self, actor: Actor, subject: Import, given: Given) -> Words:
        services.require_waiting(subject)
        lines = (
            f"{_people(subject.good)} are invited, each by mail: a link that works once, for 72 hours."
            if subject.good > 1
            else "1 person is invited by mail: a link that works once, for 72 hours.",
            "Whoever is here by then is left out. Until they use their link, they count for nothing.",
            "It is done in the background, a hundred at a time; a page shows how far it is, and what came of it.",
        )
        guarded = sum(count for role, count in subject.roles.items() if role in GUARDED_ROLES)
        warnings = [f"{guarded:,} of them as owner or officer. {GUARDED_WARNING}"] if guarded else []
        if subject.bad:
            warnings.append(f"{subject.bad:,} bad line{'s are' if subject.bad > 1 else ' is'} left out.")
        roles = ", ".join(
            f"{subject.roles[role]:,} {Role(role).label.lower()}" for role in Role.values if subject.roles.get(role)
        )
        facts = (
            ("Lines to invite", str(subject.good)),
            ("Bad lines", str(subject.bad)),
            ("Roles", roles),
            ("Hash of these lines", bytes(subject.digest).hex()),
        )
        return Words(f"Invite {_people(subject.good)} from a file", lines, facts, tuple(warnings))

    def do(self, actor: Actor, subject: Import, given: Given) -> Done:
        services.begin(row=subject, actor=actor)
        return Done(
            f"{_people(subject.good)} are being invited. Reload this page to see how far it is."
            if subject.good > 1
            else "1 person is being invited. Reload this page to see how far it is.",
            "Suspend whom you did not mean, and their link stops.",
            subject.pk,
        )


ACTS: tuple[Act, ...] = (ImportPeople(),)
