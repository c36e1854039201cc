# SPDX-License-Identifier: Apache-2.0
"""What of this app goes into an export of the tenant: statements, chains, and vaults without their doors.

Implements ORGANISATION "Export". A door's blob is left out: whoever has it guesses at its password without a limit.
"""

from __future__ import annotations

from typing import Any

from holdfast.core.base.encoding import b64u
from kernel.actors import system_actor
from keys import vaults
from keys.models import ChainEntry, Device, Vault
from tenants.exporting import Source


def _device(row: Device) -> dict[str, Any]:
    return {
        "device": str(row.id),
        "user": str(row.user_id),
        "state": row.state,
        "statement": b64u(bytes(row.statement)),
    }


def _entry(row: ChainEntry) -> dict[str, Any]:
    return {"user": str(row.user_id), "seq": row.seq, "entry": b64u(bytes(row.entry))}


def _vault(row: Vault) -> dict[str, Any]:
    body = vaults.exported(row, system_actor(row.tenant_id, "worker"))
    shown = None if body is None else b64u(body)
    return {"user": str(row.user_id), "section": row.section, "version": row.version, "vault": shown}


def _all(model: Any) -> Any:
    return lambda _: model.objects.all()


SOURCES = (
    Source("statements/devices.jsonl", _all(Device), _device),
    Source("statements/chains.jsonl", _all(ChainEntry), _entry),
    Source("ciphertexts/vaults.jsonl", _all(Vault), _vault),
)
