# SPDX-License-Identifier: Apache-2.0
"""Who acts: the one value that every verb takes and every audit entry names.

Pure data, made by `tenants` from a verified signature or session (ORGANISATION "Requests").
It decides nothing by itself: which permissions a role has stands in `tenants.permissions`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

ActorKind = Literal["person", "device", "service", "operator", "log-token", "system", "anonymous"]


@dataclass(frozen=True, slots=True)
class Actor:
    """One authenticated principal, read again from the database for every request."""

    tenant_id: UUID | None
    kind: ActorKind
    id: UUID | None
    person_id: UUID | None = None
    role: str = ""
    permissions: frozenset[str] = frozenset()
    credential_state: str = ""
    name: str = ""
    # Their device or they themselves are suspended: let in where a view says so, and about themselves alone.
    is_suspended: bool = False
    # Their tenant's database was put back from a backup: nothing is changed until its officers accept that.
    is_restored: bool = False

    def can(self, permission: str) -> bool:
        """Tell whether this actor holds the permission, by its name `<app>:<verb>`."""
        return permission in self.permissions

    @property
    def label(self) -> str:
        """The actor as audit entries print it: `device:<uuid>`, or `system:<name>`."""
        return f"{self.kind}:{self.id or self.name}"

    @property
    def is_authenticated(self) -> bool:
        """REST framework asks this of whatever stands in `request.user`."""
        return self.kind != "anonymous"


ANONYMOUS = Actor(tenant_id=None, kind="anonymous", id=None, name="anonymous")


def system_actor(tenant_id: UUID | None, name: str) -> Actor:
    """Make the actor under which a process of ours works: `worker`, `sequencer`, `release`, `ceremony`."""
    return Actor(tenant_id=tenant_id, kind="system", id=None, name=name)
