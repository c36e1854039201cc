# SPDX-License-Identifier: Apache-2.0
"""What this device has seen that must not be: two signed things that exclude each other, kept as they came.

Implements PROTOCOL section 5 (a fork: keep both as evidence) and FAULTS S16 (two heads of one log).
Does not judge: whoever keeps something here has verified that both sides are signed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Annotated, ClassVar, Final

from holdfast.client.profile.account import Account
from holdfast.core.base.encoding import encode
from holdfast.core.base.rows import choice, octets, open_map, seal_map, uint
from holdfast.core.signed.payloads import HASH_SIZE, ID_SIZE

KIND: Final = "evidence"
_MAX_SIZE: Final = 128 * 1024  # bytes: two signed things of at most MAX_BLOB, and whose they are
_MOST_OF_A_KIND: Final = 100


class Contradiction(IntEnum):
    """What contradicts what."""

    CHAIN_FORK = 1
    LOG_FORK = 2
    LOG_ROLLED_BACK = 3


@dataclass(frozen=True)
class Evidence:
    """Two signed things about one user (16 bytes) that cannot both be true, and when the second was seen.

    explained: the hash of the resolution (32 bytes) by which officers accepted a restored backup that brought this
    about; None while nothing explains it.
    """

    ROW_SIZE: ClassVar = _MAX_SIZE

    what: Annotated[Contradiction, choice(Contradiction).at(1)]
    user: Annotated[bytes, octets(ID_SIZE).at(2)]
    ours: Annotated[bytes, octets().at(3)]
    theirs: Annotated[bytes, octets().at(4)]
    seen_at: Annotated[int, uint().at(5)]
    explained: Annotated[bytes | None, octets(HASH_SIZE).at(6, is_optional=True)] = None


def keep(account: Account, what: Contradiction, *, user: bytes, ours: bytes, theirs: bytes) -> bool:
    """Keep both sides, once, durably, and a hundred of a kind. Returns whether they were kept now."""
    name = _name_of(what, user, ours, theirs)
    if account.store.get(KIND, name) is not None:
        return False
    # A head is signed anew every half minute, and each is another contradiction of the one kept here.
    if sum(one.what is what for one in list_evidence(account)) >= _MOST_OF_A_KIND:
        return False
    seen = Evidence(what, user, ours, theirs, account.api.clock.latest())
    account.store.put(KIND, name, seal_map(seen))
    return True


def list_evidence(account: Account) -> list[Evidence]:
    """Return everything kept, oldest first."""
    return [_read(account, name) for name in account.store.keys(KIND)]


def explain(account: Account, seen: Evidence, resolution: bytes) -> None:
    """Note by which resolution of the officers (its hash, 32 bytes) something kept here is explained."""
    name = _name_of(seen.what, seen.user, seen.ours, seen.theirs)
    account.store.put(KIND, name, seal_map(replace(seen, explained=resolution)))


def _name_of(what: Contradiction, user: bytes, ours: bytes, theirs: bytes) -> bytes:
    return hashlib.sha256(encode([int(what), user, ours, theirs])).digest()


def _read(account: Account, name: bytes) -> Evidence:
    kept = account.store.get(KIND, name)
    assert kept is not None
    return open_map(Evidence, kept, "evidence")
