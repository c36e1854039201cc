# SPDX-License-Identifier: Apache-2.0
"""Who could release a deposit, and how many are needed: the one question that everything asks that counts officers.

Implements ESCROW "Policy and officers". Knows no clock and no row: who is present is handed in.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from holdfast.core.identity.policy import History, Officer, Policy, SignedPolicy, strictest


@dataclass(frozen=True)
class Releasable:
    """approvers: the rows of a deposit's own policy whose officers could approve its release. needed: how many must."""

    approvers: tuple[Officer, ...]
    needed: int

    @property
    def indices(self) -> tuple[int, ...]:
        """The numbers of the shares that could be handed over."""
        return tuple(officer.index for officer in self.approvers)

    @property
    def is_open(self) -> bool:
        """Whether enough officers could approve."""
        return len(self.approvers) >= self.needed

    @property
    def is_alarming(self) -> bool:
        """Whether one more officer lost would close it: m + 1 are wanted."""
        return len(self.approvers) < self.needed + 1


def releasable(
    made_under: SignedPolicy,
    *,
    history: History,
    at: int,
    present: Collection[bytes],
    excluded: Collection[bytes] = (),
    asked_under: Sequence[Policy] = (),
) -> Releasable:
    """Return who could approve, at a time, the release of the deposits that were made under one version.

    history: every version with its times. at: UTC seconds. present: persons (16 bytes) whose standing lets them act:
    officers of the tenant, active, neither suspended nor removed nor away. excluded: persons who may not decide, as a
    case's subject. asked_under: the policy of a case, whose officers alone sign in it, and whose m binds as well.
    """
    # By keys as well as by person: a share is sealed to the key that its holder had. Another key opens it no more, and
    # whoever lost the old one has the office still, and nothing to hand over.
    counting = {officer.who for officer in history.counting(at)}
    for policy in asked_under:
        counting &= {officer.who for officer in policy.roster}
    approvers = tuple(
        officer
        for officer in made_under.policy.roster
        if officer.who in counting and officer.person in present and officer.person not in excluded
    )
    # The newest as well, though it may wait: what it raises binds from the day on which it is in force.
    bound_by = (made_under.policy, history.in_force(at).policy, history.newest.policy, *asked_under)
    return Releasable(approvers, strictest(bound_by)[0])
