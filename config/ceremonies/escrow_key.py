# SPDX-License-Identifier: Apache-2.0
"""`ceremony escrow-key`: the next version of a tenant's escrow key, which its officers are asked to sign.

Implements ESCROW "Keys". The server publishes it with m officers of the policy in force; deposits of before stay
with the key that they were made to. Which policy and which keys there are follows from the release process's pin.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from config.ceremonies import CeremonyRefused, Step
from config.ceremonies.founding import has_open_key_proposal, propose_escrow_key
from config.ceremonies.root import root_of, trusted_escrow
from config.hsm import hsm_config
from escrow import access as escrow_access
from hsm.ceremony import Ceremony
from kernel.clock import database_now
from kernel.scope import tenant_scope
from tenants.models import Tenant
from tenants.states import TenantState


def steps(tenant: Tenant) -> Iterator[Step]:
    """Give what is missing until officers are asked to sign; none while they are. Raises CeremonyRefused."""
    if tenant.state != TenantState.ACTIVE:
        raise CeremonyRefused(f"{tenant.slug} is {tenant.state}. Its first escrow key is made by: ceremony found")
    root_of(tenant)
    made = len(Ceremony(hsm_config()).escrow_keys(str(tenant.pk)))
    published = len(trusted_escrow(tenant).keys)
    with tenant_scope(tenant.pk):
        if has_open_key_proposal():
            return
    # Killed between the two, the next call goes on with the key that was made: none is left over.
    if made <= published:
        yield Step(f"make escrow key {published + 1}, on the token escrow", partial(_make, tenant))
    yield Step(f"have the root sign escrow key {published + 1}, and ask the officers to", partial(_propose, tenant))


def _make(tenant: Tenant) -> None:
    Ceremony(hsm_config()).create_escrow_key(str(tenant.pk))


def _propose(tenant: Tenant) -> list[str]:
    # Followed again: the operator may have taken their time for the yes.
    trusted = trusted_escrow(tenant)
    with tenant_scope(tenant.pk):
        in_force = bytes(escrow_access.policy_in_force(database_now()).hash)
    if in_force not in {signed.hash for signed in trusted.tenant.standing}:
        raise CeremonyRefused("The database calls a policy in force that officers did not sign, or that they withdrew.")
    key = Ceremony(hsm_config()).escrow_keys(str(tenant.pk))[-1]
    predecessor = trusted.keys[-1].hash
    return propose_escrow_key(tenant, root_of(tenant), key, policy_hash=in_force, predecessor=predecessor)
