# SPDX-License-Identifier: Apache-2.0
"""`holdfast enrol`: make this device's keys and register them by a single-use code.

Implements DESIGN section 4 at the keyboard. Prints what was pinned, in words to compare.
Does not take the code as an argument: it is a secret until it is used.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from rich.markup import escape

from holdfast.cli.shell import Shell, ask_secret, secret_file, shell_of, shown
from holdfast.client import account as accounts
from holdfast.client import device, prekeys
from holdfast.client.account import Account
from holdfast.client.store import STATE_FILE, DirectoryStore
from holdfast.client.transport import check_server
from holdfast.core.enrolment import EnrolmentCode
from holdfast.core.suites import Suite

_SUITES = {suite.name.lower().replace("_", "-"): suite for suite in Suite}


def enrol(  # noqa: PLR0917 — options by name, for typer
    context: typer.Context,
    server: Annotated[str, typer.Option(help="Address of the server, as https://holdfast.example.")],
    code_file: Annotated[
        Path | None, typer.Option(help="Read the enrolment code from this file; - is stdin.", metavar="FILE")
    ] = None,
    name: Annotated[str, typer.Option(help="What to call this device.")] = platform.node() or "this device",
    suite: Annotated[str, typer.Option(help=f"Key suite: {', '.join(_SUITES)}.")] = "hybrid",
    development: Annotated[
        bool,
        typer.Option("--development", help="Accept a development tenant, whose HSM is software using SHA-1 padding."),
    ] = False,
) -> None:
    """Enrol this device with the code an officer gave you. The first device begins your account."""
    shell = shell_of(context)
    if suite not in _SUITES:
        raise typer.BadParameter(f"one of {', '.join(_SUITES)}", param_hint="--suite")
    try:
        check_server(server)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--server") from error
    secret = secret_file(code_file) if code_file else ask_secret("Enrolment code")
    code = EnrolmentCode.parse(secret.reveal().decode("utf-8", "replace"))
    account = _profile(shell, code)
    with account.safe.locked():
        account.connect(server)
        done = device.enrol(account, code, name=name, suite=_SUITES[suite], is_development=development)
        if done.is_active:
            prekeys.publish(account)
        account.close()
    anchor = (
        "trusted on first use: compare these words with your officers" if done.trust.is_tofu else "as your code says"
    )
    standing = (
        "This device is part of your account, and its pre-keys are published."
        if done.is_active
        else "This device is pending. On another device of yours run:\n"
        f"    holdfast devices approve {done.device}\n"
        "  and type the words below. With no other device left: holdfast recovery open"
    )
    shell.show(
        {
            "device_id": done.device,
            "user_id": UUID(bytes=account.user),
            "tenant_id": UUID(bytes=account.tenant),
            "state": "active" if done.is_active else "pending",
            "device_words": list(done.words),
            "root_words": list(done.trust.pin_words),
            "trust": "tofu" if done.trust.is_tofu else "pinned",
        },
        f"[bold green]✓[/] Device {escape(name)} is registered as {done.device}.",
        f"  {standing}",
        f"  Words of this device:   {shown(done.words)}",
        f"  Words of your tenant:   {shown(done.trust.pin_words)}  ({anchor})",
    )


def _profile(shell: Shell, code: EnrolmentCode) -> Account:
    """Open the profile when there is one (an officer's, or an enrolment that was interrupted), else start it."""
    store = DirectoryStore(shell.profile)
    if (shell.profile / STATE_FILE).exists():
        return accounts.open_store(store, passphrase=shell.passphrase())
    store.create()
    return accounts.create(store, tenant=code.tenant, user=code.person, passphrase=shell.passphrase(confirm=True))
