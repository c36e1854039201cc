# SPDX-License-Identifier: Apache-2.0
"""`ceremony tenant-keys`: tenants' master keys from before they were bound are bound to their tenants, once.

Implements HSM section 5 for an installation of before, and ORGANISATION "Commands of the operator". What stands in the
database at that moment is believed; afterwards a key without its bond opens nothing, and no ceremony gives it one but
by the operator's word that a backup of before was put back (`--restored`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from config.ceremonies import Step
from config.hsm import hsm_config
from escrow import services as escrow
from hsm.ceremony import Ceremony
from kernel.actors import system_actor
from kernel.scope import tenant_scope
from keys.models import TenantMasterKey
from keys.services import bind_tenant_keys
from tenants.models import Tenant

# Newest deposits of a tenant that are tried: one that opens is enough, and a few may be damaged.
_SHOWN: Final = 16


def is_missing() -> bool:
    """Tell whether this installation is from before tenant keys were bound, or was not wholly carried over."""
    return not Ceremony(hsm_config()).are_tenant_keys_bound


def steps(*, restored: bool = False) -> Iterator[Step]:
    """Give what is missing, in the order in which it has to be done.

    restored: the operator says that a backup of the database from before stands beside the HSM home of today. Its rows
    are bound again, each key held to what it opens; without that word a row that lost its bond is never given one.
    """
    ceremony = Ceremony(hsm_config())
    if ceremony.are_tenant_keys_bound:
        if restored and _is_any_unbound():
            yield Step(
                "bind the master keys that the backup brought back without a bond. You vouch that nobody but you has "
                "written this database since the backup was made",
                _bind_restored,
            )
        return
    if not ceremony.has_binding_key:
        yield Step("make the key that binds tenants' master keys, on the token root", ceremony.create_binding_key)
    yield Step("bind the master keys of every tenant, as they stand in the database now", _bind)
    # Last: a kill before it leaves the other steps to be taken again, and those find done what is done.
    yield Step("say for ever that all are bound", ceremony.finish_binding)


def _is_any_unbound() -> bool:
    for tenant in Tenant.objects.order_by("slug"):
        with tenant_scope(tenant.pk):
            if TenantMasterKey.objects.filter(mac=None).exists():
                return True
    return False


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
