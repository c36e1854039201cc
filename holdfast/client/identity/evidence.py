# SPDX-License-Identifier: Apache-2.0
"""What this device has seen that must not be: two signed things that exclude each other, kept as they came.

Implements PROTOCOL section 5 (a fork: keep both as evidence) and FAULTS S16 (two heads of one log).
Does not judge: whoever keeps something here has verified that both sides are signed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from holdfast.client.profile.account import Account
from holdfast.core.base.encoding import Fields, decode, encode
from holdfast.core.base.secret import SecretBytes
from holdfast.core.signed.payloads import ID_SIZE

KIND: Final = "evidence"
_MAX_SIZE: Final = 128 * 1024


class Contradiction(IntEnum):
    """What contradicts what."""

    CHAIN_FORK = 1
    LOG_FORK = 2
    LOG_ROLLED_BACK = 3


@dataclass(frozen=True)
class Evidence:
    """Two signed things about one user (16 bytes) that cannot both be true, and when the second was seen."""

    what: Contradiction
    user: bytes
    ours: bytes
    theirs: bytes
    seen_at: int


def keep(account: Account, what: Contradiction, *, user: bytes, ours: bytes, theirs: bytes) -> bool:
    """Keep both sides, once, durably. Returns whether they are new."""
    name = hashlib.sha256(encode([int(what), user, ours, theirs])).digest()
    if account.store.get(KIND, name) is not None:
        return False
    value = encode({1: int(what), 2: user, 3: ours, 4: theirs, 5: account.api.clock.now()})
    account.store.put(KIND, name, SecretBytes(value))
    return True


def listed(account: Account) -> list[Evidence]:
    """Return everything kept, oldest first."""
    return [_read(account, name) for name in account.store.keys(KIND)]


def _read(account: Account, name: bytes) -> Evidence:
    kept = account.store.get(KIND, name)
    assert kept is not None
    read = Fields(decode(kept.reveal(), max_size=_MAX_SIZE), "evidence", range(1, 6))
    return Evidence(
        what=Contradiction(read.uint(1, minimum=1, maximum=len(Contradiction))),
        user=read.octets(2, ID_SIZE),
        ours=read.octets(3),
        theirs=read.octets(4),
        seen_at=read.uint(5),
    )
