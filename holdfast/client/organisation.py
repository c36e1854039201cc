# SPDX-License-Identifier: Apache-2.0
"""Acts of administration from a person's device: looked at in words, confirmed with their authenticator's code.

Implements ORGANISATION "Acts" on the client's side. The words are the server's, and so is what it then does: nothing
here proves them. What this module adds is that a code is sent once, and that a secret shown once is a `SecretBytes`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from holdfast.client.errors import AnswerRefused, NotYet, Problem, Unreachable, WrongInput
from holdfast.client.identity import addresses
from holdfast.client.identity.addresses import Who
from holdfast.client.profile.account import Account
from holdfast.client.server.answers import Answer
from holdfast.client.waiting import wait_for
from holdfast.core.base.secret import SecretBytes

PERSON: Final = "person"  # the kind of acts whose subject is a person: it may be named by an e-mail address
_ACTS: Final = "organisation/acts"
_PENDING: Final = "organisation/pending"
_PEOPLE: Final = "organisation/people"
IMPORT: Final = "people-import"  # the act that invites the people of a file that was read
MAX_PEOPLE_FILE: Final = 2 * 1024 * 1024  # octets of a request that the server takes with a file of people in it
_IMPORTS: Final = "organisation/imports"
# People that a server of this version takes in one file. A bad line is counted among them.
_MOST_LINES: Final = 10_000
_ENDED: Final = frozenset({"done", "stopped"})  # states of a file that nothing follows
# Of lists in one answer, well above what a server of this version sends: 50 waiting acts, some dozen of the others.
_MOST: Final = 1000
_LEFT: Final = "left"  # the state of whoever left: another may have their address since
_GATEWAY: Final = frozenset({502, 504})  # a proxy that lost the server: nobody knows what the server did
_LOOK_FIRST: Final = (
    "Look whether it was done (holdfast org people, the log) before you do it again. A secret that it showed is lost: "
    "take the act back, and do it anew."
)


@dataclass(frozen=True)
class ActField:
    """One thing to give for an act. words: what it is called; choices: the values it may have, empty for any."""

    name: str
    words: str
    help: str
    choices: tuple[str, ...]
    is_optional: bool


@dataclass(frozen=True)
class ActKind:
    """An act that this person may do. kind: what it is about, as "person" or "device"; needs_two: a second person."""

    name: str
    title: str
    kind: str
    needs_two: bool
    fields: tuple[ActField, ...]


@dataclass(frozen=True)
class Words:
    """What an act would do, in the server's words. lines: sentences; facts: (label, value) pairs it starts from.

    token: proves to the server that this was shown to this device. expires_at: UTC seconds; about five minutes ahead.
    """

    title: str
    lines: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    needs_two: bool
    expires_at: int
    token: str = field(repr=False)


@dataclass(frozen=True)
class Look:
    """An act that was looked at: what this device asked for, and the words that came back."""

    act: str
    subject: UUID | None
    given: Mapping[str, str]
    words: Words


@dataclass(frozen=True)
class Done:
    """What came of an act. undo: how it is taken back, in the server's words. subject: what it made or changed.

    once: a secret that is shown this once, and is lost when nobody keeps it; once_label: what it is. pending: the act
    waits for a second person under this id; seconds: who could be that person.
    """

    text: str
    undo: str
    subject: UUID | None
    once_label: str
    once: SecretBytes | None = field(repr=False)
    pending: UUID | None
    seconds: tuple[UUID, ...]


@dataclass(frozen=True)
class PendingAct:
    """An act that waits for a second person. Times are UTC seconds."""

    id: UUID
    act: str
    title: str
    subject: UUID | None
    proposer: UUID
    proposed_at: int
    expires_at: int


@dataclass(frozen=True)
class PendingLook:
    """A waiting act, and what it would do now, in the server's words."""

    pending: PendingAct
    words: Words


@dataclass(frozen=True)
class ListedPerson:
    """One person as the server lists them. active_since: UTC seconds since when they count; None for never."""

    id: UUID
    name: str
    email: str
    role: str
    state: str
    active_since: int | None


@dataclass(frozen=True)
class BadLine:
    """A line of a file that invites nobody. number: where it begins, from 1; field: name, email, role or empty.

    reason: in the server's words. cells: its first ones, as the file has them.
    """

    number: int
    field: str
    reason: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class ReadFile:
    """A file of people that the server read. import_id: the subject of the act `people-import`; nobody is invited yet.

    good: how many people it would invite; bad: how many lines are left out, all of which are in bad_lines. expires_at:
    UTC seconds until which it can be confirmed.
    """

    import_id: UUID
    good: int
    bad: int
    bad_lines: tuple[BadLine, ...]
    expires_at: int


@dataclass(frozen=True)
class ImportProgress:
    """How far a file of people is. state: "read" (nobody confirmed it yet), "running", "done" or "stopped" for good.

    done: how many of the good lines were gone through; created: how many people that made, without those who were here
    already. expires_at: UTC seconds until which it can be confirmed, or its report read.
    """

    import_id: UUID
    state: str
    good: int
    bad: int
    done: int
    created: int
    expires_at: int

    @property
    def has_ended(self) -> bool:
        """Whether nothing more comes of it."""
        return self.state in _ENDED


def people(account: Account, *, search: str = "", role: str = "", state: str = "") -> list[ListedPerson]:
    """List the organisation's people by name, in every state unless one is given. Raises Problem for unknown values.

    search: a part of name or address.
    """
    asked = {"q": search, "role": role, "state": state}
    query = {name: value for name, value in asked.items() if value}
    return [_person(row) for row in account.api.pages(_PEOPLE, "people", "id", query=query)]


def find_person(account: Account, who: Who) -> UUID:
    """Return the person with an id, or with an e-mail address in whatever state they are. Pins nothing.

    An address is of whoever has it now; of whoever left with it, where nobody else has. Raises AddressChanged when this
    profile has pinned it to another person, WrongInput when it is nobody's, or several people left with it.
    """
    if isinstance(who, UUID) or "@" not in who:
        return addresses.person_of(account, who)
    key = addresses.key_of(who)
    found = [_person(row) for row in account.api.pages(_PEOPLE, "people", "id", query={"email": key})]
    found = [one for one in found if one.state != _LEFT] or found
    if len(found) > 1:
        raise WrongInput(f"Several people had the address {key}.", way_out="Name one by their id: holdfast org people")
    person = found[0].id if found else None
    addresses.require_pinned(account, key, person)
    if person is None:
        raise WrongInput(f"Nobody in your organisation has the address {key}.", way_out="See: holdfast org people")
    return person


def acts(account: Account) -> list[ActKind]:
    """List the acts that this person may do, as the server has them."""
    return [_kind(row) for row in account.api.get(_ACTS).many("acts", maximum=_MOST)]


def look(account: Account, act: str, subject: UUID | None, given: Mapping[str, str]) -> Look:
    """Ask what an act would do; nothing is done. given: the act's fields by name.

    Raises Problem, whose `field` names what was given wrongly.
    """
    document = _asked(subject, given)
    answer = account.api.post(f"{_ACTS}/{_name(act)}/words", document)
    return Look(act, subject, dict(given), _words(answer))


def perform(account: Account, seen: Look, code: SecretBytes) -> Done:
    """Do what was looked at, or propose it to a second person. code: of the authenticator, unused so far.

    It is sent once and never again by itself. Raises Problem when it was refused, and nothing done; Unreachable when
    no answer came, and nobody knows here whether it was done.
    """
    document = {**_asked(seen.subject, seen.given), "token": seen.words.token, "code": code.reveal().decode()}
    return _done(account, f"{_ACTS}/{_name(seen.act)}", document)


def pending(account: Account) -> list[PendingAct]:
    """List the acts that wait for a second person, the oldest first."""
    return [_pending(row) for row in account.api.get(_PENDING).many("pending", maximum=_MOST)]


def look_pending(account: Account, pending_id: UUID) -> PendingLook:
    """Ask what a waiting act would do now; nothing is done."""
    answer = account.api.get(f"{_PENDING}/{pending_id}")
    row = _pending(answer)
    if row.id != pending_id:
        raise AnswerRefused("The server showed another waiting act than the one asked for.")
    return PendingLook(row, _words(answer.one("words")))


def confirm(account: Account, seen: PendingLook, code: SecretBytes) -> Done:
    """Be the second person behind a waiting act. Raises as `perform` does."""
    document = {"token": seen.words.token, "code": code.reveal().decode()}
    return _done(account, f"{_PENDING}/{seen.pending.id}/confirm", document)


def withdraw(account: Account, pending_id: UUID) -> None:
    """Take a waiting act back; no code is needed, because it only stops something."""
    account.api.send(f"{_PENDING}/{pending_id}/withdraw", {})


def read_people(account: Account, text: str) -> ReadFile:
    """Have the server read a CSV file of people (name, email, role), and name every bad line. Nobody is invited by it.

    What this person read before and did not confirm is forgotten. Raises Problem for what is no such file, ClientError
    for one that is too large to be sent.
    """
    if len(json.dumps({"csv": text}, separators=(",", ":"))) > MAX_PEOPLE_FILE:
        raise WrongInput(
            "The file is too large: at most 2 MiB, in which a letter beyond ASCII takes 6 octets or 12.",
            way_out="Divide it, or give it to the console, which takes 4 MiB.",
        )
    answer = account.api.post(_IMPORTS, {"csv": text})
    first = _progress(answer)
    found, start = _bad_lines(answer), _next(answer, 0)
    while start is not None:
        answer = account.api.get(f"{_IMPORTS}/{first.import_id}", query={"start": str(start)})
        _require_same(_progress(answer), first.import_id)
        found += _bad_lines(answer)
        start = _next(answer, start)
    if len(found) != first.bad:
        raise AnswerRefused("The server names other bad lines than it counts.")
    return ReadFile(first.import_id, first.good, first.bad, tuple(found), first.expires_at)


def import_progress(account: Account, import_id: UUID) -> ImportProgress:
    """Return how far a file of people is. Raises Problem for one that nobody confirmed in time, or a week old."""
    return _require_same(_progress(account.api.get(f"{_IMPORTS}/{import_id}")), import_id)


def wait_for_import(
    account: Account, import_id: UUID, *, seconds: int, tell: Callable[[int, int], None] | None = None
) -> ImportProgress:
    """Wait until nothing more comes of a file of people; raise NotYet when that takes longer than `seconds`.

    tell: called with how many lines are done, and how many there are, at each look.
    """

    def attempt() -> ImportProgress:
        now = import_progress(account, import_id)
        if tell is not None:
            tell(now.done, now.good)
        if not now.has_ended:
            if now.state == "read":
                raise NotYet("Nobody has confirmed this file yet.", way_out="Read it again: holdfast org import FILE")
            raise NotYet(
                f"Under way: {now.done:,} of {now.good:,} lines are done.", way_out="Ask again later, or with --wait."
            )
        return now

    return wait_for(attempt, seconds)


def _done(account: Account, path: str, document: Mapping[str, Any]) -> Done:
    try:
        answer = account.api.post(path, document, is_repeated=False)
    except Unreachable as error:
        raise Unreachable(f"{error} It may be done, or not.", way_out=_LOOK_FIRST) from error
    except Problem as problem:
        if problem.status not in _GATEWAY:
            raise
        raise Unreachable("The server was lost on the way. It may be done, or not.", way_out=_LOOK_FIRST) from problem
    return Done(
        answer.text("text"),
        answer.text("undo"),
        _optional(answer, "subject_id"),
        answer.text("once_label"),
        _once(answer),
        _optional(answer, "pending_id"),
        tuple(_ids(answer, "seconds")),
    )


def _once(answer: Answer) -> SecretBytes | None:
    text = answer.text("once")
    # A link, a code or a token: nothing that a terminal would obey, whoever answers.
    if not (text.isascii() and text.isprintable()):
        raise AnswerRefused("The server's answer is wrong: once is not one line of plain ASCII.")
    return SecretBytes(text.encode()) if text else None


def _name(act: str) -> str:
    # It becomes a part of an address: a slash in it would be another address.
    if not act or not all(sign.isascii() and (sign.isalnum() or sign == "-") for sign in act):
        raise WrongInput("No act has such a name.", way_out="See: holdfast org acts")
    return act


def _asked(subject: UUID | None, given: Mapping[str, str]) -> dict[str, Any]:
    return {**({"subject_id": str(subject)} if subject else {}), "given": dict(given)}


def _words(answer: Answer) -> Words:
    return Words(
        answer.text("title"),
        tuple(_texts(answer, "lines")),
        tuple((row.text("0"), row.text("1")) for row in answer.rows("facts", 2, maximum=_MOST)),
        tuple(_texts(answer, "warnings")),
        answer.flag("needs_two"),
        answer.time("expires_at"),
        answer.text("token"),
    )


def _kind(row: Answer) -> ActKind:
    fields = tuple(
        ActField(
            one.text("name"),
            one.text("words"),
            one.text("help"),
            tuple(_texts(one, "choices")),
            one.flag("is_optional"),
        )
        for one in row.many("fields_to_give", maximum=_MOST)
    )
    return ActKind(row.text("name"), row.text("title"), row.text("kind"), row.flag("needs_two"), fields)


def _pending(row: Answer) -> PendingAct:
    return PendingAct(
        UUID(bytes=row.identifier("id")),
        row.text("act"),
        row.text("title"),
        _optional(row, "subject_id"),
        UUID(bytes=row.identifier("proposer_id")),
        row.time("proposed_at"),
        row.time("expires_at"),
    )


def _person(row: Answer) -> ListedPerson:
    return ListedPerson(
        UUID(bytes=row.identifier("id")),
        row.text("name"),
        row.text("email"),
        row.text("role"),
        row.text("state"),
        row.time("active_since") if "active_since" in row else None,
    )


def _progress(answer: Answer) -> ImportProgress:
    return ImportProgress(
        UUID(bytes=answer.identifier("id")),
        answer.text("state"),
        answer.number("good"),
        answer.number("bad"),
        answer.number("done"),
        answer.number("created"),
        answer.time("expires_at"),
    )


def _require_same(found: ImportProgress, asked: UUID) -> ImportProgress:
    if found.import_id != asked:
        raise AnswerRefused("The server told of another file of people than the one asked for.")
    return found


def _bad_lines(answer: Answer) -> list[BadLine]:
    return [
        BadLine(row.number("line"), row.text("at_fault"), row.text("reason"), tuple(_texts(row, "cells")))
        for row in answer.many("bad_lines", maximum=_MOST_LINES)
    ]


def _next(answer: Answer, start: int) -> int | None:
    """Return where the next page of bad lines begins; each begins later, and none after the last that there can be."""
    if "next_start" not in answer:
        return None
    found = answer.number("next_start")
    if not start < found < _MOST_LINES:
        raise AnswerRefused("The server's list of bad lines has no end.")
    return found


def _texts(answer: Answer, name: str) -> list[str]:
    return answer.texts(name, maximum=_MOST)


def _ids(answer: Answer, name: str) -> Iterator[UUID]:
    for text in _texts(answer, name):
        yield UUID(bytes=Answer({name: text}).identifier(name))


def _optional(answer: Answer, name: str) -> UUID | None:
    return UUID(bytes=answer.identifier(name)) if name in answer else None
