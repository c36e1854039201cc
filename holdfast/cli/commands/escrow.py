# SPDX-License-Identifier: Apache-2.0
"""`holdfast escrow`: who could open your archive, your yes or no to it, and what is deposited.

Implements ESCROW "The user's side" at the keyboard: the text of the consent is fixed.
Does not deposit anything without the person's yes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import typer

from holdfast.cli.asking import Yes
from holdfast.cli.exits import Exit
from holdfast.cli.later import later
from holdfast.cli.page import command, group
from holdfast.cli.shell import date, plain, shell_of, shown

if TYPE_CHECKING:
    from holdfast.client.profile.state import Generation

with later():
    from holdfast.client.escrow import escrow
    from holdfast.client.identity import tenant
    from holdfast.core.identity import policy as policies
    from holdfast.core.identity import trust

app = group()


@command(app, "status", examples=[("holdfast escrow status", "See who could open your archive, and how.")])
def status(context: typer.Context) -> None:
    """Say who can open your archive, and how.

    Also what you have agreed to, and what is deposited.

    What the server shows is held against what this device deposited itself: a deposit that is missing, or is not one
    of yours, is named.
    """
    shell = shell_of(context)
    with shell.account() as account:
        found = escrow.status(account)
        ends = [" ".join(tenant.words_of(ending)) for ending in tenant.endings(account)]
        words = trust.pin_words(account.state.trust.pin)
        is_tofu = account.state.trust.is_tofu
    shell.show(
        {
            "policy_version": found.policy_version,
            "needed": found.m,
            "officers": found.n,
            "escrow_key_version": found.escrow_key_version,
            "consent": found.consent,
            "root_words": list(words),
            "generations": [
                {
                    "generation": generation.number,
                    "deposit_id": UUID(bytes=generation.deposit_id) if generation.deposit_id else None,
                }
                for generation in found.generations
            ],
            "stale": found.stale,
            "missing_on_server": found.missing_on_server,
            "foreign_on_server": [str(deposit_id) for deposit_id in found.foreign_on_server],
            "without_receipt": found.without_receipt,
            "readable": found.readable,
            "consent_bound_until": found.consent_bound_until,
            "endings": ends,
        },
        f"Policy version {found.policy_version}: {found.m} of {found.n} officers, with the HSM, can open your archive.",
        *(f"  [bold yellow]{line}[/]" for line in ends),
        f"  Your tenant:   {shown(words)}{'  [yellow](trusted on first use)[/]' if is_tofu else ''}",
        f"  Your consent:  {found.consent}{_bound(found.consent_bound_until)}",
        f"  As of today {_readable(found.readable)}",
        *(
            f"  Generation {generation.number}: {_standing(generation, found.stale)}"
            for generation in found.generations
        ),
        *(
            f"  [bold red]✗[/] The server no longer shows the deposit of generation {number}."
            for number in found.missing_on_server
        ),
        *(
            f"  [yellow]Generation {number} counts as deposited once the release process has signed for it. "
            "That takes a minute; if it takes a day, tell your officers.[/]"
            for number in found.without_receipt
        ),
        *(f"  [bold red]✗[/] Deposit {deposit_id} is not one of yours." for deposit_id in found.foreign_on_server),
    )


def _readable(generations: list[int]) -> str:
    if not generations:
        return "officers could read nothing of yours."
    listed = ", ".join(map(str, generations))
    return f"officers could read what you keep under generation{'s' if len(generations) > 1 else ''} {listed}."


def _bound(until: int) -> str:
    if not until:
        return ""
    return (
        ", not to be taken back"
        if until == policies.NEVER
        else f", can be taken back from {date(until)} on, at the latest"
    )


def _standing(generation: Generation, stale: list[int]) -> str:
    if generation.is_exposed:
        return "opened by a case, and not used any more"
    if not generation.deposit_id:
        return "[yellow]not deposited[/]"
    return "[yellow]deposited, under an older policy or key[/]" if generation.number in stale else "deposited"


@command(
    app,
    "refuse",
    asks="whether you mean it, after saying what stays as it is.",
    changes="your signed no is with the server; nothing is deposited for you until you agree again.",
    exits={
        Exit.ASK_PERSON: "nobody confirmed it: nothing was changed",
        Exit.REFUSED: "your yes cannot be taken back yet, by the policy that you agreed to",
        Exit.NOT_YET: "it cannot be taken back while this version of the policy stands",
    },
    examples=[("holdfast escrow refuse", "Say no, or take back an earlier yes.")],
)
def refuse(context: typer.Context, yes: Yes = False) -> None:
    """Say no to escrow, or take an earlier yes back.

    What is deposited stays deposited: the officers of its policy can go on opening it. Keys made from now on are not
    deposited. Where your organisation requires escrow, you cannot encrypt files under new keys without it.

    A policy may say for how long a yes cannot be taken back, or that it cannot. That is in the text to which you agree,
    and every new version asks you anew.
    """
    shell = shell_of(context)
    with shell.account() as account:
        escrow.prepare(account)
        kept = escrow.status(account).readable
        shell.note(f"What is deposited stays: {_readable(kept)}")
        if escrow.must_deposit_first(account):
            shell.note("Your organisation requires escrow: without it you cannot encrypt files under new keys.")
        shell.confirm("Do you refuse the escrow of your archive keys?", is_given=yes)
        escrow.consent(account, agreed=False)
    shell.show(
        {"consent": "refused", "stays_deposited": kept},
        "[bold green]✓[/] Nothing more is deposited for you. You can agree again at any time: holdfast escrow deposit",
    )


@command(
    app,
    "deposit",
    asks="your consent, after showing its text, when you have not given it for this policy.",
    changes="the keys of your archive are in escrow: the named officers, together with the HSM, can open it.",
    exits={Exit.ASK_PERSON: "nobody consented, so nothing was deposited"},
    examples=[("holdfast escrow deposit", "Read the consent, decide, and deposit what is missing.")],
)
def deposit(
    context: typer.Context,
    yes: Yes = False,
) -> None:
    """Put your archive keys into escrow, after your consent.

    Escrow is how your organisation, or you yourself with its help, can open your archive when every device is lost.
    Your identity key is never part of it: officers can read what was deposited, and never sign as you. Every release
    is shown to you. --yes says that you have read the text and agree.
    """
    shell = shell_of(context)
    with shell.account() as account:
        escrow.prepare(account)
        if not escrow.has_consented(account):
            for line in escrow.what_changed(account):
                shell.note(plain(line))
            for line in escrow.consent_text(account).splitlines():
                shell.note(plain(line))
            shell.confirm("Do you agree that these officers may open your archive in this way?", is_given=yes)
            escrow.consent(account)
        with shell.working("Depositing"):
            escrow.take_back(account)
            done = escrow.deposit_missing(account)
        for words in escrow.given_up(account):
            shell.note(" ".join(words))
    shell.show(
        {
            "deposited": [
                {"generation": generation.number, "deposit_id": UUID(bytes=generation.deposit_id)}
                for generation in done
            ]
        },
        *(
            f"[bold green]✓[/] The archive key of generation {generation.number} is in escrow "
            f"as {UUID(bytes=generation.deposit_id)}."
            for generation in done
        ),
        *(["Every archive key of yours is in escrow already."] if not done else []),
    )
