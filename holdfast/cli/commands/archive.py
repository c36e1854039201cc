# SPDX-License-Identifier: Apache-2.0
"""`holdfast archive`: files encrypted under this month's archive key, and opened under the key they name.

Implements the archive records and custody manifests of docs/formats at the keyboard.
Does not deposit the key; `holdfast escrow deposit` does, with the person's consent.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from holdfast.cli.asking import Yes
from holdfast.cli.exits import Exit
from holdfast.cli.later import later
from holdfast.cli.page import command, group
from holdfast.cli.shell import date, day, plain, shell_of
from holdfast.core.base.errors import HoldfastError

if TYPE_CHECKING:
    from holdfast.client.escrow.disclosures import Disclosure
    from holdfast.core.escrow.custody import Manifest

with later():
    from holdfast.client.escrow import archive, disclosures
    from holdfast.core.signed import cose

app = group()

Source = Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True)]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Where to write; refuses to overwrite.")]


@command(
    app,
    "encrypt",
    changes="writes one new file; once a month it also makes the month's archive key, and your account chain names it.",
    exits={Exit.ASK_PERSON: "your organisation wants the key in escrow first: holdfast escrow deposit"},
    examples=[
        ("holdfast archive encrypt letter.txt", "Write letter.txt.holdfast."),
        ("holdfast archive encrypt letter.txt --out kept/letter", "Write it somewhere else."),
    ],
)
def encrypt(context: typer.Context, file: Source, out: Out = None) -> None:
    """Encrypt a file under this month's archive key.

    The file can be opened again by every device of yours that holds the key, and through escrow where you agreed to
    it. It is written whole or not at all, readable by you alone; nothing is overwritten.
    """
    shell = shell_of(context)
    target = out or file.with_name(f"{file.name}.holdfast")
    with shell.account() as account, shell.working("Encrypting", total=file.stat().st_size) as advance:
        done = archive.encrypt_file(account, file, target, advance=advance)
    shell.show(
        {"file": target, "generation": done.generation, "size": done.size, "seconds": round(done.seconds, 3)},
        f"[bold green]✓[/] {plain(str(target))}: {done.size} bytes under the key of generation {done.generation}.",
    )


@command(
    app,
    "decrypt",
    changes="writes one new file; with --case also a line of the case's custody manifest, before the file.",
    exits={
        Exit.PROFILE: "this device does not hold the key that the file names, or the disclosure has ended",
        Exit.UNTRUSTED: "the file was changed; nothing of it was written",
    },
    online=False,
    examples=[
        ("holdfast archive decrypt letter.txt.holdfast", "Write letter.txt."),
        (
            "holdfast archive decrypt letter.txt.holdfast --case 7c9e6679-7425-40de-944b-e07fc1f90ae7",
            "Read a file of somebody else's archive, which this case disclosed to you.",
        ),
    ],
)
def decrypt(
    context: typer.Context,
    file: Source,
    out: Out = None,
    case: Annotated[
        UUID | None, typer.Option(help="The case that disclosed somebody else's archive to you.", metavar="CASE")
    ] = None,
) -> None:
    """Decrypt a file under the archive key that it names.

    Works without the server. The new file is kept only if every byte was authentic.

    With --case, a file of another person's archive: that you opened it is written down first and signed by this device.
    """
    shell = shell_of(context)
    target = out or file.with_suffix("")
    with shell.account(online=False) as account, shell.working("Decrypting", total=file.stat().st_size) as advance:
        if case is None:
            done = archive.decrypt_file(account, file, target, advance=advance)
        else:
            done = disclosures.decrypt_file(account, case.bytes, file, target, advance=advance)
    shell.show(
        {"file": target, "generation": done.generation, "size": done.size, "seconds": round(done.seconds, 3)},
        f"[bold green]✓[/] {plain(str(target))}: {done.size} bytes, from generation {done.generation}.",
    )


@command(
    app,
    "disclosures",
    asks="a yes for --end and --forget, unless --yes is given.",
    changes="what has run out is ended; --end destroys a disclosure's keys, --forget its manifest in this profile.",
    exits={Exit.ASK_PERSON: "nobody said yes: nothing was destroyed"},
    online=False,
    examples=[
        ("holdfast archive disclosures", "See whose archives you may read, and until when."),
        (
            "holdfast archive disclosures --end 7c9e6679-7425-40de-944b-e07fc1f90ae7",
            "Destroy the keys now: the work is done.",
        ),
    ],
)
def list_disclosures(
    context: typer.Context,
    end: Annotated[
        UUID | None, typer.Option(help="Destroy the keys of this case's disclosure now.", metavar="CASE")
    ] = None,
    forget: Annotated[
        UUID | None,
        typer.Option(
            help="Take an ended disclosure and its manifest, once written to a file, out of this profile.",
            metavar="CASE",
        ),
    ] = None,
    yes: Yes = False,
) -> None:
    """List what cases have disclosed to you.

    These are other people's archives. Each has its case, whose archive it is, the generations, the day on which it
    ends, and how many files you opened. Their keys are destroyed after that day by the first that runs of holdfast
    maintain, this list, and a command that would open a file by them. The manifest stays.
    """
    shell = shell_of(context)
    if end:
        shell.confirm("Destroy the keys of this disclosure? Nothing of that archive opens here any more.", is_given=yes)
    if forget:
        shell.confirm("Forget this disclosure? Its manifest is evidence: keep the file of it.", is_given=yes)
    with shell.account(online=False) as account:
        if end:
            disclosures.end(account, end.bytes)
        if forget:
            disclosures.forget(account, forget.bytes)
        disclosures.end_due(account)
        found = disclosures.list_disclosures(account)
    shell.show(
        {"disclosures": [_document(one) for one in found]},
        *[
            f"{UUID(bytes=one.case_id)}: archive of {UUID(bytes=one.subject)}, generations "
            f"{', '.join(map(str, one.generations))}, {_standing(one)}; {one.files} files opened"
            for one in found
        ]
        or ["No case has disclosed anything to this device."],
    )


def _standing(one: Disclosure) -> str:
    return "ended, keys destroyed" if one.is_ended else f"until {day(one.ends_at)}"


def _document(one: Disclosure) -> dict[str, object]:
    return {
        "case_id": UUID(bytes=one.case_id),
        "subject": UUID(bytes=one.subject),
        "generations": one.generations,
        "ends_at": one.ends_at,
        "ended": one.is_ended,
        "files": one.files,
    }


@command(
    app,
    "custody",
    changes="writes one new file.",
    online=False,
    examples=[
        ("holdfast archive custody 7c9e6679-7425-40de-944b-e07fc1f90ae7 --out manifest", "Hand over what was opened.")
    ],
)
def custody(
    context: typer.Context,
    case: Annotated[UUID, typer.Argument(help="The case.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write; refuses to overwrite.")],
) -> None:
    """Write the custody manifest of a disclosure.

    It says which files you opened, and when. Each line is signed by this device and names the line before it, so
    that none can be left out or put in unseen. The last one says that the keys were destroyed. Anybody verifies it
    on any machine: holdfast archive verify.
    """
    shell = shell_of(context)
    with shell.account(online=False) as account:
        found = disclosures.write_file(account, case.bytes, out)
    q = cose.Sign1.parse(found.case).payload_hash.hex()
    shell.show(
        {"file": out, **_document(found), "q": q},
        f"[bold green]✓[/] {plain(str(out))}: {found.files} files opened, {_standing(found)}.",
        f"  Verify it anywhere: holdfast archive verify FILE --q {q}",
    )


@command(
    app,
    "verify",
    exits={
        Exit.DONE: "every line is as the receiving device signed it, in the case that --q names",
        Exit.FAILED: "broken: the first bad line is named",
        Exit.NOT_ANCHORED: "it holds together, but not said is whether the case is your organisation's",
    },
    online=False,
    profile=False,
    examples=[("holdfast archive verify manifest --q 9f86d081…", "Verify a manifest of the case with this hash.")],
)
def verify(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True)],
    q: Annotated[
        str | None,
        typer.Option(
            "--q",
            help="The hash of the case, in hexadecimal, as the console and the entry recovery:case:open of the audit "
            "log have it.",
            metavar="HASH",
        ),
    ] = None,
) -> None:
    """Verify a custody manifest.

    Needs no profile, no server and no network. Checks that one device signed the case and every line, that no line
    is missing, moved or put in, and that no file was opened after the disclosure's end. Before it is closed, lines
    at its end may be missing.

    Without --q whoever made the file could have made the case as well.
    """
    shell = shell_of(context)
    with shell.working("Verifying"):
        try:
            found, why = disclosures.read_file(file), ""
        except HoldfastError as error:
            found, why = None, str(error)
    if found is not None and q is not None and q.lower() != found.case.payload_hash.hex():
        found, why = None, "the manifest is of another case than the one with that hash"
    if found is None:
        shell.show({"verdict": "broken", "reason": why}, f"[bold red]✗ Broken.[/] {plain(why)}")
        raise typer.Exit(Exit.FAILED)
    verdict = "anchored" if q else "not-anchored"
    shell.show(_verified(found, verdict), *_verified_lines(found, is_anchored=q is not None))
    if q is None:
        raise typer.Exit(Exit.NOT_ANCHORED)


def _verified(found: Manifest, verdict: str) -> dict[str, object]:
    return {
        "verdict": verdict,
        "case_id": UUID(bytes=found.asked.case_id),
        "q": found.case.payload_hash.hex(),
        "subject": UUID(bytes=found.asked.subject),
        "recipient": UUID(bytes=found.asked.header.user),
        "device": UUID(bytes=found.asked.header.device),
        "ends_at": found.asked.disclosed_until,
        "closed": found.is_closed,
        "files": [{"sha256": one.digest.hex(), "size": one.size, "at": one.time} for one in found.files],
    }


def _verified_lines(found: Manifest, *, is_anchored: bool) -> list[str]:
    head = "[bold green]✓ Verified.[/]" if is_anchored else "[bold yellow]○ It holds together, not anchored.[/]"
    end = "closed: the keys are destroyed" if found.is_closed else "not closed: lines at its end may be missing"
    asked = found.asked
    return [
        f"{head} Case {UUID(bytes=asked.case_id)}, {end}.",
        f"  {UUID(bytes=asked.header.user)} read of the archive of {UUID(bytes=asked.subject)}, "
        f"until {day(asked.disclosed_until)} at the latest:",
        *[f"  {date(one.time)}  {one.digest.hex()}  {one.size} bytes" for one in found.files],
        f"  q of the case: {found.case.payload_hash.hex()}",
    ]
