# SPDX-License-Identifier: Apache-2.0
"""Work that takes time: telling people of a policy and of its end, flagging deposits of revoked devices.

PLATFORM "Work that takes time". A flagged deposit stays releasable; whoever sees or opens it is told.
"""

from __future__ import annotations

from uuid import UUID

from django.utils import timezone

from escrow import access, campaign, services
from kernel.actors import system_actor
from kernel.models import Job
from kernel.queue import apart, every, handles
from kernel.scope import awake


@handles(campaign.ANNOUNCE_JOB)
def announce_policy(job: Job) -> None:
    """Tell the next people of a policy version."""
    after = UUID(job.payload["after"]) if job.payload["after"] else None
    campaign.announce(policy_hash=bytes.fromhex(job.payload["policy"]), after=after)


@handles(campaign.ENDING_JOB)
def warn_of_end(job: Job) -> None:
    """Tell officers and owners that a policy or an escrow key nears its end."""
    given = job.payload
    campaign.warn_of_end(what=given["what"], row_hash=bytes.fromhex(given["hash"]), until=given["until"])


@every(seconds=10)
def flag_deposits_of_revoked_devices() -> None:
    """Flag what revoked devices had deposited."""
    for device_id, tenant_id in awake(access.devices_to_flag()):
        with apart(tenant_id, f"flags of device {device_id}"):
            actor = system_actor(tenant_id, "worker")
            services.flag_deposits(device_id=device_id, now=timezone.now(), actor=actor)
