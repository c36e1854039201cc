# SPDX-License-Identifier: Apache-2.0
"""`holdfast doctor`: what this profile holds others to, and whether the server and the clock are well.

Implements FAULTS "Minimum client behaviour": one command that prints what is pinned, and the evidence kept.
Changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import typer

from holdfast.cli.later import later
from holdfast.cli.page import command
from holdfast.cli.shell import date, plain, shell_of, shown
from holdfast.client.errors import ClientError

if TYPE_CHECKING:
    from holdfast.client.identity.evidence import Evidence
    from holdfast.client.profile.account import Account

with later():
    from holdfast.client.auditor import log
    from holdfast.client.identity import evidence, heads, restored
    from holdfast.client.officers import officer_keys
    from holdfast.client.profile import account as accounts
    from holdfast.client.profile import turns
    from holdfast.client.server import clock as server_clock
    from holdfast.core.base import encoding
    from holdfast.core.identity import trust


def doctor(context: typer.Context) -> None:
    """Say what this profile trusts, and how the server answers.

    Also how far this machine's clock is off, and what evidence against a server is kept here. The words of the tenant
    are the ones your officers have: compare them once. A problem with the server is part of the result, not an error.
    """
    shell = shell_of(context)
    with shell.account(online=False) as account:
        problem = _problem(account)
        kept = evidence.list_evidence(account)
        document, lines = _document(account, problem, kept), _lines(account, problem, kept)
    opened_by = "passphrase" if accounts.asks_for_passphrase(shell.profile) else "keyring"
    shell.show({**document, "opened_by": opened_by}, *lines, f"Profile:    {plain(str(shell.profile))} ({opened_by})")


def _problem(account: Account) -> str:
    """Ask the server for something small; returns what went wrong, or nothing."""
    if not account.state.server:
        return ""
    account.connect()
    try:
        account.api.get("devices")
    except ClientError as error:
        return str(error) or type(error).__name__
    return ""


def _trust(account: Account) -> str:
    trust = account.state.trust
    if trust.founding_root is not None:
        return "founding"
    return "none" if not trust.pin else "tofu" if trust.is_tofu else "pinned"


def _words(account: Account) -> tuple[str, ...]:
    pinned = account.state.trust.pin or account.state.trust.founding_root
    return trust.pin_words(pinned) if pinned else ()


def _document(account: Account, problem: str, kept: list[Evidence]) -> dict[str, object]:
    state = account.state
    return {
        "user_id": UUID(bytes=account.user),
        "tenant_id": UUID(bytes=account.tenant),
        "device_id": UUID(bytes=state.device.id) if state.device else None,
        "device_active": bool(state.device and state.device.is_active),
        "server": state.server,
        "server_problem": problem,
        "clock_offset_seconds": account.api.clock.said if state.server else 0,
        "trust": _trust(account),
        "development": state.trust.is_development,
        "root_words": list(_words(account)),
        "policy_version": _policy_version(account),
        "escrow_key_version": len(state.trust.escrow_keys),
        "root_key": log.root_key(account),
        "log_keys": state.trust.log_keys,
        "officer": officer_keys.has_keys(account),
        "copies_noticed": account.turn.breaks if state.device else 0,
        "copy_noticed_at": account.turn.broken_at if state.device else 0,
        "evidence": [
            {
                "what": contradiction.what.name.lower().replace("_", "-"),
                "user_id": UUID(bytes=contradiction.user),
                "seen_at": contradiction.seen_at,
                "ours": encoding.b64u(contradiction.ours),
                "theirs": encoding.b64u(contradiction.theirs),
                "explained": encoding.b64u(contradiction.explained) if contradiction.explained else None,
            }
            for contradiction in kept
        ],
        "restored": [
            {
                "log": one.log,
                "size": one.size,
                "accepted_at": one.at,
                "heals_from": one.heals_from,
                "resolution": encoding.b64u(one.statement),
                "left_behind": one.note.decode(),
            }
            for name in heads.LOGS
            for one in restored.taken(account, name)
        ],
    }


def _policy_version(account: Account) -> int:
    """The newest that stands, 0 before enrolment: one that was withdrawn keeps its number, and counts for nothing."""
    return account.policies[-1].policy.version if account.policies else 0


def _lines(account: Account, problem: str, kept: list[Evidence]) -> list[str]:
    state = account.state
    words = _words(account)
    answer = f"[bold red]✗[/] {plain(problem)}" if problem else "[green]✓[/] answers" if state.server else ""
    device = UUID(bytes=state.device.id) if state.device else "not enrolled"
    versions = _policy_version(account), len(state.trust.escrow_keys)
    return [
        f"You:        {UUID(bytes=account.user)} in tenant {UUID(bytes=account.tenant)}",
        f"Device:     {device}{'' if state.device and state.device.is_active else ' (not active)'}",
        f"Server:     {plain(state.server) or 'none'}  {answer}",
        f"Clock:      {_clock(account, problem)}",
        f"Tenant:     {shown(words) if words else 'nothing pinned'}  ({_trust(account)})",
        f"Policy:     version {versions[0]}" if versions[0] else "Policy:     none verified",
        f"Escrow key: version {versions[1]}" if versions[1] else "Escrow key: none accepted",
        f"Root key:   {plain(log.root_key(account) or 'none pinned')}",
        f"Log keys:   {plain(', '.join(state.trust.log_keys)) or 'none pinned'}",
        *_copies(account),
        *(
            f"[bold red]Evidence:[/]   {contradiction.what.name.lower().replace('_', ' ')} "
            f"about {UUID(bytes=contradiction.user)}; --json has both sides, for your officers and your auditor"
            for contradiction in kept
            if not contradiction.explained
        ),
        *_restored(account),
        *(
            ["[yellow]Development tenant: the HSM is software and pads with SHA-1.[/]"]
            if state.trust.is_development
            else []
        ),
    ]


def _restored(account: Account) -> list[str]:
    """Say which backups were put back; what was kept as evidence because of them is in --json."""
    return [f"Restored:   {restored.words_of(one)}" for one in restored.taken(account)]


def _copies(account: Account) -> list[str]:
    if account.state.device is None or not account.turn.breaks:
        return []
    said, way_out = turns.words_of(account.turn)
    return [f"Copies:     {said} Last noticed: {date(account.turn.broken_at)}", f"            → {way_out}"]


def _clock(account: Account, problem: str) -> str:
    clock = account.clock
    if clock.is_off:
        return f"[bold red]✗[/] {clock.in_words()} {server_clock.SET_THE_CLOCK}"
    if clock.said:
        return f"{clock.said:+d} s against the server: no harm"
    return "not compared with a server's" if problem or not account.state.server else "in step"


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
