# SPDX-License-Identifier: Apache-2.0
"""`holdfast bundle`: publish this device's pre-keys, and claim somebody else's.

Implements PROTOCOL section 7 at the keyboard. What is printed has been verified.
Does not begin a session; it shows that one could begin.
"""

from __future__ import annotations

from typing import Annotated

import typer

from holdfast.cli.exits import Exit
from holdfast.cli.later import later
from holdfast.cli.page import command, group
from holdfast.cli.people import PERSON, named, person
from holdfast.cli.shell import shell_of, shown

with later():
    from holdfast.client.messages import bundles, prekeys

app = group()


@command(
    app,
    "publish",
    changes="this device's pre-keys on the server; their private halves stay in the profile.",
    exits={Exit.PROFILE: "this device is not part of your account yet"},
    examples=[("holdfast bundle publish", "Top up what others need to write to you.")],
)
def publish(context: typer.Context) -> None:
    """Publish the pre-keys that are due.

    holdfast maintain does this as well. Run it by itself for a device that many people write to.
    """
    shell = shell_of(context)
    with shell.account() as account, shell.working("Publishing pre-keys"):
        done = prekeys.publish(account)
    shell.show(
        {"signed_pre_key_renewed": done.is_renewed, "stored": done.stored, "count": done.count},
        f"[bold green]✓[/] {done.count} one-time pre-keys are on the server ({done.stored} new"
        f"{', with a new signed pre-key' if done.is_renewed else ''}).",
    )


@command(
    app,
    "claim",
    changes="uses up one one-time pre-key of each device of that person.",
    exits={Exit.ASK_PERSON: "the person's account was begun again: holdfast contacts confirm"},
    examples=[
        ("holdfast bundle claim 3f2b8c1e-1c1b-4a53-8f0a-6f2d1c9e7a11", "See that a session could begin."),
    ],
)
def claim(
    context: typer.Context,
    user_id: Annotated[
        str, typer.Argument(metavar=PERSON, parser=named, help="Whose bundles to claim: an id or e-mail address.")
    ],
) -> None:
    """Claim a bundle of each device of a person.

    Verifies all of it: chain, device, keys, proofs.

    Sending does this by itself. By hand it shows whether a person's devices can be written to, and under which
    identity key. The keys are used up: do not run it in a loop.
    """
    shell = shell_of(context)
    with shell.account() as account:
        user = person(shell, account, user_id)
        claimed = bundles.claim(account, user.bytes)
    shell.show(
        {
            "user_id": user,
            "identity_words": list(claimed.identity_words),
            "devices": [
                {
                    "device_id": bundle.device,
                    "suite": bundle.suite.name.lower(),
                    "one_time_pre_key": bundle.one_time_key_id,
                    "is_last_resort": bundle.is_last_resort,
                }
                for bundle in claimed.devices
            ],
        },
        f"[bold green]✓[/] {len(claimed.devices)} bundles claimed and verified.",
        f"  Identity key of that person: {shown(claimed.identity_words)}",
        *(
            f"  {bundle.device}  {bundle.suite.name.lower():<14} "
            + ("no one-time key left: the signed pre-key serves" if bundle.is_last_resort else "one-time key")
            for bundle in claimed.devices
        ),
    )
