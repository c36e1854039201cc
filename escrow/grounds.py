# SPDX-License-Identifier: Apache-2.0
"""What the cases of all tenants are counted by, read in a fixed number of statements, however many cases there are.

Implements ESCROW "Case" for whoever looks at many at once; the rules are those of `access`. It writes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from uuid import UUID

from escrow import access
from escrow.errors import EscrowOff
from escrow.models import Deposit, Policy, PolicyOfficer
from holdfast.core.identity import policy as core_policy
from kernel.errors import NotFound
from kernel.scope import in_their_tenants
from tenants import access as tenants


@dataclass(frozen=True)
class Ground:
    """What a tenant's cases are counted by at one moment, read once for all of them. Each answer is worked out once.

    policies: every version, oldest first. rosters: by the row of the version. active: who is an officer of the tenant.
    """

    now: datetime
    policies: Sequence[Policy]
    rosters: Mapping[UUID, Sequence[PolicyOfficer]]
    active: Collection[UUID]
    _readings: dict[bytes, core_policy.Policy] = field(default_factory=dict)
    _strictest: dict[frozenset[bytes], tuple[int, core_policy.Terms]] = field(default_factory=dict)
    _eligible: dict[bytes, frozenset[UUID]] = field(default_factory=dict)

    @cached_property
    def in_force(self) -> Policy:
        """The version in force. Raises EscrowOff when there is none."""
        standing = [row for row in self.policies if row.withdrawn_at is None and row.in_force_from <= self.now]
        if not standing:
            raise EscrowOff
        return standing[-1]

    def named(self, policy_hash: bytes) -> Policy:
        """Return the version with this hash. Raises NotFound."""
        for row in self.policies:
            if bytes(row.hash) == policy_hash:
                return row
        raise NotFound

    def strictest(self, policy_hashes: Iterable[bytes]) -> tuple[int, core_policy.Terms]:
        """Return the highest m and the strictest terms of some versions and of the one in force."""
        hashes = frozenset({*policy_hashes, bytes(self.in_force.hash)})
        if hashes not in self._strictest:
            self._strictest[hashes] = core_policy.strictest([self._reading(one) for one in sorted(hashes)])
        return self._strictest[hashes]

    def _reading(self, policy_hash: bytes) -> core_policy.Policy:
        if policy_hash not in self._readings:
            self._readings[policy_hash] = access.reading(self.named(policy_hash))
        return self._readings[policy_hash]

    def eligible(self, policy_hash: bytes) -> frozenset[UUID]:
        """Return the persons of a version who may decide, as `eligible` has them, with nobody excluded."""
        if policy_hash not in self._eligible:
            roster, in_force = self.rosters[self.named(policy_hash).pk], self.rosters[self.in_force.pk]
            found = access.deciding_of(roster, in_force=in_force, active=self.active, now=self.now)
            self._eligible[policy_hash] = frozenset(officer.person_id for officer in found)
        return self._eligible[policy_hash]

    def left_since(self, acted: Mapping[UUID, datetime], policy_hash: bytes, *, opened_at: datetime) -> set[UUID]:
        """Return as `left_since` does who left; nobody while no version came into force since a moment before."""
        rows = [row for row in self.policies if row.withdrawn_at is None]
        if not any(opened_at < row.in_force_from <= self.now for row in rows):
            return set()
        return access.left_of(acted, policy_hash, self.policies, self._versions, self.now)

    @cached_property
    def _versions(self) -> core_policy.History:
        return access.history_of(self.policies)


def grounds(tenant_ids: Collection[UUID], now: datetime) -> dict[UUID, Ground]:
    """Return the ground of each of these tenants, for a loop over all of them. Three queries."""
    active = tenants.active_officers_of(tenant_ids)
    versions: dict[UUID, list[Policy]] = {tenant_id: [] for tenant_id in tenant_ids}
    rosters: dict[UUID, list[PolicyOfficer]] = {}
    for row in Policy.unscoped.filter(tenant_id__in=tenant_ids).order_by("version"):
        versions[row.tenant_id].append(row)
        rosters[row.pk] = []
    for officer in PolicyOfficer.unscoped.filter(tenant_id__in=tenant_ids).order_by("index"):
        # Of a version published since the query before, there is nothing to know yet.
        rosters.setdefault(officer.policy_id, []).append(officer)
    return {tenant_id: Ground(now, rows, rosters, active) for tenant_id, rows in versions.items()}


def made_under(named: Iterable[tuple[UUID, UUID]]) -> dict[tuple[UUID, UUID], bytes]:
    """Return, of deposits named by (tenant, id), the hash of the policy of each: for a loop over all tenants."""
    return {
        (tenant_id, deposit_id): bytes(policy_hash)
        for those in in_their_tenants("id", named)
        for tenant_id, deposit_id, policy_hash in Deposit.unscoped.filter(those).values_list(
            "tenant_id", "id", "policy_hash"
        )
    }
