# SPDX-License-Identifier: Apache-2.0
"""`ceremony tenant-keys`: tenants' master keys from before they were bound are bound to their tenants, once.

Implements HSM section 5 for an installation of before, and ORGANISATION "Commands of the operator". What stands in the
database at that moment is believed; afterwards a key without its bond opens nothing, and no ceremony gives it one.
"""

from __future__ import annotations

from collections.abc import Iterator

from config.ceremonies import Step
from config.hsm import hsm_config
from hsm.ceremony import Ceremony
from kernel.actors import system_actor
from kernel.scope import tenant_scope
from keys.services import bind_tenant_keys
from tenants.models import Tenant


def is_missing() -> bool:
    """Tell whether this installation is from before tenant keys were bound, or was not wholly carried over."""
    return not Ceremony(hsm_config()).are_tenant_keys_bound


def steps() -> Iterator[Step]:
    """Give what is missing, in the order in which it has to be done."""
    ceremony = Ceremony(hsm_config())
    if ceremony.are_tenant_keys_bound:
        return
    if not ceremony.has_binding_key:
        yield Step("make the key that binds tenants' master keys, on the token root", ceremony.create_binding_key)
    yield Step("bind the master keys of every tenant, as they stand in the database now", _bind)
    # Last: a kill before it leaves the other steps to be taken again, and those find done what is done.
    yield Step("say for ever that all are bound", ceremony.finish_binding)


def _bind() -> None:
    for tenant in Tenant.objects.order_by("slug"):
        with tenant_scope(tenant.pk):
            bind_tenant_keys(actor=system_actor(tenant.pk, "ceremony"))
