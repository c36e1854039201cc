# SPDX-License-Identifier: Apache-2.0
"""`holdfast maintain` and `holdfast rotate`: what is due on this device, and keys replaced before that.

Implements the care of PROTOCOL sections 2, 4, 5 and 8 at the keyboard; every rotation runs in its seven steps.
Does not decide what only a person can: it says so, with the command that answers it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli.exits import Exit
from holdfast.cli.later import later
from holdfast.cli.page import command
from holdfast.cli.shell import Shell, day, plain, shell_of

if TYPE_CHECKING:
    from holdfast.client.maintenance import Done
    from holdfast.client.rotation.rotation_record import Progress

with later():
    from holdfast.client import maintenance, standing
    from holdfast.client.rotation import rotation, rotation_record
    from holdfast.core.identity import entries


class What(StrEnum):
    """What can be replaced."""

    IDENTITY = "identity"
    DEVICE = "device"
    VAULT = "vault"
    ARCHIVE = "archive"


class Why(StrEnum):
    """The reasons that a person can have."""

    REQUEST = "request"
    SECURITY = "security"
    COMPROMISED = "compromised"


def maintain(
    context: typer.Context,
    seen: Annotated[bool, typer.Option("--seen", help="First put away the warnings that were shown to you.")] = False,
) -> None:
    """Do everything that is due, and say what needs you.

    Takes what other devices of yours sent, sends what waits, tops up pre-keys, follows your account, your organisation
    and the key log, carries on an interrupted rotation or begins the monthly one, saves your keyring, and destroys old
    keys whose time is over. Nothing is done before it is due, so run it as often as you like: daily, from cron or a
    timer.

    Nothing is destroyed while this machine's clock and the key log's differ by more than five minutes: it says by how
    much, and goes on by itself once the clock is right.

    A line marked ! needs you, and names the command for it. Warnings come back until --seen puts them away; it leaves
    those that were not shown yet.
    """
    shell = shell_of(context)
    with shell.account() as account:
        put_away = standing.put_away_seen(account) if seen else 0
        with shell.working("Doing what is due"):
            report = maintenance.maintain(account)
        _show(shell, report, put_away)
        standing.note_shown(account, [done.kept for done in report if done.kept])
    if any(done.outcome is maintenance.Outcome.FAILED for done in report):
        raise typer.Exit(Exit.FAILED)


def _show(shell: Shell, report: Sequence[Done], put_away: int) -> None:
    told = {done.item for done in report if done.outcome is not maintenance.Outcome.NOTHING}
    idle = [done.item for done in report if done.item not in told]
    shell.show(
        {
            "items": [
                {"item": done.item, "outcome": done.outcome.value, "said": done.said, "way_out": done.way_out}
                for done in report
            ],
            "put_away": put_away,
        },
        *(line for done in report if done.outcome is not maintenance.Outcome.NOTHING for line in _lines(done)),
        f"[dim]Nothing was due for: {', '.join(idle)}.[/]",
    )


def _lines(done: Done) -> list[str]:
    # What is said may name other people's words.
    mark = {
        maintenance.Outcome.DONE: "[bold green]✓[/]",
        maintenance.Outcome.NEEDS_YOU: "[bold yellow]![/]",
        maintenance.Outcome.FAILED: "[bold red]✗[/]",
    }[done.outcome]
    said = f"{mark} {done.item:<15} {plain(done.said)}"
    return [said, *([f"  → {plain(done.way_out)}"] if done.way_out else [])]


def rotate(
    context: typer.Context,
    what: Annotated[
        list[What] | None, typer.Argument(help="What to replace; identity, vault and archive if none.")
    ] = None,
    why: Annotated[Why, typer.Option(help="The reason, as your account chain states it for everybody.")] = Why.REQUEST,
) -> None:
    """Replace keys before their time.

    Done in steps that survive an interruption at any point.

    identity: the key that signs your account; your contacts follow the change by its signature. device: this device's
    own keys, with the identity. vault: the key of your keyring on the server; the password and the phrase stop working,
    and you set them again. archive: the key of what you encrypt from now on.

    The old keys open your history for 30 more days; then holdfast maintain destroys them. An interrupted rotation is
    taken up by the next holdfast maintain. To take a lost device out: holdfast devices revoke.
    """
    shell = shell_of(context)
    parts = {part.value for part in what or ()} or rotation.EVERYTHING
    with shell.account() as account, shell.working("Replacing keys"):
        done = rotation.rotate(account, parts, reason=_reason(why))
    shell.show(document(done), *lines(done))


def _reason(why: Why) -> entries.Reason:
    return {
        Why.REQUEST: entries.Reason.USER_REQUEST,
        Why.SECURITY: entries.Reason.SECURITY_EVENT,
        Why.COMPROMISED: entries.Reason.DEVICE_COMPROMISED,
    }[why]


def names(parts: rotation_record.Part) -> list[str]:
    """Return the parts of a rotation by their names."""
    return [str(part.name).lower() for part in rotation_record.Part if part in parts]


def document(done: Progress) -> dict[str, object]:
    """Return a rotation, for JSON."""
    return {
        "rotation_id": done.id,
        "replaced": names(done.parts),
        "revoked": list(done.revoked),
        "unreached": list(done.unreached),
        "done": done.is_done,
        "destroy_at": done.destroy_at,
        "needs": list(done.needs),
    }


def lines(done: Progress) -> list[str]:
    """Return a rotation, for people."""
    return [
        f"[bold green]✓[/] Replaced: {', '.join(names(done.parts))}."
        + (f" Revoked: {', '.join(map(str, done.revoked))}." if done.revoked else ""),
        f"  The old keys are destroyed after {day(done.destroy_at)}.",
        *(
            f"  [yellow]{contact} could not be told yet; holdfast maintain tries again.[/]"
            for contact in done.unreached
        ),
        *(f"  [yellow]Your {kind} no longer opens your keyring:[/] holdfast backup {kind}" for kind in done.needs),
    ]


def register(app: typer.Typer) -> None:
    """Add both commands."""
    command(
        app,
        "maintain",
        changes="whatever is due: pre-keys, mailbox, rotation, keyring; destroys keys whose time is over.",
        exits={Exit.FAILED: "a part failed; the others were done"},
        examples=[
            ("holdfast maintain", "Do what is due."),
            ("holdfast maintain --seen", "Put the warnings away, then do what is due."),
            ("17 * * * * holdfast maintain --json >>holdfast.log", "Every hour, as a line for crontab -e."),
        ],
    )(maintain)
    command(
        app,
        "rotate",
        changes="your keys, your account chain, your vault, and the sessions with your contacts.",
        exits={Exit.PROFILE: "this device may not: it is not active, or another one rotated meanwhile"},
        examples=[
            ("holdfast rotate", "Replace identity key, vault key and archive key."),
            ("holdfast rotate device --why security", "Replace this device's own keys."),
        ],
    )(rotate)
