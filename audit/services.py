# SPDX-License-Identifier: Apache-2.0
"""Appending to the logs inside the act's own transaction, and the names by which the logs are verified.

DESIGN section 8: every act and every refusal that matters appends an entry, or the act does not happen.
The sequencer, which numbers and signs, is in `sequencer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import UUID, uuid4

from django.db import connection
from django.utils import timezone

from audit.models import Entry, Log
from audit.tags import TAGS
from holdfast.core.encoding import b64u
from holdfast.core.log_entry import BodyValue, KeyLogEntry, LogEntry, key_log_subject
from kernel.actors import Actor
from kernel.scope import current_tenant


def append(*, tag: str, actor: Actor, subject: str = "", body: Mapping[str, BodyValue] | None = None) -> Entry:
    """Record an act or a refusal, in the transaction that is open.

    subject: whose or what, as a UUID's text. body: ids, hashes and counts by the names `tags` lists.
    Raises RuntimeError outside a transaction and ValueError for an unlisted tag or field: programming errors.
    A database error goes up, and takes the act with it (FAULTS L1).
    """
    if not connection.in_atomic_block:
        raise RuntimeError("an audit entry is appended inside the transaction of the act")
    fields = dict(body or {})
    if tag not in TAGS or not fields.keys() <= TAGS[tag]:
        raise ValueError(f"audit.tags lists no {tag} with {sorted(fields)}")
    now, entry_id = timezone.now(), uuid4()
    leaf = LogEntry(
        entry_id=entry_id.bytes,
        tag=tag,
        actor=actor.label,
        person=actor.person_id.bytes if actor.person_id else b"",
        subject=subject,
        time=int(now.timestamp()),
        body=fields,
    ).to_leaf()
    entry: Entry = Entry.objects.create(
        id=entry_id,
        tenant_id=current_tenant(),
        log=Log.AUDIT,
        leaf=leaf,
        tag=tag,
        actor=actor.label,
        person_id=actor.person_id,
        subject=subject,
        time=now.replace(microsecond=0),
        body={name: b64u(value) if isinstance(value, bytes) else value for name, value in fields.items()},
    )
    return entry


def append_key_leaf(*, type: int, seq: int, statement_hash: bytes, user_id: UUID | None = None) -> Entry:  # noqa: A002
    """Record a statement in the verifiable directory: the `keys` log (PROTOCOL section 8).

    type: 1 chain, 2 escrow key, 3 policy, 4 officer, 5 offline key. user_id: None for a tenant's statement.
    """
    if not connection.in_atomic_block:
        raise RuntimeError("a key-log leaf is appended inside the transaction of the act")
    now = int(timezone.now().timestamp())
    tenant = current_tenant()
    subject = key_log_subject(tenant.bytes, user_id.bytes if user_id else b"")
    leaf = KeyLogEntry(type=type, subject_hash=subject, seq=seq, statement_hash=statement_hash, time=now)
    entry: Entry = Entry.objects.create(
        tenant_id=tenant,
        log=Log.KEYS,
        leaf=leaf.to_leaf(),
        tag=f"keys-log:{type}",
        actor="",
        subject=str(user_id or ""),
        time=datetime.fromtimestamp(now, tz=UTC),
        body={"seq": seq, "statement_hash": b64u(statement_hash)},
    )
    return entry

