# SPDX-License-Identifier: Apache-2.0
"""Rows of all tenants for an operator's acts: found by their id alone, NotFound otherwise. Writes nothing."""

from __future__ import annotations

from uuid import UUID

from django.db.models import Count

from kernel.errors import NotFound
from kernel.models import Job
from kernel.scope import tenant_scope
from tenants.models import Person, Tenant


def tenant(tenant_id: UUID) -> Tenant:
    """Return a tenant in whatever state. Raises NotFound."""
    found = Tenant.objects.filter(pk=tenant_id).first()
    if found is None:
        raise NotFound
    return found


def job(job_id: UUID) -> Job:
    """Return a job of whatever tenant, without what it carries. Raises NotFound."""
    found: Job | None = Job.unscoped.defer("payload").filter(pk=job_id).first()
    if found is None:
        raise NotFound
    return found


def people_counted(tenant_id: UUID) -> list[tuple[str, str, int]]:
    """Count a tenant's people by role and state: (role, state, how many). One query."""
    with tenant_scope(tenant_id):
        rows = Person.objects.order_by("role", "state").values_list("role", "state").annotate(Count("id"))
        return list(rows)
