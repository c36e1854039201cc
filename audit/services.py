# SPDX-License-Identifier: Apache-2.0
"""Appending to the logs inside the act's own transaction, and what the product's other rooms read of them.

PLATFORM "Audit": every act and every refusal that matters appends an entry, or the act does not happen.
The sequencer, which numbers and signs, is in `sequencer`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid4

from django.db import DatabaseError, connection, transaction
from django.db.models import OuterRef, Subquery
from django.utils import timezone

from audit import access, signing
from audit.errors import AuditUnavailable, RolesMissing, RolesRefused, TranscriptRefused
from audit.models import Checkpoint, Entry, Log, LogHead, RolesStatement, Tally, Transcript, Waiting
from audit.tags import TAGS
from holdfast.core.base.encoding import b64u, encode
from holdfast.core.base.errors import HoldfastError
from holdfast.core.crypto.keys import PublicKey
from holdfast.core.identity.roles import verify_roles
from holdfast.core.identity.transcript import MAX_TEXT, SignedTranscript, verify_transcript
from holdfast.core.log.log_entry import BodyValue, KeyLogEntry, LogEntry, key_log_subject, log_origin
from holdfast.core.log.writers import Role
from holdfast.core.signed.cose import Sign1
from kernel import statements
from kernel.actors import Actor, system_actor
from kernel.queue import apart
from kernel.scope import ForeignRow, at_work, current_tenant, tenant_scope
from kernel.sweeps import BATCH

# Plain text: a member of an enumeration is asked for its value at each use.
_AUDIT, _KEYS = Log.AUDIT.value, Log.KEYS.value

_COUNT: Final = f"""
INSERT INTO {Tally._meta.db_table} (id, tenant_id, hour, digest, tag, actor, subject, listed, count)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, 1)
ON CONFLICT (tenant_id, hour, digest) DO UPDATE SET count = {Tally._meta.db_table}.count + 1 RETURNING count
"""  # noqa: S608 — our own table's name


class Appended(NamedTuple):
    """What was appended: the columns of its row, which waits for its index. leaf: the bytes that are proven."""

    id: UUID
    tenant_id: UUID
    log: str
    leaf: bytes
    tag: str
    actor: str
    person_id: UUID | None
    subject: str
    time: datetime
    body: Mapping[str, Any]


# One statement, always the same: it is prepared once, and nothing of the model layer is run for an entry.
ENTRY_TABLE: Final = Waiting._meta.db_table
ENTRY_COLUMNS: Final = Appended._fields
_INSERT: Final = f"""
INSERT INTO {ENTRY_TABLE} ({", ".join(ENTRY_COLUMNS)})
VALUES ({", ".join(["%s"] * len(ENTRY_COLUMNS))})
"""  # noqa: S608 — our own table's name


def append(*, tag: str, actor: Actor, subject: str = "", body: Mapping[str, BodyValue] | None = None) -> Appended:
    """Record an act or a refusal, in the transaction that is open.

    subject: whose or what, as a UUID's text. body: ids, hashes and counts by the names `tags` lists, text of at
    most 512 characters, bytes of at most 64. Raises RuntimeError outside a transaction, ValueError for an
    unlisted tag, field or kind of value, ForeignRow for another tenant's actor: programming errors. Raises
    AuditUnavailable when the database does not take the entry, or this process may not sign it, and rolls the act back
    with it (FAULTS L1).
    """
    _tenant_of_the_act()
    try:
        row = prepared(tag=tag, actor=actor, subject=subject, body=body)
    except AuditUnavailable:
        transaction.set_rollback(True)  # also a caller that swallows this error cannot commit the act
        raise
    return _insert(row)


def prepared(*, tag: str, actor: Actor, subject: str = "", body: Mapping[str, BodyValue] | None = None) -> Appended:
    """Sign an entry and return its row, for an act that inserts it in a statement of its own; nothing is recorded.

    Whoever calls this inserts `parameters` of it as ENTRY_COLUMNS of ENTRY_TABLE, in the transaction of the act or in
    the very statement of it. Raises as `append` does, but for no transaction.
    """
    tenant = current_tenant()
    if actor.tenant_id not in (None, tenant):
        raise ForeignRow("an entry names the tenant's own actor")
    fields = dict(body or {})
    if tag not in TAGS or not fields.keys() <= TAGS[tag]:
        raise ValueError(f"audit.tags lists no {tag} with {sorted(fields)}")
    now, entry_id = timezone.now().replace(microsecond=0), uuid4()
    entry = LogEntry(
        entry_id=entry_id.bytes,
        tag=tag,
        actor=actor.label,
        person=actor.person_id.bytes if actor.person_id else b"",
        subject=subject,
        time=int(now.timestamp()),
        body=fields,
    )
    leaf = entry.to_signed_leaf(origin=_origin(tenant), key=signing.key_for(tag))
    return _audit_row(entry, entry_id, leaf, now, tenant)


def parameters(row: Appended) -> list[Any]:
    """Return a row's values in the order of ENTRY_COLUMNS, as the database takes them."""
    values: list[Any] = list(row)
    values[-1] = json.dumps(row.body)
    return statements.plain(values)


def append_first(
    *,
    tag: str,
    actor: Actor,
    subject: str = "",
    body: Mapping[str, BodyValue] | None = None,
    apart: str = "",
    most: int = 1,
    all_subjects: bool = False,
) -> Appended | None:
    """Record what may come without end: the first `most` times within an hour as `append` does, the rest as one count.

    Alike are entries of one tag, actor and subject, or of all subjects together, unless `apart` tells them apart; it
    has few values. Returns None for what was only counted: it stands in the entry that `conclude_hours` appends. Raises
    as `append` does.
    """
    tenant, hour = _tenant_of_the_act(), int(timezone.now().timestamp()) // 3600
    of = "" if all_subjects else subject
    alike = [tag, actor.label, of, apart]
    values = [uuid4(), tenant, hour, sha256(encode(alike)).digest(), tag, actor.label, column(of), most]
    try:
        ((count,),) = statements.run(_COUNT, statements.plain(values))
    except DatabaseError as error:
        transaction.set_rollback(True)  # as in `_insert`
        raise AuditUnavailable from error
    return append(tag=tag, actor=actor, subject=subject, body=body) if count <= most else None


def conclude_hours() -> int:
    """Append one entry for each thing that was counted beyond its entries in an hour that is over; return how many.

    Of every tenant, each in a transaction of its own: one that fails keeps no other from its turn, and is tried again
    when this is called next.
    """
    concluded, hour = 0, int(timezone.now().timestamp()) // 3600
    for row_id, tenant_id in _tallies_before(hour):
        with apart(tenant_id, "count of an hour"), transaction.atomic():
            row = Tally.unscoped.select_for_update().filter(pk=row_id).first()
            if row is None:
                continue  # another worker was first
            if row.count > row.listed:
                _conclude(row)
                concluded += 1
            row.delete()
    return concluded


def _tallies_before(hour: int) -> Iterator[tuple[UUID, UUID]]:
    """Give id and tenant of what was counted in hours that are over; one batch is held at a time."""
    due = at_work(Tally.unscoped.filter(hour__lt=hour)).order_by("pk").values_list("pk", "tenant_id")
    batch = list(due[:BATCH])
    while batch:
        yield from batch
        batch = list(due.filter(pk__gt=batch[-1][0])[:BATCH])


def _conclude(row: Tally) -> None:
    body: dict[str, BodyValue] = {"tag": row.tag, "by": row.actor, "count": row.count - row.listed}
    append(tag="audit:entries:counted", actor=system_actor(row.tenant_id, "log"), subject=row.subject, body=body)


def append_key_leaf(
    *,
    type: int,  # noqa: A002
    seq: int,
    statement_hash: bytes,
    user: UUID | None = None,
) -> Appended:
    """Record a statement in the verifiable directory: the `keys` log (PROTOCOL section 8).

    type: 1 chain, 2 escrow key, 3 policy, 4 officer, 5 offline key, 6 client build. user: None for a tenant's
    statement. statement_hash: 32 bytes. Raises as `append` does.
    """
    tenant = _tenant_of_the_act()
    now = int(timezone.now().timestamp())
    of = key_log_subject(tenant.bytes, user.bytes if user else b"")
    leaf = KeyLogEntry(type=type, subject_hash=of, seq=seq, statement_hash=statement_hash, time=now).to_leaf()
    return _insert(
        Appended(
            id=uuid4(),
            tenant_id=tenant,
            log=_KEYS,
            leaf=leaf,
            tag=f"keys-log:{type}",
            actor="",
            person_id=None,
            subject=str(user or ""),
            time=datetime.fromtimestamp(now, tz=UTC),
            body={"seq": seq, "statement_hash": b64u(statement_hash)},
        )
    )


def publish_roles(*, statement: bytes, root_key: PublicKey, actor: Actor) -> RolesStatement:
    """Store the tenant root's word on whose keys write its logs, and log it. Raises RolesRefused.

    statement: one Sign1, which follows from the version stored before.
    """
    with transaction.atomic():
        before = access.newest_roles()
        tenant = current_tenant().bytes
        try:
            seen = None
            if before is not None:
                seen = verify_roles(Sign1.parse(bytes(before.statement)), tenant=tenant, root_key=root_key)
            signed = verify_roles(Sign1.parse(statement), tenant=tenant, root_key=root_key, seen=seen)
            if signed.roles.version != (before.version if before else 0) + 1:
                raise RolesRefused("It is not the next version.", field="statement")
        except HoldfastError as error:
            raise RolesRefused(str(error), field="statement") from error
        row: RolesStatement = RolesStatement.objects.create(
            version=signed.roles.version, hash=signed.hash, statement=statement, published_at=timezone.now()
        )
        body: dict[str, BodyValue] = {"hash": signed.hash, "version": row.version}
        append(tag="audit:roles:publish", actor=actor, body=body)
    return row


def publish_transcript(
    *, statement: bytes, text: bytes, lines: tuple[int, int], root_key: PublicKey, actor: Actor
) -> Transcript | None:
    """Keep a signed transcript of ceremonies in the open tenant, and log it; None when the newest has the same text.

    lines: up to which line of the installation's and of the tenant's own file it goes. Raises RolesMissing before the
    root named a log key, and TranscriptRefused for a longer text than MAX_TEXT, or one that was not signed.
    """
    with transaction.atomic():
        newest = access.newest_transcripts(1)
        if newest and bytes(newest[0].hash) == sha256(text).digest():
            return None
        if len(text) > MAX_TEXT:
            raise TranscriptRefused(
                f"The transcript has {len(text)} bytes, more than the {MAX_TEXT} that are kept for the console. What "
                "was written to files is whole: hand it to the tenant's auditors.",
                field="text",
            )
        check_transcript(statement, text, root_key=root_key)
        row: Transcript = Transcript.objects.create(
            number=newest[0].number + 1 if newest else 1,
            statement=statement,
            text=text,
            hash=sha256(text).digest(),
            installation_lines=lines[0],
            own_lines=lines[1],
            made_at=timezone.now(),
        )
        body: dict[str, BodyValue] = {"hash": bytes(row.hash), "installation": lines[0], "own": lines[1]}
        append(tag="audit:transcript:publish", actor=actor, subject=str(row.pk), body=body)
    return row


def check_transcript(statement: bytes, text: bytes, *, root_key: PublicKey) -> SignedTranscript:
    """Hold a transcript to the root, and to the log keys that the root named, in the open tenant.

    Raises RolesMissing while none were named, and TranscriptRefused with the reason.
    """
    row, tenant = access.newest_roles(), current_tenant().bytes
    if row is None:
        raise RolesMissing
    try:
        roles = verify_roles(Sign1.parse(bytes(row.statement)), tenant=tenant, root_key=root_key).roles
        return verify_transcript(
            statement, text, tenant=tenant, root_key=root_key, log_keys=list(roles.all_of(Role.LOG))
        )
    except HoldfastError as error:
        raise TranscriptRefused(str(error), field="statement") from error


def put_back_roles(*, statement: bytes, root_key: PublicKey) -> None:
    """Store the newest `roles` again that a restored database lost, in the open tenant.

    Raises RolesRefused for what the root did not sign, or what does not follow from the version stored.
    """
    before, tenant = access.newest_roles(), current_tenant().bytes
    try:
        seen = None
        if before is not None:
            seen = verify_roles(Sign1.parse(bytes(before.statement)), tenant=tenant, root_key=root_key)
        signed = verify_roles(Sign1.parse(statement), tenant=tenant, root_key=root_key, seen=seen)
    except HoldfastError as error:
        raise RolesRefused(str(error), field="statement") from error
    if before is None or before.version < signed.roles.version:
        RolesStatement.objects.create(
            version=signed.roles.version, hash=signed.hash, statement=statement, published_at=timezone.now()
        )


def is_logged(entry_id: bytes) -> bool:
    """Tell whether an entry of this id stands in the open tenant's audit log, or waits for its index."""
    return bool(Entry.objects.filter(log=Log.AUDIT, id=UUID(bytes=entry_id)).exists())


def append_again(leaf: bytes) -> None:
    """Record an entry of the open tenant again that a restored database lost: the very same signed leaf.

    In the transaction that is open. The sequencer checks it like any other, and an id counts once. Raises Malformed.
    """
    entry = LogEntry.from_leaf(leaf)
    time = datetime.fromtimestamp(entry.time, tz=UTC)
    _insert(_audit_row(entry, UUID(bytes=entry.entry_id), leaf, time, _tenant_of_the_act()))


def latest_checkpoint(tenant_id: UUID, log: str) -> str:
    """Return the newest signed head of a log as its C2SP note. Raises NoCheckpoint before the first."""
    with tenant_scope(tenant_id):
        return access.latest_checkpoint(log).note


def newest_notes(log: str) -> dict[UUID, str]:
    """Return the newest signed head of each tenant's log as its note, in every tenant: for system loops. One query."""
    newest = Checkpoint.unscoped.filter(tenant_id=OuterRef("tenant_id"), log=log).order_by("-size")
    rows = LogHead.unscoped.filter(log=log).annotate(note=Subquery(newest.values("note")[:1]))
    return {tenant_id: note for tenant_id, note in rows.values_list("tenant_id", "note") if note is not None}


LEAVES_AT_ONCE = 512  # that a follower holds


def entries_between(tenant_id: UUID, log: str, start: int, stop: int) -> Iterator[bytes]:
    """Give the leaves with indices start … stop−1 in order, for a follower; one batch is held at a time.

    Raises LogBroken at the first index that has no row: a follower is never handed a log with a hole closed.
    """
    for low in range(start, stop, LEAVES_AT_ONCE):
        with tenant_scope(tenant_id):
            batch = access.leaves(log, low, min(low + LEAVES_AT_ONCE, stop))
        yield from batch


def _tenant_of_the_act() -> UUID:
    if not connection.in_atomic_block:
        raise RuntimeError("an audit entry is appended inside the transaction of the act")
    return current_tenant()


def column(value: BodyValue) -> Any:
    """Return a value as its column repeats it. PostgreSQL's text takes no NUL; the leaf holds it as it is."""
    if isinstance(value, bytes):
        return b64u(value)
    return value.replace("\0", "\ufffd") if isinstance(value, str) else value


def _audit_row(entry: LogEntry, entry_id: UUID, leaf: bytes, time: datetime, tenant: UUID) -> Appended:
    return Appended(
        id=entry_id,
        tenant_id=tenant,
        log=_AUDIT,
        leaf=leaf,
        tag=entry.tag,
        actor=entry.actor,
        person_id=UUID(bytes=entry.person) if entry.person else None,
        subject=column(entry.subject),
        time=time,
        body={name: column(value) for name, value in entry.body.items()},
    )


@lru_cache(maxsize=1024)  # tenants; a name is two hundred bytes
def _origin(tenant: UUID) -> str:
    return log_origin(str(tenant), _AUDIT)


def _insert(row: Appended) -> Appended:
    try:
        statements.run(_INSERT, parameters(row))
    except DatabaseError as error:
        transaction.set_rollback(True)  # also a caller that swallows this error cannot commit the act
        raise AuditUnavailable from error
    return row
