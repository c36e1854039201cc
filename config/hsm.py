# SPDX-License-Identifier: Apache-2.0
"""Which HSM tokens each role may open: the table that keeps the release process alone with the escrow key."""

from __future__ import annotations

ROLE_TOKENS: dict[str, tuple[str, ...]] = {
    "web": ("root",),
    "worker": ("root", "log"),
    "release": ("escrow", "root"),
    "ceremony": (),
    "tool": (),
}
