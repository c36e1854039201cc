# SPDX-License-Identifier: Apache-2.0
"""`holdfast recover escrow`: from a new device and nothing else, back to the archive and to an account.

Implements ESCROW "Case" at the keyboard of the person who lost everything.
Does not decide anything: officers do, in `holdfast officer`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import typer

from holdfast.cli.asking import PasswordFile, Yes, password
from holdfast.cli.exits import Exit
from holdfast.cli.later import later
from holdfast.cli.page import command, group
from holdfast.cli.people import PERSON, named, person
from holdfast.cli.shell import day, numbered, one_word, quoted, shell_of, shown

with later():
    from holdfast.client.recovery import by_case, vetoes

app = group(text="Recovery of your archive and account through your officers.")


@command(
    app,
    "open",
    changes="opens a case: every officer is told, and so are you at the addresses your organisation knows.",
    exits={Exit.FAILED: "a case is open on this device already, or nothing of yours is in escrow"},
    examples=[
        ('holdfast recover escrow open --reason "Laptop and phone stolen."', "Ask for your own archive."),
        (
            "holdfast recover escrow open --purpose leaver --subject 7c9e6679-7425-40de-944b-e07fc1f90ae7 "
            '--until 2027-03-31 --reason "Handover of their projects."',
            "Ask for the archive of somebody who has left, to read until the end of March.",
        ),
    ],
)
def open_case(  # noqa: PLR0917 — options by name, for typer
    context: typer.Context,
    reason: Annotated[str, typer.Option(help="What happened, for your officers and for the record.")],
    purpose: Annotated[str, typer.Option(help="One of the purposes your policy allows.")] = "device-loss",
    reference: Annotated[str, typer.Option(help="A ticket or file number.")] = "",
    subject: Annotated[
        str | None,
        typer.Option(
            metavar=PERSON, parser=named, help="Whose archive, by id or e-mail address; your own when left out."
        ),
    ] = None,
    deposit: Annotated[
        list[UUID] | None,
        typer.Option(help="A deposit to ask for; the newest of each generation when left out."),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(
            help="The day (UTC) on which another person's archive is closed to you again; in 60 days when left out.",
            formats=["%Y-%m-%d"],
        ),
    ] = None,
) -> None:
    """Ask your officers to open an archive to this device.

    It is yours, unless --subject says whose. Another person's opens to you as a disclosure: holdfast archive decrypt
    --case. Its keys stay apart from yours, each file that you open is written down and signed by this device, and they
    are destroyed on the day that the case names. Officers, owners and reviewers see what others have in escrow, and so
    can ask for it.

    Makes keys for this case alone, and shows eight words that stand for them. Your officers will call you and ask for
    three of the words: read them from this screen. holdfast recover escrow status shows them again.
    """
    shell = shell_of(context)
    with shell.account() as account:
        done = by_case.open_case(
            account,
            reason=reason,
            purpose=purpose,
            reference=reference,
            subject=person(shell, account, subject, is_trusted=True).bytes if subject else account.user,
            wanted=[identifier.bytes for identifier in deposit or []],
            ends_at=int(until.replace(tzinfo=UTC).timestamp()) if until else None,
        )
    shell.show(
        {
            "case_id": done.case_id,
            "recipient_words": list(done.words),
            "deposits": done.deposits,
            "needed": done.needed,
            "ends_at": done.ends_at,
        },
        f"[bold green]✓[/] Case {done.case_id} is open; {done.needed} officers must approve it.",
        *_until(done.ends_at),
        "  Call them. Each will ask you for three words of this device's key, by their numbers:",
        *(f"    {row}" for row in numbered(done.words)),
    )


@command(app, "status", examples=[("holdfast recover escrow status", "See how many officers have approved.")])
def status(context: typer.Context) -> None:
    """Say how far your case is.

    Its state, how many officers have approved and attested, what it waits for, and what is to be done. Shows again the
    words that your officers ask you for. Of a case that has ended: what ended it, and what to do next. It frees this
    device for another case, with fresh keys.
    """
    shell = shell_of(context)
    with shell.account() as account:
        found = by_case.status(account)
    shell.show(
        {
            "case_id": found.case_id,
            "state": found.state,
            "approvals": found.approvals,
            "needed": found.needed,
            "attestations": found.attestations,
            "release_at": found.release_at,
            "waiting_for": found.waiting_for,
            "ended": found.ended,
            "ends_at": found.ends_at,
            "recipient_words": list(found.words),
            "identity_words": list(found.identity_words),
        },
        f"Case {found.case_id}: {one_word(found.state)}, {found.approvals} of {found.needed} officers have approved"
        + (f", {found.attestations} have attested your new key." if found.attestations else "."),
        *(_words_of(found) if not found.is_over else ()),
        *[f"  The server says: {quoted(text)}" for text in (found.waiting_for, found.ended) if text],
        *(["  This device is free to ask anew: holdfast recover escrow open"] if found.is_over else []),
        *_until(found.ends_at),
    )


def _words_of(found: by_case.CaseStatus) -> Iterator[str]:
    yield "  Words of this device's key, for the officers who call you:"
    yield from (f"    {row}" for row in numbered(found.words))
    if found.identity_words:
        yield "  Words of your new identity key:"
        yield from (f"    {row}" for row in numbered(found.identity_words))


def _until(ends_at: int) -> list[str]:
    return [f"  What it discloses of another person's archive ends on {day(ends_at)}."] if ends_at else []


@command(
    app,
    "cancel",
    changes="ends the case, and destroys the keys that were made for it on this device.",
    examples=[
        ('holdfast recover escrow cancel --reason "Found the phone."', "Withdraw."),
        (
            'holdfast recover escrow cancel --case 7c9e6679-7425-40de-944b-e07fc1f90ae7 --reason "I did not ask."',
            "End what another device asked for in your name.",
        ),
    ],
)
def cancel(
    context: typer.Context,
    reason: Annotated[str, typer.Option(help="Why, for the record.")],
    case: Annotated[
        UUID | None, typer.Option(help="A case that another device opened in your name; this device's when left out.")
    ] = None,
) -> None:
    """Withdraw your case. What officers approved in it no longer opens anything."""
    shell = shell_of(context)
    with shell.account() as account:
        case_id, state = by_case.cancel(account, reason=reason, case_id=case)
    shell.show(
        {"case_id": case_id, "state": state},
        f"[bold green]✓[/] Case {case_id} is {one_word(state)}.",
        *(["  Its keys are destroyed, and this device is free to ask anew."] if case is None else []),
    )


@command(
    app,
    "veto",
    asks="a yes, unless --yes is given.",
    changes="the case ends, or needs one officer more; your officers see your signed reason.",
    exits={Exit.ASK_PERSON: "nobody said yes: nothing was signed"},
    examples=[
        (
            'holdfast recover escrow veto 7c9e6679-7425-40de-944b-e07fc1f90ae7 --reason "I did not ask for this."',
            "Stop a case from any device of yours.",
        )
    ],
)
def veto(
    context: typer.Context,
    case_id: Annotated[UUID, typer.Argument(help="The case.")],
    reason: Annotated[str, typer.Option(help="Why, for your officers and for the record.")],
    wait: Annotated[int, typer.Option(help="Wait up to this many seconds for the signed log.")] = 10,
    yes: Yes = False,
) -> None:
    """Forbid a case that you did not ask for.

    This device signs the veto, and checks that the tenant's signed log has it. Until then it is the server's word
    alone: run the command again. Tell your officers at once, because somebody asks in your name.

    A third veto of yours within 90 days does not end the case. The case then needs one officer more, so that officers
    who have a warrant are not stopped for ever. Only cases that enough officers had approved count.
    """
    shell = shell_of(context)
    shell.confirm("Forbid this case?", is_given=yes)
    with shell.account() as account, shell.working("Waiting for the signed log"):
        done = vetoes.veto(account, case_id, reason=reason, wait_seconds=wait)
    shell.show(
        {"case_id": case_id, "state": done.state, "log_index": done.index},
        f"[bold green]✓[/] Your veto is signed; the case is {one_word(done.state)}.",
        f"  The signed log has it, as entry {done.index}."
        if done.index is not None
        else f"  [yellow]It is not proven yet: {done.why_not} Run the same command again.[/]",
    )


@command(
    app,
    "collect",
    changes="this profile holds the archive keys; in your own case, your officers see a new identity key to attest.",
    exits={
        Exit.NOT_YET: "not released yet: officers are still to approve, the delay runs, or a share was wrong",
        Exit.UNTRUSTED: "the server keeps shares back, or a key is not the one that your account names",
    },
    examples=[("holdfast recover escrow collect --wait 600", "Wait up to ten minutes for the release.")],
)
def collect(
    context: typer.Context,
    wait: Annotated[int, typer.Option(help="Wait up to this many seconds for the release.")] = 0,
) -> None:
    """Collect the release, and open the archive keys.

    In a case about yourself, your new identity key is then proposed to your officers.

    The keys are put together here and nowhere else, and each is checked against what its account announced. Your
    identity was never in escrow: your account begins again under a new key, which officers attest by its words.

    The keys of another person are kept apart from yours, until the day that the case names: holdfast archive
    disclosures. This device is then free to ask for something else.
    """
    shell = shell_of(context)
    with shell.account() as account, shell.working("Waiting for the release"):
        done = by_case.collect(account, wait_seconds=wait)
    shell.show(
        {
            "generations": done.generations,
            "identity_words": list(done.words),
            "blamed": [
                {"deposit_id": share.deposit_id, "officer": share.number, "person_id": share.person}
                for share in done.blamed
            ],
            "disclosure": str(UUID(bytes=done.disclosure.case_id)) if done.disclosure else None,
        },
        "[bold green]✓[/] Opened, on this device alone: archive keys of generations "
        f"{', '.join(map(str, done.generations))}.",
        *(
            f"  [yellow]The share of {share.whose} for {share.deposit_id} was wrong and was not used.[/]"
            for share in done.blamed
        ),
        *(
            [
                "  Your account begins again under a new key. Your officers attest it by three of these words each:",
                *(f"    {row}" for row in numbered(done.words)),
            ]
            if done.words
            else []
        ),
        *(
            [
                f"  Read by them: holdfast archive decrypt FILE --case {UUID(bytes=done.disclosure.case_id)}",
                *_until(done.disclosure.ends_at),
            ]
            if done.disclosure
            else []
        ),
    )


@command(
    app,
    "finish",
    asks="a new password for your vault (14 characters or more), unless --new-password-file names it.",
    changes="your account begins again: new identity key, archive key, pre-keys and vault; old devices are out.",
    exits={Exit.NOT_YET: "too few officers have attested your new key, or the delay runs"},
    examples=[("holdfast recover escrow finish --wait 600", "Wait for the officers, then begin again.")],
)
def finish(
    context: typer.Context,
    new_password_file: PasswordFile = None,
    wait: Annotated[int, typer.Option(help="Wait up to this many seconds for attestations and delay.")] = 0,
) -> None:
    """Begin your account again under the attested key.

    Each step is kept: when something interrupts it, run it again. Your contacts will be asked to confirm the new key
    with you.
    """
    shell = shell_of(context)
    with shell.account() as account:
        new = password(new_password_file, "New password of your vault (14 characters or more)", confirm=True)
        with shell.working("Beginning your account again"):
            done = by_case.finish(account, password=new, wait_seconds=wait)
    shell.show(
        {"identity_words": list(done.words), "generation": done.generation},
        "[bold green]✓[/] Your account is yours again, under a new key. Your old devices are out of it.",
        f"  New identity key:  {shown(done.words)}",
        "  Your contacts will be asked to confirm it with you.",
        f"  A new archive key (generation {done.generation}) is in use; put it in escrow: holdfast escrow deposit",
    )
