# SPDX-License-Identifier: Apache-2.0
"""`ceremony tenant-keys`: tenants' master keys from before they were bound are bound to their tenants, once.

Implements HSM section 5 for an installation of before, and ORGANISATION "Commands of the operator". What stands in the
database at that moment is believed; afterwards a key without its bond opens nothing, and no ceremony gives it one but
by the operator's word that a backup of before was put back (`--restored`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from config.ceremonies import CeremonyRefused, Step
from config.hsm import hsm_config
from escrow import services as escrow
from hsm.ceremony import Ceremony
from kernel.actors import system_actor
from kernel.scope import tenant_scope
from keys.models import TenantMasterKey
from keys.services import bind_tenant_keys, unbound_tenant_keys
from tenants.models import Tenant

# Newest deposits of a tenant that are tried: one that opens is enough, and a few may be damaged.
_SHOWN: Final = 16


def is_missing() -> bool:
    """Tell whether this installation is from before tenant keys were bound, or was not wholly carried over."""
    return not Ceremony(hsm_config()).are_tenant_keys_bound


def steps(*, restored: bool = False) -> Iterator[Step]:
    """Give what is missing, in the order in which it has to be done.

    restored: the operator says that a backup from before stands beside what is of today, be it the database or the HSM
    home. Keys that this HSM has not bound are bound, each held to what it opens; without that word a row that lost its
    bond is never given one. Raises CeremonyRefused without that word where another HSM home bound the rows.
    """
    ceremony = Ceremony(hsm_config())
    # The token is opened after it has all its keys, and not to look.
    has_key = ceremony.has_binding_key
    unbound = {} if ceremony.are_tenant_keys_bound and not restored else _unbound(has_key=has_key)
    if not unbound and ceremony.are_tenant_keys_bound:
        return
    # A new key of this HSM would bind none of them, and every record of theirs would be away for good.
    if not restored and any(row.mac is not None for rows in unbound.values() for row in rows):
        raise CeremonyRefused(
            "Tenants' master keys in the database were bound with another HSM home than this one, which is from before "
            "they were. Put back the HSM home that belongs to the database. If it is lost: ceremony tenant-keys "
            "--restored binds them anew, each by what it opens."
        )
    if not has_key:
        yield Step("make the key that binds tenants' master keys, on the token root", ceremony.create_binding_key)
    if restored:
        yield Step(_vouching(unbound), _bind_restored)
    else:
        yield Step("bind the master keys of every tenant, as they stand in the database now", _bind)
    # Last: a kill before it leaves the other steps to be taken again, and those find done what is done.
    if not ceremony.are_tenant_keys_bound:
        yield Step("say for ever that all are bound", ceremony.finish_binding)


def _unbound(*, has_key: bool) -> dict[Tenant, list[TenantMasterKey]]:
    """Return the master keys that this HSM has not bound, by tenant: all of them while it has nothing to bind with."""
    found = {}
    for tenant in Tenant.objects.order_by("slug"):
        with tenant_scope(tenant.pk):
            rows = unbound_tenant_keys() if has_key else list(TenantMasterKey.objects.order_by("version"))
        if rows:
            found[tenant] = rows
    return found


def _vouching(unbound: dict[Tenant, list[TenantMasterKey]]) -> str:
    """Say what the operator's word stands for, before they are asked for it."""
    said = (
        "bind the master keys that a backup left without a bond of this HSM. You vouch that nobody but you has written "
        "this database since the backup was made"
    )
    unshown = []
    for tenant in unbound:
        with tenant_scope(tenant.pk):
            if not escrow.newest_records(1):
                unshown.append(tenant.slug)
    return f"{said}. NO RECORD SHOWS WHOSE KEY IT IS of {', '.join(unshown)}: your word alone does" if unshown else said


def _bind_restored() -> list[str]:
    said = []
    for tenant in Tenant.objects.order_by("slug"):
        with tenant_scope(tenant.pk):
            newest = escrow.newest_records(_SHOWN)
            done = bind_tenant_keys(actor=system_actor(tenant.pk, "ceremony"), restored=newest)
        said += [
            f"{tenant.slug}, key {version}: bound; "
            + ("it opens records of this tenant." if shown else "NO RECORD SHOWS WHOSE IT IS, your word alone does.")
            for version, shown in done.items()
        ]
    return said


def _bind() -> None:
    for tenant in Tenant.objects.order_by("slug"):
        with tenant_scope(tenant.pk):
            bind_tenant_keys(actor=system_actor(tenant.pk, "ceremony"))
