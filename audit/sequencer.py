# SPDX-License-Identifier: Apache-2.0
"""The sequencer: gives pending entries their index, grows the tiles, and has the HSM sign the head.

Implements PROTOCOL section 8 and PLATFORM "Audit". A crash between any two steps is taken up where it stopped:
numbering is one transaction, and only a head that is committed already is signed. It appends nothing itself.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from audit.access import tile_reader
from audit.errors import LogBroken
from audit.models import Checkpoint, Entry, Log, LogHead, Tile
from holdfast.core.base.errors import Malformed
from holdfast.core.crypto.keys import KeyKind, PublicKey
from holdfast.core.log import checkpoint as notes
from holdfast.core.log import tiles
from holdfast.core.log.log_entry import log_origin
from holdfast.core.log.merkle import HASH_SIZE, CompactRange, leaf_hash
from hsm import registry
from hsm.backend import SigningPublicKey
from kernel.scope import tenant_scope

LOGS = tuple(Log.values)
BATCH = 1000
MAX_BATCHES = 5  # of one call, about a second's work: one tenant's flood does not keep the others' heads unsigned
RENEW_AFTER = timedelta(seconds=30)


def sequence(tenant_id: UUID, log: str) -> int:
    """Number what is pending, and sign the head if it is new or its signature is half a minute old.

    Returns how many entries were numbered. Two sequencers at once do no harm. Raises HsmUnavailable when the head
    could not be signed: the numbering stays and the next run signs. Raises LogBroken, and signs nothing, when what
    is stored is not what was signed before.
    """
    # To publish a head we must, in this order:
    #
    # (0) see that what is stored still is the log that was signed, or a forged row would be signed as genuine;
    # (1) number the entries and extend the tree, in one transaction under the log's lock;
    # (2) sign the tree that is committed, outside any transaction, since an HSM may take seconds;
    # (3) store the signature, which is what publishes it: nobody reads a head that could be lost again.
    with tenant_scope(tenant_id):
        if not _has_pending(log) and not _is_due(log):
            return 0
        _check(log)  # (0)
        numbered = sum(_batches(log))  # (1)
        _sign(tenant_id, log)  # (2) and (3)
    return numbered


def verifier(tenant_id: UUID, log: str, key: SigningPublicKey) -> notes.NoteVerifier:
    """Return the log's public key under the log's name, as auditors carry it."""
    kind = KeyKind.ED25519 if key.algorithm == "ed25519" else KeyKind.P256_SIGNING
    return notes.NoteVerifier(log_origin(str(tenant_id), log), PublicKey(kind, key.raw))


def _has_pending(log: str) -> bool:
    return Entry.objects.filter(log=log, leaf_index=None).exists()


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
    return newest is None or newest.size != head.size or timezone.now() - newest.signed_at >= RENEW_AFTER


def _check(log: str) -> None:
    head, newest = _head(log), _newest(log)
    size = head.size if head else 0
    if newest is not None and newest.size > size:
        raise LogBroken
    try:
        if head is not None and size:
            # Entries with an index are counted at the end only; the proofs look at the rest.
            tail = Entry.objects.filter(log=log, leaf_index__gte=size - 1).values_list("leaf_index", flat=True)
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


def _number(log: str) -> int:
    with transaction.atomic():
        head = _locked_head(log)
        rows = Entry.objects.filter(log=log, leaf_index=None).order_by("seq").values_list("seq", "leaf")
        pending = [(seq, bytes(leaf)) for seq, leaf in rows[:BATCH]]
        hashes = [leaf_hash(leaf) for _, leaf in pending]
        _give_indices([seq for seq, _ in pending], head.size)
        _grow_tiles(log, head.size, hashes)
        grown = _grown(head)
        for digest in hashes:
            grown = grown.append(digest)
        if pending:
            LogHead.objects.filter(pk=head.pk).update(size=grown.size, edge=grown.to_bytes())
        return len(pending)


def _locked_head(log: str) -> LogHead:
    LogHead.objects.get_or_create(log=log)
    # On PostgreSQL the row is the lock; on SQLite the transaction, announced as a writer, already is.
    head: LogHead = LogHead.objects.select_for_update().get(log=log)
    return head


def _give_indices(pending: list[int], start: int) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            f"UPDATE {Entry._meta.db_table} SET leaf_index = %s WHERE seq = %s",  # noqa: S608 — our own table's name
            [(start + offset, seq) for offset, seq in enumerate(pending)],
        )


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
    token = registry.log()
    key = verifier(tenant_id, log, token.public_key)
    text = notes.Checkpoint(key.name, grown.size, grown.root(), int(now.timestamp())).to_text()
    note = notes.sign_note(text, verifier=key, sign=token.sign)
    with transaction.atomic():
        _locked_head(log)
        signed = {"note": note, "vkey": key.to_text(), "signed_at": now}
        same = Checkpoint.objects.filter(log=log, size=grown.size).first()
        if same is None:
            Checkpoint.objects.create(log=log, size=grown.size, root=grown.root(), **signed)
        elif not hmac.compare_digest(bytes(same.root), grown.root()):
            raise LogBroken
        elif same.signed_at < now:
            # Another sequencer, or this one a minute ago, signed the same root: the younger time stands.
            Checkpoint.objects.filter(pk=same.pk).update(**signed)
