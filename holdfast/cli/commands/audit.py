# SPDX-License-Identifier: Apache-2.0
"""`holdfast audit`: the log to a file, and the proof of such a file on any machine, with no server.

Implements PLATFORM "Audit" at the keyboard. `verify` opens no profile, no connection and no clock.
Does not judge whether what the log records was right.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli.exits import Exit
from holdfast.cli.given import text_file
from holdfast.cli.later import later
from holdfast.cli.page import command, group
from holdfast.cli.shell import date, plain, quoted, shell_of
from holdfast.core.base import typed

if TYPE_CHECKING:
    from holdfast.client.auditor.auditor import VerificationReport

with later():
    from holdfast.client.auditor import auditor, log, transcript

app = group()


@command(
    app,
    "export",
    changes="writes one new file. Reading the log is an entry in it.",
    exits={Exit.REFUSED: "your role may not read this log"},
    examples=[("holdfast audit export --out audit.jsonl", "Write the audit log with its proofs.")],
)
def export(
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where to write; refuses to overwrite.")],
    name: Annotated[str, typer.Option("--log", help="Which log: audit or keys.")] = "audit",
) -> None:
    """Write the whole log with its proofs to a file.

    It is verified at once.

    A long log (more than 50,000 entries) is made by the server in the background and fetched piece by piece. Whatever
    interrupts it, the same command goes on where it stopped, for a day: until then its pieces lie beside the file, as
    FILE.….part.

    Anybody can verify the file later on a machine with no server: holdfast audit verify. The key of your organisation's
    root, which is printed, is what to give them for it. Keep the head: a log that is exported later must extend it.
    """
    shell = shell_of(context)
    with shell.account() as account, shell.working("Exporting the log") as working:
        report, root = log.export(account, out, log=name, tell=working), log.root_key(account)
    shell.show(
        {"file": out, **_document(report), "root_key": root},
        f"[bold green]✓[/] {report.size} entries are in {plain(str(out))}"
        + (f", {report.withheld} of them withheld from you." if report.withheld else "."),
        f"  {_standing(report)}",
        f"  Verify it anywhere: holdfast audit verify FILE --trust {plain(root) if root else 'ROOT-KEY'}",
    )


@command(
    app,
    "verify",
    exits={
        Exit.DONE: "every entry is in the log that the trusted key signed or names the signer of",
        Exit.FAILED: "broken: the first bad entry is named",
        Exit.NOT_ANCHORED: "self-consistent, but no key was given that leads to it",
        Exit.NOT_YET: "as it was signed, but entries are withheld from whoever exported it",
    },
    online=False,
    profile=False,
    examples=[
        ("holdfast audit verify audit.jsonl --trust root.vkey", "Verify from the organisation's root down."),
        ("holdfast audit verify audit.jsonl --trust log.vkey", "Verify under the log's own key alone."),
        ("holdfast audit verify new.jsonl --checkpoint head-of-march", "Also see that nothing since was taken back."),
    ],
)
def verify(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True)],
    trust: Annotated[
        str | None,
        typer.Option(
            help="The verifier key of the organisation's root, or of the log alone, as you got it from elsewhere; "
            "or a file holding it.",
            metavar="VKEY",
        ),
    ] = None,
    checkpoint: Annotated[
        list[Path] | None, typer.Option(help="A signed head saved earlier, which this log must extend.")
    ] = None,
) -> None:
    """Verify an exported log, without profile, server or network.

    Recomputes the Merkle tree, checks each entry's proof and the signature of the head, and that each audit entry is
    signed by a part of the server that may write it. With the root's key (the ceremony prints it, and so does holdfast
    audit export), the keys of the log and of the server's parts are those that the root names. With the log's own key
    alone, whose keys wrote the entries is only what the file claims. Without --trust the file is checked against itself
    alone, and whoever made it could have made the keys as well.

    A person about whom a case is open does not read of it before the date that the case fixes: in what they export
    such entries stand as their hashes, proven and counted. Nobody else gets such a file from an honest server.
    """
    shell = shell_of(context)
    key = _key(trust) if trust else trust
    with shell.working("Verifying"):
        report = auditor.verify_export(file, key, saved=[text_file(path) for path in checkpoint or []])
    shell.show(_document(report), *_lines(report))
    if report.exit_code:
        raise typer.Exit(Exit(report.exit_code))


@command(
    app,
    "transcript",
    exits={Exit.UNTRUSTED: "this text is not what root and log key signed"},
    online=False,
    profile=False,
    examples=[
        (
            "holdfast audit transcript transcript-acme-1.txt transcript-acme-1.signed --trust root.vkey --log log.vkey",
            "Verify both signatures.",
        ),
    ],
)
def verify_transcript(
    context: typer.Context,
    text: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True)],
    signed: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True)],
    trust: Annotated[
        str,
        typer.Option(
            help="The verifier key of the organisation's root, as you got it from elsewhere; or a file holding it.",
            metavar="VKEY",
        ),
    ],
    log_key: Annotated[
        str | None,
        typer.Option(
            "--log",
            help="The verifier key of the log, as holdfast audit verify shows it; or a file holding it.",
            metavar="VKEY",
        ),
    ] = None,
) -> None:
    """Verify a transcript of your operator's ceremonies.

    Both files come from the console's page of ceremonies, or from your operator. A transcript is the operator's own
    word of what they did: that nothing of it was changed since is proven, that it was true then is not. Hold it to the
    entries of the log.

    Without --log the root's signature alone is checked.
    """
    shell = shell_of(context)
    found = transcript.verify(text, signed, root=_key(trust), log=_key(log_key) if log_key else None)
    by = "the root and the log's key" if found.is_by_log else "the root; the log's key was not given, nor checked"
    shell.show(
        {"file": text, "signed_at": found.issued_at, "by_log": found.is_by_log},
        f"[bold green]✓ This is the text that was signed[/] {date(found.issued_at)}, by {by}.",
    )


def _key(given: str) -> str:
    """Return a verifier key from a file or as it was given, without what a copy puts into it."""
    text = text_file(Path(given)) if Path(given).is_file() else given
    return "".join(typed.visible(text).split())


def _document(report: VerificationReport) -> dict[str, object]:
    bad = report.entry
    return {
        "verdict": report.verdict.name.lower().replace("_", "-"),
        "reason": report.reason,
        "origin": report.origin,
        "size": report.size,
        "withheld": report.withheld,
        "signed_at": report.time,
        "log_key": report.vkey,
        "writers": report.writers.value,
        "unsigned": report.unsigned,
        "first_bad_entry": {"index": bad.index, "id": bad.id, "tag": bad.tag, "reason": bad.reason} if bad else None,
    }


def _standing(report: VerificationReport) -> str:
    when = date(report.time) if report.time else "unknown"
    return f"{plain(report.reason)}. Head signed {when}."


def _lines(report: VerificationReport) -> list[str]:
    of = f"  Log: {quoted(report.origin)}"
    if report.exit_code == Exit.DONE:
        return [f"[bold green]✓ Verified and trusted.[/] {_standing(report)}", of]
    if report.exit_code == Exit.NOT_YET:
        return [f"[bold yellow]○ As it was signed, and not whole.[/] {_standing(report)}", of]
    if report.exit_code == Exit.NOT_ANCHORED:
        return [
            f"[bold yellow]○ Self-consistent, not anchored.[/] {_standing(report)}",
            of,
            f"  Key: {plain(report.vkey)}",
        ]
    lines = [f"[bold red]✗ Broken.[/] {plain(report.reason)}"]
    if report.entry:
        lines.append(
            f"  First bad entry: index {report.entry.index}, id {quoted(report.entry.id or 'unreadable')}, "
            f"tag {quoted(report.entry.tag or 'unreadable')}"
        )
    return lines
