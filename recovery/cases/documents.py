# SPDX-License-Identifier: Apache-2.0
"""Cases, releases and attestations as the REST API shows them.

PLATFORM "REST". What a case asks is shown as its signed bytes; the fields beside repeat them for lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from holdfast.core.base.encoding import b64u
from kernel.clock import database_now
from kernel.fields import rfc3339
from recovery import access
from recovery.cases import index
from recovery.cases.counting import why_long
from recovery.cases.standing import APPROVE_ANEW, LONG, ended_by, standings, waiting_for
from recovery.states import UNDECIDED

if TYPE_CHECKING:
    from recovery.cases.collection import Collection
    from recovery.cases.endings import VetoProof
    from recovery.models import Approval, Attestation, Case, CaseDeposit


def case_document(case: Case) -> dict[str, Any]:
    """Return one case; `needed` is how many approvals each deposit needs now."""
    now = database_now()
    needed, _, policy = access.terms_of(case, now)
    officers = standings(case, policy, now)
    why_not = {one.person_id: one.why_not or (APPROVE_ANEW if one.has_ended else "") for one in officers}
    approvals, deposits = access.approvals_of(case), access.deposits_of(case)
    return {
        **_listed(case, deposits=deposits, approvals=approvals, needed=needed, why_not=why_not),
        "officers": [{"index": one.index, "person_id": str(one.person_id), "why_not": one.why_not} for one in officers],
        "long_delay": _long_delay(case, now),
        "waiting_for": _waiting_for(case, now),
        "ended": _ended(case),
        **_timeline(case),
    }


def case_documents(cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Return cases for a list, without what they wait for, who does not count, and their entries. Eight queries."""
    tallies = index.tallies(cases, now=database_now())
    deposits, approvals = access.deposits_by_case(cases), access.approvals_by_case(cases)
    left_out: dict[str, Any] = {"officers": [], "long_delay": None, "waiting_for": None, "ended": None}
    return [
        {
            **_listed(
                case,
                deposits=deposits[case.id],
                approvals=approvals[case.id],
                needed=tallies[case.id].needed,
                why_not={},
            ),
            **left_out,
            "timeline": [],
            "timeline_more": False,
        }
        for case in cases
    ]


def _listed(
    case: Case,
    *,
    deposits: Sequence[CaseDeposit],
    approvals: Sequence[Approval],
    needed: int,
    why_not: Mapping[UUID, str],
) -> dict[str, Any]:
    asked = access.statement_of(case)
    return {
        "case_id": str(case.id),
        "state": case.state,
        "why": case.why,
        "subject": str(case.subject_id),
        "requester": str(case.requester_id),
        "purpose": case.purpose,
        "statement": b64u(bytes(case.statement)),
        "q": b64u(bytes(case.q)),
        "deposits": [
            {
                "deposit_id": str(row.deposit_id),
                "record_hash": b64u(bytes(row.record_hash)),
                "generation": row.generation,
            }
            for row in deposits
        ],
        "approvals": [
            {
                "index": row.index,
                "person_id": str(row.person_id),
                "statement": b64u(bytes(row.statement)),
                "decision": row.decision,
                "at": rfc3339(row.at),
                "why_not": why_not.get(row.person_id, ""),
            }
            for row in approvals
        ],
        "needed": needed,
        "not_before": rfc3339(case.not_before),
        "notice_at": rfc3339(case.notice_at),
        "expiry": rfc3339(case.expiry),
        "disclosure_ends": _second(asked.disclosed_until) if asked.is_disclosure else None,
        "release_at": rfc3339(case.release_at) if case.release_at else None,
        "collected_at": rfc3339(case.collected_at) if case.collected_at else None,
        "successor": _successor(case),
    }


def _second(at: int) -> str:
    return rfc3339(datetime.fromtimestamp(at, UTC))


def _waiting_for(case: Case, now: datetime) -> dict[str, Any] | None:
    found = waiting_for(case, now)
    if found is None:
        return None
    return {"code": found.code, "text": found.text, "since": rfc3339(found.since), "stuck": found.is_stuck}


def _long_delay(case: Case, now: datetime) -> dict[str, Any] | None:
    long = why_long(case, now) if case.state in UNDECIDED else None
    return {"code": str(long), "text": LONG[long]} if long else None


def _ended(case: Case) -> dict[str, Any] | None:
    found = ended_by(case)
    return {"code": found.code, "text": found.text, "at": rfc3339(found.at)} if found else None


def _successor(case: Case) -> dict[str, str] | None:
    if case.successor_key is None or case.successor_head is None:
        return None
    return {"identity_key": b64u(bytes(case.successor_key)), "old_head": b64u(bytes(case.successor_head))}


def _timeline(case: Case) -> dict[str, Any]:
    rows, more = access.timeline(case)
    shown = [{"tag": row.tag, "at": rfc3339(row.at), "by": row.by} for row in rows]
    return {"timeline": shown, "timeline_more": more}


def proof_document(proof: VetoProof) -> dict[str, Any]:
    """Return the proof that a veto is in the log."""
    return {
        "statement": b64u(proof.statement),
        "leaf_index": proof.leaf_index,
        "leaf": b64u(proof.leaf),
        "proof": [b64u(digest) for digest in proof.hashes],
        "checkpoint": proof.checkpoint,
    }


def attestation_document(row: Attestation) -> dict[str, Any]:
    """Return one officer's attestation."""
    return {
        "index": row.index,
        "person_id": str(row.person_id),
        "statement": b64u(bytes(row.statement)),
        "at": rfc3339(row.at),
    }


def release_document(collection: Collection, *, policy: bytes) -> dict[str, Any]:
    """Return everything that the recipient opens on their own device; nothing in it opens anywhere else."""
    return {
        "halves": [[str(row.deposit_id), b64u(bytes(row.half))] for row in collection.releases],
        "shares": [
            [str(row.deposit_id), share.index, b64u(bytes(share.sealed))]
            for row in collection.releases
            for share in sorted(row.shares.all(), key=lambda sealed: sealed.index)
            if share.blamed_at is None
        ],
        "records": [
            [str(deposit_id), b64u(deposit.record), b64u(deposit.statement)]
            for deposit_id, deposit in collection.deposits.items()
        ],
        "policy": b64u(policy),
    }
