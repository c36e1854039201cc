# SPDX-License-Identifier: Apache-2.0
"""Periodic work of the logs: the worker sequences every tenant's two logs once a second."""

from __future__ import annotations

from audit import sequencer
from audit.models import Entry, LogHead
from kernel.queue import every


@every(seconds=1)
def sequence_all() -> None:
    """Number and sign for every tenant that has entries. Tenants are known to a higher app, entries to this one."""
    tenants = set(Entry.unscoped.filter(leaf_index=None).values_list("tenant_id", flat=True))
    tenants |= set(LogHead.unscoped.values_list("tenant_id", flat=True))
    for tenant_id in tenants:
        for log in sequencer.LOGS:
            sequencer.sequence(tenant_id, log)
