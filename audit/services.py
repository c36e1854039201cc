# SPDX-License-Identifier: Apache-2.0
"""Appending to the logs inside the act's own transaction, and what the product's other rooms read of them.

PLATFORM "Audit": every act and every refusal that matters appends an entry, or the act does not happen.
The sequencer, which numbers and signs, is in `sequencer`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from django.db import DatabaseError, connection
from django.utils import timezone

from audit import access
from audit.errors import AuditUnavailable
from audit.models import Entry, Log
from audit.tags import TAGS
from holdfast.core.base.encoding import b64u
from holdfast.core.log.log_entry import BodyValue, KeyLogEntry, LogEntry, key_log_subject
from kernel.actors import Actor
from kernel.scope import ForeignRow, current_tenant, tenant_scope


def append(*, tag: str, actor: Actor, subject: str = "", body: Mapping[str, BodyValue] | None = None) -> Entry:
    """Record an act or a refusal, in the transaction that is open.

    subject: whose or what, as a UUID's text. body: ids, hashes and counts by the names `tags` lists, text of at
    most 512 characters, bytes of at most 64. Raises RuntimeError outside a transaction, ValueError for an
    unlisted tag, field or kind of value, ForeignRow for another tenant's actor: programming errors. Raises
    AuditUnavailable when the database does not take the entry, and rolls the act back with it (FAULTS L1).
    """
    tenant = _tenant_of_the_act()
    if actor.tenant_id not in (None, tenant):
        raise ForeignRow("an entry names the tenant's own actor")
    fields = dict(body or {})
    if tag not in TAGS or not fields.keys() <= TAGS[tag]:
        raise ValueError(f"audit.tags lists no {tag} with {sorted(fields)}")
    now, entry_id = timezone.now().replace(microsecond=0), uuid4()
    leaf = LogEntry(
        entry_id=entry_id.bytes,
        tag=tag,
        actor=actor.label,
        person=actor.person_id.bytes if actor.person_id else b"",
        subject=subject,
        time=int(now.timestamp()),
        body=fields,
    ).to_leaf()
    return _insert(
        id=entry_id,
        tenant_id=tenant,
        log=Log.AUDIT,
        leaf=leaf,
        tag=tag,
        actor=actor.label,
        person_id=actor.person_id,
        subject=_column(subject),
        time=now,
        body={name: _column(value) for name, value in fields.items()},
    )


def append_key_leaf(
    *,
    type: int,  # noqa: A002
    seq: int,
    statement_hash: bytes,
    user: UUID | None = None,
) -> Entry:
    """Record a statement in the verifiable directory: the `keys` log (PROTOCOL section 8).

    type: 1 chain, 2 escrow key, 3 policy, 4 officer, 5 offline key, 6 client build. user: None for a tenant's
    statement. statement_hash: 32 bytes. Raises as `append` does.
    """
    tenant = _tenant_of_the_act()
    now = int(timezone.now().timestamp())
    of = key_log_subject(tenant.bytes, user.bytes if user else b"")
    leaf = KeyLogEntry(type=type, subject_hash=of, seq=seq, statement_hash=statement_hash, time=now).to_leaf()
    return _insert(
        tenant_id=tenant,
        log=Log.KEYS,
        leaf=leaf,
        tag=f"keys-log:{type}",
        actor="",
        subject=str(user or ""),
        time=datetime.fromtimestamp(now, tz=UTC),
        body={"seq": seq, "statement_hash": b64u(statement_hash)},
    )


def latest_checkpoint(tenant_id: UUID, log: str) -> str:
    """Return the newest signed head of a log as its C2SP note. Raises NoCheckpoint before the first."""
    with tenant_scope(tenant_id):
        return access.latest_checkpoint(log).note


def entries_between(tenant_id: UUID, log: str, start: int, stop: int) -> Iterator[bytes]:
    """Give the leaves with indices start … stop−1 in order, for a follower; one batch is held at a time.

    Raises LogBroken at the first index that has no row: a follower is never handed a log with a hole closed.
    """
    for low in range(start, stop, access.BATCH):
        with tenant_scope(tenant_id):
            batch = access.leaves(log, low, min(low + access.BATCH, stop))
        yield from batch


def _tenant_of_the_act() -> UUID:
    if not connection.in_atomic_block:
        raise RuntimeError("an audit entry is appended inside the transaction of the act")
    return current_tenant()


def _column(value: BodyValue) -> Any:
    """Return a value as its column repeats it. PostgreSQL's text takes no NUL; the leaf holds it as it is."""
    if isinstance(value, bytes):
        return b64u(value)
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


def _insert(**fields: Any) -> Entry:
    entry = Entry(**fields)
    try:
        # The tenant is set from the open scope above; asking the scoped manager for it again costs a quarter.
        entry.save(force_insert=True)
    except DatabaseError as error:
        # `save` has marked the transaction: also a caller that swallows this error cannot commit the act.
        raise AuditUnavailable from error
    return entry
