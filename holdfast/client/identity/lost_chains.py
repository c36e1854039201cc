# SPDX-License-Identifier: Apache-2.0
"""What a server that was put back from a backup lacks of an account chain, given back to it; and a device it forgot.

Implements PROTOCOL section 5, "After a restored backup", on the device. Only where m officers accepted the backup
(`restored`). Believes nothing: what the server shows afterwards is verified as ever, and nothing pinned is let go.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from holdfast.client.errors import RESTORED, Problem, ServerRestored
from holdfast.client.identity import key_log, restored
from holdfast.client.profile.account import Account
from holdfast.core.base.encoding import b64u

_NOTHING: Final = "nothing-restored"  # the problem code of a server that says that it lost nothing
_MOST: Final = 1_000  # entries that a server takes at once


class ChainBehind(ServerRestored):
    """The server shows a beginning of a chain that this device knows more of. has: so many entries."""

    def __init__(self, has: int) -> None:
        super().__init__(
            "The server shows fewer entries of an account chain than it has shown before.", way_out=RESTORED
        )
        self.has = has


def offer(account: Account, user: bytes, entries: Sequence[bytes], has: int) -> bool:
    """Give back what the server lacks of a chain; returns whether it took any of it.

    entries: verified, from the genesis on; has: so many of them it shows. Of somebody else's chain, and of what counts
    by its date, only what the lost key log is proven to have had. Without an acceptance nothing is given: the server is
    shown the newest head that it has signed instead, by which it finds out. Raises Problem.
    """
    if not (restored.is_healing(account) or (restored.look(account) and restored.is_healing(account))):
        restored.tell(account, key_log.own_checkpoint(account))
        return False
    took, proven = 0, key_log.find_proof(account, user)
    if proven is not None and has <= proven.seq < len(entries):
        given = entries[has : proven.seq + 1]
        took += _give(account, user, {**_document(given[-_MOST:]), "proof": proven.document()})
        has = proven.seq + 1
    # What was appended in the last minute is in no signed head: of that an owner's own word is taken.
    if user == account.user and has < len(entries):
        took += _give(account, user, _document(entries[has:]))
    return took > 0


def come_back(account: Account) -> bool:
    """Bring this very device back to a server that lost it; returns whether it did. Nothing is signed by the request.

    Its chain lists it, and the key log that was lost had the chain. False where the server lost nothing, or that is not
    kept here: the device enrols again. Raises Problem for whatever the server refuses otherwise.
    """
    proven = key_log.find_proof(account, account.user)
    if proven is None or not account.device.is_active or proven.seq >= len(account.state.chain):
        return False
    document = {
        "tenant_id": str(UUID(bytes=account.tenant)),
        "device_statement": b64u(account.device.statement),
        **_document(account.state.chain[: proven.seq + 1][-_MOST:]),
        "proof": proven.document(),
    }
    account.api.credential = None
    try:
        answer = account.api.post("devices/restored", document)
    except Problem as problem:
        if problem.code == _NOTHING:
            return False
        raise
    finally:
        account.sign_as_device()
    return answer.identifier("device_id") == account.device.id


def _document(entries: Sequence[bytes]) -> dict[str, Any]:
    return {"entries": [b64u(entry) for entry in entries]}


def _give(account: Account, user: bytes, document: dict[str, Any]) -> int:
    try:
        return account.api.post(f"users/{UUID(bytes=user)}/chain/restored", document).number("taken")
    except Problem as problem:
        # What was accepted here may be older than what the server still takes back.
        if problem.code == _NOTHING:
            return 0
        raise
