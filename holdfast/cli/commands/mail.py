# SPDX-License-Identifier: Apache-2.0
"""`holdfast send`, `holdfast sent` and `holdfast receive`: messages at the keyboard and in scripts.

Implements PROTOCOL section 4 for people: what came is shown as somebody else's words, and handed out once; what could
not be shown whole is kept.
Does not take a message as an argument: other users of the machine read the arguments of every process.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final
from uuid import UUID

import typer

from holdfast.cli.exits import Exit
from holdfast.cli.later import later
from holdfast.cli.output import can_show, is_terminal
from holdfast.cli.page import command
from holdfast.cli.people import PERSON, named, person
from holdfast.cli.shell import Shell, date, plain, quoted, shell_of
from holdfast.client.errors import NotYet, WrongInput

if TYPE_CHECKING:
    from holdfast.client.messages.letters import Notice
    from holdfast.client.messages.messages import Received, Report, Unconfirmed
    from holdfast.client.profile.account import Account
    from holdfast.core.messages.content import LargeReference

with later():
    from holdfast.client import standing
    from holdfast.client.messages import letters, messages
    from holdfast.client.profile import private_files
    from holdfast.core.base import encoding
    from holdfast.core.messages import content as contents

_POLL_SECONDS: Final = 2.0
_MAX_FOLLOW: Final = 86_400
_KEPT: Final = "It is kept here; to have it: holdfast receive --out DIR"
_NOT_ALL: Final = (
    "This terminal cannot show some characters, which stand as <U+...>. What has them is kept here; to have it whole: "
    "holdfast receive --out DIR, or a terminal in UTF-8."
)


def send(
    context: typer.Context,
    user_id: Annotated[str, typer.Argument(metavar=PERSON, parser=named, help="To whom: an id or e-mail address.")],
    file: Annotated[
        Path | None,
        typer.Option(help="Send this file's content; - is standard input.", metavar="FILE"),
    ] = None,
) -> None:
    """Send a message to every device of a person.

    It is encrypted separately for each of their devices, and for your own other devices.

    The message is the content of --file, or standard input, or what you type. At most 1,000,000 bytes.

    A person you have not written to before is looked up and pinned; so is whom an address is of. When it matters,
    compare words with them: holdfast contacts show.

    Once queued, the message stays on this device until the server has it, also after a crash. It is never lost, and
    never shown twice. It is kept on, encrypted, until every device has confirmed that its person has it, and sent again
    to one that could not read it: holdfast sent shows what is not confirmed.
    """
    shell = shell_of(context)
    content = _content(shell, file)
    with shell.account() as account, shell.working("Sending"):
        user = person(shell, account, user_id)
        done = messages.send(account, user.bytes, content)
    document = {
        "message_id": done.id.hex(),
        "devices": list(done.devices),
        "without_keys": list(done.without_keys),
        "last_resort": list(done.last_resort),
        "sent": done.is_sent,
    }
    count = f"{len(done.devices)} device{'' if len(done.devices) == 1 else 's'}"
    mark = "[bold green]✓[/] Sent" if done.is_sent else "[yellow]○[/] Kept"
    shell.show(
        document,
        f"{mark}: {len(content)} bytes for {count} of {user}.",
        *(
            f"  [yellow]Device {device} has published no keys yet and will not get it.[/]"
            for device in done.without_keys
        ),
    )
    if not done.is_sent:
        raise NotYet("The server did not take it now.", way_out="It is sent by the next command: holdfast maintain")


def _content(shell: Shell, file: Path | None) -> bytes:
    if file is not None and str(file) != "-":
        with file.open("rb") as opened:
            return opened.read(contents.MAX_LARGE + 1)
    if is_terminal(sys.stdin):
        shell.note("Type the message; end it with Ctrl-D on a line of its own.")
    content = sys.stdin.buffer.read(contents.MAX_LARGE + 1) if sys.stdin else b""
    if not content:
        raise WrongInput("There is nothing to send.", way_out="Type a message, or name a file: --file")
    return content


def receive(
    context: typer.Context,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write each message into this directory, as one file.", metavar="DIR"),
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Hand the same messages out again next time.")] = False,
    follow: Annotated[
        int,
        typer.Option(help="Keep showing what comes, for this many seconds.", min=0, max=_MAX_FOLLOW, metavar="SECONDS"),
    ] = 0,
) -> None:
    """Fetch what was sent to you, and show it once.

    Each message is shown in quotes; a character that a terminal would obey is written out, as <U+001B>. With --out each
    is written to a file, also one that is not text, and a reference to content elsewhere as JSON.

    The server destroys a message once this device has it. This device destroys it once it was shown whole, or written
    and flushed, unless --keep is given. What is no text, is a reference, or has a character that the terminal cannot
    show is kept, and named again each time, until --out or --json hands it out.

    Warnings are shown each time until holdfast maintain --seen puts them away: a message did not open, somebody opened
    a door of your vault, a key was used twice. A warning never holds up the messages behind it.

    With --json, one line for each look: {"messages": [...], "reports": [...], "notices": [...]}; a message has
    "content" in base64url and, when it is UTF-8, "text"; one with content elsewhere a "reference": "key" and "hash" in
    base64url, and "size".
    """
    shell = shell_of(context)
    until = time.monotonic() + follow
    shown: set[bytes] = set()
    with shell.account() as account:
        while True:
            with shell.working("Fetching"):
                look = _look(account, shown)
            if look.messages or not shown:
                _show(shell, look, out)
                standing.note_shown(account, [*(one.id for one in look.reports), *(one.id for one in look.notices)])
            shown |= {b"", *(message.id for message in look.messages)}
            # Only now: all of it has left this process, or an error has.
            for message in look.messages if not keep else []:
                if is_handed_out(shell, message, out):
                    message.done()
            messages.confirm(account)
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(_POLL_SECONDS, left))


@dataclass(frozen=True)
class _Look:
    """What one look into the mailbox brought."""

    messages: list[Received]
    reports: list[Report]
    notices: list[Notice]


def _look(account: Account, shown: set[bytes]) -> _Look:
    """Fetch what is new. Warnings come with the first look only: holdfast maintain --seen puts them away."""
    found = [message for message in messages.receive(account) if message.id not in shown]
    return _Look(found, [], []) if shown else _Look(found, messages.reports(account), letters.notices(account))


def _show(shell: Shell, look: _Look, out: Path | None) -> None:
    files = {message.id: _written(out, message) for message in look.messages} if out else {}
    lines = [line for message in look.messages for line in lines_of(message, files.get(message.id))]
    if not shell.is_json and any(text and not can_show(text) for text in map(_text, look.messages)) and not out:
        lines.append(f"[bold yellow]![/] {_NOT_ALL}")
    for report in look.reports:
        lines += [
            f"[bold yellow]![/] {plain(report.text)} ({plain(report.sender)}, {_when(report.at)})",
            *([f"  → {plain(report.way_out)}"] if report.way_out else []),
        ]
    lines += [f"[bold yellow]![/] The server says: {quoted(_said(notice))}" for notice in look.notices]
    shell.show(
        {
            "messages": [_document(message, files.get(message.id)) for message in look.messages],
            "reports": [
                {
                    "kind": report.kind.value,
                    "at": report.at,
                    "about": report.sender,
                    "text": report.text,
                    "way_out": report.way_out,
                }
                for report in look.reports
            ],
            "notices": [{"at": notice.received_at, **notice.said} for notice in look.notices],
        },
        *(lines or ["Nothing new."]),
    )


def _said(notice: Notice) -> str:
    details = ", ".join(f"{name} {value}" for name, value in sorted(notice.said.items()) if name != "event")
    return f"{notice.event}{f' ({details})' if details else ''}, {_when(notice.received_at)}"


def _written(directory: Path, message: Received) -> Path:
    """Write a message's content, or its reference, to a file named by its time and id, which no sender chooses."""
    path = directory / f"{message.received_at}-{message.sender.hex()[:8]}-{message.id.hex()}"
    if message.reference is None:
        private_files.write_private(path, message.body, replaces=True)
        return path
    path = path.with_name(f"{path.name}.reference.json")
    private_files.write_private(path, f"{json.dumps(_reference(message.reference))}\n", replaces=True)
    return path


def is_handed_out(shell: Shell, message: Received, out: Path | None) -> bool:
    """Tell whether what was written of a message is all of it, so that it can be destroyed here."""
    if out is not None or shell.is_json:
        return True
    text = _text(message)
    return message.reference is None and text is not None and can_show(text)


def _text(message: Received) -> str | None:
    try:
        return message.body.decode()
    except UnicodeDecodeError:
        return None


def _document(message: Received, file: Path | None) -> dict[str, Any]:
    text = _text(message)
    content: dict[str, Any] = {"file": file}
    if file is None and message.reference is not None:
        content = {"reference": _reference(message.reference)}
    elif file is None:
        content = {"content": encoding.b64u(message.body), **({} if text is None else {"text": text})}
    return {
        "message_id": message.id.hex(),
        "sender": UUID(bytes=message.sender),
        "device": message.device,
        "conversation": UUID(bytes=message.conversation),
        "is_copy": message.is_copy,
        "sent_at": message.sent_at,
        "received_at": message.received_at,
        "size": len(message.body),
        **content,
    }


def _reference(reference: LargeReference) -> dict[str, Any]:
    """Return what it takes to fetch content from elsewhere and open it. Its key is the message, as a text would be."""
    return {"key": encoding.b64u(reference.key.reveal()), "hash": encoding.b64u(reference.hash), "size": reference.size}


def lines_of(message: Received, file: Path | None) -> list[str]:
    """Return a message for people: who and when, then the sender's words in quotes, or where they were written."""
    head = f"[bold]{_when(message.sent_at)}[/]  "
    sender, peer = UUID(bytes=message.sender), UUID(bytes=message.conversation)
    head += f"you to {peer}, from another device of yours" if message.is_copy else f"from {sender}"
    text = _text(message)
    if file:
        return [head, f"  {len(message.body)} bytes in {plain(str(file))}"]
    if message.reference is not None:
        return [head, f"  A reference to {message.reference.size} bytes of content elsewhere. {_KEPT}"]
    if text is None:
        return [head, f"  {len(message.body)} bytes that are no text. {_KEPT}"]
    # The sender's lines, by the ends that people's systems write; any other sign that ends lines is written out.
    return [head, *(f"  {quoted(line)}" for line in text.removesuffix("\n").replace("\r\n", "\n").split("\n"))]


def sent(context: typer.Context) -> None:
    """Show what you sent and not every device has confirmed yet.

    A device confirms a message when its person, or their app, has it. Until then it is kept here, encrypted, and sent
    again to a device that could not read it; for 30 days, and 64 MiB in all, the oldest going first. What no device has
    confirmed by then is shown as not confirmed, until holdfast maintain --seen puts that away.

    A confirmation comes as a message does: to your device alone, and encrypted. It says nothing about reading.
    """
    shell = shell_of(context)
    with shell.account(online=False) as account:
        waiting = messages.unconfirmed(account)
        given_up = [report for report in messages.reports(account) if report.kind is messages.ReportKind.NOT_CONFIRMED]
        own = UUID(bytes=account.user)
    lines = [_line_of(one, own) for one in waiting]
    for report in given_up:
        lines += [f"[bold yellow]![/] {plain(report.text)}", f"  → {plain(report.way_out)}"]
    shell.show(
        {
            "messages": [
                {
                    "message_id": one.id.hex(),
                    "user": one.user,
                    "sent_at": int(one.sent_at.timestamp()),
                    "confirmed": one.is_confirmed,
                    "not_confirmed_by": list(one.devices),
                }
                for one in waiting
            ],
            "not_confirmed": [{"at": report.at, "text": report.text, "way_out": report.way_out} for report in given_up],
        },
        *(lines or ["Everything that you sent is confirmed."]),
    )


def _line_of(one: Unconfirmed, own: UUID) -> str:
    count = f"{len(one.devices)} device{'' if len(one.devices) == 1 else 's'}"
    whom = "your other devices" if one.user == own else str(one.user)
    what = f"confirmed, but not by {count}" if one.is_confirmed else f"not confirmed yet, by {count}"
    return f"[bold]{_when(int(one.sent_at.timestamp()))}[/]  to {whom}: {what}"


def _when(at: int) -> str:
    return date(at)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    peer = "3f2b8c1e-1c1b-4a53-8f0a-6f2d1c9e7a11"
    command(
        app,
        "send",
        asks="the message, when it is neither in a file nor in a pipe.",
        changes="the message lies in the mailbox of each device, encrypted for it alone, for at most 30 days.",
        exits={
            Exit.ASK_PERSON: "the person's account was begun again: holdfast contacts confirm",
            Exit.NOT_YET: "kept, and sent when the server takes it again",
            Exit.FAILED: "the person has no device yet",
            Exit.INPUT: "nothing to send, or no such person",
        },
        examples=[
            (f"holdfast send {peer}", "Type a message."),
            (f"echo 'On my way' | holdfast send {peer}", "Send what a command prints."),
            (f"holdfast send {peer} --file report.pdf", "Send a file's content."),
        ],
    )(send)
    command(
        app,
        "sent",
        online=False,
        examples=[("holdfast sent", "Show what nobody, or not every device, has confirmed.")],
    )(sent)
    command(
        app,
        "receive",
        changes="what was shown whole or written is destroyed on the server and in the profile, unless --keep.",
        examples=[
            ("holdfast receive", "Show what is new."),
            ("holdfast receive --out inbox", "Write each message into a file of its own."),
            ("holdfast receive --json --follow 600", "One line of JSON whenever something comes, for ten minutes."),
        ],
    )(receive)
