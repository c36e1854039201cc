# SPDX-License-Identifier: Apache-2.0
"""What officers' acts outside cases are called on console pages.

Implements PLATFORM "Console". Tables and pure functions; a resolution is read from its signed bytes.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from holdfast.core.identity.acts import Act, Resolution, Standing

# The state of an officer that is explained by the word that led to it; who counts needs no explanation.
STANDING: Final = {
    Standing.AWAY: "away",
    Standing.SUSPENDED: "suspended",
    Standing.REMOVED: "removed",
}


def resolution_words(resolution: Resolution) -> str:
    """Return what a resolution does; the person whom it is about is shown beside it."""
    if resolution.act is Act.WITHDRAW_VERSION:
        return f"Withdraw policy version {resolution.version}"
    if resolution.act is Act.RETURN_OFFICER:
        return "Return from suspension:"
    if resolution.act is Act.SUSPEND_DEVICE:
        return f"Suspend device {UUID(bytes=resolution.device)}, so that its veto ends no case, of"
    if resolution.act is Act.ACKNOWLEDGE_LEAF:
        return f"Acknowledge entry {resolution.index} of the log as wrong"
    if resolution.key_log is not None:
        return f"Accept the logs of {resolution.size} and {resolution.key_log[0]} entries, as after a restored backup"
    return f"Accept the log of {resolution.size} entries"
