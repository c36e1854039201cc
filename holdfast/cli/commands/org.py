# SPDX-License-Identifier: Apache-2.0
"""`holdfast org`: people, roles and devices administered, each act shown in words and done with a one-time code.

Implements ORGANISATION "Acts" at the keyboard. The words are the server's and stand in quotes; what was asked for here
stands before them, in words of ours.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID

import typer

from holdfast.cli.asking import ask_secret, secret_descriptor, secret_file, show_given_in_private
from holdfast.cli.exits import Exit
from holdfast.cli.given import text_file
from holdfast.cli.later import later
from holdfast.cli.output import NotShown, is_terminal
from holdfast.cli.page import command, group
from holdfast.cli.people import CHANGED, PERSON, named
from holdfast.cli.shell import Shell, date, day, one_word, plain, quoted, shell_of
from holdfast.client.errors import ConsentNeeded, WrongInput

if TYPE_CHECKING:
    from holdfast.client.organisation import ActKind, Done, ImportProgress, Look, PendingAct, ReadFile, Words
    from holdfast.client.profile.account import Account
    from holdfast.core.base.secret import SecretBytes

with later():
    from holdfast import files
    from holdfast.client import organisation
    from holdfast.client.profile import private_files

app = group()
device = group(text="Suspend a person's device, or let it go on.")
app.add_typer(device, name="device")

_BOB: Final = "bob@acme.test"
_DEVICE: Final = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
_IMPORT: Final = "3f1a7c52-8f0e-4a55-9c1d-2b6d3c0e9a44"
_PENDING: Final = "0b0c4f0e-5a4f-4b1e-9d6e-5d7a1f0a3c11"
_ASKS: Final = "your authenticator's code, unless --code-file or --code-fd gives it."
_EXITS: Final = {
    Exit.ASK_PERSON: f"no code was given, and nobody is there to ask; or {CHANGED}. Nothing was done",
    Exit.REFUSED: "your role does not allow it, the code was refused, or it cannot be done now. Nothing was done",
    Exit.UNREACHABLE: "no answer. If the code was sent already, look first whether it was done",
}

PersonName = Annotated[
    str, typer.Argument(metavar=PERSON, parser=named, help="Who it is about: an id or e-mail address.")
]
DeviceId = Annotated[UUID, typer.Argument(help="The device.")]
PendingId = Annotated[UUID, typer.Argument(metavar="ID", help="The waiting act, as holdfast org pending lists it.")]
Shown = Annotated[
    bool, typer.Option("--shown", help="Have the link shown here once, to hand over yourself, instead of mailed.")
]
CodeFile = Annotated[
    Path | None,
    typer.Option(help="Read the authenticator's code from this file of mode 0600; - is stdin.", metavar="FILE"),
]
CodeFd = Annotated[int | None, typer.Option(help="Read the authenticator's code from this descriptor.", metavar="N")]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Write a secret that is shown once into this new file, readable by you alone."),
]
OnlyLook = Annotated[bool, typer.Option("--look", help="Say what it would do, and do nothing.")]


@dataclass(frozen=True)
class How:
    """How a person confirms an act, and where what it shows once goes."""

    code_file: Path | None
    code_fd: int | None
    out: Path | None = None
    is_look: bool = False

    def code(self, shell: Shell) -> SecretBytes:
        """Return the code, asking for it if need be. Raises ConsentNeeded when there is nobody to ask."""
        if self.code_fd is not None:
            return secret_descriptor(self.code_fd)
        if self.code_file is not None:
            return secret_file(self.code_file)
        if not shell.has_person():
            raise ConsentNeeded(
                "The authenticator's code: nobody to ask. Nothing was done.",
                way_out="A person gives it with --code-file or --code-fd; with --look, nothing is done.",
            )
        return ask_secret("Your authenticator's code, to do this")


# Looking


@command(
    app,
    "people",
    exits={Exit.REFUSED: "your role does not see the list of people, or there is no such role or state"},
    examples=[
        ("holdfast org people", "See everybody."),
        ("holdfast org people --search bob --state suspended", "Find somebody."),
    ],
)
def people(
    context: typer.Context,
    search: Annotated[str, typer.Option(help="A part of the name or the address.")] = "",
    role: Annotated[str, typer.Option(help="One role: owner, officer, member …")] = "",
    state: Annotated[str, typer.Option(help="One state: invited, active, suspended or left.")] = "",
) -> None:
    """List the people of your organisation, by name.

    With their addresses, roles and states.
    """
    shell = shell_of(context)
    with shell.account() as account, shell.working("Fetching"):
        found = organisation.people(account, search=search, role=role, state=state)
    lines = []
    for one in found:
        since = f", since {day(one.active_since)}" if one.active_since is not None else ""
        lines.append(f"{one.id}  {one_word(one.role)}, {one_word(one.state)}{since}")
        lines.append(f"    {quoted(one.name)} {quoted(one.email)}")
    rows = [
        {
            "id": one.id,
            "name": one.name,
            "email": one.email,
            "role": one.role,
            "state": one.state,
            "active_since": one.active_since,
        }
        for one in found
    ]
    shell.show({"people": rows}, *lines, *([] if found else ["Nobody is found."]))


@command(
    app,
    "acts",
    exits={Exit.REFUSED: "your role does no acts of administration"},
    examples=[("holdfast org acts", "See what you may do, and what has to be given for it.")],
)
def acts(context: typer.Context) -> None:
    """List the acts of administration that you may do.

    Each is done by holdfast org act; the frequent ones have a command of their own.
    """
    shell = shell_of(context)
    with shell.account() as account:
        found = organisation.acts(account)
    lines = [line for one in found for line in _act_lines(one)]
    shell.show({"acts": [_act_document(one) for one in found]}, *lines, *([] if found else ["None."]))


def _act_lines(one: ActKind) -> list[str]:
    two = ", with a second person" if one.needs_two else ""
    return [
        f"○ {one_word(one.name)}  on: {one_word(one.kind)}{two}",
        f"    {quoted(one.title)}",
        *(
            f"    --set {one_word(given.name)}={'|'.join(map(one_word, given.choices)) or '…'}"
            f"{'  (may be left out)' if given.is_optional else ''}  {quoted(given.words)}"
            for given in one.fields
        ),
    ]


def _act_document(one: ActKind) -> dict[str, Any]:
    fields = [
        {
            "name": given.name,
            "words": given.words,
            "help": given.help,
            "choices": list(given.choices),
            "is_optional": given.is_optional,
        }
        for given in one.fields
    ]
    return {"name": one.name, "title": one.title, "kind": one.kind, "needs_two": one.needs_two, "fields": fields}


@command(
    app,
    "pending",
    exits={Exit.REFUSED: "your role does no acts of administration"},
    examples=[("holdfast org pending", "See what waits for a second person.")],
)
def pending(context: typer.Context) -> None:
    """List the acts that wait for a second person.

    One of them may be you: holdfast org confirm shows what it would do before it asks.
    """
    shell = shell_of(context)
    with shell.account() as account:
        found, now = organisation.pending(account), account.api.clock.now()
    lines = [line for one in found for line in _pending_lines(one, now)]
    shell.show({"pending": [_pending_document(one) for one in found]}, *lines, *([] if found else ["Nothing waits."]))


def _pending_lines(one: PendingAct, now: int) -> list[str]:
    over = " (over)" if one.expires_at <= now else ""
    return [
        f"{one.id}  {one_word(one.act)}, until {date(one.expires_at)}{over}",
        f"    {quoted(one.title)}{f', about {one.subject}' if one.subject else ''}",
        f"    Proposed by {one.proposer}, {date(one.proposed_at)}",
    ]


def _pending_document(one: PendingAct) -> dict[str, Any]:
    return {
        "id": one.id,
        "act": one.act,
        "title": one.title,
        "subject_id": one.subject,
        "proposer_id": one.proposer,
        "proposed_at": one.proposed_at,
        "expires_at": one.expires_at,
    }


# Acts on people


@command(
    app,
    "invite",
    asks=_ASKS,
    changes="a person is invited: a link that works once, by mail or shown to you.",
    exits=_EXITS,
    examples=[
        ('holdfast org invite ivy@acme.test --name "Ivy Lee" --role member', "Invite somebody by mail."),
        (
            'holdfast org invite ivy@acme.test --name "Ivy Lee" --role member --shown --out link',
            "Have the link in a file, to hand it over yourself.",
        ),
    ],
)
def invite(
    context: typer.Context,
    email: Annotated[str, typer.Argument(metavar="EMAIL", help="Their address.")],
    *,
    name: Annotated[str, typer.Option(help="Their name, as colleagues know them.")],
    role: Annotated[str, typer.Option(help="Their role: member, officer, helpdesk …")] = "member",
    shown: Shown = False,
    code_file: CodeFile = None,
    code_fd: CodeFd = None,
    out: Out = None,
    look: OnlyLook = False,
) -> None:
    """Invite a person to your organisation.

    With the link they set a password and an authenticator. You will not count in a case that they open.
    """
    given = {"email": email, "name": name, "role": role, "how": _way(shown)}
    _do(shell_of(context), "person-invite", "", given, How(code_file, code_fd, out, look))


@command(
    app,
    "import",
    asks=f"{_ASKS[:-1]}; with --status, nothing.",
    changes="the people of the good lines are invited by mail, in the background; with --look or --status, nothing.",
    exits={
        **_EXITS,
        Exit.FAILED: "the file invites nobody; with --status, it was stopped for good",
        Exit.INPUT: "the file cannot be read, or is too large",
        Exit.NOT_YET: "not done within --wait",
    },
    examples=[
        ("holdfast org import people.csv --look", "See whom a file would invite, and every bad line."),
        ("holdfast org import people.csv", "See the same, then invite them."),
        (f"holdfast org import --status {_IMPORT} --wait 600", "Wait until all of them are invited."),
    ],
)
def import_people(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="CSV in UTF-8, at most 2 MiB: name, email, role.")
    ] = None,
    *,
    code_file: CodeFile = None,
    code_fd: CodeFd = None,
    look: OnlyLook = False,
    status: Annotated[
        UUID | None, typer.Option(help="Say how far a file is that was confirmed, by its id.", metavar="ID")
    ] = None,
    wait: Annotated[int, typer.Option(help="With --status: wait up to this many seconds until it is done.", min=0)] = 0,
) -> None:
    """Invite the people of a CSV file.

    The server reads it first, and every bad line is named, with its number, its field and why; bad lines are left out.
    Then read what would be done, and give a code within five minutes. Reading alone invites nobody; the log has that
    you did. Whoever is here already is left out, so that a file can be given again.
    """
    shell = shell_of(context)
    if (file is None) == (status is None):
        raise typer.BadParameter("give either a FILE or --status ID")
    if file is None:
        assert status is not None
        if look or code_file is not None or code_fd is not None:
            raise typer.BadParameter("--status does nothing: it takes no --look and no code")
        _show_import(shell, status, wait)
        return
    if wait:
        raise typer.BadParameter("--wait goes with --status")
    _import(shell, file, How(code_file, code_fd, is_look=look))


@command(
    app,
    "code",
    asks=_ASKS,
    changes="the person has an enrolment code that works once; they are told who issued it.",
    exits=_EXITS,
    examples=[
        (f"holdfast org code {_BOB}", "Send a person a code by mail."),
        (f"holdfast org code {_BOB} --shown --out code", "Have the code in a file, to hand it over yourself."),
    ],
)
def issue_code(
    context: typer.Context,
    person: PersonName,
    *,
    shown: Annotated[
        bool, typer.Option("--shown", help="Have the code shown here once, to hand over yourself, instead of mailed.")
    ] = False,
    code_file: CodeFile = None,
    code_fd: CodeFd = None,
    out: Out = None,
    look: OnlyLook = False,
) -> None:
    """Issue an enrolment code for a person's new device.

    It was made by the server, and pins nothing. A code from an officer's client does: holdfast officer code.
    """
    _do(shell_of(context), "code-issue", person, {"how": _way(shown)}, How(code_file, code_fd, out, look))


@command(
    app,
    "rename",
    asks=_ASKS,
    changes="the person has another name, also on pages about the past.",
    exits=_EXITS,
    examples=[(f'holdfast org rename {_BOB} "Bob Miller"', "Give a person another name.")],
)
def rename(
    context: typer.Context,
    person: PersonName,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new name.")],
    *,
    code_file: CodeFile = None,
    code_fd: CodeFd = None,
    look: OnlyLook = False,
) -> None:
    """Give a person another name."""
    _do(shell_of(context), "person-rename", person, {"name": name}, How(code_file, code_fd, is_look=look))


@command(
    app,
    "address",
    asks=_ASKS,
    changes="the person signs in with the new address and is written to there; both addresses are told.",
    exits=_EXITS,
    examples=[(f"holdfast org address {_BOB} bob.miller@acme.test", "Give a person another e-mail address.")],
)
def address(
    context: typer.Context,
    person: PersonName,
    email: Annotated[str, typer.Argument(metavar="EMAIL", help="The new address.")],
    *,
    code_file: CodeFile = None,
    code_fd: CodeFd = None,
    look: OnlyLook = False,
) -> None:
    """Give a person another e-mail address.

    You will not count in a case that they open within 90 days.
    """
    _do(shell_of(context), "person-address", person, {"email": email}, How(code_file, code_fd, is_look=look))


@command(
    app,
    "role",
    asks=_ASKS,
    changes="the person has the new role from their next request on; their sessions end.",
    exits=_EXITS,
    examples=[(f"holdfast org role {_BOB} auditor", "Give a person another role.")],
)
def role(
    context: typer.Context,
    person: PersonName,
    new_role: Annotated[str, typer.Argument(metavar="ROLE", help="The new role: member, officer, helpdesk …")],
    *,
    code_file: CodeFile = None,
    code_fd: CodeFd = None,
    look: OnlyLook = False,
) -> None:
    """Give a person another role."""
    _do(shell_of(context), "person-role", person, {"role": new_role}, How(code_file, code_fd, is_look=look))


@command(
    app,
    "suspend",
    asks=_ASKS,
    changes="the person's sessions and devices stop with their next request; nothing of theirs is deleted.",
    exits=_EXITS,
    examples=[
        (f"holdfast org suspend {_BOB}", "Stop a person for now."),
        (f"holdfast org suspend {_BOB} --look", "See first what that would do."),
    ],
)
def suspend(
    context: typer.Context,
    person: PersonName,
    *,
    code_file: CodeFile = None,
    code_fd: CodeFd = None,
    look: OnlyLook = False,
) -> None:
    """Suspend a person.

    Undone by holdfast org resume.
    """
    _do(shell_of(context), "person-suspend", person, {}, How(code_file, code_fd, is_look=look))


@command(
    app,
    "resume",
    asks=_ASKS,
    changes="the person can sign in again, and their devices work again.",
    exits=_EXITS,
    examples=[(f"holdfast org resume {_BOB}", "Let a suspended person go on.")],
)
def resume(
    context: typer.Context,
    person: PersonName,
    *,
    code_file: CodeFile = None,
    code_fd: CodeFd = None,
    look: OnlyLook = False,
) -> None:
    """Let a suspended person go on."""
    _do(shell_of(context), "person-resume", person, {}, How(code_file, code_fd, is_look=look))


@command(
    app,
    "reset-sign-in",
    asks=_ASKS,
    changes="an act is proposed, which a second person confirms; then password and second factors are void.",
    exits=_EXITS,
    examples=[(f"holdfast org reset-sign-in {_BOB}", "Help somebody who lost password and authenticator.")],
)
def reset_sign_in(
    context: typer.Context,
    person: PersonName,
    *,
    shown: Annotated[bool, typer.Option("--shown", help="Have the new link shown to the second person once.")] = False,
    code_file: CodeFile = None,
    code_fd: CodeFd = None,
    look: OnlyLook = False,
) -> None:
    """Propose that a person sets their sign-in anew.

    For somebody who lost their password and every second factor. Speak with them first, by a way that you trust. It is
    done once a second person confirms it; their devices and keys are untouched.
    """
    how = How(code_file, code_fd, is_look=look)
    _do(shell_of(context), "person-factors", person, {"how": _way(shown)}, how)


# Acts on devices


@command(
    device,
    "suspend",
    asks=_ASKS,
    changes="the device's requests stop with the next one, and peers stop sending to it.",
    exits=_EXITS,
    examples=[(f"holdfast org device suspend {_DEVICE}", "Stop a lost phone.")],
)
def suspend_device(
    context: typer.Context,
    device_id: DeviceId,
    *,
    code_file: CodeFile = None,
    code_fd: CodeFd = None,
    look: OnlyLook = False,
) -> None:
    """Suspend a person's device.

    Its owner revokes a lost one as well, on another device: only that ends its keys.
    """
    _do(shell_of(context), "device-suspend", str(device_id), {}, How(code_file, code_fd, is_look=look))


@command(
    device,
    "resume",
    asks=_ASKS,
    changes="the device's requests are taken again.",
    exits=_EXITS,
    examples=[(f"holdfast org device resume {_DEVICE}", "Let a device go on that was found.")],
)
def resume_device(
    context: typer.Context,
    device_id: DeviceId,
    *,
    code_file: CodeFile = None,
    code_fd: CodeFd = None,
    look: OnlyLook = False,
) -> None:
    """Let a suspended device go on."""
    _do(shell_of(context), "device-resume", str(device_id), {}, How(code_file, code_fd, is_look=look))


# Any act, and those of two persons


@command(
    app,
    "act",
    asks=_ASKS,
    changes="what the words say that it shows before it asks.",
    exits=_EXITS,
    examples=[
        (f"holdfast org act person-resend {_BOB} --set how=mail", "Invite somebody again."),
        (f"holdfast org act device-suspend {_DEVICE} --look", "See what an act would do."),
    ],
)
def act(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The act, as holdfast org acts lists it.")],
    subject: Annotated[
        str, typer.Argument(metavar="[SUBJECT]", help="Whom or what it is about: an id; a person's address, too.")
    ] = "",
    *,
    given: Annotated[
        list[str] | None, typer.Option("--set", help="One thing to give, as often as needed.", metavar="FIELD=VALUE")
    ] = None,
    code_file: CodeFile = None,
    code_fd: CodeFd = None,
    out: Out = None,
    look: OnlyLook = False,
) -> None:
    """Do any act of administration that you may do.

    holdfast org acts lists them, with what has to be given. Give no secret by --set: others on this machine could read
    it there.
    """
    _do(shell_of(context), name, subject, _fields(given or ()), How(code_file, code_fd, out, look))


@command(
    app,
    "confirm",
    asks=_ASKS,
    changes="the act is done, as its words say.",
    exits={**_EXITS, Exit.REFUSED: "you cannot be the second person, or the code was refused. Nothing was done"},
    examples=[(f"holdfast org confirm {_PENDING}", "Read what another proposed, then confirm it.")],
)
def confirm(
    context: typer.Context,
    pending_id: PendingId,
    *,
    code_file: CodeFile = None,
    code_fd: CodeFd = None,
    out: Out = None,
    look: OnlyLook = False,
) -> None:
    """Be the second person behind a waiting act.

    Ask whoever proposed it, by voice: what you read here is the server's word. It is refused to whoever proposed it, is
    the one it is about, is active for less than seven days, or let the other in within 90 days.
    """
    shell, how = shell_of(context), How(code_file, code_fd, out, look)
    _require_new(how.out)
    with shell.account() as account:
        seen = organisation.look_pending(account, pending_id)
        one = seen.pending
        asked = f"You confirm {one_word(one.act)}, which {one.proposer} proposed on {date(one.proposed_at)}."
        document = {**_pending_document(one), **_words_document(seen.words)}
        _confirmed(
            shell,
            [asked],
            seen.words,
            document=document,
            how=how,
            do=lambda code: organisation.confirm(account, seen, code),
        )


@command(
    app,
    "withdraw",
    changes="the act is not done, and waits no more.",
    exits={Exit.REFUSED: "it does not wait any more, or your role does not do such acts"},
    examples=[(f"holdfast org withdraw {_PENDING}", "Take back what waits for a second person.")],
)
def withdraw(context: typer.Context, pending_id: PendingId) -> None:
    """Take back an act that waits for a second person.

    Whoever may do the act may withdraw it, whoever proposed it.
    """
    shell = shell_of(context)
    with shell.account() as account:
        organisation.withdraw(account, pending_id)
    shell.show({"id": pending_id, "withdrawn": True}, "[bold green]✓[/] Withdrawn. Nothing was done.")


# How all of them go


def _way(is_shown: bool) -> str:
    return "shown" if is_shown else "mail"


def _fields(given: list[str] | tuple[()]) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in given:
        name, sign, value = one.partition("=")
        if not sign or not name or name in found:
            raise typer.BadParameter("--set takes FIELD=VALUE, each field once")
        found[name] = value
    return found


def _require_new(out: Path | None) -> None:
    # Before the act: afterwards a secret that finds no place is lost.
    if out is not None and os.path.lexists(out):
        raise files.NameTaken(out)


def _do(shell: Shell, name: str, subject: str, given: Mapping[str, str], how: How) -> None:
    """Look at an act, show what came back beside what was asked for, ask for the code, do it, and say what happened."""
    _require_new(how.out)
    with shell.account() as account:
        about = _subject(account, name, subject)
        seen = organisation.look(account, name, about, given)
        document = {"act": name, "subject_id": about, "given": dict(given), **_words_document(seen.words)}
        _confirmed(
            shell,
            [_asked(seen, subject)],
            seen.words,
            document=document,
            how=how,
            do=lambda code: organisation.perform(account, seen, code),
        )


def _import(shell: Shell, file: Path, how: How) -> None:
    text = _text_of(file)
    with shell.account() as account:
        with shell.working("Having the file read"):
            read = organisation.read_people(account, text)
        document = {"file": file, **_read_document(read)}
        if not read.good:
            shell.show({**document, "done": False}, *_read_lines(file, read), "Nothing was done.")
            raise typer.Exit(Exit.FAILED)
        seen = organisation.look(account, organisation.IMPORT, read.import_id, {})
        _confirmed(
            shell,
            _read_lines(file, read),
            seen.words,
            document={**document, "act": seen.act, "subject_id": seen.subject, **_words_document(seen.words)},
            how=how,
            do=lambda code: organisation.perform(account, seen, code),
            after=[
                "  It runs on the server, in the background. To see how far it is, within a week:",
                f"    holdfast org import --status {read.import_id}",
            ],
        )


def _text_of(file: Path) -> str:
    """Read a file of people. Raises OSError when it cannot be read, WrongInput for what is no text or too large."""
    return text_file(
        file,
        most=organisation.MAX_PEOPLE_FILE,
        too_large="Divide it, or give it to the console, which takes 4 MiB.",
        other_encoding="Save it as “CSV UTF-8”.",
    )


def _read_lines(file: Path, read: ReadFile) -> list[str]:
    left_out = f"; {read.bad:,} bad line{'s are' if read.bad > 1 else ' is'} left out:" if read.bad else "."
    lines = [
        f"You ask to invite the people of {plain(str(file))}, which your server has read ({read.import_id}).",
        f"  [bold]{read.good:,} would be invited[/]{left_out}",
    ]
    for one in read.bad_lines:
        at_fault = f", {one_word(one.field)}" if one.field else ""
        lines.append(f"  [bold red]![/] Line {one.number}{at_fault}: {quoted(one.reason)}")
        if any(one.cells):
            lines.append(f"      {', '.join(map(quoted, one.cells))}")
    return lines


def _read_document(read: ReadFile) -> dict[str, Any]:
    rows = [
        {"line": one.number, "field": one.field, "reason": one.reason, "cells": list(one.cells)}
        for one in read.bad_lines
    ]
    return {"import_id": read.import_id, "good": read.good, "bad": read.bad, "bad_lines": rows}


def _show_import(shell: Shell, import_id: UUID, wait: int) -> None:
    with shell.account() as account:
        if wait:
            with shell.working("Waiting until all are invited") as working:
                now = organisation.wait_for_import(account, import_id, seconds=wait, tell=working)
        else:
            now = organisation.import_progress(account, import_id)
    document = {
        "import_id": now.import_id,
        "state": now.state,
        "good": now.good,
        "bad": now.bad,
        "lines_done": now.done,
        "created": now.created,
        "expires_at": now.expires_at,
    }
    shell.show(document, *_progress_lines(now))
    if now.state == "stopped":
        raise typer.Exit(Exit.FAILED)


def _progress_lines(now: ImportProgress) -> list[str]:
    mark = {"done": "[bold green]✓[/]", "stopped": "[bold red]✗[/]"}.get(now.state, "○")
    last = "Its report is kept until" if now.state != "read" else "Nobody has confirmed it; that is possible until"
    return [
        f"{mark} {now.import_id} is {one_word(now.state)}: {now.done:,} of {now.good:,} lines done.",
        f"  {now.created:,} invited by it; {now.done - now.created:,} were here already; "
        f"{now.bad:,} bad lines were left out.",
        f"  {last} {date(now.expires_at)}.",
    ]


def _subject(account: Account, name: str, subject: str) -> UUID | None:
    """Return what an act is about. An e-mail address is taken for acts on people, as the server lists them."""
    if not subject:
        return None
    if "@" in subject:
        if name not in {one.name for one in organisation.acts(account) if one.kind == organisation.PERSON}:
            raise WrongInput("You may do no act on people of this name.", way_out="See: holdfast org acts")
        return organisation.find_person(account, subject)
    try:
        return UUID(subject)
    except ValueError:
        raise WrongInput("What an act is about is an id, or a person's e-mail address.") from None


def _asked(seen: Look, subject: str) -> str:
    """Say in words of ours what this person asked for, to be held against the server's."""
    who = f" about {plain(subject)} ({seen.subject})" if "@" in subject else f" about {seen.subject}"
    given = ", ".join(f"{plain(name)} = {quoted(value)}" for name, value in seen.given.items())
    return f"You ask for {plain(seen.act)}{who if seen.subject else ''}{f', with {given}' if given else ''}."


def _words_lines(words: Words) -> list[str]:
    return [
        "Your organisation's server says what it would do:",
        f"  [bold]{quoted(words.title)}[/]",
        *(f"  {quoted(line)}" for line in words.lines),
        *(f"    {quoted(label)} is {quoted(value)}" for label, value in words.facts),
        *(f"  [bold red]![/] {quoted(warning)}" for warning in words.warnings),
        *(["  A second person has to confirm it."] if words.needs_two else []),
    ]


def _words_document(words: Words) -> dict[str, Any]:
    return {
        "title": words.title,
        "lines": list(words.lines),
        "facts": [list(one) for one in words.facts],
        "warnings": list(words.warnings),
        "needs_two": words.needs_two,
    }


def _confirmed(
    shell: Shell,
    asked: Sequence[str],
    words: Words,
    *,
    document: dict[str, Any],
    how: How,
    do: Callable[[SecretBytes], Done],
    after: Sequence[str] = (),
) -> None:
    """Show an act, ask for the code, do it and say what came of it. asked, after: lines of ours around all that."""
    if how.is_look:
        shell.show({**document, "done": False}, *asked, *_words_lines(words), "Nothing was done.")
        return
    for line in (*asked, *_words_lines(words)):
        shell.note(line)
    done = do(how.code(shell))
    kept = _keep(shell, done, how.out) if done.once is not None else None
    answer = {
        "done": done.pending is None,
        "text": done.text,
        "undo": done.undo,
        "made_id": done.subject,
        "pending_id": done.pending,
        "seconds": list(done.seconds),
        "once_label": done.once_label,
        "once_file": kept,
    }
    shell.show({**document, **answer}, *_done_lines(done, kept), *after)


def _done_lines(done: Done, kept: Path | None) -> list[str]:
    mark = "○" if done.pending else "[bold green]✓[/]"
    lines = [f"{mark} {quoted(done.text)}"]
    if kept is not None:
        lines.append(f"  Shown once, and now in {plain(str(kept))}: {quoted(done.once_label)}")
    if done.pending is not None:
        lines.append(f"  The second person runs: holdfast org confirm {done.pending}")
        lines += [f"  It could be {one}" for one in done.seconds] or ["  Nobody could be that person now."]
        lines.append(f"  To take it back: holdfast org withdraw {done.pending}")
    elif done.undo:
        lines.append(f"  To undo it: {quoted(done.undo)}")
    return lines


def _keep(shell: Shell, done: Done, out: Path | None) -> Path | None:
    """Put what is shown once where the person wants it; returns the file, None when it was shown on the screen.

    Without --out and without a terminal it goes into a new file beside the profile's, so that it is neither printed nor
    lost; there as well when the disk of --out refuses it, or the terminal fails or is closed before the person has
    pressed Enter, now that the act is done.
    """
    assert done.once is not None
    if out is None and not shell.is_json and is_terminal(sys.stdin, sys.stdout):
        with contextlib.suppress(ConsentNeeded, NotShown, OSError):
            shell.note(f"To be shown once: {quoted(done.once_label)}")
            show_given_in_private("Shown once: keep it, or hand it over", done.once)
            return None
    # A name of its own for each: a second one in the same minute takes nobody's place.
    made = shell.profile / f"shown-once-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
    try:
        private_files.write_private(out or made, done.once.reveal() + b"\n")
    except files.FileFailed as error:
        if out is None:
            raise
        private_files.write_private(made, done.once.reveal() + b"\n")
        shell.note(f"[bold yellow]![/] {plain(str(error))} It is kept beside your profile instead.")
        return made
    return out or made
