# SPDX-License-Identifier: Apache-2.0
"""What stands against a policy that is in force, in words.

Implements ESCROW "Policy and officers", for people. It reads signed policies and decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from holdfast.core.identity.policy import MIN_OFFICERS, Policy
from holdfast.core.identity.trust import GRACE_SECONDS, Ending


def warnings(policy: Policy, *, available: int, active: int, endings: Sequence[Ending] = ()) -> list[str]:
    """Return what stands against this policy for as long as it is in force, gravest first.

    available: officers who could approve now. active: those whom the newest version names, cooling off or not.
    endings: what runs out, of the newest policy and escrow key.
    """
    m, n = policy.m, policy.n
    found = [_ending(ending) for ending in endings]
    if available < m:
        found.append(f"Only {available} of the {m} officers needed can act. Nothing opens until another one can.")
    elif available == m:
        found.append(f"Exactly {m} officers can act: if one more is away, nothing opens. Bring another one back.")
    if active < MIN_OFFICERS:
        found.append(
            f"Escrow is off for new deposits: only {active} officers are active, and {MIN_OFFICERS} are the least. "
            "What is in custody stays. Bring officers back, or publish a policy with further ones."
        )
    if m > n - 2:
        found.append(
            f"{m} of {n} leaves one officer to spare. When one is lost, every deposit is one loss from being closed "
            f"for ever: found a policy of at least {m + 2} officers."
        )
    return found


def _ending(ending: Ending) -> str:
    what = f"The {ending.what}"
    way_out = (
        "Have officers sign a new one: holdfast officer policy propose."
        if ending.what == "escrow policy"
        else "Hold the ceremony for a new one, which officers sign: manage.py ceremony escrow-key."
    )
    if ending.is_over:
        return f"{what} has run out, and its grace with it: nothing is deposited. What is in custody stays. {way_out}"
    if ending.has_ended:
        from_then = _day(ending.at + GRACE_SECONDS)
        return f"{what} ran out on {_day(ending.at)}. From {from_then} nothing is deposited. {way_out}"
    return f"{what} runs out on {_day(ending.at)}. {way_out}"


def _day(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
