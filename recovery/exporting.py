# SPDX-License-Identifier: Apache-2.0
"""What of this app goes into an export of the tenant: cases, and what was signed in them, as far as its asker may see.

Implements ORGANISATION "Export". Sealed shares and what was released are the officers' and the recipient's alone.
"""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

from holdfast.core.base.encoding import b64u
from kernel.actors import Actor
from recovery import access
from recovery.models import Approval, Case, Veto
from tenants.exporting import Source


def _cases(actor: Actor) -> QuerySet[Case]:
    return access.visible_to(actor, timezone.now())


def _in_cases(model: Any) -> Any:
    return lambda actor: model.objects.filter(case_id__in=_cases(actor).values("id"))


def _case(row: Case) -> dict[str, Any]:
    return {"case": str(row.id), "state": row.state, "statement": b64u(bytes(row.statement))}


def _signed(row: Approval | Veto) -> dict[str, Any]:
    statement = None if row.statement is None else b64u(bytes(row.statement))
    return {"case": str(row.case_id), "statement": statement}


SOURCES = (
    Source("statements/cases.jsonl", _cases, _case),
    Source("statements/approvals.jsonl", _in_cases(Approval), _signed),
    Source("statements/vetoes.jsonl", _in_cases(Veto), _signed),
)
