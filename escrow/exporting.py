# SPDX-License-Identifier: Apache-2.0
"""What of this app goes into an export of the tenant: its statements, and deposits as their depositors made them.

Implements ORGANISATION "Export". A deposit's record opens nothing without its policy's officers and the HSM.
"""

from __future__ import annotations

from typing import Any

from escrow import services
from escrow.models import (
    Consent,
    Deposit,
    EscrowKey,
    OfficerKeyStatement,
    OfficerStatement,
    Policy,
    Receipt,
    Resolution,
)
from holdfast.core.base.encoding import b64u
from kernel.errors import DomainError
from tenants.exporting import Source


def _statement(row: Any) -> dict[str, Any]:
    return {"id": str(row.pk), "statement": b64u(bytes(row.statement))}


def _deposit(row: Deposit) -> dict[str, Any]:
    shown: dict[str, Any] = {"deposit": str(row.id), "user": str(row.user_id), "record": None, "statement": None}
    try:
        opened = services.open_deposit(row)
    except DomainError:
        # An export shows what is there: the line stands, and says that nobody could read it.
        return shown
    return {**shown, "record": b64u(opened.record), "statement": b64u(opened.statement)}


def _all(model: Any) -> Any:
    return lambda _: model.objects.all()


SOURCES = (
    Source("statements/policies.jsonl", _all(Policy), _statement),
    Source("statements/escrow-keys.jsonl", _all(EscrowKey), _statement),
    Source("statements/officers.jsonl", _all(OfficerStatement), _statement),
    Source("statements/officers-keys.jsonl", _all(OfficerKeyStatement), _statement),
    Source("statements/resolutions.jsonl", _all(Resolution), _statement),
    Source("statements/consents.jsonl", _all(Consent), _statement),
    Source("statements/receipts.jsonl", _all(Receipt), _statement),
    Source("ciphertexts/deposits.jsonl", _all(Deposit), _deposit),
)
