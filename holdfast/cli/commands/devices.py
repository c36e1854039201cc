# SPDX-License-Identifier: Apache-2.0
"""`holdfast devices`: which devices are this person's, and the approval of another one.

Implements PROTOCOL section 5 (add device) at the keyboard.
Does not decide which device is the person's; she does, by comparing words on two screens.
"""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from holdfast.cli.asking import words_of
from holdfast.cli.exits import Exit
from holdfast.cli.page import command
from holdfast.cli.shell import quoted, shell_of, shown
from holdfast.client import device

app = typer.Typer(help="Your devices.", no_args_is_help=True)


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
        found = device.listed(account)
    shell.show(
        {
            "devices": [
                {
                    "device_id": one.device,
                    "name": one.name,
                    "state": one.state,
                    "in_chain": one.is_in_chain,
                    "this_device": one.is_this,
                    "words": list(one.words),
                }
                for one in found
            ]
        },
        *(
            f"{'→' if one.is_this else ' '} {one.device}  {one.state:<9} {quoted(one.name)}\n    {shown(one.words)}"
            for one in found
        ),
    )


@command(
    app,
    "approve",
    asks="the 8 words that the new device shows, unless --words gives them.",
    changes="your account chain: it lists the device from now on, for you and for everybody who writes to you.",
    exits={Exit.ASK_PERSON: "the words are not those of the device that the server shows: it is somebody else's"},
    examples=[
        ("holdfast devices approve 7d0c2f6e-6b7e-4a55-9a3b-2a4a3c1f9f10", "Ask for the words, then approve."),
    ],
)
def approve(
    context: typer.Context,
    device_id: Annotated[UUID, typer.Argument(help="The pending device.")],
    words: Annotated[
        str | None, typer.Option(help="The 8 words the new device shows, in quotes; asked for when left out.")
    ] = None,
) -> None:
    """Add another device to your account, after comparing the 8 words it shows.

    Read the words on the new device's own screen, not in a message: they are what keeps somebody else's device out
    of your account. Then bring your keys to it, there.
    """
    shell = shell_of(context)
    typed = words if words is not None else typer.prompt("The 8 words that the new device shows")
    with shell.account() as account:
        device.approve(account, device_id, words=words_of(typed))
    shell.show(
        {"device_id": device_id, "state": "active"},
        f"[bold green]✓[/] {device_id} is part of your account now.",
        "  On that device, bring your keys over: holdfast recover password",
    )
