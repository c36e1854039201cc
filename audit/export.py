# SPDX-License-Identifier: Apache-2.0
"""The export that an auditor takes home: JSON lines with every leaf and the signed head, checkable offline.

docs/formats/audit-log.md. Reads of the log are entries too: the caller appends one before the first line leaves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from audit.access import entries_between
from audit.models import Checkpoint, Entry
from holdfast.core.encoding import b64u
from holdfast.core.log_entry import log_origin
from kernel.fields import rfc3339
from kernel.scope import tenant_scope
from kernel.strict_json import dumps

FORMAT = "holdfast-audit-export/1"


def readable(entry: Entry) -> dict[str, Any]:
    """Return an entry as people read it; the leaf is what is proven."""
    return {
        "index": entry.leaf_index,
        "id": str(entry.id),
        "tag": entry.tag,
        "actor": entry.actor,
        "person": str(entry.person_id) if entry.person_id else None,
        "subject": entry.subject,
        "time": rfc3339(entry.time),
        "body": entry.body,
    }


def lines(tenant_id: UUID, log: str, checkpoint: Checkpoint) -> Iterator[bytes]:
    """Give the export line by line: a header, every entry up to the head, the head. Streams in bounded batches."""
    yield dumps({"format": FORMAT, "origin": log_origin(str(tenant_id), log), "size": checkpoint.size}) + b"\n"
    with tenant_scope(tenant_id):
        entries = iter(entries_between(log, 0, checkpoint.size))
    while True:
        # The scope is opened for each step: between two, the server's other requests run in this thread.
        with tenant_scope(tenant_id):
            entry = next(entries, None)
        if entry is None:
            break
        yield dumps({**readable(entry), "leaf": b64u(bytes(entry.leaf))}) + b"\n"
    yield dumps({"checkpoint": checkpoint.note}) + b"\n"
