# SPDX-License-Identifier: Apache-2.0
"""`holdfast doctor`: what this profile holds others to, and whether the server and the clock are well.

Implements FAULTS minimum client behaviour (6): one command that prints what is pinned.
Changes nothing.
"""

from __future__ import annotations

from uuid import UUID

import typer
from rich.markup import escape

from holdfast.cli.page import command
from holdfast.cli.shell import shell_of, shown
from holdfast.client.errors import ClientError
from holdfast.core.trust import pin_words


def doctor(context: typer.Context) -> None:
    """Say what this profile trusts, whether the server answers, and how far this machine's clock is off.

    The words of the tenant are the ones your officers have: compare them once. A problem with the server is part of
    the result, not an error.
    """
    shell = shell_of(context)
    with shell.account(online=False) as account:
        state = account.state
        problem = ""
        if state.server:
            account.connect()
            try:
                account.api.get("devices")
            except ClientError as error:
                problem = str(error)
        policies, words = account.policies, pin_words(state.trust.pin) if state.trust.pin else ()
        offset = account.api.clock.offset if state.server else 0
        key_version = len(state.trust.escrow_keys)
    trust = "none" if not words else "tofu" if state.trust.is_tofu else "pinned"
    device = UUID(bytes=state.device.id) if state.device else None
    standing = f"[bold red]✗[/] {escape(problem)}" if problem else "[green]✓[/] answers" if state.server else ""
    shell.show(
        {
            "user_id": UUID(bytes=account.user),
            "tenant_id": UUID(bytes=account.tenant),
            "device_id": device,
            "device_active": bool(state.device and state.device.is_active),
            "server": state.server,
            "server_problem": problem,
            "clock_offset_seconds": offset,
            "trust": trust,
            "development": state.trust.is_development,
            "root_words": list(words),
            "policy_version": len(policies),
            "escrow_key_version": key_version,
            "log_keys": state.trust.log_keys,
            "officer": state.officer is not None,
        },
        f"You:        {UUID(bytes=account.user)} in tenant {UUID(bytes=account.tenant)}",
        f"Device:     {device or 'not enrolled'}{'' if state.device and state.device.is_active else ' (not active)'}",
        f"Server:     {state.server or 'none'}  {standing}",
        f"Clock:      {'in step' if not offset else f'{offset:+d} s against the server, corrected'}",
        f"Tenant:     {shown(words) if words else 'nothing pinned'}  ({trust})",
        f"Policy:     version {len(policies)}" if policies else "Policy:     none verified",
        f"Escrow key: version {key_version}" if key_version else "Escrow key: none accepted",
        f"Log keys:   {', '.join(state.trust.log_keys) or 'none pinned'}",
        *(
            ["[yellow]Development tenant: the HSM is software and pads with SHA-1.[/]"]
            if state.trust.is_development
            else []
        ),
    )


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "doctor",
        examples=[
            ("holdfast doctor", "Look at everything this profile holds others to."),
            ("holdfast doctor --json | jq .clock_offset_seconds", "Ask for one thing, in a script."),
        ],
    )(doctor)
