# SPDX-License-Identifier: Apache-2.0
"""`holdfast bundle`: publish this device's pre-keys, and claim somebody else's.

Implements PROTOCOL section 7 at the keyboard. What is printed has been verified.
Does not begin a session; it shows that one could begin.
"""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from holdfast.cli.shell import shell_of, shown
from holdfast.client import bundles, prekeys

app = typer.Typer(help="Pre-key bundles: what others need to write to you first.", no_args_is_help=True)


@app.command("publish")
def publish(context: typer.Context) -> None:
    """Publish a signed pre-key when it is due, and one-time pre-keys when they run low."""
    shell = shell_of(context)
    with shell.account() as account:
        done = prekeys.publish(account)
    shell.show(
        {"signed_pre_key_renewed": done.is_renewed, "stored": done.stored, "count": done.count},
        f"[bold green]✓[/] {done.count} one-time pre-keys are on the server ({done.stored} new"
        f"{', with a new signed pre-key' if done.is_renewed else ''}).",
    )


@app.command("claim")
def claim(context: typer.Context, user_id: Annotated[UUID, typer.Argument(help="Whose bundles to claim.")]) -> None:
    """Claim one bundle of each device of a person and verify all of it: chain, device, keys, proofs."""
    shell = shell_of(context)
    with shell.account() as account:
        claimed = bundles.claim(account, user_id.bytes)
    shell.show(
        {
            "user_id": user_id,
            "identity_words": list(claimed.identity_words),
            "devices": [
                {
                    "device_id": one.device,
                    "suite": one.suite.name.lower(),
                    "one_time_pre_key": one.one_time_key_id,
                    "is_last_resort": one.is_last_resort,
                }
                for one in claimed.devices
            ],
        },
        f"[bold green]✓[/] {len(claimed.devices)} bundles claimed and verified.",
        f"  Identity key of that person: {shown(claimed.identity_words)}",
        *(
            f"  {one.device}  {one.suite.name.lower():<14} "
            + ("no one-time key left: the signed pre-key serves" if one.is_last_resort else "one-time key")
            for one in claimed.devices
        ),
    )
