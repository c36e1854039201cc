# SPDX-License-Identifier: Apache-2.0
"""`holdfast chain`: what an account's signed history says, and the yes to a peer who began again.

Implements PROTOCOL section 5 at the keyboard: after a re-genesis a human confirms, never a program.
Does not show what is not verified.
"""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer

from holdfast.cli.shell import shell_of, shown
from holdfast.client import chains, contacts
from holdfast.client.errors import ProfileError
from holdfast.core.chain import ChainState

app = typer.Typer(help="Account chains: yours and your contacts'.", no_args_is_help=True)


@app.command("show")
def show(
    context: typer.Context,
    user_id: Annotated[UUID | None, typer.Argument(help="A contact; yourself when left out.")] = None,
) -> None:
    """Verify an account chain and say what it holds."""
    shell = shell_of(context)
    with shell.account() as account:
        if user_id is None or user_id.bytes == account.user:
            state = chains.refresh(account)
        else:
            state = contacts.refresh(account, user_id.bytes)
        if state is None:
            raise ProfileError("This account has no chain yet.")
    shell.show(_document(state), *_lines(state))


@app.command("confirm")
def confirm(
    context: typer.Context,
    user_id: Annotated[UUID, typer.Argument(help="The contact whose account began again.")],
    words: Annotated[
        str | None, typer.Option(help="The 8 words of the contact's new key, as heard from the person.")
    ] = None,
) -> None:
    """Trust a contact again whose account was begun again, after hearing the words of the new key from the person."""
    shell = shell_of(context)
    typed = words if words is not None else typer.prompt("The 8 words, as the person reads them to you")
    with shell.account() as account:
        state = contacts.confirm(account, user_id.bytes, words=tuple(typed.lower().split()))
    shell.show(_document(state), f"[bold green]✓[/] You trust {user_id} again, under a new key.", *_lines(state))


def _document(state: ChainState) -> dict[str, object]:
    mark = state.re_genesis
    return {
        "user_id": UUID(bytes=state.user),
        "seq": state.seq,
        "head": state.head.hex(),
        "identity_words": list(state.aik.fingerprint("aik")),
        "devices": [UUID(bytes=one) for one in state.devices],
        "revoked": [UUID(bytes=one) for one in sorted(state.revoked)],
        "generations": [one.generation for one in state.generations],
        "re_genesis": {"seq": mark.seq, "case_id": UUID(bytes=mark.case_id)} if mark else None,
    }


def _lines(state: ChainState) -> list[str]:
    mark = state.re_genesis
    lines = [
        f"Account {UUID(bytes=state.user)}: {state.seq + 1} entries, all verified.",
        f"  Identity key:  {shown(state.aik.fingerprint('aik'))}",
        f"  Devices:       {len(state.devices)} active, {len(state.revoked)} revoked",
        f"  Archive keys:  {', '.join(str(one.generation) for one in state.generations) or 'none'}",
    ]
    if mark:
        lines.append(
            f"  [bold yellow]Begun again[/] at entry {mark.seq}, by officers in case {UUID(bytes=mark.case_id)}."
        )
    return lines
