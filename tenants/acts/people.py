# SPDX-License-Identifier: Apache-2.0
"""The acts on people: invite, resend, rename, change address or role, suspend, resume.

Implements ORGANISATION "Acts". Each says in words what it will do; the verbs stand in `services`, `administration`
and `invitations`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Final
from uuid import UUID

from holdfast.core.base.addresses import MAX_ADDRESS
from kernel.actors import Actor
from kernel.errors import Conflict
from tenants import access, administration, invitations, mails, names, services, session_store, sign_in
from tenants.acts.act import Act, Done, Field, Given, Words
from tenants.errors import NameTaken
from tenants.models import Person
from tenants.permissions import PermissionName
from tenants.roles import GUARDED_ROLES, ROLE_WORDS, Role
from tenants.states import PersonState

_ROLES = tuple((str(role), f"{Role(role).label}: {words}") for role, words in ROLE_WORDS.items())
GUARDED_WARNING: Final = (
    "Owners and officers can let others in. Codes for their devices need a second person, and whoever gives the "
    "role stands "
    "behind them for 90 days."
)

HOW: Final = Field(
    "how",
    "How they get the link",
    kind="choice",
    choices=(("mail", "By mail, to their address"), ("shown", "Shown to me once, to hand over myself")),
    value="mail",
)


def named_person(person: Person) -> tuple[tuple[str, str], ...]:
    """Return who a person is, as the facts of an act on them."""
    return (
        ("Name", person.name),
        ("Address", names.marked(person.email)),
        ("Role", Role(person.role).label),
        ("State", person.get_state_display()),
    )


class OnPerson(Act):
    """An act on one person who is here."""

    kind = "person"
    permission = PermissionName.PERSON_ADMINISTER
    states: ClassVar[frozenset[str]] = frozenset(PersonState.values) - {PersonState.LEFT}
    # What the state has to be, for the sentence that refuses it.
    wanted: ClassVar[str] = "not left"

    def load(self, actor: Actor, subject_id: UUID | None, *, lock: bool) -> Person:
        assert subject_id is not None
        return access.person_for_update(subject_id) if lock else access.person(subject_id)

    def is_offered(self, actor: Actor, subject: Person) -> bool:
        return subject.state in self.states

    def require_state(self, subject: Person) -> None:
        if subject.state not in self.states:
            raise Conflict(
                f"{subject.name} is {subject.get_state_display().lower()}; for this they have to be {self.wanted}."
            )

    def concerns(self, subject: Person) -> UUID:
        return subject.pk


class Invite(Act):
    """Invite one person by their address."""

    name = "person-invite"
    title = "Invite a person"
    summary = "A link with which they set a password and an authenticator."
    lets_in = True
    kind = "people"
    permission = PermissionName.PERSON_ADMINISTER
    takes_recovery_code = False

    def form(self) -> tuple[Field, ...]:
        return (
            Field("email", "E-mail address", kind="email", most=MAX_ADDRESS),
            Field("name", "Name", "As colleagues know them.", most=names.MAX_NAME),
            Field("role", "Role", kind="choice", choices=_ROLES, value=Role.MEMBER),
            HOW,
        )

    def load(self, actor: Actor, subject_id: UUID | None, *, lock: bool) -> None:
        return None

    def words(self, actor: Actor, subject: None, given: Given) -> Words:
        key, name = names.email_key(given["email"]), names.display_name(given["name"])
        if access.person_by_address(access.tenant(), key) is not None:
            raise NameTaken("A person with this address is here already.", field="email")
        role = Role(given["role"])
        address = names.marked(given["email"])
        lines = [
            f"{name} gets the role {role.label.lower()}: {ROLE_WORDS[role]}.",
            f"A link that works once, for 72 hours, goes to {address}."
            if given["how"] == "mail"
            else "A link that works once, for 72 hours, is shown to you, and to nobody ever again.",
            "With it they set a password and an authenticator. Until then they count for nothing.",
        ]
        warnings = [GUARDED_WARNING] if role in GUARDED_ROLES else []
        if address != given["email"].strip():
            warnings.append(f"The address has letters of another script, marked here: {address}.")
        return Words(f"Invite {name}", tuple(lines), (("Address", address), ("Role", role.label)), tuple(warnings))

    def do(self, actor: Actor, subject: None, given: Given) -> Done:
        person = services.create_person(email=given["email"], name=given["name"], role=given["role"], actor=actor)
        return _invited(person, given["how"], actor)


def _invited(person: Person, how: str, actor: Actor) -> Done:
    undo = "Suspend them, and the link stops."
    if how == "mail":
        invitations.promise(person=person, actor=actor)
        return Done(f"{person.name} is invited. The link is on its way by mail.", undo, person.pk)
    link = invitations.invite(person=person, actor=actor)
    return Done(
        f"{person.name} is invited. Hand the link over yourself: it is shown this once.",
        undo,
        person.pk,
        once_label=f"The link for {person.name}, until {link.invitation.expires_at:%Y-%m-%d %H:%M} UTC",
        once=link.text,
    )


class Resend(OnPerson):
    """Make a new invitation for somebody who has not come yet, or who lost password and second factor."""

    name = "person-resend"
    title = "Invite again"
    summary = "A new link. The earlier ones and their codes stop."
    lets_in = True
    takes_recovery_code = False
    states = frozenset({PersonState.INVITED})
    wanted = "invited"

    def form(self) -> tuple[Field, ...]:
        return (HOW,)

    def words(self, actor: Actor, subject: Person, given: Given) -> Words:
        self.require_state(subject)
        lines = (
            "Every earlier link and enrolment code of theirs stops.",
            f"A new link, for 72 hours, goes to {names.marked(subject.email)}."
            if given["how"] == "mail"
            else "A new link, for 72 hours, is shown to you, and to nobody ever again.",
            "You stand behind them for 90 days, as whoever invited them first does.",
        )
        return Words(f"Invite {subject.name} again", lines, named_person(subject))

    def do(self, actor: Actor, subject: Person, given: Given) -> Done:
        services.void_invitations(subject)
        return _invited(subject, given["how"], actor)


class Rename(OnPerson):
    """Give a person another name."""

    name = "person-rename"
    title = "Change the name"
    summary = "What colleagues see. It changes no key."

    def form(self) -> tuple[Field, ...]:
        return (Field("name", "New name", most=names.MAX_NAME),)

    def fields(self, subject: Person) -> tuple[Field, ...]:
        return tuple(replace(one, value=subject.name) for one in self.form())

    def words(self, actor: Actor, subject: Person, given: Given) -> Words:
        self.require_state(subject)
        name = names.display_name(given["name"])
        lines = (f"{subject.name} is called {name} from now on, also on pages about the past.",)
        return Words(f"Change the name of {subject.name}", lines, named_person(subject))

    def do(self, actor: Actor, subject: Person, given: Given) -> Done:
        before = subject.name
        administration.rename(person=subject, name=given["name"], actor=actor)
        return Done(f"{before} is now called {subject.name}.", f"Change the name back to {before}.", subject.pk)


class ChangeAddress(OnPerson):
    """Give a person another e-mail address."""

    name = "person-address"
    title = "Change the address"
    summary = "Where mails go and what they sign in with. Both addresses are told."
    takes_recovery_code = False

    def form(self) -> tuple[Field, ...]:
        return (Field("email", "New e-mail address", kind="email", most=MAX_ADDRESS),)

    def fields(self, subject: Person) -> tuple[Field, ...]:
        return tuple(replace(one, value=subject.email) for one in self.form())

    def words(self, actor: Actor, subject: Person, given: Given) -> Words:
        self.require_state(subject)
        key = names.email_key(given["email"])
        found = access.person_by_address(access.tenant(), key)
        if found is not None and found.pk != subject.pk:
            raise NameTaken("A person with this address is here already.", field="email")
        address = names.marked(given["email"])
        lines = (
            f"{subject.name} signs in with {address} from now on, and is written to there.",
            f"What they are told in the next 30 days also goes to {names.marked(subject.email)}, this change first.",
            "An invitation or enrolment code of theirs that is not used yet stops.",
            "You stand behind them for 90 days: you cannot decide on a case that they open.",
        )
        return Words(f"Change the address of {subject.name}", lines, (*named_person(subject), ("New address", address)))

    def do(self, actor: Actor, subject: Person, given: Given) -> Done:
        before = subject.email
        administration.change_address(person=subject, email=given["email"], actor=actor)
        for address in (before, subject.email):
            mails.promise(
                kind="address-changed",
                to=subject,
                actor=actor,
                address=address,
                values={"old": before, "new": subject.email},
            )
        return Done(
            f"{subject.name} is at {subject.email} from now on. Both addresses are told.",
            f"Change it back to {before}.",
            subject.pk,
        )


class ChangeRole(OnPerson):
    """Give a person another role."""

    name = "person-role"
    title = "Change the role"
    summary = "What they may see and do here, from their next request on."
    takes_recovery_code = False

    def form(self) -> tuple[Field, ...]:
        return (Field("role", "New role", kind="choice", choices=_ROLES),)

    def fields(self, subject: Person) -> tuple[Field, ...]:
        return tuple(replace(one, value=subject.role) for one in self.form())

    def words(self, actor: Actor, subject: Person, given: Given) -> Words:
        self.require_state(subject)
        before, after = Role(subject.role), Role(given["role"])
        if before == after:
            raise Conflict(f"{subject.name} has this role already.", field="role")
        services.require_another(subject)
        lines = [
            f"{subject.name} was {before.label.lower()}: {ROLE_WORDS[before]}.",
            f"With their next request they are {after.label.lower()}: {ROLE_WORDS[after]}.",
            "Their sessions end; they sign in again.",
        ]
        warnings = [GUARDED_WARNING] if after in GUARDED_ROLES else []
        if before == Role.OFFICER:
            warnings.append(
                "They are suspended as an officer in every policy that names them. A resolution of the other "
                "officers alone "
                "brings them back; giving the role back does not."
            )
        if after == Role.OFFICER:
            warnings.append("They count in no case before they have stated keys and a policy names them.")
        return Words(f"Make {subject.name} {after.label.lower()}", tuple(lines), named_person(subject), tuple(warnings))

    def do(self, actor: Actor, subject: Person, given: Given) -> Done:
        before = Role(subject.role)
        services.change_role(person=subject, role=given["role"], actor=actor)
        words = {"before": before.label.lower(), "after": Role(subject.role).label.lower()}
        mails.promise(kind="role-changed", to=subject, actor=actor, values=words)
        return Done(
            f"{subject.name} is {Role(subject.role).label.lower()} from their next request on.",
            f"Change the role back to {before.label.lower()}.",
            subject.pk,
        )


class Suspend(OnPerson):
    """Stop a person for now."""

    name = "person-suspend"
    title = "Suspend"
    summary = "They are signed out, and neither they nor their devices are let in until resumed."
    states = frozenset({PersonState.INVITED, PersonState.ACTIVE})
    wanted = "invited or active"
    is_dangerous = True

    def words(self, actor: Actor, subject: Person, given: Given) -> Words:
        self.require_state(subject)
        if subject.pk == actor.person_id:
            raise Conflict("You would lock yourself out. Ask another owner.")
        services.require_another(subject)
        lines = (
            "Their sessions, and their devices’ requests, stop with the next one.",
            "Others’ messages to them wait. Nothing of theirs is deleted, and they can still veto a case about "
            "themselves.",
        )
        warnings = []
        if subject.role == Role.OFFICER:
            warnings.append(
                "They are suspended as an officer: what they approved no longer counts, and a resolution of the "
                "other officers "
                "alone brings them back."
            )
        return Words(f"Suspend {subject.name}", lines, named_person(subject), tuple(warnings))

    def do(self, actor: Actor, subject: Person, given: Given) -> Done:
        services.suspend_person(person=subject, actor=actor)
        mails.promise(kind="suspended", to=subject, actor=actor)
        return Done(f"{subject.name} is suspended.", "Resume them.", subject.pk)


class Resume(OnPerson):
    """Let a suspended person go on."""

    name = "person-resume"
    title = "Resume"
    summary = "They sign in and use their devices again."
    lets_in = True
    states = frozenset({PersonState.SUSPENDED})
    wanted = "suspended"

    def words(self, actor: Actor, subject: Person, given: Given) -> Words:
        self.require_state(subject)
        if subject.active_since is None:
            lines = ("They are invited again; an earlier link works if it has not expired.",)
        else:
            lines = ("They can sign in again, and their devices work again, with what they had.",)
        warnings = []
        if subject.role == Role.OFFICER:
            warnings.append("They stay suspended as an officer until the other officers resolve otherwise.")
        return Words(f"Resume {subject.name}", lines, named_person(subject), tuple(warnings))

    def do(self, actor: Actor, subject: Person, given: Given) -> Done:
        administration.resume(person=subject, actor=actor)
        mails.promise(kind="resumed", to=subject, actor=actor)
        return Done(f"{subject.name} is {subject.get_state_display().lower()} again.", "Suspend them.", subject.pk)


class EndSessions(OnPerson):
    """End all of a person's console sessions."""

    name = "person-sessions"
    title = "End the sessions"
    summary = "Signs them out of every browser. They can sign in again."
    states = frozenset({PersonState.ACTIVE, PersonState.SUSPENDED})
    wanted = "active or suspended"

    def words(self, actor: Actor, subject: Person, given: Given) -> Words:
        self.require_state(subject)
        lines = (
            "Every browser in which they are signed in here is signed out with its next request.",
            "Their devices, their keys and what they sign in with stay as they are.",
        )
        return Words(f"End the sessions of {subject.name}", lines, named_person(subject))

    def do(self, actor: Actor, subject: Person, given: Given) -> Done:
        count = session_store.end_sessions(subject, actor=actor)
        if count:
            mails.promise(kind="sessions-ended", to=subject, actor=actor)
        ended = "1 session has" if count == 1 else f"{count} sessions have"
        return Done(f"{ended} ended. {subject.name} signs in again.", "Nothing to undo.", subject.pk)


class ResetFactors(OnPerson):
    """Let somebody who lost their password and every second factor begin anew."""

    name = "person-factors"
    title = "Reset the sign-in"
    summary = "For a lost password and authenticator: two of you let them begin anew. Their keys stay."
    lets_in = True
    needs_two = True
    takes_recovery_code = False
    states = frozenset({PersonState.ACTIVE})
    wanted = "active"
    is_dangerous = True

    def form(self) -> tuple[Field, ...]:
        return (HOW,)

    def words(self, actor: Actor, subject: Person, given: Given) -> Words:
        self.require_state(subject)
        lines = (
            "Their password, authenticator and recovery codes are void, and their sessions end.",
            f"A new link, for 72 hours, goes to {names.marked(subject.email)}."
            if given["how"] == "mail"
            else "A new link, for 72 hours, is shown to the second person, and to nobody ever again.",
            "Their devices and keys are untouched: this is about signing in here.",
            "Both of you stand behind them for 90 days: neither decides on a case that they open.",
        )
        warnings = ("Speak with them first, by a way that you trust: whoever asks for this may not be them.",)
        return Words(f"Reset the sign-in of {subject.name}", lines, named_person(subject), warnings)

    def do(self, actor: Actor, subject: Person, given: Given) -> Done:
        sign_in.reset_factors(person=subject, actor=actor)
        mails.promise(kind="factor-reset", to=subject, actor=actor)
        made = _invited(subject, given["how"], actor)
        return replace(made, text=f"{subject.name} begins anew: {made.text}", undo="Suspend them, and the link stops.")


ACTS: tuple[Act, ...] = (
    Invite(),
    Resend(),
    Rename(),
    ChangeAddress(),
    ChangeRole(),
    Suspend(),
    Resume(),
    EndSessions(),
    ResetFactors(),
)
