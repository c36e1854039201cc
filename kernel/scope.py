# SPDX-License-Identifier: Apache-2.0
"""Tenant scoping: a query that names no tenant is refused, not answered.

Implements ORGANISATION "Tenants" (first fence). It does not authorize: within a tenant, `access.py` does.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, Self, TypeVar
from uuid import UUID

from django.db import models

# Of one statement: it takes 32,766 values (SQLite) or 65,535 (PostgreSQL), and SQLite a condition 1,000 deep.
_IDS_AT_ONCE, _TENANTS_AT_ONCE = 5000, 400

_tenant: ContextVar[UUID | None] = ContextVar("holdfast_tenant", default=None)


class UnscopedQuery(RuntimeError):
    """Code asked for a tenant's rows without saying which tenant: a programming error, never a user's."""


class ForeignRow(RuntimeError):
    """Code tried to write another tenant's row inside a scope: a programming error, never a user's."""


def current_tenant() -> UUID:
    """Return the tenant whose scope is open. Raises UnscopedQuery when none is."""
    tenant_id = _tenant.get()
    if tenant_id is None:
        raise UnscopedQuery("open kernel.scope.tenant_scope(tenant_id) first")
    return tenant_id


def open_scope(tenant_id: UUID) -> None:
    """Open a scope that lasts until `close_scope`: for authentication, whose end is the request's end."""
    _tenant.set(tenant_id)


def close_scope() -> None:
    """Close whatever scope is open: the middleware calls it before and after every request."""
    _tenant.set(None)


@contextmanager
def tenant_scope(tenant_id: UUID) -> Iterator[None]:
    """Open a tenant's scope for a block, and give the scope before it back afterwards."""
    token = _tenant.set(tenant_id)
    try:
        yield
    finally:
        _tenant.reset(token)


# What an app above knows and this one cannot: of which tenants nothing may change by itself just now. Each rule gives
# their ids as a query, so that a loop over all tenants leaves them out in its own.
Resting = Callable[[], "models.QuerySet[Any, Any]"]
_resting: list[Resting] = []


def rest_by(rule: Resting) -> None:
    """Say once, at start, which tenants rest: no job, no schedule and no sweep changes anything of theirs."""
    _resting.append(rule)


def at_work(rows: models.QuerySet[Any, Any], *, unless: models.Q | None = None) -> models.QuerySet[Any, Any]:
    """Return rows of every tenant without those of tenants that rest. unless: which of these stay all the same."""
    for rule in _resting:
        rest = models.Q(tenant_id__in=rule())
        rows = rows.exclude(rest & ~unless if unless is not None else rest)
    return rows


def resting() -> set[UUID]:
    """Return the tenants that rest, for a loop that cannot leave them out in its own query. One query for each rule."""
    return set().union(*(rule() for rule in _resting))


T = TypeVar("T")


def awake(found: Iterable[tuple[T, UUID]]) -> Iterator[tuple[T, UUID]]:
    """Give, of pairs with a tenant's id behind, those whose tenant does not rest. Asked once, when the loop begins."""
    asleep = resting()
    return ((one, tenant_id) for one, tenant_id in found if tenant_id not in asleep)


def in_their_tenants(field: str, named: Iterable[tuple[UUID, Any]]) -> Iterator[models.Q]:
    """Give the condition of rows named by (tenant, id), for a loop over all tenants: one for thousands of them.

    field: the column with the id. Another tenant's row of the same id is none of them.
    """
    by_tenant: dict[UUID, list[Any]] = {}
    for tenant_id, one in dict.fromkeys(named):
        by_tenant.setdefault(tenant_id, []).append(one)
    parts = [
        (tenant_id, ids[start : start + _IDS_AT_ONCE])
        for tenant_id, ids in by_tenant.items()
        for start in range(0, len(ids), _IDS_AT_ONCE)
    ]
    while parts:
        condition, room = models.Q(), _IDS_AT_ONCE
        for tenant_id, ids in parts[:_TENANTS_AT_ONCE]:
            if len(ids) > room:
                break
            condition, room = condition | models.Q(("tenant_id", tenant_id), (f"{field}__in", ids)), room - len(ids)
            parts = parts[1:]
        yield condition


class ScopedQuerySet(models.QuerySet["Any"]):
    """A queryset whose writes carry the open scope's tenant and refuse another's."""

    def create(self, **fields: Any) -> Any:
        fields.setdefault("tenant_id", current_tenant())
        if fields["tenant_id"] != current_tenant():
            raise ForeignRow(self.model.__name__)
        return super().create(**fields)

    def bulk_create(self, objs: Iterable[Any], *args: Any, **kwargs: Any) -> list[Any]:
        rows = list(objs)
        for row in rows:
            if row.tenant_id is None:
                row.tenant_id = current_tenant()
            if row.tenant_id != current_tenant():
                raise ForeignRow(self.model.__name__)
        return super().bulk_create(rows, *args, **kwargs)


class ScopedManager(models.Manager["Any"]):
    """Answers only inside a scope, and only with that tenant's rows."""

    def get_queryset(self) -> ScopedQuerySet:
        return ScopedQuerySet(self.model, using=self._db).filter(tenant_id=current_tenant())


class ChosenId(models.Model):
    """A row whose `id` its client chose: unique in its tenant, so that no tenant takes or probes another's.

    Each model says so by a constraint over (tenant, id). Rows of other models name it by both, never by `row_id`, which
    Django needs and nobody else sees. Stands before TenantModel among a model's bases.
    """

    row_id = models.BigAutoField(primary_key=True)
    id = models.UUIDField(editable=False)

    class Meta:
        abstract = True


class TenantModel(models.Model):
    """A row that belongs to one tenant. `objects` is scoped; `unscoped` is for the listed system loops."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    # No index of its own: each model has one that begins with it and goes on, and every row pays for every index.
    tenant_id = models.UUIDField(editable=False)

    # Django follows relations through the base manager, which must not depend on a scope:
    # a related row was reached from a row that was scoped already.
    unscoped: ClassVar[models.Manager[Any]] = models.Manager()
    objects: ClassVar[ScopedManager] = ScopedManager()

    class Meta:
        abstract = True
        default_manager_name = "unscoped"
        base_manager_name = "unscoped"

    def __str__(self) -> str:
        return f"{type(self).__name__} {self.id}"

    def reload(self) -> Self:
        """Read this row again, as it is now."""
        self.refresh_from_db()
        return self
