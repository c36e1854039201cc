# SPDX-License-Identifier: Apache-2.0
"""The sequencer: gives pending entries their index, grows the tiles, and has the HSM sign the head.

Implements PROTOCOL section 8, PLATFORM "Audit" and ESCROW "What it believes of the log". A crash between any two steps
is taken up where it stopped: numbering is one transaction, and only a head that is committed already is signed. An
entry that nobody entitled wrote gets no index, and stops no other.
"""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import OuterRef, Q, Subquery
from django.utils import timezone

from audit import access, journal, restored, services, signing
from audit.access import tile_reader
from audit.errors import AuditUnavailable, LogBroken, LogRestored
from audit.models import Checkpoint, Log, LogHead, Numbered, Tile, Waiting
from holdfast.core.base.errors import Forked, Malformed
from holdfast.core.crypto.keys import KeyKind, PublicKey
from holdfast.core.identity.roles import Roles, WrongLeaf, check_leaf
from holdfast.core.log import checkpoint as notes
from holdfast.core.log import tiles
from holdfast.core.log.log_entry import KeyLogEntry, LogEntry, log_origin
from holdfast.core.log.merkle import HASH_SIZE, CompactRange, leaf_hash
from hsm import registry
from hsm.backend import SigningPublicKey
from kernel.actors import system_actor
from kernel.queue import apart
from kernel.scope import current_tenant, tenant_scope

alarm = logging.getLogger("holdfast.audit")

LOGS = tuple(Log.values)
BATCH = 1000
MAX_BATCHES = 5  # of one call, about a second's work: one tenant's flood does not keep the others' heads unsigned
RENEW_AFTER = timedelta(seconds=30)
LISTED_REFUSALS = 20  # entries an hour about rows without an index; the rest is one count, as a forger has no end
_END = "\n\n"  # of a note's text; its signatures follow (signed-note, "Format")
ASKED_AT_ONCE = 5000  # tenants in one query; a statement takes 32,766 values (SQLite) or 65,535 (PostgreSQL)
_MOVED = "seq, id, tenant_id, log, leaf, tag, actor, person_id, subject, time, body"
_NUMBER = (
    f"INSERT INTO {Numbered._meta.db_table} ({_MOVED}, leaf_index)"  # noqa: S608 — our own names
    f" SELECT {_MOVED}, %s + row_number() OVER (ORDER BY seq) - 1 FROM {Waiting._meta.db_table} WHERE "
)
COUNT_SECONDS = 0.5  # for another sequencer at the same count; a batch waits once


def sequence(tenant_id: UUID, log: str) -> int:
    """Number what is pending, and sign the head if it is new or its signature is half a minute old.

    Returns how many entries were looked at. Two sequencers at once do no harm. Raises HsmUnavailable when the head
    could not be signed: the numbering stays and the next run signs. Raises LogBroken or LogRestored, and signs nothing,
    when what is stored is not what was signed before, by the database or by the journal outside of it; RolesMissing
    when nobody has said whose keys write this log.
    """
    # To publish a head we must, in this order:
    #
    # (0) see that what is stored still is the log that was signed, or a forged row would be signed as genuine;
    # (1) number the entries that somebody entitled wrote and extend the tree, in one transaction under the log's lock;
    # (2) remember the head outside the database: from here on nothing is signed that does not extend it;
    # (3) sign the tree that is committed, outside any transaction, since an HSM may take seconds;
    # (4) store the signature, which is what publishes it: nobody reads a head that could be lost again.
    with tenant_scope(tenant_id):
        if not _has_pending(log) and not _is_due(log):
            return 0
        _require_whole(tenant_id, log)  # (0)
        looked_at = sum(_batches(log))  # (1)
        _sign(tenant_id, log)  # (2), (3) and (4)
    return looked_at


def find_restored() -> None:
    """Mark the tenants of whose logs this process has signed more than is stored: their databases were put back.

    Nobody need write or ask anything for that. What cannot be read of one tenant's journal stops that tenant's log
    alone, when it is signed next. One query, and one look at each tenant's directory.
    """
    rows = LogHead.unscoped.values_list("tenant_id", "log", "size")
    sizes = {(tenant_id, log): size for tenant_id, log, size in rows}
    for tenant_id in {one for one, _ in sizes}:
        with apart(tenant_id, "its journal"):
            signed = journal.signed_sizes(tenant_id, LOGS)
            if any(size > sizes.get((tenant_id, log), 0) for log, size in signed.items()):
                restored.mark(by="sequencer")


def number_unsigned(tenant_id: UUID) -> journal.Head:
    """Number the audit entries that wait and are older than signatures, sign the head, and return it.

    For the ceremony that first says whose keys write this log: these acts happened, and no sequencer numbers them
    afterwards. Only what came before the first signed entry counts as older. Raises as `sequence` does, and
    RuntimeError when roles are published already.
    """
    with tenant_scope(tenant_id):
        if access.newest_roles() is not None:
            raise RuntimeError("roles are published: nothing unsigned is numbered any more")
        _require_whole(tenant_id, Log.AUDIT)
        with transaction.atomic():
            rows = list(_older_than_signatures())
            numbered = _numbered_ids(rows)
            _append(_locked_head(Log.AUDIT), [row for row in rows if row.id not in numbered])
        _sign(tenant_id, Log.AUDIT)
        head = _head(Log.AUDIT)
        assert head is not None
        return journal.Head(head.size, _grown(head).root())


def count_unsigned(tenant_id: UUID) -> int:
    """Count the entries that `number_unsigned` would number."""
    with tenant_scope(tenant_id):
        return sum(1 for _ in _older_than_signatures())


def _older_than_signatures() -> Iterator[_Row]:
    for row in _waiting(Log.AUDIT):
        try:
            entry = LogEntry.from_leaf(row.leaf)
        except Malformed:
            continue  # the sequencer refuses it
        if entry.kid:
            return
        if _repeats(row, entry):
            yield row


def verifier(tenant_id: UUID, log: str, key: SigningPublicKey) -> notes.NoteVerifier:
    """Return the log's public key under the log's name, as auditors carry it."""
    kind = KeyKind.ED25519 if key.algorithm == "ed25519" else KeyKind.P256_SIGNING
    return notes.NoteVerifier(log_origin(str(tenant_id), log), PublicKey(kind, key.raw))


def _has_pending(log: str) -> bool:
    return Waiting.objects.filter(log=log, refused="").exists()


def _head(log: str) -> LogHead | None:
    head: LogHead | None = LogHead.objects.filter(log=log).first()
    return head


def _newest(log: str) -> Checkpoint | None:
    newest: Checkpoint | None = Checkpoint.objects.filter(log=log).order_by("-size").first()
    return newest


def _is_due(log: str) -> bool:
    """Tell whether there is a head that is not signed, or whose signature grows old."""
    head, newest = _head(log), _newest(log)
    if head is None or head.size == 0:
        return False
    # One that was signed in the future is due as well: a clock was ahead, and nobody believes such a head.
    return newest is None or newest.size != head.size or abs(timezone.now() - _signed_at(newest)) >= RENEW_AFTER


def growing_old(tenant_ids: Collection[UUID]) -> set[UUID]:
    """Return those of whose signed heads one is not of this half minute: `sequence` finds out which is due.

    One query for thousands of tenants: whoever has a fresh head costs no more.
    """
    found: set[UUID] = set()
    now, asked = timezone.now(), list(tenant_ids)
    newest = Checkpoint.unscoped.filter(
        tenant_id=OuterRef("tenant_id"), log=OuterRef("log"), size=OuterRef("signed_size")
    ).values("signed_at")
    for start in range(0, len(asked), ASKED_AT_ONCE):
        heads = LogHead.unscoped.filter(tenant_id__in=asked[start : start + ASKED_AT_ONCE], size__gt=0)
        fresh = Q(signed_at__gt=now - RENEW_AFTER, signed_at__lte=now)
        old = heads.annotate(signed_at=Subquery(newest)).exclude(fresh & Q(signed_at__isnull=False))
        found.update(old.values_list("tenant_id", flat=True))
    return found


def _signed_at(row: Checkpoint) -> datetime:
    """Return when a head was signed: by its note, where its column, which never goes back, is of a clock ahead."""
    try:
        said = notes.Checkpoint.from_text(f"{row.note.partition(_END)[0]}\n").time
        return row.signed_at if said is None else min(row.signed_at, datetime.fromtimestamp(said, UTC))
    except (Malformed, ValueError, OverflowError, OSError):
        return row.signed_at  # no note of ours, which `_check` and whoever reads it find out


def _require_whole(tenant_id: UUID, log: str) -> None:
    """Raise LogRestored or LogBroken unless the stored log is the one that was signed and nobody said otherwise."""
    # Whoever set the mark: a client may hold what this process's own memory lost as well.
    if access.is_restored():
        raise LogRestored
    try:
        _check(tenant_id, log)
    except LogRestored:
        restored.mark(by="sequencer")
        raise


def _check(tenant_id: UUID, log: str) -> None:
    head, newest, signed = _head(log), _newest(log), journal.signed_head(tenant_id, log)
    size = head.size if head else 0
    # What was signed last is remembered outside the database: a backup that is put back, and rows erased together with
    # the head that covered them, agree with themselves.
    if signed is not None and signed.size > size:
        raise LogRestored
    if newest is not None and newest.size > size:
        raise LogBroken
    try:
        if signed is not None and signed.size and not hmac.compare_digest(_root(log, signed.size), signed.root):
            raise LogBroken
        if head is not None and size:
            # Entries with an index are counted at the end only; the proofs look at the rest.
            tail = Numbered.objects.filter(log=log, leaf_index__gte=size - 1).values_list("leaf_index", flat=True)
            if list(tail[:2]) != [size - 1] or not hmac.compare_digest(_root(log, size), _grown(head).root()):
                raise LogBroken
        if newest is not None and not hmac.compare_digest(_root(log, newest.size), bytes(newest.root)):
            raise LogBroken
    except Malformed as error:
        raise LogBroken from error


def _root(log: str, size: int) -> bytes:
    return tiles.root(tile_reader(log), size)


def _grown(head: LogHead) -> CompactRange:
    return CompactRange.from_bytes(bytes(head.edge)) if head.edge else CompactRange()


def _batches(log: str) -> Iterator[int]:
    for _ in range(MAX_BATCHES):
        if not _has_pending(log):
            return
        yield _number(log)


@dataclass(frozen=True)
class _Row:
    """A row that waits for its index."""

    seq: int
    id: UUID
    leaf: bytes
    tag: str
    actor: str
    subject: str


def _number(log: str) -> int:
    with transaction.atomic():
        head = _locked_head(log)
        pending = _waiting(log, BATCH)
        sound, wrong = _told_apart(log, pending, head.size)
        _append(head, sound)
        if wrong:
            _refuse(wrong)
        return len(pending)


def _waiting(log: str, most: int | None = None) -> list[_Row]:
    rows = Waiting.objects.filter(log=log, refused="").order_by("seq")
    found = rows.values_list("seq", "id", "leaf", "tag", "actor", "subject")
    return [_Row(seq, id_, bytes(leaf), *rest) for seq, id_, leaf, *rest in found[:most]]


def _append(head: LogHead, rows: Sequence[_Row]) -> None:
    """Give rows the next indices, and extend the tree of this head, which the transaction holds."""
    if not rows:
        return
    hashes = [leaf_hash(row.leaf) for row in rows]
    _move([row.seq for row in rows], head.size)
    _grow_tiles(head.log, head.size, hashes)
    grown = _grown(head)
    for digest in hashes:
        grown = grown.append(digest)
    LogHead.objects.filter(pk=head.pk).update(size=grown.size, edge=grown.to_bytes())


def _told_apart(log: str, rows: Sequence[_Row], size: int) -> tuple[list[_Row], list[tuple[_Row, str]]]:
    """Tell the rows that somebody entitled wrote from the others, in their order; each of these with why."""
    roles = signing.stored_roles(current_tenant()).roles if rows and log == Log.AUDIT else None
    sound: list[_Row] = []
    wrong: list[tuple[_Row, str]] = []
    numbered = _numbered_ids(rows)
    for row in rows:
        try:
            _require_sound(row, size + len(sound), roles, numbered)
        except WrongLeaf as error:
            wrong.append((row, error.why))
        else:
            sound.append(row)
    return sound, wrong


def _numbered_ids(rows: Sequence[_Row]) -> set[UUID]:
    """Return those ids that stand at an index already. Of rows that wait no two have one id, by constraint."""
    found: set[UUID] = set()
    for start in range(0, len(rows), BATCH):
        # In every tenant: an id that is taken in another's log must not stop this one.
        ids = [row.id for row in rows[start : start + BATCH]]
        found.update(Numbered.unscoped.filter(id__in=ids).values_list("id", flat=True))
    return found


def _require_sound(row: _Row, index: int, roles: Roles | None, numbered: Collection[UUID]) -> None:
    if row.id in numbered:
        raise WrongLeaf("again")
    if roles is None:
        # The key log's leaves bear no signature: whoever relies on one holds the statement that it names.
        try:
            KeyLogEntry.from_leaf(row.leaf)
        except Malformed as error:
            raise WrongLeaf("form") from error
        return
    if not _repeats(row, check_leaf(row.leaf, index=index, roles=roles)):
        raise WrongLeaf("columns")


def _repeats(row: _Row, entry: LogEntry) -> bool:
    # The id is unique as a column, so each counts once: the same leaf in a second row says its id again.
    columns = (row.id.bytes, row.tag, row.actor, row.subject)
    return columns == (entry.entry_id, entry.tag, entry.actor, services.column(entry.subject))


def _refuse(wrong: Sequence[tuple[_Row, str]]) -> None:
    """Keep rows out of the log for ever, and raise the alarm; nothing that they say is repeated."""
    tenant_id = current_tenant()
    for row, why in wrong:
        Waiting.objects.filter(pk=row.seq).update(refused=why)
        alarm.critical("tenant %s: entry %s gets no index: %s", tenant_id, row.id, why)
    try:
        # Each process may count, and so hold a count for as long as it likes: what is sound must not wait for it.
        with transaction.atomic():
            _wait_no_longer_than(COUNT_SECONDS)
            for row, why in wrong:
                services.append_first(
                    tag="audit:entry:refuse",
                    actor=system_actor(tenant_id, "sequencer"),
                    subject=str(row.id),
                    body={"why": why},
                    most=LISTED_REFUSALS,
                    all_subjects=True,
                )
    except AuditUnavailable:
        alarm.critical(
            "tenant %s: %d refused entries are not listed: somebody holds their count", tenant_id, len(wrong)
        )


def _wait_no_longer_than(seconds: float) -> None:
    # Until the transaction's end. SQLite has one writer, who waits for nobody here.
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [f"{int(seconds * 1000)}ms"])


def _locked_head(log: str) -> LogHead:
    LogHead.objects.get_or_create(log=log)
    # On PostgreSQL the row is the lock; on SQLite the transaction, announced as a writer, already is.
    head: LogHead = LogHead.objects.select_for_update().get(log=log)
    return head


def _move(waiting: list[int], start: int) -> None:
    """Move rows from those that wait to the indices from `start` on, in their order."""
    # Inserted once with its index and never written again: a change would be a new version of the row in each index.
    on_sqlite = connection.vendor == "sqlite"
    these = "seq IN (SELECT value FROM json_each(%s))" if on_sqlite else "seq = ANY(%s)"
    named: Any = json.dumps(waiting) if on_sqlite else waiting
    with connection.cursor() as cursor:
        cursor.execute(_NUMBER + these, [start, named])
        moved = cursor.rowcount
        cursor.execute(f"DELETE FROM {Waiting._meta.db_table} WHERE {these}", [named])  # noqa: S608 — our own names
    if moved != len(waiting):
        raise LogBroken  # what was read under the head's lock is not there any more


def _grow_tiles(log: str, old_size: int, hashes: list[bytes]) -> None:
    """Write every tile that the new leaves create or extend, level by level."""
    read = tile_reader(log)
    written: dict[tuple[int, int], bytes] = {}

    def tile(level: int, index: int) -> bytes:
        return written.get((level, index)) or read(level, index)

    size = old_size + len(hashes)
    for level, index, width in tiles.tiles_changed(old_size, size):
        first = index * tiles.WIDTH
        # What the tile holds already is kept as it is; only what is new on its right is computed.
        known = min(max((old_size >> (tiles.HEIGHT * level)) - first, 0), width)
        fresh = (
            hashes[first + known - old_size : first + width - old_size]
            if level == 0
            else [_tile_root(tile(level - 1, first + offset)) for offset in range(known, width)]
        )
        written[level, index] = (read(level, index)[: known * HASH_SIZE] if known else b"") + b"".join(fresh)
    for (level, index), octets in written.items():
        Tile.objects.update_or_create(log=log, level=level, index=index, defaults={"hashes": octets})


def _tile_root(full_tile: bytes) -> bytes:
    hashes = [full_tile[at : at + HASH_SIZE] for at in range(0, len(full_tile), HASH_SIZE)]
    return CompactRange.over(hashes).root()


def _sign(tenant_id: UUID, log: str) -> None:
    head = _head(log)
    if head is None or not _is_due(log):
        return
    grown, now = _grown(head), timezone.now()
    try:
        journal.remember_head(tenant_id, log, journal.Head(grown.size, grown.root()))
    except Forked as error:
        raise LogBroken from error
    token = registry.log()
    key = verifier(tenant_id, log, token.public_key)
    text = notes.Checkpoint(key.name, grown.size, grown.root(), int(now.timestamp())).to_text()
    note = notes.sign_note(text, verifier=key, sign=token.sign)
    with transaction.atomic():
        _locked_head(log)
        if access.is_restored():
            raise LogRestored  # while the HSM was asked: what is not stored was published to nobody
        signed = {"note": note, "vkey": key.to_text()}
        LogHead.objects.filter(log=log, signed_size__lt=grown.size).update(signed_size=grown.size)
        same = Checkpoint.objects.filter(log=log, size=grown.size).first()
        if same is None:
            Checkpoint.objects.create(log=log, size=grown.size, root=grown.root(), signed_at=now, **signed)
        elif not hmac.compare_digest(bytes(same.root), grown.root()):
            raise LogBroken
        elif not now <= _signed_at(same) < now + RENEW_AFTER:
            # Another sequencer, or this one a minute ago, signed the same root: the younger time stands, but for one of
            # a clock that was ahead. The column takes no earlier one (0002_append_only); readers believe the note.
            Checkpoint.objects.filter(pk=same.pk).update(signed_at=max(now, same.signed_at), **signed)
