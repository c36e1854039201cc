# SPDX-License-Identifier: Apache-2.0
"""The operator's few acts, each with its entry in the log of the tenant that it touches; and what they looked at.

Implements ORGANISATION "Django's admin" and FAULTS T11. Nothing here acts inside a tenant. What is done to a job, a
worker does (`tasks`): the web process may promise work, and change none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final
from uuid import UUID

from django.db import transaction

from audit import services as audit
from audit.access import is_restored
from kernel import queue
from kernel.actors import Actor
from kernel.errors import Conflict
from kernel.models import Job, JobState
from kernel.scope import tenant_scope
from operators import access
from operators.models import Operator
from tenants import services as tenants

RETRY, DROP, RELEASE = "retry", "drop", "release"
# act: (the job that does it, its entry, the state that it takes).
_OF_JOBS: Final = {
    RETRY: ("operators.retry-job", "operators:job:retry", JobState.DEAD),
    DROP: ("operators.drop-job", "operators:job:drop", JobState.DEAD),
    RELEASE: ("operators.release-lease", "operators:job:release", JobState.LEASED),
}


def actor_of(operator: Operator) -> Actor:
    """Return the actor that an operator is in every log: of no tenant, with no permission inside one."""
    return Actor(tenant_id=None, kind="operator", id=operator.pk, name=operator.name)


def suspend_tenant(*, tenant_id: UUID, operator: Operator) -> None:
    """Let nobody of a tenant in from their next request on. Raises NotFound; Conflict unless active or locked."""
    with tenant_scope(access.tenant(tenant_id).pk):
        _require_accepted()
        tenants.suspend_tenant(actor=actor_of(operator))


def resume_tenant(*, tenant_id: UUID, operator: Operator) -> None:
    """Let a suspended tenant's people in again. Raises NotFound, and Conflict unless it is suspended."""
    with tenant_scope(access.tenant(tenant_id).pk):
        _require_accepted()
        tenants.resume_tenant(actor=actor_of(operator))


def ask_of_job(*, act: str, job_id: UUID, operator: Operator) -> None:
    """Have a worker retry or drop a dead job, or take the lease from one that hangs.

    act: RETRY, DROP or RELEASE. Raises NotFound, and Conflict for a job in another state or one asked for already.
    """
    kind, tag, state = _OF_JOBS[act]
    job = access.job(job_id)
    with tenant_scope(job.tenant_id), transaction.atomic():
        _require_accepted()
        if not may(act, job):
            raise Conflict(f"The job is {job.state}, and not {state.value}. Look at it again.")
        if queue.enqueue(kind, unique=str(job.pk), job=str(job.pk), operator=str(operator.pk)) is None:
            raise Conflict("This was asked for already: a worker does it as soon as one is there.")
        audit.append(tag=tag, actor=actor_of(operator), subject=str(job.pk), body={"kind": job.kind})


def _require_accepted() -> None:
    """Raise Conflict while the open tenant's database is a backup that was put back and that nobody has accepted."""
    if is_restored():
        raise Conflict(
            "The tenant is read-only: its database was put back from a backup. Its officers accept that, then you hold "
            "`ceremony accept-restored`."
        )


def may(act: str, job: Job) -> bool:
    """Tell whether a job is in the state that an act takes."""
    return job.state == _OF_JOBS[act][2]


def record_reading(*, operator: Operator, kind: str, tenant_ids: Iterable[UUID]) -> None:
    """Write down, in the log of each tenant named, that rows of theirs were shown: once an hour, then as a count.

    kind: the rows' model. tenant_ids: one for each row. All or nothing: raises AuditUnavailable.
    """
    with transaction.atomic():
        for tenant_id, count in sorted(Counter(tenant_ids).items()):
            with tenant_scope(tenant_id):
                audit.append_first(
                    tag="operators:rows:read",
                    actor=actor_of(operator),
                    subject=str(tenant_id),
                    apart=kind,
                    body={"kind": kind, "count": count},
                )
