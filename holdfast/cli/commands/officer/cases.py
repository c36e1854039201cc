# SPDX-License-Identifier: Apache-2.0
"""`holdfast officer`: enrolment codes, cases as signed, and the answer to each. Keys are in `keys`.

Implements ESCROW "Policy and officers" and "Case" at the officer's keyboard: what is shown is what is signed.
Does not remember passphrases; every answer opens the officer's profile anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from holdfast.cli.asking import Yes
from holdfast.cli.exits import Exit
from holdfast.cli.hearing import ask_words, parse_word
from holdfast.cli.later import later
from holdfast.cli.page import command, group
from holdfast.cli.people import CHANGED, PERSON, named, person
from holdfast.cli.shell import Shell, day, moment, one_word, plain, quoted, shell_of
from holdfast.client.errors import NotPossible
from holdfast.core.base.text import duration

if TYPE_CHECKING:
    from holdfast.client.officers.officer import CaseView, Proposal
    from holdfast.client.profile.account import Account

with later():
    from holdfast import files
    from holdfast.client.identity import device
    from holdfast.client.officers import hearing, officer

app = group()

CaseId = Annotated[UUID, typer.Argument(help="The case.")]
Words = Annotated[
    list[str] | None,
    typer.Option(
        "--word",
        help="A word as heard from the person, with its place: 3=apple. The three that holdfast officer show names; "
        "asked for when left out.",
    ),
]


@command(
    app,
    "code",
    changes="the server knows the code's hash, and takes the code once; one new file here.",
    exits={
        Exit.ASK_PERSON: CHANGED,
        Exit.REFUSED: "you are not an officer of this tenant, or the person has too many unused codes",
    },
    examples=[
        ("holdfast officer code alice@acme.test --out alice.code", "Write a code for alice, who was invited."),
        ("holdfast officer code 3f2b8c1e-1c1b-4a53-8f0a-6f2d1c9e7a11 --out alice.code", "The same, by id."),
    ],
)
def code(
    context: typer.Context,
    person_id: Annotated[
        str, typer.Argument(metavar=PERSON, parser=named, help="Who will enrol a device: an id or e-mail address.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write the code, readable by you alone.")],
) -> None:
    """Issue an enrolment code that carries your own pin.

    Hand it over in person: whoever enrols with it counts as that person in this tenant, and trusts what you trust. It
    works once, and expires. The person is told of it, at their devices and by mail.

    You will not count in a case that the enrolled device opens. For another owner or officer, a second one has to
    confirm the code before it works: give them the command that is printed.
    """
    shell = shell_of(context)
    with shell.account() as account:
        user = person(shell, account, person_id, for_enrolment=True, is_trusted=True)
        # Before the code is made: one that finds no place is lost.
        with files.whole_file(out) as file:
            issued = device.issue_code(account, user)
            file.write(f"{issued.text}\n".encode())
    confirm = f"holdfast officer confirm-code {issued.code_id} {user}"
    shell.show(
        {
            "person_id": user,
            "file": out,
            "code_id": issued.code_id,
            "awaits_second": issued.awaits_second,
            "confirm": confirm if issued.awaits_second else "",
        },
        f"[bold green]✓[/] The code is in {plain(str(out))}. It works once.",
        *([f"  First, another owner or officer has to run: {confirm}"] if issued.awaits_second else []),
    )


@command(
    app,
    "confirm-code",
    changes="the code that another issued for an owner or officer works from now on.",
    exits={Exit.REFUSED: "it is your own code, or for you; one of you two let the other in; or it is used or expired"},
    examples=[
        (
            "holdfast officer confirm-code 0b0c4f0e-5a4f-4b1e-9d6e-5d7a1f0a3c11 3f2b8c1e-1c1b-4a53-8f0a-6f2d1c9e7a11",
            "Confirm a code for an officer who lost their devices.",
        )
    ],
)
def confirm_code(
    context: typer.Context,
    code_id: Annotated[UUID, typer.Argument(help="The code, as its issuer's command printed it.")],
    person_id: Annotated[
        str,
        typer.Argument(
            metavar=PERSON,
            parser=named,
            help="For whom it is, by id or e-mail address. It is refused when the code is for another.",
        ),
    ],
) -> None:
    """Confirm a code that another issued for an owner or officer.

    First make sure of the person yourself, not by the issuer's word: whoever enrols with the code counts as them. You
    count as its issuer as well, and so in no case that the enrolled device opens.
    """
    shell = shell_of(context)
    with shell.account() as account:
        user = person(shell, account, person_id, for_enrolment=True, is_trusted=True)
        device.confirm_code(account, code_id, user)
    shell.show(
        {"code_id": code_id, "person_id": user},
        f"[bold green]✓[/] The code for {user} can be used now. It works once.",
    )


@command(app, "cases", examples=[("holdfast officer cases", "See what waits for an answer.")])
def cases(context: typer.Context) -> None:
    """List the cases you may see."""
    shell = shell_of(context)
    with shell.account() as account:
        found = officer.list_cases(account)
    shell.show(
        {
            "cases": [
                {"case_id": case.case_id, "state": case.state, "subject": case.subject, "purpose": case.purpose}
                for case in found
            ]
        },
        *(f"{case.case_id}  about {case.subject}  {one_word(case.state):<10} {quoted(case.purpose)}" for case in found),
        *(["No case is open."] if not found else []),
    )


@command(
    app,
    "show",
    examples=[("holdfast officer show 7c9e6679-7425-40de-944b-e07fc1f90ae7", "Read a case before you decide.")],
)
def show(context: typer.Context, case_id: CaseId) -> None:
    """Verify a case and show exactly what you would sign.

    Everything but the last line is read from the signed case and from your pinned policy, not from the server's word
    about it. Where you may not approve, it says why.

    The words of the receiving device's key are not shown: the person reads you the three that you are asked for.
    """
    shell = shell_of(context)
    with shell.account() as account:
        view = officer.see(account, case_id)
        asked = () if view.why_not else hearing.places(account, view.words)
        lines = [*_lines(view, account.api.clock.now()), *_asked_lines(account, view, asked), *_told_lines(view)]
    shell.show(_document(view, asked), *lines)


@command(
    app,
    "approve",
    asks="three words of the receiving device's key, as the person reads them to you; then a yes.",
    changes="your shares are re-sealed to the device named in the case, and your signed approval counts.",
    exits={
        Exit.ASK_PERSON: "a word is wrong or missing, or nobody said yes: nothing was signed",
        Exit.REFUSED: "you may not approve this case, or it has moved on",
    },
    examples=[
        (
            'holdfast officer approve 7c9e6679-7425-40de-944b-e07fc1f90ae7 --identity-check "Video call, I know them."',
            "Show the case, ask for three words at places of this profile's choice, then approve.",
        ),
        (
            "holdfast officer approve 7c9e6679-7425-40de-944b-e07fc1f90ae7 --identity-check 'Video call.' --json "
            "--word 2=apple --word 5=river --word 8=stone --yes",
            "The same in a script. Without words it ends with 8, and the error's places are those to ask for.",
        ),
    ],
)
def approve(
    context: typer.Context,
    case_id: CaseId,
    identity_check: Annotated[str, typer.Option(help="How you made sure who is asking, for the record.")],
    word: Words = None,
    yes: Yes = False,
) -> None:
    """Approve a case, after hearing three words.

    Re-seals your shares to the recipient named in the case, and signs.

    Call the person at a number that you know, not one from the case, and have the three words read to you. They keep
    somebody else's device from receiving the archive, so no screen of yours shows them. The places are your profile's
    choice, the same each time; wrong words may be typed three times. Your approval alone opens nothing.
    """
    shell = shell_of(context)
    officer.require_told(identity_check, "How you made sure who is asking")
    with shell.account() as account:
        view = officer.see(account, case_id)
        if view.why_not:
            raise NotPossible(f"You may not approve this case: {view.why_not}.")
        shell.note("[bold]You are about to sign an approval of this case:[/]")
        _note(shell, [*_lines(view, account.api.clock.now()), _said_line("Identity check", identity_check)])
        _note(shell, _told_lines(view))
        heard = _heard(shell, account, view.words, word)
        shell.confirm("Approve this case?", is_given=yes)
        done = officer.approve(account, view, heard=heard, identity_check=identity_check)
    shell.show(
        {"case_id": case_id, "state": done.state, "approvals": done.approvals, "needed": done.needed},
        f"[bold green]✓[/] You approved. {done.approvals} of {done.needed} needed; the case is {one_word(done.state)}.",
    )


@command(
    app,
    "deny",
    changes="your signed denial counts; the case may end by it.",
    exits={Exit.REFUSED: "you may not decide this case, or it has moved on"},
    examples=[
        (
            'holdfast officer deny 7c9e6679-7425-40de-944b-e07fc1f90ae7 --reason "The person did not ask for it."',
            "Refuse, for the record.",
        )
    ],
)
def deny(
    context: typer.Context,
    case_id: CaseId,
    reason: Annotated[str, typer.Option(help="Why, for the record.")],
) -> None:
    """Deny a case, with a reason that stays in the log.

    Shows the case, and signs at once: what looks like a fraud is stopped by one officer.
    """
    shell = shell_of(context)
    officer.require_told(reason, "Why you deny")
    with shell.account() as account:
        view = officer.see(account, case_id)
        shell.note("[bold]You sign a denial of this case:[/]")
        _note(shell, [*_lines(view, account.api.clock.now()), _said_line("Denied since", reason), *_told_lines(view)])
        done = officer.deny(account, view, reason=reason)
    shell.show(
        {"case_id": case_id, "state": done.state}, f"[bold green]✓[/] You denied; the case is {one_word(done.state)}."
    )


@command(
    app,
    "attest",
    asks="three words of the new identity key, as the person reads them to you; then a yes.",
    changes="your signed attestation counts towards beginning the person's account again under that key.",
    exits={Exit.ASK_PERSON: "a word is wrong or missing, or nobody said yes: nothing was signed"},
    examples=[
        (
            "holdfast officer attest 7c9e6679-7425-40de-944b-e07fc1f90ae7",
            "Ask for three words at places of this profile's choice, then attest.",
        )
    ],
)
def attest(
    context: typer.Context,
    case_id: CaseId,
    word: Words = None,
    yes: Yes = False,
) -> None:
    """Attest the new identity key of a case's subject.

    First make sure who the person is, and have three words of the new key read to you; no screen of yours shows them
    before. Their contacts will be asked to confirm the new key with them.
    """
    shell = shell_of(context)
    with shell.account() as account:
        view = officer.see(account, case_id)
        proposal = officer.proposal(account, view)
        shell.note("[bold]You are about to sign that a person holds a new identity key:[/]")
        _note(shell, _attested_lines(view, proposal))
        heard = _heard(shell, account, proposal.words, word)
        shell.confirm("Attest that this is the person's new key?", is_given=yes)
        officer.attest(account, view, proposal, heard=heard)
    shell.show(
        {"case_id": case_id, "identity_words": list(proposal.words)},
        f"[bold green]✓[/] You attested the new key of {view.subject}.",
    )


def _heard(shell: Shell, account: Account, words: tuple[str, ...], given: list[str] | None) -> dict[int, str]:
    """Return words as heard, by place: from the options, or by asking for those that this profile picks."""
    if given:
        return dict(parse_word(one) for one in given)
    return ask_words(shell, hearing.asked(account, words))


def _note(shell: Shell, lines: Sequence[str]) -> None:
    for line in lines:
        shell.note(line)


def _document(view: CaseView, asked: tuple[int, ...]) -> dict[str, object]:
    case, policy, terms = view.case, view.policy.policy, view.terms
    return {
        "case_id": view.case_id,
        "state": view.state,
        "subject": view.subject,
        "requester": UUID(bytes=case.requester),
        "recipient_person": view.recipient_person,
        "recipient_device": UUID(bytes=case.header.device),
        "ask_words": list(asked),
        "purpose": case.purpose,
        "reason": case.reason,
        "reference": case.reference,
        "deposits": [
            {
                "deposit_id": UUID(bytes=deposit.deposit_id),
                "generation": deposit.generation,
                "used_from": view.span(deposit.generation)[0],
                "used_until": view.span(deposit.generation)[1] or None,
                "from_revoked_device": deposit.is_from_revoked,
            }
            for deposit in view.deposits
        ],
        "q": view.q.hex(),
        "policy_hash": case.policy_hash.hex(),
        "policy_version": policy.version,
        "policy_needed": policy.m,
        "delay_seconds": terms.delay_seconds,
        "undelivered_delay_seconds": terms.undelivered_delay_seconds,
        "long_delay": view.long_delay,
        "signed_at": case.header.issued_at,
        "not_before": case.not_before,
        "notice_at": case.notice_at,
        "expiry": case.expiry,
        "disclosure_ends": case.disclosed_until if case.is_disclosure else 0,
        "approvals": view.approvals,
        "needed": view.needed,
        "may_approve": view.why_not == "",
        "obstacle": view.why_not,
    }


def _lines(view: CaseView, now: int) -> list[str]:
    """Everything that an approval binds, from signed bytes and the pinned policy, and nothing of the server's."""
    case, policy, terms = view.case, view.policy.policy, view.terms
    is_own = view.recipient_person == view.subject
    return [
        f"  Case:       {view.case_id}",
        f"  About:      the archive of person {view.subject}",
        f"  Asked by:   {'the subject' if case.requester == case.subject else 'person'} {UUID(bytes=case.requester)}",
        f"  To device:  {UUID(bytes=case.header.device)}",
        f"  Whose:      {'the subject, on a new device' if is_own else f'ANOTHER person, {view.recipient_person}'}",
        *(f"  Opens:      {_opened(view, deposit.generation)}" for deposit in view.deposits),
        *(
            f"  [yellow]The deposit of generation {deposit.generation} was made by a device revoked since.[/]"
            for deposit in view.deposits
            if deposit.is_from_revoked
        ),
        _said_line("Purpose", case.purpose),
        _said_line("Reason", case.reason),
        _said_line("Reference", case.reference),
        f"  Signed:     {moment(case.header.issued_at, now)}",
        f"  Notice:     the subject is told {moment(case.notice_at, now)}",
        f"  Not before: {moment(case.not_before, now)}",
        f"  Expires:    {moment(case.expiry, now)}",
        *([f"  Disclosed:  until {moment(case.disclosed_until, now)}"] if case.is_disclosure else []),
        f"  Policy:     version {policy.version}: {policy.m} of {policy.n} officers",
        f"  Delay:      {_delayed(terms.delay_seconds)}; {_delayed(terms.undelivered_delay_seconds)} where the subject "
        "cannot be told or cannot object",
        *([f"  [yellow]You may not approve: {plain(view.why_not)}[/]"] if view.why_not else []),
    ]


def _opened(view: CaseView, generation: int) -> str:
    since, until = view.span(generation)
    return f"generation {generation}, in use from {day(since)} until {day(until) if until else 'now'}"


def _delayed(seconds: int) -> str:
    return f"{duration(seconds)} after the last approval that is needed" if seconds else "none"


def _said_line(label: str, text: str) -> str:
    """Write what a person put into a statement, in quotes; blank text is seen to be blank."""
    return f"  {label + ':':<11} {quoted(text) if text else 'none'}"


def _asked_lines(account: Account, view: CaseView, asked: tuple[int, ...]) -> list[str]:
    if not asked:
        return []
    if not hearing.tries_left(account, view.words):
        return ["  [yellow]Wrong words were typed too often: this profile takes no more for this case.[/]"]
    return [f"  Ask for:    words {hearing.listed(asked)} of the eight, by a call that you place"]


def _told_lines(view: CaseView) -> list[str]:
    long = _delayed(view.terms.undelivered_delay_seconds)
    return [
        f"The server says: {quoted(view.state)}; {view.approvals} of {view.needed} approvals needed are there.",
        *([f"  [yellow]{quoted(view.long_delay)} By the policy: {long}.[/]"] if view.long_delay else []),
    ]


def _attested_lines(view: CaseView, proposal: Proposal) -> list[str]:
    return [
        f"  Person:     {view.subject}",
        f"  Device:     {UUID(bytes=view.case.header.device)}",
        f"  Case:       {view.case_id}",
        f"  Key:        {proposal.identity_key.kind.name.lower()}, known by its words as the person reads them",
        f"  Follows:    entry {view.subject_state.state.seq} of the account, hash {proposal.old_head.hex()}",
    ]
