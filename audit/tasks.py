# SPDX-License-Identifier: Apache-2.0
"""Periodic work of the logs: the worker sequences every tenant's two logs once a second.

Implements PROTOCOL section 8 ("at least every minute while there is news"). Holds no logic of the log itself.
"""

from __future__ import annotations

import logging

from audit import sequencer, services
from audit.errors import LogBroken
from audit.models import Entry, LogHead
from kernel.queue import every

log = logging.getLogger("holdfast.audit")


@every(seconds=1)
def sequence_all() -> None:
    """Number and sign for every tenant that has entries. Tenants are known to a higher app, entries to this one.

    A broken log is reported and left unsigned, and the other tenants' go on. Raises HsmUnavailable at once: no
    other head could be signed either.
    """
    fresh = Entry.unscoped.filter(leaf_index=None).order_by().values_list("tenant_id", flat=True).distinct()
    for tenant_id in set(fresh) | set(LogHead.unscoped.values_list("tenant_id", flat=True)):
        for name in sequencer.LOGS:
            try:
                sequencer.sequence(tenant_id, name)
            except LogBroken:
                log.critical("log %s of tenant %s is not the one that was signed: not signing", name, tenant_id)


@every(seconds=60)
def conclude_hours() -> None:
    """Append what was only counted in hours that are over."""
    services.conclude_hours()
