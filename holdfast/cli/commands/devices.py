# SPDX-License-Identifier: Apache-2.0
"""`holdfast devices`: which devices are this person's, and the approval of another one.

Implements PROTOCOL section 5 (add device) at the keyboard.
Does not revoke; that is a rotation with consequences of its own.
"""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from holdfast.cli.shell import quoted, shell_of, shown, words_of
from holdfast.client import device

app = typer.Typer(help="Your devices.", no_args_is_help=True)


@app.command("list")
def list_devices(context: typer.Context) -> None:
    """List your devices, each held against your verified account chain."""
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


@app.command("approve")
def approve(
    context: typer.Context,
    device_id: Annotated[UUID, typer.Argument(help="The pending device.")],
    words: Annotated[
        str | None, typer.Option(help="The 8 words the new device shows, in quotes; asked for when left out.")
    ] = None,
) -> None:
    """Add another device to your account, after comparing the 8 words it shows."""
    shell = shell_of(context)
    typed = words if words is not None else typer.prompt("The 8 words that the new device shows")
    with shell.account() as account:
        device.approve(account, device_id, words=words_of(typed))
    shell.show(
        {"device_id": device_id, "state": "active"},
        f"[bold green]✓[/] {device_id} is part of your account now.",
        "  On that device, bring your keys over: holdfast vault open",
    )
