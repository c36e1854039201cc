# SPDX-License-Identifier: Apache-2.0
"""`holdfast devices`: which devices are this person's, how another one comes in, and how a lost one goes out.

Implements PROTOCOL sections 5 and 6 (add and revoke device, device door) at the keyboard.
Does not decide which device is the person's: the person does, by words, digits or a QR code between two screens.
"""

from __future__ import annotations

import io
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final
from uuid import UUID

import typer

from holdfast.cli.asking import ask_secret, code_from, secret_file
from holdfast.cli.commands import care
from holdfast.cli.exits import Exit
from holdfast.cli.later import later
from holdfast.cli.output import can_show
from holdfast.cli.page import command, group
from holdfast.cli.shell import Shell, one_word, quoted, shell_of, shown

if TYPE_CHECKING:
    from holdfast.client.profile.account import Account
    from holdfast.client.vault.pairing import Joined

with later():
    from holdfast.client.identity import device
    from holdfast.client.messages import prekeys
    from holdfast.client.officers import acts, joining
    from holdfast.client.rotation import rotation
    from holdfast.client.vault import pairing
    from holdfast.core.identity import entries

app = group()

_LEAVING: Final = (
    "You are an officer. Whoever has the device may have your keys as one: with this, your approvals and votes count "
    "for nothing, and what you have approved ends, until a policy names other keys of yours."
)
_AFTER: Final = "You count as an officer again under other keys. Make them: holdfast officer new-keys"
_DEVICE: Final = "7d0c2f6e-6b7e-4a55-9a3b-2a4a3c1f9f10"


class Why(StrEnum):
    """Why a device goes out."""

    LOST = "lost"
    COMPROMISED = "compromised"
    RETIRED = "retired"


OfficerKeysToo = Annotated[
    bool,
    typer.Option(
        "--officer-keys",
        help="On the device that you have, as an officer: give your officer's keys along. They stay there otherwise.",
    ),
]


@command(
    app,
    "list",
    examples=[("holdfast devices list", "Show every device of yours; an arrow marks this one.")],
)
def list_devices(context: typer.Context) -> None:
    """List your devices, each held against your verified account chain.

    Shows each device's id, its state, its name and its eight words. The state is the server's word; a device counts
    only when your account chain, signed by your own keys, lists it as well.
    """
    shell = shell_of(context)
    with shell.account() as account:
        found = device.list_devices(account)
    shell.show(
        {
            "devices": [
                {
                    "device_id": listed.device,
                    "name": listed.name,
                    "state": listed.state,
                    "in_chain": listed.is_in_chain,
                    "this_device": listed.is_this,
                    "words": list(listed.words),
                }
                for listed in found
            ]
        },
        *(
            line
            for listed in found
            for line in (
                f"{'→' if listed.is_this else ' '} {listed.device}  {one_word(listed.state):<9} {quoted(listed.name)}",
                f"    {shown(listed.words)}",
            )
        ),
    )


@command(
    app,
    "approve",
    asks="the 8 words that the new device shows, unless --words gives them.",
    changes="your account chain lists the device; your keyring is on its way to it, sealed to it alone.",
    exits={Exit.ASK_PERSON: "the words are not those of the device that the server shows: it is somebody else's"},
    examples=[(f"holdfast devices approve {_DEVICE}", "Ask for the words, then approve.")],
)
def approve(
    context: typer.Context,
    device_id: Annotated[UUID, typer.Argument(help="The pending device.")],
    words: Annotated[
        str | None, typer.Option(help="The 8 words the new device shows, in quotes; asked for when left out.")
    ] = None,
    officer_keys: OfficerKeysToo = False,
) -> None:
    """Add another device, by the 8 words that it shows.

    Read the words on the new device's own screen, not in a message. The words keep somebody else's device out of your
    account. Then run, on the new device: holdfast recover device.
    """
    shell = shell_of(context)
    typed = words if words is not None else shell.ask("The 8 words that the new device shows", option="--words")
    with shell.account() as account, shell.working("Approving"):
        pairing.approve(account, device_id, words=(typed,), with_officers_keys=officer_keys)
    shell.show(
        {"device_id": device_id, "state": "active"},
        f"[bold green]✓[/] {device_id} is part of your account now.",
        "  On that device, take your keys: holdfast recover device",
    )


@command(
    app,
    "pair",
    asks="on the device that holds your account: the text under the QR code, or with --digits the eight digits.",
    changes="your account chain lists the new device, which then holds your keys and publishes its pre-keys.",
    exits={
        Exit.ASK_PERSON: "the digits are not those of this pairing: nothing was added",
        Exit.NOT_YET: "the other device did not answer within --wait",
        Exit.UNTRUSTED: "an answer came that is not from a device of yours",
    },
    examples=[
        ("holdfast devices pair", "On the new device: show a QR code. On the other: ask for its text."),
        ("holdfast devices pair --digits", "On both, without a camera: eight digits go from one screen to the other."),
    ],
)
def pair(
    context: typer.Context,
    digits: Annotated[bool, typer.Option("--digits", help="By eight digits, typed on the device you have.")] = False,
    text_file: Annotated[
        Path | None,
        typer.Option(help="Read the QR code's text from this file of mode 0600; - is standard input.", metavar="FILE"),
    ] = None,
    wait: Annotated[int, typer.Option(help="Wait up to this many seconds for the other device.", min=0)] = 300,
    officer_keys: OfficerKeysToo = False,
) -> None:
    """Bring in a new device that lies beside this one.

    By a QR code, or by eight digits.

    Run it on both devices. The new device, enrolled and pending, shows a QR code for an app to scan. In a terminal,
    copy the text under the code to the other device.

    With --digits the new device shows eight digits, and you type them on the other. Start the new device first. There
    is nothing else to compare, and one try: after wrong digits, start again.
    """
    shell = shell_of(context)
    with shell.account() as account:
        if account.device.is_active:
            added = _bring_in(shell, account, digits=digits, text_file=text_file, wait=wait, officer_keys=officer_keys)
            shell.show({"device_id": added}, f"[bold green]✓[/] {added} is part of your account, and holds your keys.")
            return
        if digits:
            offer = pairing.offer_code(account)
            with shell.working("Waiting for your other device: holdfast devices pair --digits"):
                code = offer.wait(wait)
            shell.show({"digits": code}, f"Type these digits on your other device:  [bold]{code[:4]} {code[4:]}[/]")
        else:
            _show_code(shell, pairing.request(account).text())
        with shell.working("Waiting for your other device"):
            joined = pairing.complete(account, wait_seconds=wait)
            prekeys.publish(account)
            joining.take(account)
    show_joined(shell, joined)


def _bring_in(
    shell: Shell, account: Account, *, digits: bool, text_file: Path | None, wait: int, officer_keys: bool
) -> UUID:
    if not digits:
        # Seen by nobody but the two devices, it proves to the new one that yours answered.
        text = code_from(
            text_file, "The text under the QR code of the new device", pairing.is_code, option="--text-file"
        )
        with shell.working("Bringing it in"):
            return pairing.accept(account, text, with_officers_keys=officer_keys)
    with shell.working("Waiting for the new device"):
        answer = pairing.answer_code(account, wait_seconds=wait)
    given = secret_file(text_file) if text_file else ask_secret("The eight digits that the new device shows")
    with shell.working("Bringing it in"):
        return answer.confirm(given.reveal().decode(), wait_seconds=wait, with_officers_keys=officer_keys)


def _show_code(shell: Shell, text: str) -> None:
    drawn = io.StringIO()
    # Drawn of half blocks, where there are any: a phone reads nothing else.
    if not shell.is_json and can_show("█▀▄"):
        import segno

        segno.make(text, error="l").terminal(out=drawn, compact=True)
    shell.show({"text": text}, *drawn.getvalue().splitlines(), "", text, "")


def show_joined(shell: Shell, joined: Joined) -> None:
    """Print how this device came into the account."""
    shell.show(
        {
            "by": joined.by,
            "version": joined.opened.version,
            "identity_words": list(joined.words),
            "authenticated": joined.is_authenticated,
        },
        f"[bold green]✓[/] This device holds your account now, brought in by {joined.by}; its pre-keys are published.",
        f"  Your identity key: {shown(joined.words)}",
        *([] if joined.is_authenticated else ["  Compare these words with holdfast chain show on the other device."]),
    )


@command(
    app,
    "revoke",
    asks="a yes, unless --yes is given.",
    changes="the devices are out; identity key, vault key and archive key are replaced, your contacts told.",
    exits={Exit.ASK_PERSON: "nobody said yes: nothing was revoked"},
    examples=[(f"holdfast devices revoke {_DEVICE} --why lost", "Take a lost laptop out of your account.")],
)
def revoke(
    context: typer.Context,
    device_id: Annotated[list[UUID], typer.Argument(help="The devices to take out.")],
    why: Annotated[Why, typer.Option(help="The reason, as your account chain states it for everybody.")] = Why.LOST,
    yes: Annotated[bool, typer.Option("--yes", help="Say yes beforehand, instead of being asked.")] = False,
) -> None:
    """Take devices out, and replace the keys they knew.

    A revoked device reads nothing that is written from now on. What it has already, it keeps.

    The password and the phrase of your vault stop working, because a thief may have copied those doors. Set them
    again afterwards.

    For an officer: a device that is lost or compromised may have led to your keys as one. Your approvals and votes then
    count for nothing until a policy names other keys of yours. Make those with holdfast officer new-keys.
    """
    shell = shell_of(context)
    reason = _reason(why)
    with shell.account() as account:
        is_leaving = entries.is_loss(reason) and acts.is_in_office(account)
        if is_leaving:
            shell.note(f"[yellow]{_LEAVING}[/]")
        shell.confirm(f"Revoke {', '.join(map(str, device_id))} for good?", is_given=yes)
        with shell.working("Revoking, and replacing keys"):
            done = rotation.rotate(account, rotation.EVERYTHING, reason=reason, revoke=device_id)
    shell.show(care.document(done), *care.lines(done), *([f"[yellow]![/] {_AFTER}"] if is_leaving else []))


def _reason(why: Why) -> entries.Reason:
    return {
        Why.LOST: entries.Reason.DEVICE_LOST,
        Why.COMPROMISED: entries.Reason.DEVICE_COMPROMISED,
        Why.RETIRED: entries.Reason.DEVICE_RETIRED,
    }[why]
