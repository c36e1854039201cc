# SPDX-License-Identifier: Apache-2.0
"""`holdfast officer`: keys, enrolment codes, cases as signed, and the answer to each.

Implements ESCROW "Policy and officers" and "Case" at the officer's keyboard: what is shown is what is signed.
Does not remember passphrases; every answer opens the officer's profile anew.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from holdfast.cli.asking import Yes
from holdfast.cli.exits import Exit
from holdfast.cli.page import command
from holdfast.cli.shell import Shell, quoted, shell_of, shown
from holdfast.client.identity import device
from holdfast.client.officers import officer, officer_keys
from holdfast.client.officers.officer import CaseView
from holdfast.client.profile.private_files import write_private

app = typer.Typer(help="For security officers: cases and keys.", no_args_is_help=True)

CaseId = Annotated[UUID, typer.Argument(help="The case.")]
Words = Annotated[
    list[str] | None,
    typer.Option(
        "--word", help="A word as heard from the person, with its place: 3=apple. Two of them; asked for when left out."
    ),
]


@command(
    app,
    "init",
    changes="this profile: it holds your officer's keys, apart from any device's.",
    online=False,
    examples=[("holdfast officer init --json", "Make the keys, and hand their public halves to the ceremony.")],
)
def init(context: typer.Context) -> None:
    """Make your officer's keys in this profile.

    Prints their public halves for the policy.

    You count as an officer once a policy signed by the tenant's officers lists these keys.
    """
    shell = shell_of(context)
    with shell.account(online=False) as account:
        made = officer_keys.make_keys(account)
    shell.show(
        {
            "person_id": UUID(bytes=made.person),
            "signing_key": made.signing_key.encoded.hex(),
            "sealing_key": made.sealing_key.encoded.hex(),
            "signing_words": list(made.signing_key.fingerprint("officer")),
        },
        "[bold green]✓[/] Your officer's keys are made. You count once a policy signed by the officers lists them.",
        f"  Signing key: {shown(made.signing_key.fingerprint('officer'))}",
    )


@command(
    app,
    "code",
    changes="the server knows the code's hash, and takes the code once; one new file here.",
    exits={Exit.REFUSED: "you are not an officer of this tenant, or the person has too many unused codes"},
    examples=[
        ("holdfast officer code 3f2b8c1e-1c1b-4a53-8f0a-6f2d1c9e7a11 --out alice.code", "Write a code for alice.")
    ],
)
def code(
    context: typer.Context,
    person_id: Annotated[UUID, typer.Argument(help="Who will enrol a device.")],
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
        issued = device.issue_code(account, person_id)
    write_private(out, f"{issued.text}\n")
    confirm = f"holdfast officer confirm-code {issued.code_id} {person_id}"
    shell.show(
        {
            "person_id": person_id,
            "file": out,
            "code_id": issued.code_id,
            "awaits_second": issued.awaits_second,
            "confirm": confirm if issued.awaits_second else "",
        },
        f"[bold green]✓[/] The code is in {out}. It works once.",
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
    person_id: Annotated[UUID, typer.Argument(help="For whom it is. It is refused when the code is for another.")],
) -> None:
    """Be the second person behind an enrolment code for an owner or officer.

    First make sure of the person yourself, not by the issuer's word: whoever enrols with the code counts as them. You
    count as its issuer as well, and so in no case that the enrolled device opens.
    """
    shell = shell_of(context)
    with shell.account() as account:
        device.confirm_code(account, code_id, person_id)
    shell.show(
        {"code_id": code_id, "person_id": person_id},
        f"[bold green]✓[/] The code for {person_id} can be used now. It works once.",
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
        *(f"{case.case_id}  {case.state:<10} {quoted(case.purpose)}  about {case.subject}" for case in found),
        *(["No case is open."] if not found else []),
    )


@command(
    app,
    "show",
    examples=[("holdfast officer show 7c9e6679-7425-40de-944b-e07fc1f90ae7", "Read a case before you decide.")],
)
def show(context: typer.Context, case_id: CaseId) -> None:
    """Verify a case and show exactly what you would sign.

    Everything shown is read from the signed case, not from the server's word about it. Where you may not approve, it
    says why.
    """
    shell = shell_of(context)
    with shell.account() as account:
        view = officer.see(account, case_id)
    shell.show(_document(view), *_lines(view))


@command(
    app,
    "approve",
    asks="two words of the receiving device's key, as the person reads them to you; then a yes.",
    changes="your shares are re-sealed to the device named in the case, and your signed approval counts.",
    exits={
        Exit.ASK_PERSON: "a word is wrong, or nobody said yes: nothing was signed",
        Exit.REFUSED: "you may not approve this case, or it has moved on",
    },
    examples=[
        (
            'holdfast officer approve 7c9e6679-7425-40de-944b-e07fc1f90ae7 --identity-check "Video call, I know them."',
            "Show the case, ask for two words at random places, then approve.",
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
    """Approve a case, after hearing two words.

    Re-seals your shares to the recipient named in the case, and signs.

    Call the person at a number that you know, not one from the case, and have the two words read to you. They keep
    somebody else's device from receiving the archive. Your approval alone opens nothing.
    """
    shell = shell_of(context)
    with shell.account() as account:
        view = officer.see(account, case_id)
        if not shell.is_json:
            for line in _lines(view):
                shell.note(line)
        heard = _heard(shell, word)
        shell.confirm("Approve this case?", is_given=yes)
        done = officer.approve(account, view, heard=heard, identity_check=identity_check)
    shell.show(
        {"case_id": case_id, "state": done.state, "approvals": done.approvals, "needed": done.needed},
        f"[bold green]✓[/] You approved. {done.approvals} of {done.needed} needed; the case is {done.state}.",
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
    """Deny a case, with a reason that stays in the log."""
    shell = shell_of(context)
    with shell.account() as account:
        done = officer.deny(account, officer.see(account, case_id), reason=reason)
    shell.show({"case_id": case_id, "state": done.state}, f"[bold green]✓[/] You denied; the case is {done.state}.")


@command(
    app,
    "attest",
    asks="two words of the new identity key, as the person reads them to you; then a yes.",
    changes="your signed attestation counts towards beginning the person's account again under that key.",
    exits={Exit.ASK_PERSON: "a word is wrong, or nobody said yes: nothing was signed"},
    examples=[
        (
            "holdfast officer attest 7c9e6679-7425-40de-944b-e07fc1f90ae7",
            "Ask for two words at random places, then attest.",
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

    First make sure who the person is. Their contacts will be asked to confirm the new key with them.
    """
    shell = shell_of(context)
    with shell.account() as account:
        view = officer.see(account, case_id)
        proposal = officer.proposal(account, view)
        shell.note(f"New identity key of {view.subject}: {shown(proposal.words)}")
        heard = _heard(shell, word)
        shell.confirm("Attest that this is the person's new key?", is_given=yes)
        officer.attest(account, view, proposal, heard=heard)
    shell.show(
        {"case_id": case_id, "identity_words": list(proposal.words)},
        f"[bold green]✓[/] You attested the new key of {view.subject}.",
    )


def _heard(shell: Shell, given: list[str] | None) -> dict[int, str]:
    """Return two words with their places, 1 to 8, from the options or by asking for two places at random."""
    if given:
        pairs = [word.split("=", 1) for word in given]
        if any(len(pair) != 2 or not pair[0].isdigit() for pair in pairs):
            raise typer.BadParameter("a place and a word, as 3=apple", param_hint="--word")
        return {int(place): heard.strip().lower() for place, heard in pairs}
    if shell.is_json:
        raise typer.BadParameter("two words as heard from the person, as 3=apple", param_hint="--word")
    first, second = sorted(secrets.SystemRandom().sample(range(1, 9), 2))
    return {
        place: shell.ask(f"Word {place}, as the person reads it to you", option="--word") for place in (first, second)
    }


def _document(view: CaseView) -> dict[str, object]:
    case = view.case
    return {
        "case_id": view.case_id,
        "state": view.state,
        "subject": view.subject,
        "requester": UUID(bytes=case.requester),
        "recipient_person": view.recipient_person,
        "recipient_device": UUID(bytes=case.header.device),
        "recipient_words": list(view.words),
        "purpose": case.purpose,
        "reason": case.reason,
        "reference": case.reference,
        "deposits": [
            {
                "deposit_id": UUID(bytes=deposit.deposit_id),
                "generation": deposit.generation,
                "from_revoked_device": deposit.is_from_revoked,
            }
            for deposit in view.deposits
        ],
        "q": view.q.hex(),
        "policy_hash": case.policy_hash.hex(),
        "not_before": case.not_before,
        "notice_at": case.notice_at,
        "expiry": case.expiry,
        "approvals": view.approvals,
        "needed": view.needed,
        "may_approve": view.obstacle == "",
        "obstacle": view.obstacle,
    }


def _lines(view: CaseView) -> list[str]:
    case = view.case
    whose = (
        "to the subject's own new device"
        if case.subject == view.recipient_person.bytes
        else "to ANOTHER person's device"
    )
    return [
        f"Case {view.case_id} ({view.state}; {view.approvals} of {view.needed} approvals)",
        f"  About:      {view.subject}",
        f"  Asked by:   {UUID(bytes=case.requester)}",
        f"  Opens:      {', '.join(f'generation {deposit.generation}' for deposit in view.deposits)}, {whose}",
        f"  Purpose:    {quoted(case.purpose)}",
        f"  Reason:     {quoted(case.reason)}",
        f"  Reference:  {quoted(case.reference)}",
        f"  Key of the receiving device: {shown(view.words)}",
        *(
            f"  [yellow]The deposit of generation {deposit.generation} was made by a device revoked since.[/]"
            for deposit in view.deposits
            if deposit.is_from_revoked
        ),
        *([f"  [yellow]You may not approve: {view.obstacle}[/]"] if view.obstacle else []),
    ]
