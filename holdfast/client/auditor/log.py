# SPDX-License-Identifier: Apache-2.0
"""Fetching the audit log: downloaded whole, verified at once, and its head kept for the next time.

Implements PROTOCOL section 8 for a client that keeps the last checkpoint and demands consistency.
Does not verify by itself: `auditor` does, here and on any machine without a server.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final
from uuid import UUID

from holdfast.client.auditor import fetching
from holdfast.client.auditor.auditor import Verdict, VerificationReport, verify_export
from holdfast.client.auditor.fetching import Tell
from holdfast.client.errors import RESTORED, Problem, ServerRestored, TrustRefused
from holdfast.client.identity import restored, tenant
from holdfast.client.profile.account import Account, root_key_of
from holdfast.core.identity.roles import root_verifier
from holdfast.core.log.log_entry import log_origin
from holdfast.core.log.log_export import MAX_LINE, read_checkpoint_line
from holdfast.files import whole_file

TOO_LONG: Final = "log-too-long"  # docs/problems.md
MAX_EXPORT: Final = 4 * 1024**3  # bytes: ten million entries of 400; it is read as it comes and never held


def export(
    account: Account, target: Path, *, log: str = "audit", tell: Tell = lambda _done, _size: None
) -> VerificationReport:
    """Write the whole log to a new file, and hold it to the tenant root pinned here and to the head seen last.

    A long one is made by the server in the background and fetched piece by piece: when it broke off, a call with the
    same target goes on with it. tell: is told how many entries are there, and of how many.

    Of a server older than role keys, to the log key of the code. Under a root that was taken on first use the result
    is NOT_ANCHORED. Raises TrustRefused, leaving the file as evidence, when it does not hold or does not extend what
    was seen.
    """
    tenant.follow_log_keys(account)
    try:
        with whole_file(target) as out:
            for piece in account.api.download(f"audit/export?log={log}", maximum=MAX_EXPORT):
                out.write(piece)
    except Problem as problem:
        if problem.code != TOO_LONG:
            raise
        fetching.fetch(account, target, log=log, maximum=MAX_EXPORT, tell=tell)
    trust, roles = account.state.trust, account.roles
    origin = log_origin(str(UUID(bytes=account.tenant)), log)
    seen = trust.checkpoints.get(origin)
    key = root_key(account) if roles else next((key for key in trust.log_keys if key.startswith(f"{origin}+")), None)
    report = verify_export(target, key, saved=[seen] if seen else [], seen=roles)
    if report.verdict is Verdict.BROKEN and seen:
        report = _as_accepted(account, target, key, report, log=log, seen=seen)
    if report.verdict is Verdict.BROKEN:
        raise TrustRefused(
            f"The log does not hold: {report.reason}.",
            way_out=f"Keep {target}: it is evidence. Verify it again with: holdfast audit verify {target}",
        )
    if report.origin != origin:
        raise TrustRefused(f"The server sent another log than {origin}.", way_out=f"Keep {target}: it is evidence.")
    trust.checkpoints[origin] = checkpoint_of(target)
    account.save()
    return report


def _as_accepted(
    account: Account, target: Path, key: str | None, broken: VerificationReport, *, log: str, seen: str
) -> VerificationReport:
    """Verify an export again that does not extend the head seen last, from what officers accepted of a backup on.

    Returns the report there was where they accepted nothing that explains it. Raises ServerRestored where the head is
    all that is wrong: the server is shown it then.
    """
    if restored.look(account, log):
        newest = restored.taken(account, log)[0]
        return verify_export(target, key, seen=account.roles, past=(newest.size, newest.root))
    if verify_export(target, key, seen=account.roles).verdict is Verdict.BROKEN:
        return broken
    restored.tell(account, seen)
    raise ServerRestored(
        f"The log is not the one that this profile has seen: {broken.reason}.",
        way_out=f"{RESTORED} Keep {target}: it is evidence.",
    )


def root_key(account: Account) -> str | None:
    """Return the tenant root's key as this profile is pinned to it, in the form for `--trust`.

    None where nothing is pinned, or the root was taken from the server on first use and so anchors nothing.
    """
    trust = account.state.trust
    if not trust.root_key or trust.is_tofu:
        return None
    return root_verifier(account.tenant, root_key_of(trust.root_key)).to_text()


def checkpoint_of(path: Path) -> str:
    """Return the signed head at the end of an exported log."""
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - MAX_LINE))
        last = file.read(MAX_LINE).rstrip(b"\n").rpartition(b"\n")[2] + b"\n"
    return read_checkpoint_line(last)
