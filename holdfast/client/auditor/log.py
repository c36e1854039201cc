# SPDX-License-Identifier: Apache-2.0
"""Fetching the audit log: downloaded whole, verified at once, and its head kept for the next time.

Implements PROTOCOL section 8 for a client that keeps the last checkpoint and demands consistency.
Does not verify by itself: `auditor` does, here and on any machine without a server.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from holdfast.client.auditor.auditor import Verdict, VerificationReport, verify_export
from holdfast.client.errors import TrustRefused
from holdfast.client.escrow.archive import whole_file
from holdfast.client.profile.account import Account
from holdfast.core.log.log_export import MAX_LINE, read_checkpoint_line

MAX_EXPORT: Final = 4 * 1024**3  # bytes: ten million entries of 400; it is read as it comes and never held


def export(account: Account, target: Path, *, log: str = "audit") -> VerificationReport:
    """Write the whole log to a new file, and hold it to the pinned log key and to the head seen last.

    Raises TrustRefused, leaving the file as evidence, when it does not hold or does not extend what was seen.
    """
    with whole_file(target) as out:
        for piece in account.api.download(f"audit/export?log={log}", maximum=MAX_EXPORT):
            out.write(piece)
    trust = account.state.trust
    unanchored = verify_export(target)
    pinned = next((key for key in trust.log_keys if key.partition("+")[0] == unanchored.origin), None)
    seen = trust.checkpoints.get(unanchored.origin)
    report = verify_export(target, pinned, saved=[seen] if seen else [])
    if report.verdict is Verdict.BROKEN:
        raise TrustRefused(
            f"The log does not hold: {report.reason}.",
            way_out=f"Keep {target}: it is evidence. Verify it again with: holdfast audit verify {target}",
        )
    trust.checkpoints[report.origin] = checkpoint_of(target)
    account.save()
    return report


def checkpoint_of(path: Path) -> str:
    """Return the signed head at the end of an exported log."""
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - MAX_LINE))
        last = file.read(MAX_LINE).rstrip(b"\n").rpartition(b"\n")[2] + b"\n"
    return read_checkpoint_line(last)
