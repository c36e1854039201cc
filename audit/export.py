# SPDX-License-Identifier: Apache-2.0
"""The export that an auditor takes home: JSON lines with every leaf, its proof and the signed head.

Implements docs/formats/audit-log.md on `holdfast.core.log.log_export`, which the offline verifier shares.
It logs nothing itself: the caller appends an entry before the first line leaves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.db.models import Q

from audit import access
from audit.models import Checkpoint, Entry, Numbered
from holdfast.core.log.log_entry import log_origin
from holdfast.core.log.log_export import Header, checkpoint_line, readable
from kernel.scope import tenant_scope


def document(entry: Entry | Numbered) -> dict[str, Any]:
    """Return an entry as people read it: what its leaf says, whatever the columns beside it say."""
    return {"index": entry.leaf_index, **readable(bytes(entry.leaf))}


def lines(
    tenant_id: UUID,
    log: str,
    checkpoint: Checkpoint,
    *,
    roles: bytes = b"",
    withheld: Q | None = None,
    count: int = 0,
) -> Iterator[bytes]:
    """Give the export line by line: a header, every entry up to the head, the head. One batch is held at a time.

    roles: the newest statement of the tenant root on whose keys write and sign, b"" where there is none.
    withheld: the condition of the entries that this reader sees as hashes only; `count` of them lie below the head.
    It is asked for once, before the first line: a date that passes meanwhile must not make head and lines disagree.
    """
    size = checkpoint.size
    yield Header(log_origin(str(tenant_id), log), checkpoint.vkey, size, count, roles).to_line()
    for low in range(0, size, access.BATCH):
        # The scope is opened for each batch: between two, other work may run in this thread.
        with tenant_scope(tenant_id):
            batch = access.proven_entries(log, low, min(low + access.BATCH, size), size=size, withheld=withheld)
        for entry in batch:
            yield entry.to_line()
    yield checkpoint_line(checkpoint.note)
