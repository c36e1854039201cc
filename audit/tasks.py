# SPDX-License-Identifier: Apache-2.0
"""The sequencer's round: every tenant's two logs, once a second, by a process that does nothing else.

Implements PROTOCOL section 8 ("at least every minute while there is news"). Holds no logic of the log itself.
"""

from __future__ import annotations

import logging
from uuid import UUID

from django.db import connection
from django.db.models import F

from audit import access, exporting, journal, sequencer, services
from audit.errors import LogBroken, RolesMissing
from audit.models import LogHead, Waiting
from holdfast.core.base.errors import HoldfastError
from hsm.errors import HsmUnavailable
from kernel.models import Job
from kernel.queue import every, handles
from kernel.retries import Retries, named
from kernel.scope import resting

log = logging.getLogger("holdfast.audit")

# A log that fails in a way of its own is looked at ever less often, down to once a minute: each look reads its database
# and writes a line.
_failing = Retries(first=1, longest=60)


def sequence_all() -> bool:
    """Number and sign where there is news, or somebody asks or waits, and tell whether all heads were signed.

    A log that is broken, or fails in a way of its own, is reported and left unsigned, and the others' go on; so are the
    entries of tenants that no ceremony handed to this process, which cost nothing more however many they are. Raises
    HsmUnavailable at once, as no other head could be signed either, and DatabaseError when the database is away.
    """
    fresh = Waiting.unscoped.filter(refused="").order_by().values_list("tenant_id", flat=True).distinct()
    unsigned = LogHead.unscoped.filter(size__gt=F("signed_size")).values_list("tenant_id", flat=True)
    # Nothing of theirs is numbered or signed before their officers have accepted it: the alarm came with the mark.
    asleep = resting()
    # Whoever may insert an entry may make up its tenant: one whose root no ceremony pinned here.
    unknown = {tenant_id for tenant_id in fresh if not _is_pinned(tenant_id)}
    if unknown:
        log.critical("entries of %d tenants wait whose root is not pinned here, as of %s", len(unknown), min(unknown))
    is_sound = not unknown
    # Those of whom somebody asks or waits may be all there are, and most of their heads are fresh.
    awaited = sequencer.growing_old(access.wanted_fresh() | access.asked_for())
    for tenant_id in {*fresh, *unsigned, *awaited} - unknown - asleep:
        for name in sequencer.LOGS:
            if _failing.left((tenant_id, name)):
                is_sound = False
                continue
            try:
                sequencer.sequence(tenant_id, name)
                _failing.worked((tenant_id, name))
            except HsmUnavailable:
                raise
            except (LogBroken, RolesMissing) as error:
                is_sound = False
                log.critical("log %s of tenant %s: not signing. %s", name, tenant_id, error.detail)
            except Exception as error:
                if not connection.is_usable():
                    raise
                # One tenant's data must not keep the others' heads from being signed.
                is_sound = False
                count = _failing.failed((tenant_id, name))
                log.critical("log %s of tenant %s: %s (%d in a row): not signing", name, tenant_id, named(error), count)
    return is_sound


def _is_pinned(tenant_id: UUID) -> bool:
    """Tell whether a ceremony pinned a tenant's root here; a file that cannot be read is that tenant's own trouble."""
    try:
        return journal.root_key(tenant_id) is not None
    except (HoldfastError, OSError):
        return True  # `sequence` meets it again, where it stops this tenant's log alone


@every(seconds=60)
def conclude_hours() -> None:
    """Append what was only counted in hours that are over."""
    services.conclude_hours()


@handles(exporting.EXPORT_JOB)
def make_export(job: Job) -> None:
    """Go on with an export of a log."""
    exporting.work(job)


@every(3600, by_age=True)
def sweep_exports() -> None:
    """Delete, once an hour, exports of more than a day ago."""
    exporting.sweep()
