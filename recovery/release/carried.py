# SPDX-License-Identifier: Apache-2.0
"""What a release directory held before its keys had names and its heads had times: read once, proven, and put away.

Implements ESCROW "What it believes of the log". The ceremony calls it. What was followed then
has to be one of this log's past.
"""

from __future__ import annotations

import hmac

from audit import services as audit_services
from escrow import access as escrow
from holdfast.core.base.encoding import Fields, decode
from holdfast.core.base.errors import Forked, Untrusted
from holdfast.core.log.merkle import CompactRange, leaf_hash
from recovery.release.directory import Directory
from recovery.release.log import LOG

_SEEDS = ("signing.seed", "sealing.seed")


def is_of_before(directory: Directory) -> bool:
    """Tell whether anything of the older form is there."""
    return any((directory.path / name).exists() for name in (*_SEEDS, "follower", "policy"))


def require_followed(directory: Directory) -> None:
    """Hold what was followed to the stored log and policies, in the tenant's scope.

    Raises Forked for another log, LogBroken for a shorter one, Untrusted for another policy history.
    """
    _require_log(directory)
    _require_policy(directory)


def put_away(directory: Directory) -> None:
    """Keep the keys under their names, and remove the older files. Raises as `require_followed` does, before that."""
    require_followed(directory)
    directory.require_keys(directory.create_keys())
    for name in (*_SEEDS, "follower", "policy"):
        (directory.path / name).unlink(missing_ok=True)


def _require_log(directory: Directory) -> None:
    try:
        value = decode((directory.path / "follower").read_bytes())
    except FileNotFoundError:
        return
    # 1 is the log's key, which the roles name now, and 3 when the head was dated.
    followed = CompactRange.from_bytes(Fields(value, "log follower", (1, 2, 3)).octets(2))
    walked = CompactRange.over(
        leaf_hash(leaf) for leaf in audit_services.entries_between(directory.tenant_id, LOG, 0, followed.size)
    )
    if not hmac.compare_digest(walked.to_bytes(), followed.to_bytes()):
        raise Forked("the log's entries do not lead to the head that was believed before")


def _require_policy(directory: Directory) -> None:
    try:
        row = Fields.of_row(decode((directory.path / "policy").read_bytes()), "policy seen", 2)
    except FileNotFoundError:
        return
    stored = {one.version: bytes(one.hash) for one in escrow.policies()}
    if not hmac.compare_digest(stored.get(row.uint(0), b""), row.octets(1, 32)):
        raise Untrusted("the policy history is not the one seen before")
