# SPDX-License-Identifier: Apache-2.0
"""The job table as outbox and lease queue: promised in the business transaction, done at least once.

PLATFORM "Work that takes time". A message that is lost or doubled loses and doubles nothing, because the row is the
truth: a handler is called under a lease with a fencing token, and its effect is idempotent by database state.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import wraps
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F, Q, QuerySet, Window
from django.db.models.expressions import Combinable
from django.db.models.functions import Now, RowNumber
from structlog.contextvars import bound_contextvars

from kernel.clock import database_now, is_in_doubt
from kernel.errors import Conflict
from kernel.models import Job, JobState
from kernel.retries import Retries, is_worth_a_line, named, pause_seconds
from kernel.rows import insert
from kernel.scope import at_work, current_tenant, tenant_scope
from kernel.sweeps import delete_in_batches

log = logging.getLogger("holdfast.queue")

# What is handed to a mail server waits in a queue of its own: one that hangs keeps only mails waiting.
MAIL = "mail"

LEASE = timedelta(seconds=60)
MAX_ATTEMPTS = 20
# What is promised for now is due at once: the clock of SQLite's statements ends at milliseconds.
AT_ONCE = timedelta(milliseconds=1)
FIRST_BACKOFF_SECONDS = 2
MAX_BACKOFF_SECONDS = 300

Handler = Callable[[Job], None]
_handlers: dict[str, Handler] = {}
_given_up: dict[str, Handler] = {}
_going_on: set[str] = set()


class RunLater(Exception):
    """A handler's way to say: not yet, and this is no failure. Carries the time to try again.

    counts: whether this was a try, which `attempts` of the job is to show at the next one.
    """

    def __init__(self, run_at: datetime, why: str = "", *, counts: bool = False) -> None:
        self.run_at, self.counts = run_at, counts
        super().__init__(why)


Hint = Callable[[UUID], object]
_hints: list[Hint] = []


def hint_with(hint: Hint) -> None:
    """Have every promised job's id passed on after its commit, to a broker that may wake a worker sooner.

    A hint that is lost, doubled or fails costs only time: the row is the truth, and workers look at the rows.
    """
    _hints[:] = [hint]


def _hint(job_id: UUID) -> None:
    for hint in _hints:
        try:
            hint(job_id)
        except Exception as error:  # noqa: BLE001 — the act is committed; a broker that is away must not undo its answer
            log.warning("no hint for job %s: %s", job_id, type(error).__name__)


Periodic = Callable[[], object]
_periodic: list[tuple[float, Periodic]] = []


def every(seconds: float, *, by_age: bool = False) -> Callable[[Periodic], Periodic]:
    """Register work for the worker to do again and again, in the `tasks.py` of the app it belongs to.

    It takes nothing, opens tenants' scopes itself, and is idempotent: two workers may do it at once. by_age: it deletes
    or ends what is old enough, by the database's clock, and is left out while that or this process's is in doubt.
    """

    def register(work: Periodic) -> Periodic:
        @wraps(work)
        def unless_in_doubt() -> object:
            return None if is_in_doubt() else work()

        _periodic.append((seconds, unless_in_doubt if by_age else work))
        return work

    return register


# For the log alone: each is tried again at every round.
_failing = Retries(first=0, longest=0)


@contextmanager
def apart(tenant_id: UUID, what: str) -> Iterator[None]:
    """Open a tenant's scope for one of many in a periodic work, and keep its trouble from those that come after it.

    What fails is named in the log, ever less often while it stays so, and tried again at the next round. Only a lost
    connection ends the round.
    """
    try:
        with tenant_scope(tenant_id):
            yield
    except Exception as error:
        if not connection.is_usable():
            raise
        count = _failing.failed((tenant_id, what))
        if is_worth_a_line(count):
            log.warning("%s of tenant %s failed: %s (%d in a row)", what, tenant_id, named(error), count)
    else:
        _failing.worked((tenant_id, what))


def periodic() -> list[tuple[float, Periodic]]:
    """List what was registered, with its interval in seconds."""
    return list(_periodic)


def handles(kind: str, *, while_resting: bool = False) -> Callable[[Handler], Handler]:
    """Register the handler of one kind of job, in the `tasks.py` of the app that promises it.

    while_resting: whether it is called for a tenant that rests too, and sees to that itself.
    """

    def register(handler: Handler) -> Handler:
        if kind in _handlers:
            raise ValueError(f"two handlers for {kind}")
        _handlers[kind] = handler
        if while_resting:
            _going_on.add(kind)
        return handler

    return register


def given_up(kind: str) -> Callable[[Handler], Handler]:
    """Register what is done when an operator drops a dead job of a kind: in the transaction in which it goes."""

    def register(handler: Handler) -> Handler:
        _given_up[kind] = handler
        return handler

    return register


def enqueue(
    kind: str, *, queue: str = "worker", run_at: datetime | None = None, unique: str | None = None, **ids: str
) -> Job | None:
    """Promise a job in the transaction that is open, for the tenant whose scope is open.

    `ids` are text ids, never secrets. With `unique`, a second promise while the first is open is
    dropped and None returned. Queues are `worker`, MAIL and `release`. Raises RuntimeError outside a
    transaction (a programming error).
    """
    if not connection.in_atomic_block:
        raise RuntimeError("a job is promised inside the transaction of the act")
    job = Job(
        tenant_id=current_tenant(),
        kind=kind,
        queue=queue,
        run_at=run_at or database_now() - AT_ONCE,
        unique=unique,
        payload=ids,
    )
    # One that is open already keeps it out, by the unique key of the open ones.
    if not insert(job, once=True):
        return None
    if _hints and queue == "worker":
        transaction.on_commit(lambda: _hint(job.pk))
    return job


def enqueue_each(kind: str, each: Iterable[Mapping[str, str]], *, queue: str = "worker") -> None:
    """Promise a job for each of these ids, as `enqueue` does for one, in one statement and without a hint.

    Raises RuntimeError outside a transaction (a programming error).
    """
    if not connection.in_atomic_block:
        raise RuntimeError("a job is promised inside the transaction of the act")
    now = database_now()
    Job.objects.bulk_create([Job(kind=kind, queue=queue, run_at=now, payload=dict(ids)) for ids in each])


def due(queue: str, *, limit: int = 50) -> list[UUID]:
    """List the jobs of a queue whose time has come, whether new or left by a dead process: each tenant's in turn.

    The oldest of every tenant come first, then the second ones, so that nobody waits for another tenant's flood.
    """
    turn = Window(RowNumber(), partition_by="tenant_id", order_by="run_at")
    rows = _of_whom_works(Job.unscoped.filter(_free(), queue=queue)).annotate(turn=turn).order_by("turn", "run_at")
    return list(rows.values_list("id", flat=True)[:limit])


def run_due(queue: str, *, limit: int = 50) -> int:
    """Run what is due in a queue, one after another, and return how many jobs were completed."""
    return sum(run_one(job_id) for job_id in due(queue, limit=limit))


def run_one(job_id: UUID) -> bool:
    """Lease one job, run its handler in the tenant's scope, and complete it. False when it was not ours.

    A handler's exception returns the job with a growing delay; after 20 attempts it is `dead`, which
    the overview shows. Never raises for a handler's failure.
    """
    job = _lease(job_id)
    if job is None:
        return False
    with tenant_scope(job.tenant_id), bound_contextvars(job=str(job.pk)):
        try:
            _handlers[job.kind](job)
        except RunLater as later:
            _put_back(job, run_at=later.run_at, error=str(later), attempts=job.attempts - (not later.counts))
            return False
        except Exception as error:  # noqa: BLE001 — a poison job must not stop the loop (FAULTS W6)
            log.warning("job %s (%s) failed: %s (try %d)", job.pk, job.kind, named(error), job.attempts)
            _after_failure(job, error)
            return False
        return _complete(job)


def renew(job: Job) -> None:
    """Extend the lease from inside a long handler. Raises Conflict when another process took the job over."""
    held = Job.unscoped.filter(pk=job.pk, fence=job.fence, state=JobState.LEASED)
    if held.update(lease_until=Now() + LEASE) != 1:
        raise Conflict("the lease ran out")


def _free() -> Q:
    """Select the jobs that anybody may take, by the database's clock: no worker's own shortens another's lease (W10).

    A lease that ends later than any taken now would was taken when that clock was ahead: it holds nobody up.
    """
    over = Q(lease_until__lt=Now()) | Q(lease_until__gt=Now() + 2 * LEASE)
    return Q(state=JobState.READY, run_at__lte=Now()) | (Q(state=JobState.LEASED) & over)


def _of_whom_works(jobs: QuerySet[Job]) -> QuerySet[Job]:
    """Leave out the jobs of tenants that rest, but for the kinds that go on."""
    return at_work(jobs, unless=Q(kind__in=_going_on))


def _lease(job_id: UUID) -> Job | None:
    taken = _of_whom_works(Job.unscoped.filter(_free(), pk=job_id)).update(
        state=JobState.LEASED, lease_until=Now() + LEASE, attempts=F("attempts") + 1, fence=F("fence") + 1
    )
    if not taken:
        return None
    job: Job
    try:
        job = Job.unscoped.get(pk=job_id)
    except (ValueError, RecursionError):
        # Not all JSON that a database takes is read in Python: numbers of 5,000 digits, lists a thousand deep. The
        # handler meets it where failures are counted: raised here, it would stop whatever comes after it, at each end
        # of the lease.
        job = Job.unscoped.defer("payload").get(pk=job_id)
    return job


def _complete(job: Job) -> bool:
    held = Job.unscoped.filter(pk=job.pk, fence=job.fence, state=JobState.LEASED)
    return held.update(state=JobState.DONE, lease_until=None, last_error="") == 1


def _after_failure(job: Job, error: Exception) -> None:
    delay = pause_seconds(job.attempts, first=FIRST_BACKOFF_SECONDS, longest=MAX_BACKOFF_SECONDS)
    if job.attempts >= MAX_ATTEMPTS:
        held = Job.unscoped.filter(pk=job.pk, fence=job.fence, state=JobState.LEASED)
        held.update(state=JobState.DEAD, lease_until=None, last_error=type(error).__name__)
        return
    _put_back(job, run_at=Now() + timedelta(seconds=delay), error=type(error).__name__, attempts=job.attempts)


def _put_back(job: Job, *, run_at: datetime | Combinable, error: str, attempts: int) -> None:
    held = Job.unscoped.filter(pk=job.pk, fence=job.fence, state=JobState.LEASED)
    held.update(
        state=JobState.READY, run_at=run_at, lease_until=None, last_error=error[:200], attempts=max(attempts, 0)
    )


def retry(job_id: UUID) -> None:
    """Let the open tenant's dead job run again at once, from its first try. Nothing happens to one that is not dead.

    Nor to one whose like was promised again meanwhile: that one does the work.
    """
    with transaction.atomic():
        job = Job.objects.select_for_update().defer("payload").filter(pk=job_id, state=JobState.DEAD).first()
        if job is None:
            return
        open_ones = Job.objects.filter(kind=job.kind, unique=job.unique, state__in=[JobState.READY, JobState.LEASED])
        if job.unique is not None and open_ones.exists():
            return
        Job.objects.filter(pk=job_id).update(state=JobState.READY, run_at=Now(), attempts=0)


def drop(job_id: UUID) -> None:
    """Delete the open tenant's dead job for good, and do what its kind has for that. Nothing unless it is dead."""
    with transaction.atomic():
        job = Job.objects.select_for_update().filter(pk=job_id, state=JobState.DEAD).first()
        if job is None:
            return
        if job.kind in _given_up:
            _given_up[job.kind](job)
        job.delete()


def release_lease(job_id: UUID) -> None:
    """Take the open tenant's job from whoever holds it: they can complete it no more, and another may lease it."""
    held = Job.objects.filter(pk=job_id, state=JobState.LEASED)
    held.update(state=JobState.READY, run_at=Now(), lease_until=None, fence=F("fence") + 1)


def sweep(*, older_than: timedelta = timedelta(days=30)) -> int:
    """Delete done jobs older than a month and return how many; the audit log keeps what they did."""
    done = Job.unscoped.filter(state=JobState.DONE, created_at__lt=database_now() - older_than)
    return delete_in_batches(done, of_all=True)


def count_dead() -> int:
    """Count, in the open scope, the jobs that were given up: a person must look."""
    return Job.objects.filter(state=JobState.DEAD).count()


def count_late(queue: str, *, since: datetime, but: Collection[str] = ()) -> int:
    """Count, in the open scope, the jobs of a queue that ought to be done. but: kinds that are left out.

    Such were due before `since` and not tried; or promised before it, and tried in vain.
    """
    return _late(Job.objects.exclude(kind__in=but), queue, since).count()


def count_late_everywhere(queue: str, *, since: datetime) -> int:
    """Count what `count_late` does in every tenant."""
    return _late(at_work(Job.unscoped.all()), queue, since).count()


def _late(jobs: QuerySet[Job], queue: str, since: datetime) -> QuerySet[Job]:
    is_open = Q(queue=queue, state__in=[JobState.READY, JobState.LEASED])
    return jobs.filter(is_open, Q(run_at__lt=since) | Q(created_at__lt=since) & ~Q(last_error=""))
