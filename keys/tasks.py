# SPDX-License-Identifier: Apache-2.0
"""Work of the key directory that waits: sweeping what nothing hands out or counts any more.

PLATFORM "Work that takes time". Each is idempotent by the rows it finds; a job carries no ids but its tenant.
"""

from __future__ import annotations

from kernel.actors import system_actor
from kernel.models import Job
from kernel.queue import every, given_up, handles
from keys import devices, mailbox, mailbox_sizes, notices, services


@every(seconds=3600, by_age=True)
def sweep_claim_budgets() -> None:
    """Forget the counts of hours that are over."""
    services.sweep_budgets()


@every(seconds=3600, by_age=True)
def sweep_claims() -> None:
    """Forget the claims of more than a month ago."""
    services.sweep_claims()


@every(seconds=86_400, by_age=True)
def sweep_waiting() -> None:
    """End the devices that no chain has listed in a month."""
    devices.sweep_waiting()


@handles(notices.NOTICE_JOB)
def give_notice(job: Job) -> None:
    """Hand one mail over."""
    notices.give(job=job, actor=system_actor(job.tenant_id, "worker"))


@given_up(notices.NOTICE_JOB)
def fail_notice(job: Job) -> None:
    """Say that one mail was not delivered: nobody tries any more."""
    notices.fail(job=job, actor=system_actor(job.tenant_id, "worker"))


@handles("keys.sweep-voided")
def sweep_voided(job: Job) -> None:
    """Delete a tenant's voided one-time pre-keys."""
    services.sweep_voided()


@every(seconds=600, by_age=True)
def sweep_messages() -> None:
    """Delete what nobody fetched in time."""
    mailbox.sweep_expired()


@every(seconds=86_400)
def mend_mailbox_sizes() -> None:
    """Count the mailboxes again whose kept sizes are not what is in them."""
    mailbox_sizes.mend()
