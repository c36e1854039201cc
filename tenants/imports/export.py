# SPDX-License-Identifier: Apache-2.0
"""The list of people as a CSV file: what an import reads, and state and id beside it.

Implements ORGANISATION "People from a file".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from uuid import UUID

from django.db import transaction

from audit import services as audit
from kernel.actors import Actor
from kernel.scope import current_tenant, tenant_scope
from tenants import access
from tenants.imports import cells

_AT_ONCE: Final = 500  # people in memory, and to a query


def begin(*, actor: Actor) -> Iterator[str]:
    """Record that the list is taken out, and return it line by line, whenever it is read and in whatever scope."""
    with transaction.atomic():
        audit.append(
            tag="tenants:people:export",
            actor=actor,
            subject=str(current_tenant()),
            body={"count": access.count_people()},
        )
    return _lines(current_tenant())


def _lines(tenant_id: UUID) -> Iterator[str]:
    # The mark tells a spreadsheet that this is UTF-8.
    yield "\ufeff" + cells.line(["name", "email", "role", "state", "id"])
    after: UUID | None = None
    while True:
        # Open for the query alone: between two lines, whoever sends them may serve another tenant.
        with tenant_scope(tenant_id):
            people = access.people_after(after, limit=_AT_ONCE)
        for one in people:
            yield cells.line([one.name, one.email, one.role, one.state, str(one.pk)])
        if len(people) < _AT_ONCE:
            return
        after = people[-1].pk
