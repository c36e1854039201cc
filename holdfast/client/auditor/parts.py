# SPDX-License-Identifier: Apache-2.0
"""A long exported log in parts, checked side by side: a signature for each entry is most of the work.

Each part is checked as `entries` checks it, by a process of its own that is told the head and the keys, or not at all:
what is wrong with a part, and where first, is not said here.
"""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import BinaryIO, Final

from holdfast.client.auditor.entries import Broken, Proofs, put_back_by, require_written
from holdfast.core.base.errors import HoldfastError
from holdfast.core.identity.roles import Roles, WrongLeaf
from holdfast.core.log.log_export import MAX_LINE, ExportedEntry, Header
from holdfast.core.log.tiles import WIDTH
from holdfast.core.signed.cose import Sign1

PART: Final = 16 * WIDTH  # entries: half a second of one core
_AHEAD: Final = 2  # parts for each process that are read already: of 4 MiB each


@dataclass(frozen=True)
class Part:
    """What a part in order has. hashes: of its leaves, 32 bytes each. ids: of its entries that somebody wrote."""

    hashes: bytes
    ids: tuple[bytes, ...]
    put_back: tuple[tuple[int, int], ...]
    withheld: int


def checked(file: BinaryIO, header: Header, root: bytes, *, has_writers: bool) -> Iterator[Part | None]:
    """Give the parts in their order, and None for one with which something is wrong, or where no process can be had.

    The file is read up to what follows the last entry, as long as nobody stops before. has_writers: whether each entry
    is held to the keys that the first line names.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores < 2:
        yield None
        return
    try:
        # `spawn`: a process that is forked while another thread works may wait for that one for ever.
        pool = ProcessPoolExecutor(
            cores, mp_context=get_context("spawn"), initializer=_begin, initargs=(header, root, has_writers)
        )
    except (OSError, ImportError, NotImplementedError):
        yield None
        return
    waiting: deque[Future[Part | None]] = deque()
    try:
        for first in range(0, header.size, PART):
            count = min(PART, header.size - first)
            lines = [file.readline(MAX_LINE + 1) for _ in range(count - (-count // WIDTH))]
            waiting.append(pool.submit(_check, first, count, b"".join(lines)))
            if len(waiting) > _AHEAD * cores:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except (OSError, BrokenProcessPool):
        yield None
    finally:
        pool.shutdown(cancel_futures=True)


_told: tuple[Header, bytes, Roles | None]


def _begin(header: Header, root: bytes, has_writers: bool) -> None:
    global _told  # noqa: PLW0603 — what a process is told once
    roles = Roles.from_payload(Sign1.parse(header.roles).payload) if has_writers else None
    _told = header, root, roles


def _check(first: int, count: int, octets: bytes) -> Part | None:
    header, root, roles = _told
    proofs = Proofs(io.BytesIO(octets), header, root)
    hashes: list[bytes] = []
    ids: set[bytes] = set()
    put_back: list[tuple[int, int]] = []
    try:
        for index in range(first, first + count):
            entry, _ = proofs.next_entry(index)
            hashes.append(entry.leaf_hash)
            if roles is not None and isinstance(entry, ExportedEntry):
                put_back += put_back_by(require_written(entry, roles, ids), index)
    except (Broken, WrongLeaf, HoldfastError):
        return None
    return Part(b"".join(hashes), tuple(ids), tuple(put_back), proofs.withheld)
