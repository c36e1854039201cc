# SPDX-License-Identifier: Apache-2.0
"""The one transaction of an act, and what a request spends with it: one commit for both.

Implements FAULTS I11a and T9 together with D3: whatever becomes of the act, its request is spent before the answer
leaves. It knows no nonce and no bucket: `tenants.credentials` does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Protocol

from django.db import DatabaseError, InterfaceError, OperationalError, transaction

from kernel.errors import DomainError, Throttled, Unauthenticated


class Spend(Protocol):
    """What a request costs, whoever sent it: taken once, or once more when it was undone with its act."""

    def take(self) -> None:
        """Take it in the open transaction. Raises Unauthenticated for a request that was spent, Throttled."""

    def keep(self) -> None:
        """Hear that what `take` took is committed."""

    def now(self) -> None:
        """Take it and commit it. Raises as `take` does; of whoever is throttled, the request is spent all the same."""


_pending: ContextVar[Spend | None] = ContextVar("holdfast_pending_spend", default=None)


def defer(spend: Spend) -> None:
    """Leave a request's spend to its act, or to `settle`."""
    _pending.set(spend)


def settle() -> None:
    """Spend what no act has: before the answer leaves, whatever it is. Raises as `Spend.now` does."""
    spend = _pending.get()
    if spend is not None:
        _pending.set(None)
        spend.now()


@contextmanager
def act() -> Iterator[None]:
    """Open the one transaction of an act. What the request costs is its first step, if that was left to it.

    Of an act that fails, the transaction is undone, and the request is spent in another before the error goes on. When
    the process ends between, nothing was done: the same signature is a retry, which does the act once.
    """
    spend = _pending.get()
    if spend is None:
        with transaction.atomic():
            yield
        return
    _pending.set(None)
    is_first = False
    try:
        with transaction.atomic():
            spend.take()
            is_first = True
            yield
    except BaseException as error:
        if is_first or not isinstance(error, Unauthenticated):
            _spend_again(spend, error)
        raise
    spend.keep()


def _spend_again(spend: Spend, error: BaseException) -> None:
    # Of a database that went away nobody knows what it has committed: that is what the caller hears.
    is_away = isinstance(error, (OperationalError, InterfaceError))
    with suppress(*((DomainError, DatabaseError, InterfaceError) if is_away else (Throttled,))):
        spend.now()
