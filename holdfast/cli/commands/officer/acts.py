# SPDX-License-Identifier: Apache-2.0
"""`holdfast officer`, outside cases: away and back, suspend and remove, and what officers resolve together.

Implements ESCROW "Policy and officers" at the officer's keyboard: what is signed is shown before it is asked for.
Does not believe the server's summary; names of people are its word, shown last and in quotes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Final
from uuid import UUID

import typer

from holdfast.cli.asking import Yes
from holdfast.cli.exits import Exit
from holdfast.cli.later import later
from holdfast.cli.page import command, group
from holdfast.cli.shell import Shell, date, plain, quoted, shell_of, shown

if TYPE_CHECKING:
    from holdfast.client.officers.acts import Decision, Word
    from holdfast.client.profile.account import Account

with later():
    from holdfast.client.officers import acts
    from holdfast.core.identity import acts as statements

resolve = group(text="Propose what officers resolve together, and sign it first.")

OfficerName = Annotated[
    str,
    typer.Argument(
        metavar="OFFICER", help="The officer's number in the policy, or their person's id or e-mail address."
    ),
]
Why = Annotated[str, typer.Option(help="Why, for the record: the other officers decide by it.")]
AnyReason = Annotated[str, typer.Option(help="Why, for the record. It may be left out.")]
_NOT_SAID: Final = "nobody said yes: nothing was signed"
_DAN: Final = "3f2b8c1e-1c1b-4a53-8f0a-6f2d1c9e7a11"


def register(app: typer.Typer) -> None:
    """Add these commands to `holdfast officer`."""
    _standing(app)
    _resolutions(app)
    app.add_typer(resolve, name="resolve")


def _standing(app: typer.Typer) -> None:
    @command(
        app,
        "away",
        asks="a yes, unless --yes is given.",
        changes="you count for nothing until you are back: no approval, no vote of yours.",
        exits={
            Exit.ASK_PERSON: _NOT_SAID,
            Exit.REFUSED: "too few officers would remain, or your standing does not allow it",
        },
        examples=[('holdfast officer away --reason "On leave until Monday."', "Say that you cannot be reached.")],
    )
    def away(context: typer.Context, reason: AnyReason = "", yes: Yes = False) -> None:
        """Say that you are away: you count for nothing until back.

        For a leave, or a machine that you cannot reach. It is refused when too few officers would remain.
        """
        _say(shell_of(context), statements.Standing.AWAY, reason=reason, yes=yes)

    @command(
        app,
        "back",
        asks="a yes, unless --yes is given.",
        changes="you count again.",
        exits={Exit.ASK_PERSON: _NOT_SAID, Exit.REFUSED: "you were not away; a suspension, officers end together"},
        examples=[("holdfast officer back", "Count again.")],
    )
    def back(context: typer.Context, reason: AnyReason = "", yes: Yes = False) -> None:
        """Come back after having been away.

        It ends no suspension: that takes the other officers, with holdfast officer resolve return-officer.
        """
        _say(shell_of(context), statements.Standing.BACK, reason=reason, yes=yes)

    @command(
        app,
        "suspend",
        asks="a yes, unless --yes is given.",
        changes="the officer counts for nothing until m officers return them together.",
        exits={Exit.ASK_PERSON: _NOT_SAID, Exit.REFUSED: "you do not count as an officer now, or they were removed"},
        examples=[
            (
                f'holdfast officer suspend {_DAN} --reason "Their laptop was stolen."',
                "Stop an officer whose keys are out.",
            ),
            ('holdfast officer suspend 2 --reason "Cannot be reached."', "The same, by the number in the policy."),
        ],
    )
    def suspend(context: typer.Context, officer: OfficerName, reason: Why, yes: Yes = False) -> None:
        """Suspend another officer, at once and whatever remains.

        For an officer whose keys or device may be in other hands. You alone can do it; ending it takes m officers.
        """
        _say(shell_of(context), statements.Standing.SUSPENDED, of=officer, reason=reason, yes=yes)

    @command(
        app,
        "remove",
        asks="a yes, unless --yes is given.",
        changes="the officer never counts again, whatever policy names them.",
        exits={Exit.ASK_PERSON: _NOT_SAID, Exit.REFUSED: "too few officers would remain, or you do not count now"},
        examples=[('holdfast officer remove 2 --reason "Left the company."', "Take an officer out for good.")],
    )
    def remove(context: typer.Context, officer: OfficerName, reason: Why, yes: Yes = False) -> None:
        """Remove another officer for ever.

        Suspend them instead when you are not sure: a suspension can be ended, a removal cannot.
        """
        _say(shell_of(context), statements.Standing.REMOVED, of=officer, reason=reason, yes=yes)


def _resolutions(app: typer.Typer) -> None:
    @command(
        app,
        "resolutions",
        examples=[
            ("holdfast officer resolutions", "See what waits for your signature."),
            ("holdfast officer resolutions --all", "And what has passed, ended or been replaced."),
        ],
    )
    def resolutions(
        context: typer.Context,
        everything: Annotated[bool, typer.Option("--all", help="Also those that are not open any more.")] = False,
    ) -> None:
        """List resolutions: what each means, and who signed.

        Says also how many signatures are missing, and until when.

        Everything but the state is read from signed bytes and held to your pinned policy.
        """
        shell = shell_of(context)
        with shell.account() as account:
            found = acts.list_resolutions(account, everything=everything)
            lines = [line for one in found for line in _lines(account, one)]
        shell.show(
            {"resolutions": [_document(one) for one in found]},
            *lines,
            *([] if found else ["No resolution is open."]),
        )

    @command(
        app,
        "sign",
        asks="a yes, unless --yes is given.",
        changes="your signature counts; the one that makes m acts at once.",
        exits={
            Exit.ASK_PERSON: _NOT_SAID,
            Exit.UNTRUSTED: "the resolution, or the log it is about, is not what it says: nothing was signed",
        },
        examples=[("holdfast officer sign 3fa9c2e1", "Read a resolution as signed, then add your signature.")],
    )
    def add_signature(
        context: typer.Context,
        prefix: Annotated[str, typer.Argument(metavar="HASH", help="The first four or more hex digits of its hash.")],
        yes: Yes = False,
    ) -> None:
        """Sign a resolution that another officer proposed.

        It is verified under your pinned policy, and what it says about the log is looked up in the log. Speak with the
        officer who proposed it first: your signature may be the last that is needed.
        """
        _decide(shell_of(context), lambda account: acts.find_resolution(account, prefix), yes=yes)


_PROPOSING: Final = {
    Exit.ASK_PERSON: _NOT_SAID,
    Exit.REFUSED: "you do not count as an officer now, or have proposed too many",
}
_PROPOSED: Final = (
    "the resolution is proposed with your signature; other officers see it and sign: holdfast officer sign."
)


@command(
    resolve,
    "withdraw-version",
    asks="a yes, unless --yes is given.",
    changes=_PROPOSED,
    exits=_PROPOSING,
    examples=[("holdfast officer resolve withdraw-version 4", "Take back version 4 before it is in force.")],
)
def withdraw_version(
    context: typer.Context,
    version: Annotated[int, typer.Argument(help="The policy version.", min=2)],
    yes: Yes = False,
) -> None:
    """Propose to withdraw a policy version that waits.

    One that is in force is not withdrawn, but followed by another.
    """
    _decide(shell_of(context), lambda account: acts.propose_withdrawal(account, version), yes=yes)


@command(
    resolve,
    "return-officer",
    asks="a yes, unless --yes is given.",
    changes=_PROPOSED,
    exits=_PROPOSING,
    examples=[(f"holdfast officer resolve return-officer {_DAN}", "Propose that a suspended officer counts again.")],
)
def return_officer(context: typer.Context, officer: OfficerName, yes: Yes = False) -> None:
    """Propose to return an officer from suspension.

    Their own signature does not count. Make sure first that the keys are in their hands alone.
    """
    _decide(shell_of(context), lambda account: acts.propose_return(account, officer), yes=yes)


@command(
    resolve,
    "acknowledge-leaf",
    asks="a yes, unless --yes is given.",
    changes=_PROPOSED,
    exits={**_PROPOSING, Exit.UNTRUSTED: "the log is not the one seen before, or does not hold: nothing was signed"},
    examples=[("holdfast officer resolve acknowledge-leaf 1042", "Let releases go on after a wrong entry.")],
)
def acknowledge_leaf(
    context: typer.Context,
    index: Annotated[int, typer.Argument(help="Its place in the audit log, from 0.", min=0)],
    yes: Yes = False,
) -> None:
    """Propose to acknowledge a wrong entry of the audit log.

    The entry is fetched from the log and proven to be in it; what is signed is its hash.
    """
    _decide(shell_of(context), lambda account: acts.propose_acknowledgement(account, index), yes=yes)


@command(
    resolve,
    "accept-log",
    asks="a yes, unless --yes is given.",
    changes=_PROPOSED,
    exits={**_PROPOSING, Exit.UNTRUSTED: "a log's head is not signed by the pinned key: nothing was signed"},
    examples=[("holdfast officer resolve accept-log", "After a restored backup, once the operator has told you why.")],
)
def accept_log(context: typer.Context, yes: Yes = False) -> None:
    """Propose to accept both logs as they are now.

    That is the audit log and the log of keys.

    For logs that were restored from a backup, or are read for the first time. Says loudly when this profile has seen a
    longer log, or another one. After a restored backup nothing is changed on the server until m officers have accepted
    it and the operator has gone on from there.
    """
    _decide(shell_of(context), acts.propose_acceptance, yes=yes)


@command(
    resolve,
    "suspend-device",
    asks="a yes, unless --yes is given.",
    changes=_PROPOSED,
    exits={**_PROPOSING, Exit.UNTRUSTED: "the device's statement is not that device's own: nothing was signed"},
    examples=[
        (
            "holdfast officer resolve suspend-device 7c9e6679-7425-40de-944b-e07fc1f90ae7",
            "A stolen phone vetoes what its owner asks for.",
        )
    ],
)
def suspend_device(
    context: typer.Context, device: Annotated[UUID, typer.Argument(help="The device.")], yes: Yes = False
) -> None:
    """Propose to suspend a device of somebody's.

    A device that fewer officers suspended still vetoes. After this resolution its veto ends no case, and gives the long
    delay instead. Its owner's own signature does not count. Make sure from the person that it is not in their hands.
    """
    _decide(shell_of(context), lambda account: acts.propose_suspension(account, device), yes=yes)


def _say(shell: Shell, standing: statements.Standing, *, of: str = "", reason: str, yes: bool) -> None:
    with shell.account() as account:
        said = acts.word(account, standing, of=of, reason=reason)
        for line in _word_lines(account, said) if not shell.is_json else ():
            shell.note(line)
        shell.confirm("Sign this?", is_given=yes)
        acts.say(account, said)
    shell.show(
        {"person_id": UUID(bytes=said.officer.person), "standing": standing.name.lower(), "reason": reason},
        f"[bold green]✓[/] {_done(standing)}",
    )


def _done(standing: statements.Standing) -> str:
    words = statements.Standing
    return {
        words.AWAY: "You are away. Come back by: holdfast officer back",
        words.BACK: "You are back, and count again.",
        words.SUSPENDED: "The officer is suspended. To return them: holdfast officer resolve return-officer",
        words.REMOVED: "The officer is removed, for ever.",
    }[standing]


def _saying(standing: statements.Standing, *, m: int) -> str:
    """Return what a word does, said to whoever is about to sign it."""
    words = statements.Standing
    return {
        words.AWAY: "is away: approvals and votes count for nothing until: holdfast officer back",
        words.BACK: "is back: approvals and votes count again",
        words.SUSPENDED: f"is suspended: approvals and votes count for nothing. Only {m} officers together end it",
        words.REMOVED: "is removed, for ever: nobody can undo it, and a new policy should name another",
    }[standing]


def _word_lines(account: Account, said: Word) -> list[str]:
    name = acts.names_told(account).get(said.officer.person, "")
    return [
        "You are about to sign:",
        f"  Officer {said.officer.index} {_saying(said.standing, m=said.policy.policy.m)}.",
        f"  Person:  {UUID(bytes=said.officer.person)}",
        f"  Key:     {shown(said.officer.signing_key.fingerprint('officer'))}",
        f"  Reason:  {quoted(said.reason) if said.reason else 'none'}",
        *([f"  The server calls them {quoted(name)}."] if name else []),
    ]


def _decide(shell: Shell, decided: Callable[[Account], Decision], *, yes: bool) -> None:
    with shell.account() as account:
        decision = decided(account)
        if not shell.is_json:
            shell.note("You are about to sign:")
            for line in _lines(account, decision):
                shell.note(line)
        warned = any(head.warning for head in decision.heads)
        # A yes that was given beforehand was given before anybody saw the warning.
        shell.confirm("Sign in spite of the warning?" if warned else "Sign this?", is_given=yes and not warned)
        done = acts.sign_decision(account, decision)
    missing = done.needed - done.signed
    shell.show(
        {**_document(decision), "state": done.state, "signed": done.signed},
        "[bold green]✓[/] You signed. It has passed."
        if done.state == "passed"
        else f"[bold green]✓[/] You signed. {missing} more {'is' if missing == 1 else 'are'} needed.",
        *(
            [f"  The other officers run: holdfast officer sign {done.hash.hex()[:8]}"]
            if done.state == "open" and not decision.state
            else []
        ),
    )


def _document(decision: Decision) -> dict[str, object]:
    resolution = decision.resolution
    number = resolution.about[0] if isinstance(resolution.about[0], int) else None
    key_log = resolution.key_log if resolution.act is statements.Act.ACCEPT_LOG else None
    return {
        "hash": decision.hash.hex(),
        "act": acts.PROPOSABLE[resolution.act],
        "person_id": UUID(bytes=resolution.person) if resolution.act in statements.ABOUT_A_PERSON else None,
        "device_id": UUID(bytes=decision.device.header.device) if decision.device else None,
        "number": number,
        "object_hash": None if number is None else resolution.hash.hex(),
        "policy_version": decision.policy.policy.version,
        "signed_by": [one.index for one in decision.signers],
        "needed": decision.needed,
        "ends_at": decision.ends_at,
        "state": decision.state,
        "keys_number": key_log[0] if key_log else None,
        "keys_hash": key_log[1].hex() if key_log else None,
        "warning": " ".join(head.warning for head in decision.heads if head.warning),
    }


def _lines(account: Account, decision: Decision) -> list[str]:
    resolution, policy, said = decision.resolution, decision.policy.policy, acts.meaning(account, decision)
    key_log = resolution.key_log if resolution.act is statements.Act.ACCEPT_LOG else None
    names = [f"officer {one.index}{' (you)' if one.person == account.user else ''}" for one in decision.signers]
    signed = ", ".join(names) or "nobody yet"
    if decision.state in {"", "open"}:
        until = date(decision.ends_at, "%Y-%m-%d %H:%M UTC")
        signed += f"; {max(0, decision.needed - len(decision.signers))} more needed until {until}"
    return [
        f"[bold]{decision.hash.hex()[:8]}[/]  {said[0]}",
        *(f"  {line}" for line in said[1:]),
        *([f"  Hash:    {resolution.hash.hex()}"] if resolution.act not in statements.ABOUT_A_PERSON else []),
        *([f"  Keys:    {key_log[1].hex()}"] if key_log else []),
        *([f"  Device:  calls itself {quoted(decision.device.name)}"] if decision.device else []),
        f"  Policy:  version {policy.version}, {policy.m} of {policy.n} officers",
        f"  Signed:  {signed}",
        *_log_lines(decision),
        *([f"  State:   {quoted(decision.state)}, by the server's word"] if decision.state not in {"", "open"} else []),
    ]


def _log_lines(decision: Decision) -> list[str]:
    """What the log itself says, where it was asked; text that others wrote in quotes."""
    leaf = decision.leaf
    if leaf is not None and leaf.entry is not None:
        return [
            "  It is in the log, and says:",
            f"  Entry:   {quoted(leaf.entry.tag)} by {quoted(leaf.entry.actor)}, dated {date(leaf.entry.time)}",
            f"  About:   {quoted(leaf.entry.subject)}",
        ]
    if leaf is not None:
        return ["  It is in the log. What it says is not proven.", f"  The server says: {quoted(leaf.told)}"]
    lines = []
    for head in decision.heads:
        signed = f"  The pinned key has signed this root of the {head.name}"
        if head.warning:
            lines += [
                f"  [bold red]WARNING: {plain(head.warning)}[/]",
                "  [bold red]Sign only if you know why, from a person.[/]",
            ]
        elif head.seen:
            lines += [f"{signed},", f"  and the {head.seen} entries seen before are in it."]
        else:
            lines += [
                f"{signed}.",
                "  This profile remembers no earlier one: ask an officer or an auditor who does whether",
                "  entries are gone.",
            ]
    return lines
