# SPDX-License-Identifier: Apache-2.0
"""The sequencer: gives pending entries their index, grows the tiles, and has the HSM sign the head.

DESIGN section 8, PROTOCOL section 8. A crash between any two steps is taken up where it stopped: the numbering
is one transaction, and a signature is made only over a head that is already committed.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from audit.access import tile_reader
from audit.models import Checkpoint, Entry, Log, LogHead, Tile
from holdfast.core import checkpoint as notes
from holdfast.core import tiles
from holdfast.core.keys import KeyKind, PublicKey
from holdfast.core.log_entry import log_origin
from holdfast.core.merkle import EMPTY_ROOT, HASH_SIZE, CompactRange, leaf_hash
from hsm import registry
from hsm.backend import SigningPublicKey
from kernel.scope import tenant_scope

BATCH = 1000
RENEW_AFTER = timedelta(seconds=30)


def sequence(tenant_id: UUID, log: str) -> int:
    """Number what is pending, sign the head if it is new or its signature is half a minute old.

    Returns how many entries were numbered. Raises HsmUnavailable when the head could not be signed; the
    numbering stays and the next run signs.
    """
    numbered = 0
    with tenant_scope(tenant_id):
        while batch := _number(log):
            numbered += batch
            if batch < BATCH:
                break
        _sign(tenant_id, log)
    return numbered


def verifier(tenant_id: UUID, log: str, key: SigningPublicKey) -> notes.NoteVerifier:
    """Return the log's public key under its name, as auditors carry it."""
    kind = KeyKind.ED25519 if key.algorithm == "ed25519" else KeyKind.P256_SIGNING
    return notes.NoteVerifier(log_origin(str(tenant_id), log), PublicKey(kind, key.raw))


def _number(log: str) -> int:
    with transaction.atomic():
        head = _locked_head(log)
        pending = list(Entry.objects.filter(log=log, leaf_index=None).order_by("seq")[:BATCH])
        if not pending:
            return 0
        grown = CompactRange.from_bytes(bytes(head.edge)) if head.edge else CompactRange()
        hashes = [leaf_hash(bytes(entry.leaf)) for entry in pending]
        _give_indices(pending, head.size)
        _grow_tiles(log, head.size, hashes)
        for one in hashes:
            grown = grown.append(one)
        LogHead.objects.filter(pk=head.pk).update(size=grown.size, edge=grown.to_bytes())
        return len(pending)


def _locked_head(log: str) -> LogHead:
    LogHead.objects.get_or_create(log=log)
    # On PostgreSQL the row is the lock; on SQLite the transaction, announced as a writer, already is.
    head: LogHead = LogHead.objects.select_for_update().get(log=log)
    return head


def _give_indices(pending: list[Entry], start: int) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            f"UPDATE {Entry._meta.db_table} SET leaf_index = %s WHERE seq = %s",  # noqa: S608 — our own table's name
            [(start + offset, entry.seq) for offset, entry in enumerate(pending)],
        )


def _grow_tiles(log: str, old_size: int, hashes: list[bytes]) -> None:
    """Write every tile that the new leaves create or extend, level by level."""
    read, written = tile_reader(log), {}

    def tile(level: int, index: int) -> bytes:
        return written[level, index] if (level, index) in written else read(level, index)

    size = old_size + len(hashes)
    for level, index, width in tiles.tiles_changed(old_size, size):
        if level == 0:
            first = index * tiles.WIDTH
            known = tile(0, index)[: max(0, old_size - first) * HASH_SIZE]
            fresh = hashes[max(first, old_size) - old_size : first + width - old_size]
            grown = known + b"".join(fresh)
        else:
            below = [tile(level - 1, index * tiles.WIDTH + offset) for offset in range(width)]
            grown = b"".join(_subtree_root(hashes_below) for hashes_below in below)
        written[level, index] = grown
    for (level, index), octets in written.items():
        Tile.objects.update_or_create(
            log=log, level=level, index=index, defaults={"hashes": octets}
        )


def _subtree_root(full_tile: bytes) -> bytes:
    hashes = [full_tile[at : at + HASH_SIZE] for at in range(0, len(full_tile), HASH_SIZE)]
    return CompactRange.over(hashes).root()


def _sign(tenant_id: UUID, log: str) -> None:
    head = LogHead.objects.filter(log=log).first()
    if head is None or head.size == 0:
        return
    newest = Checkpoint.objects.filter(log=log).order_by("-size").first()
    now = timezone.now()
    if newest is not None and newest.size == head.size and now - newest.signed_at < RENEW_AFTER:
        return
    grown = CompactRange.from_bytes(bytes(head.edge))
    root = grown.root() if grown.size else EMPTY_ROOT
    token = registry.log()
    text = notes.Checkpoint(log_origin(str(tenant_id), log), grown.size, root, int(now.timestamp())).to_text()
    # The head is committed already, and the HSM is asked outside any transaction.
    note = notes.sign_note(text, verifier=verifier(tenant_id, log, token.public_key), sign=token.sign)
    with transaction.atomic():
        _locked_head(log)
        same = Checkpoint.objects.filter(log=log, size=grown.size).first()
        if same is None:
            Checkpoint.objects.create(log=log, size=grown.size, root=root, note=note, signed_at=now)
        elif bytes(same.root) == root and same.signed_at < now:
            Checkpoint.objects.filter(pk=same.pk).update(note=note, signed_at=now)


LOGS = tuple(Log.values)
