# SPDX-License-Identifier: Apache-2.0
"""What ends with a tenant in this app: its master keys, and what they sealed.

Implements ORGANISATION "End". The ceremony that ends a tenant calls it, in its transaction.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db import transaction

from audit import services as audit
from kernel.actors import Actor
from kernel.scope import current_tenant
from keys.models import MailboxSize, Message, MessageContent, TenantMasterKey, Vault, VaultDoor


@dataclass(frozen=True)
class DestroyedKey:
    """A tenant master key that was: its version and check value in words, and the master key that wrapped it."""

    name: str
    master_version: int


def destroy_tenant_keys(*, actor: Actor) -> list[DestroyedKey]:
    """Delete the open scope's tenant's wrapped master keys, each with its entry, its vaults, doors and mailboxes.

    What of it stays in other rows (deposits, which nobody deletes) is never opened again without a backup. Returns what
    was destroyed; nothing the second time.
    """
    with transaction.atomic():
        destroyed = []
        for row in TenantMasterKey.objects.select_for_update().order_by("version"):
            value = bytes(row.key_check_value)
            destroyed.append(DestroyedKey(f"{row.version} ({value.hex()})", row.master_version))
            audit.append(
                tag="keys:tenant-key:destroy",
                actor=actor,
                subject=str(current_tenant()),
                body={"version": row.version, "master_version": row.master_version, "key_check_value": value},
            )
        for model in (TenantMasterKey, VaultDoor, Vault):
            model.objects.all().delete()
        Message.objects.filter(tenant_id=current_tenant()).delete()
        MailboxSize.objects.filter(tenant_id=current_tenant()).delete()
        MessageContent.objects.all().delete()
    return destroyed
