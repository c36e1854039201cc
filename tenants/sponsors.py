# SPDX-License-Identifier: Apache-2.0
"""Writing down who let whom in, in the transaction of the act: who asks in a case is not judged by those behind them.

Implements ESCROW "Case" (Eligible). It judges nothing: `holdfast.core.escrow.sponsors` does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from uuid import UUID

from holdfast.core.escrow.sponsors import letting_in
from kernel.clock import database_now
from tenants import access
from tenants.models import Sponsorship


def let_in(person_id: UUID, by: Iterable[UUID | None]) -> frozenset[UUID]:
    """Write down that people let a person in: invited, reset or enrolled them, or gave them a role.

    Returns who stands behind this act: they, and those behind them. A ceremony (None) is nobody of the tenant's, and
    nobody comes to stand behind somebody by what these do themselves.
    """
    return all_let_in([person_id], by)


def all_let_in(person_ids: Collection[UUID], by: Iterable[UUID | None]) -> frozenset[UUID]:
    """Write down of several people at once what `let_in` does of one, in as many statements."""
    sponsors = {one for one in by if one is not None}
    if not sponsors:
        return frozenset()
    now, known = database_now(), access.sponsors_of(sponsors)
    seconds = int(now.timestamp())
    Sponsorship.objects.bulk_create(
        # In one order everywhere, so that two acts at once wait for each other and do not lock each other out.
        [
            Sponsorship(person_id=person_id, sponsor_id=one, at=now)
            for person_id in sorted(person_ids)
            for one in sorted(letting_in(sponsors - {person_id}, known, seconds) - {person_id})
        ],
        update_conflicts=True,
        unique_fields=["tenant", "person_id", "sponsor_id"],
        update_fields=["at"],
    )
    return letting_in(sponsors, known, seconds)
