# SPDX-License-Identifier: Apache-2.0
"""The lying server's officers outside cases: words, resolutions, proposals, and the audit log that these speak of.

Keeps what it is sent and counts nothing: whatever the client survives here, it survives by its own checks.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from holdfast.core.base.encoding import b64u, unb64u
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.log import merkle
from holdfast.core.log.checkpoint import Checkpoint, NoteVerifier, sign_note
from holdfast.core.log.log_entry import LogEntry, log_origin
from holdfast.core.log.log_export import readable
from holdfast.core.signed.cose import Sign1, encode_many
from tests.cast.lying_log import KeysLog


@dataclass
class Kept:
    """One resolution as the server shows it."""

    statements: list[Sign1]
    state: str = "open"


@dataclass
class Proposed:
    """One proposed policy or escrow key as the server shows it."""

    payload: bytes
    signed: list[Sign1]
    state: str = "open"


class OfficersActs:
    """What `escrow/officer-states`, `escrow/resolutions` and the audit log answer."""

    clock: Callable[[], int]
    keys_log: KeysLog

    def __init__(self, tenant: bytes, log_key: SigningKey, now: int) -> None:
        self.words: list[Sign1] = []
        self.resolutions: dict[bytes, Kept] = {}
        self.proposals: dict[str, Proposed] = {}
        self.key_proposals: dict[str, Proposed] = {}
        self.people: list[dict[str, Any]] = []
        self.audit_key = log_key
        self.now = now
        self.audit_name = log_origin(str(UUID(bytes=tenant)), "audit")
        body: dict[str, str | int | bytes] = {"hash": bytes(range(32)), "version": 1, "note": "AAAA"}
        self.leaves = [
            LogEntry(uuid.uuid4().bytes, "escrow:policy:publish", "system:x", b"", "", now, {**body, "n": at}).to_leaf()
            for at in range(300)
        ]

    # Acts

    def officers(self, _asker: str, _body: Any, _query: Any) -> Any:
        return 200, {"officers": [], "m": 2}

    def state_officer(self, _asker: str, body: Any, _query: Any) -> Any:
        self.words.append(Sign1.parse(unb64u(body["statement"])))
        return 201, {}

    def sign_resolution(self, _asker: str, body: Any, _query: Any) -> Any:
        signed = Sign1.parse(unb64u(body["statement"]))
        kept = self.resolutions.setdefault(signed.payload_hash, Kept([]))
        kept.statements.append(signed)
        if len(kept.statements) == 2:
            kept.state = "passed"
        return 201, self._resolution(kept)

    def _resolution(self, kept: Kept) -> dict[str, Any]:
        return {
            "resolution_id": str(UUID(bytes=kept.statements[0].payload_hash[:16])),
            "statement": b64u(encode_many(kept.statements)),
            "state": kept.state,
            "signed_by": list(range(1, len(kept.statements) + 1)),
            "needed": 2,
        }

    def list_resolutions(self, _asker: str, _body: Any, _query: Any) -> Any:
        rows = sorted(self.resolutions.values(), key=lambda kept: kept.state != "open")
        return 200, {"resolutions": [self._resolution(kept) for kept in rows], "more": False}

    # Proposals

    def propose_policy(self, asker: str, body: Any, _query: Any) -> Any:
        payload = unb64u(body["payload"])
        identifier = str(UUID(bytes=hashlib.sha256(payload).digest()[:16]))
        self.proposals.setdefault(identifier, Proposed(payload, []))
        return 201, self._proposed(identifier, self.proposals[identifier])

    def list_policies(self, _asker: str, _body: Any, _query: Any) -> Any:
        rows = sorted(self.proposals.items(), key=lambda row: row[1].state != "open")
        return 200, {"proposals": [self._proposed(*row) for row in rows], "more": False, "root_key": ""}

    def sign_policy(self, _asker: str, body: Any, _query: Any, identifier: str) -> Any:
        kept = self.proposals[identifier]
        kept.signed.append(Sign1.parse(unb64u(body["statement"]), max_size=2**17))
        if len(kept.signed) == 2:
            kept.state = "published"
        return 201, self._proposed(identifier, kept)

    def withdraw_policy(self, _asker: str, _body: Any, _query: Any, identifier: str) -> Any:
        self.proposals[identifier].state = "withdrawn"
        return 201, self._proposed(identifier, self.proposals[identifier])

    def list_keys(self, _asker: str, _body: Any, _query: Any) -> Any:
        return 200, {"proposals": [self._proposed(*row) for row in self.key_proposals.items()], "more": False}

    def sign_key(self, _asker: str, body: Any, _query: Any, identifier: str) -> Any:
        kept = self.key_proposals[identifier]
        kept.signed.append(Sign1.parse(unb64u(body["statement"])))
        if len(kept.signed) == 3:
            kept.state = "published"
        return 201, self._proposed(identifier, kept)

    def _proposed(self, identifier: str, kept: Proposed) -> dict[str, Any]:
        return {
            "proposal_id": identifier,
            "payload": b64u(kept.payload),
            "signatures": [{"protected": b64u(one.protected), "signature": b64u(one.signature)} for one in kept.signed],
            "state": kept.state,
            "missing": max(0, 2 - len(kept.signed)),
            "proposer": str(UUID(int=5)),
            "people": self.people,
        }

    # The audit log

    def audit_note(self, size: int | None = None) -> str:
        hashes = [merkle.leaf_hash(leaf) for leaf in self.leaves[: len(self.leaves) if size is None else size]]
        text = Checkpoint(self.audit_name, len(hashes), merkle.root(hashes), self.clock() or self.now).to_text()
        return sign_note(text, verifier=NoteVerifier(self.audit_name, self.audit_key.public), sign=self.audit_key.sign)

    def _hashes(self) -> list[bytes]:
        return [merkle.leaf_hash(leaf) for leaf in self.leaves]

    def audit_checkpoint(self, _asker: str, _body: Any, query: Any) -> Any:
        return 200, {"note": self.audit_note() if query["log"] == "audit" else self.keys_log.checkpoint()}

    def audit_proof(self, _asker: str, _body: Any, query: Any) -> Any:
        if "from" in query:
            hashes = self._hashes() if query["log"] == "audit" else self.keys_log.hashes()
            proof = merkle.consistency_proof(hashes[: int(query["to"])], int(query["from"]))
        else:
            proof = merkle.inclusion_proof(self._hashes()[: int(query["size"])], int(query["index"]))
        return 200, {"proof": [b64u(one) for one in proof]}

    def audit_entries(self, _asker: str, _body: Any, query: Any) -> Any:
        index = int(query["before"]) - 1
        return 200, {"entries": [{"index": index, **readable(self.leaves[index])}]}

    def tile(self, _asker: str, _body: Any, _query: Any, number: str) -> Any:
        at = int(number) * 256
        return 200, {"octets": b64u(b"".join(self._hashes()[at : at + 256]))}


ROUTES: dict[tuple[str, str], Callable[..., Any]] = {
    ("GET", "escrow/officers"): OfficersActs.officers,
    ("POST", "escrow/officer-states"): OfficersActs.state_officer,
    ("POST", "escrow/resolutions"): OfficersActs.sign_resolution,
    ("GET", "escrow/resolutions"): OfficersActs.list_resolutions,
    ("GET", "escrow/policy-proposals"): OfficersActs.list_policies,
    ("POST", "escrow/policy-proposals"): OfficersActs.propose_policy,
    ("POST", "escrow/policy-proposals/([0-9a-f-]+)/signatures"): OfficersActs.sign_policy,
    ("POST", "escrow/policy-proposals/([0-9a-f-]+)/withdraw"): OfficersActs.withdraw_policy,
    ("GET", "escrow/key-proposals"): OfficersActs.list_keys,
    ("POST", "escrow/key-proposals/([0-9a-f-]+)/signatures"): OfficersActs.sign_key,
    ("GET", "audit/checkpoint"): OfficersActs.audit_checkpoint,
    ("GET", "audit/proof"): OfficersActs.audit_proof,
    ("GET", "audit/entries"): OfficersActs.audit_entries,
    ("GET", r"tiles/audit/0/(\d+)"): OfficersActs.tile,
}
