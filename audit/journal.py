# SPDX-License-Identifier: Apache-2.0
"""The sequencer's own memory, outside the database: each tenant's root, and the head of each log that it signed last.

Implements ESCROW "What it believes of the log": it signs nothing that does not extend what it signed. Files of mode
0600 under the directory of its account; the ceremony writes the roots. It decides nothing.
"""

from __future__ import annotations

import fcntl
import hmac
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from django.conf import settings

from holdfast.core.base.encoding import Fields, decode, encode
from holdfast.core.base.errors import Forked
from holdfast.core.crypto.keys import SIGNING_KINDS, PublicKey, decode_public_key
from holdfast.core.log.merkle import HASH_SIZE, MAX_SIZE
from holdfast.files import remove_parts
from kernel.files import make_directory, write_durably

# By a tenant's directory: when a name in it changed last, which every write here does (a rename), and the sizes then.
_sizes: dict[Path, tuple[int, dict[str, int]]] = {}


@dataclass(frozen=True)
class Head:
    """A head that was signed: size of the log, and its root of 32 bytes."""

    size: int
    root: bytes


def root_key(tenant_id: UUID) -> PublicKey | None:
    """Return the tenant root that the ceremony pinned here, if it has."""
    try:
        return decode_public_key((_of(tenant_id) / "root").read_bytes(), expect=SIGNING_KINDS)
    except FileNotFoundError:
        return None


def pin_root(tenant_id: UUID, key: PublicKey) -> None:
    """Pin a tenant's root. The ceremony calls it, for the sequencer's account."""
    with _alone(tenant_id):
        _write(tenant_id, "root", key.encoded)


def signed_head(tenant_id: UUID, log: str) -> Head | None:
    """Return the head of a log that was signed last, if any. Raises Malformed for a damaged file."""
    try:
        row = Fields.of_row(decode((_of(tenant_id) / log).read_bytes()), "signed head", 2)
    except FileNotFoundError:
        return None
    return Head(row.uint(0, maximum=MAX_SIZE), row.octets(1, HASH_SIZE))


def signed_sizes(tenant_id: UUID, logs: Sequence[str]) -> dict[str, int]:
    """Return how many entries the head of each log has that was signed last, 0 for none. Raises as `signed_head` does.

    For thousands of tenants at rest: their files are read once, and again when one was put in the place of another.
    """
    directory = _of(tenant_id)
    try:
        changed = directory.stat().st_mtime_ns
    except FileNotFoundError:
        return dict.fromkeys(logs, 0)
    known = _sizes.get(directory)
    if known is None or known[0] != changed:
        heads = {log: signed_head(tenant_id, log) for log in logs}
        known = _sizes[directory] = changed, {log: head.size if head else 0 for log, head in heads.items()}
    return known[1]


def remember_head(tenant_id: UUID, log: str, head: Head) -> None:
    """Remember a head before it is signed; durable when this returns. One that is larger already stays.

    Raises Forked for another root at the size remembered: it must not be signed.
    """
    with _alone(tenant_id):
        before = signed_head(tenant_id, log)
        if before is not None and before.size == head.size and not hmac.compare_digest(before.root, head.root):
            raise Forked("another root was signed at this size")
        if before is None or before.size < head.size:
            _write(tenant_id, log, encode([head.size, head.root]))


def replace_heads(tenant_id: UUID, heads: Mapping[str, Head]) -> None:
    """Put other heads in the place of those remembered: a restored log was accepted, as a person decided."""
    with _alone(tenant_id):
        for log, head in heads.items():
            _write(tenant_id, log, encode([head.size, head.root]))


@contextmanager
def _alone(tenant_id: UUID) -> Iterator[None]:
    """Hold one tenant's part: two sequencers at once must not put a smaller head over a larger one."""
    directory = _of(tenant_id)
    make_directory(directory)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        remove_parts(directory)
        yield
    finally:
        os.close(descriptor)


def _of(tenant_id: UUID) -> Path:
    return Path(settings.HOLDFAST_SEQUENCER_DIR) / str(tenant_id)


def _write(tenant_id: UUID, name: str, body: bytes) -> None:
    # Of two writes within one tick of the file system's clock the directory tells one.
    _sizes.pop(_of(tenant_id), None)
    write_durably(_of(tenant_id) / name, body)
