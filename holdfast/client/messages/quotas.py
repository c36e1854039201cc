# SPDX-License-Identifier: Apache-2.0
"""Who may fill how much of what a device keeps until it can act on it: a quota for each sender of each kind.

Implements FAULTS R3 for rows that others make this device keep. Each kind is a kind of row of its own, so that none
takes another's place, and each key begins with its sender. Opens no row: keys alone say whose it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from holdfast.client.profile.store import Store

SENDER: Final = 16  # octets at the beginning of a key


@dataclass(frozen=True)
class Quota:
    """How many rows of a kind one sender may fill, and all senders together."""

    of_one: int
    of_all: int


def trim(store: Store, kind: str, quota: Quota, *, is_known: Callable[[bytes], bool] = lambda _sender: False) -> None:
    """Destroy what is above the quota, in the caller's transaction.

    Who is above their own loses their oldest. Above the quota of all, whoever has most loses first, and strangers
    before those whom `is_known` knows; of many with equally few, who came last: a flood of new names drowns nobody.
    """
    keys = store.keys(kind)
    if len(keys) <= min(quota.of_one, quota.of_all):
        return
    rows: dict[bytes, list[bytes]] = {}
    for key in keys:
        rows.setdefault(key[:SENDER], []).append(key)
    for mine in rows.values():
        for key in mine[: -quota.of_one]:
            store.delete(kind, key)
        del mine[: -quota.of_one]
    for _ in range(sum(map(len, rows.values())) - quota.of_all):
        last_first = reversed(list(rows))
        largest = max((who for who in last_first if rows[who]), key=lambda who: (not is_known(who), len(rows[who])))
        store.delete(kind, rows[largest].pop(0))
