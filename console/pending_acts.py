# SPDX-License-Identifier: Apache-2.0
"""Lines about acts that wait for a second person, for the pages that list them.

Implements ORGANISATION "Acts".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kernel.actors import Actor
from tenants import access as tenants
from tenants.acts import engine
from tenants.acts.act import named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tenants.models import PendingAct


def rows(actor: Actor, waiting: Sequence[PendingAct]) -> list[dict[str, Any]]:
    """Say of each who proposed it, whom it is about, and whether the actor could confirm it. Three queries."""
    if not waiting:
        return []
    ids = {row.proposer_id for row in waiting} | {row.concerns_id for row in waiting if row.concerns_id}
    people, mine = tenants.people_by_id(ids), engine.confirmable(actor, waiting)
    return [
        {
            "pending": row,
            "title": named(row.act).title,
            "about": people.get(row.concerns_id) if row.concerns_id else None,
            "proposer": people.get(row.proposer_id),
            "is_mine": row.proposer_id == actor.person_id,
            "can_confirm": row.pk in mine,
        }
        for row in waiting
    ]
