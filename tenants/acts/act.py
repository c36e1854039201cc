# SPDX-License-Identifier: Apache-2.0
"""What an act of administration is: its fields, its words, its rule and its verb; and the table of all acts.

Implements ORGANISATION "Acts". An act knows nothing of step-up, second persons or pages: `engine` and the apps above
do.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal
from uuid import UUID

from holdfast.core.base.secret import SecretBytes
from kernel.actors import Actor
from kernel.errors import Invalid, NotFound
from tenants.permissions import PermissionName

# What an act is about. `tenant`, `people` and `programs` have no subject's id; the page that shows each kind is the
# console's to know.
Kind = Literal["person", "people", "device", "programs", "service-account", "log-token", "tenant", "import", "code"]
# Kinds whose acts are about no row: the tenant itself, or people and programs that are not here yet.
WITHOUT_SUBJECT: Final = frozenset({"people", "programs", "tenant"})
MAX_TEXT: Final = 1024  # characters of a field: an address and a name are shorter, nobody types more

Given = Mapping[str, str]


@dataclass(frozen=True)
class Field:
    """One thing to type or choose. choices: value and words, for a choice; `value` stands there at first."""

    name: str
    label: str
    help: str = ""
    kind: Literal["text", "email", "choice", "long"] = "text"
    choices: tuple[tuple[str, str], ...] = ()
    value: str = ""
    most: int = MAX_TEXT
    is_optional: bool = False


@dataclass(frozen=True)
class Words:
    """What an act would do, as whoever confirms it reads it. lines: sentences; facts: what it starts from."""

    title: str
    lines: tuple[str, ...]
    facts: tuple[tuple[str, str], ...] = ()
    # What cannot be taken back, or would be orphaned: shown as a warning.
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Done:
    """What happened. undo: how it is taken back, in words; subject: what the act made or changed, if it has a page.

    once: a secret that is shown now and never again, with what it is called; nobody stores it.
    """

    text: str
    undo: str = ""
    subject: UUID | None = None
    once_label: str = ""
    once: SecretBytes | None = field(default=None, repr=False)


class Act(ABC):
    """One kind of act. Rules raise DomainErrors whose `field` names a Field; verbs run in the engine's transaction."""

    name: ClassVar[str]
    title: ClassVar[str]  # an imperative, as on a button
    summary: ClassVar[str]  # one line beside it: what it is for, or what it stops
    kind: ClassVar[Kind]
    permission: ClassVar[PermissionName]
    # Another person has to confirm it (ORGANISATION "Acts").
    needs_two: ClassVar[bool] = False
    # It lets somebody or something in, or back in: it is not done while the tenant is locked or ends.
    lets_in: ClassVar[bool] = False
    # Recovery codes confirm no change of factors, roles or addresses (ORGANISATION "Acts").
    takes_recovery_code: ClassVar[bool] = True
    is_dangerous: ClassVar[bool] = False

    def form(self) -> tuple[Field, ...]:
        """Return what is to be typed, whoever it is about."""
        return ()

    def fields(self, subject: Any) -> tuple[Field, ...]:
        """Return what is to be typed, with what stands there now."""
        return self.form()

    @abstractmethod
    def load(self, actor: Actor, subject_id: UUID | None, *, lock: bool) -> Any:
        """Return the subject, locked when it is about to be changed. Raises NotFound."""

    def takes_two(self, subject: Any) -> bool:
        """Tell whether another person has to confirm it, for the subject as it is."""
        return self.needs_two

    def is_offered(self, actor: Actor, subject: Any) -> bool:
        """Tell whether the act makes sense for the subject as it is: whether its button is shown."""
        return True

    @abstractmethod
    def words(self, actor: Actor, subject: Any, given: Given) -> Words:
        """Check what was given and say what would be done. Raises a DomainError for what could not be done."""

    @abstractmethod
    def do(self, actor: Actor, subject: Any, given: Given) -> Done:
        """Do it, with its audit entry, in the open transaction. Only called after `words` with the same arguments."""

    def do_together(self, actor: Actor, subject: Any, given: Given, *, proposer_id: UUID) -> Done:
        """Do it as the second person behind whoever proposed it. The same as `do` unless the act says otherwise."""
        return self.do(actor, subject, given)

    def concerns(self, subject: Any) -> UUID | None:
        """Return the person whom the act is about, who cannot be the second behind it."""
        return None


_ACTS: dict[str, Act] = {}


def register(*acts: Act) -> None:
    """Add acts to the table, once, at start."""
    for act in acts:
        if act.name in _ACTS:
            raise ValueError(f"two acts are called {act.name}")
        _ACTS[act.name] = act


def named(name: str) -> Act:
    """Return an act by its name. Raises NotFound."""
    if name not in _ACTS:
        raise NotFound
    return _ACTS[name]


def all_acts() -> tuple[Act, ...]:
    """Return the acts in the order in which they were registered: as their buttons stand."""
    return tuple(_ACTS.values())


def cleaned(act: Act, subject: Any, given: Given) -> dict[str, str]:
    """Return what was given for the act's fields, stripped. Raises Invalid, which names the field."""
    fields = {one.name: one for one in act.fields(subject)}
    for name in given:
        if name not in fields:
            raise Invalid("This act has no such field.", field=name)
    taken = {}
    for name, one in fields.items():
        text = given.get(name, "").strip()
        if not text and not one.is_optional:
            raise Invalid(f"{one.label} is needed.", field=name)
        if len(text) > one.most:
            raise Invalid(f"At most {one.most} characters.", field=name)
        if one.kind == "choice" and text not in {value for value, _ in one.choices}:
            raise Invalid(f"Choose one of: {', '.join(value for value, _ in one.choices)}.", field=name)
        taken[name] = text
    return taken
