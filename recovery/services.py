# SPDX-License-Identifier: Apache-2.0
"""The verbs of getting a key out, gathered from the files that hold them. Other apps and edges import this one.

Implements ESCROW "Case": opening and ending in `cases`, officers' acts in `decisions`, messages in `notices`,
the release's steps and collection in `releases`.
"""

from __future__ import annotations

from recovery.cases import cancel_case, expire_case, open_case, veto_case
from recovery.decisions import (
    PreparedApproval,
    PreparedAttestation,
    approve_case,
    attest,
    deny_case,
    prepare_approval,
    prepare_attestation,
    prepare_denial,
    propose_successor,
)
from recovery.notices import give_notice
from recovery.releases import (
    Collection,
    Opened,
    begin_release,
    close_case,
    collect,
    defer_release,
    finish_release,
    follow_rotation,
    hold_case,
    postpone,
    prepare_collection,
    settle_case,
    stored_shares,
    void_shares,
)

__all__ = [
    "Collection",
    "Opened",
    "PreparedApproval",
    "PreparedAttestation",
    "approve_case",
    "attest",
    "begin_release",
    "cancel_case",
    "close_case",
    "collect",
    "defer_release",
    "deny_case",
    "expire_case",
    "finish_release",
    "follow_rotation",
    "give_notice",
    "hold_case",
    "open_case",
    "postpone",
    "prepare_approval",
    "prepare_attestation",
    "prepare_collection",
    "prepare_denial",
    "propose_successor",
    "settle_case",
    "stored_shares",
    "veto_case",
    "void_shares",
]
