# SPDX-License-Identifier: Apache-2.0
"""Cases, releases and attestations as the REST API shows them.

PLATFORM "REST". What a case asks is shown as its signed bytes; the fields beside repeat them for lists.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from holdfast.core.base.encoding import b64u
from kernel.clock import database_now
from kernel.fields import rfc3339
from recovery import access
from recovery.cases.counting import why_long
from recovery.cases.standing import APPROVE_ANEW, LONG, ended_by, standings, waiting_for
from recovery.states import UNDECIDED

if TYPE_CHECKING:
    from recovery.cases.collection import Collection
    from recovery.cases.endings import VetoProof
    from recovery.models import Attestation, Case


def case_document(case: Case, *, with_timeline: bool = True) -> dict[str, Any]:
    """Return one case; `needed` is how many approvals each deposit needs now.

    with_timeline: also what it waits for, who does not count, and its entries; lists leave these out.
    """
    now, asked = database_now(), access.statement_of(case)
    needed, _, policy = access.terms_of(case, now)
    officers = standings(case, policy, now) if with_timeline else []
    why_not = {one.person_id: one.why_not or (APPROVE_ANEW if one.has_ended else "") for one in officers}
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
            for row in access.deposits_of(case)
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
            for row in access.approvals_of(case)
        ],
        "officers": [{"index": one.index, "person_id": str(one.person_id), "why_not": one.why_not} for one in officers],
        "needed": needed,
        "not_before": rfc3339(case.not_before),
        "notice_at": rfc3339(case.notice_at),
        "expiry": rfc3339(case.expiry),
        "disclosure_ends": _second(asked.disclosed_until) if asked.is_disclosure else None,
        "release_at": rfc3339(case.release_at) if case.release_at else None,
        "collected_at": rfc3339(case.collected_at) if case.collected_at else None,
        "long_delay": _long_delay(case, now) if with_timeline else None,
        "waiting_for": _waiting_for(case, now) if with_timeline else None,
        "ended": _ended(case) if with_timeline else None,
        "successor": _successor(case),
        **(_timeline(case) if with_timeline else {"timeline": [], "timeline_more": False}),
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
