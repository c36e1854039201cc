# SPDX-License-Identifier: Apache-2.0
"""The lying server's `keys` log: a leaf for each chain entry, a signed head, proofs.

Implements PROTOCOL section 8 as the client uses it. A second log over other leaves is a split view.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from holdfast.core.base.encoding import b64u
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.identity.entries import Entry
from holdfast.core.log import merkle
from holdfast.core.log.checkpoint import Checkpoint, NoteVerifier, sign_note
from holdfast.core.log.log_entry import KeyLogEntry, key_log_subject, log_origin

CHAIN = 1


@dataclass
class KeysLog:
    """The leaves of one tenant's `keys` log, and the key that signs its heads, anew for each who asks."""

    tenant: bytes
    now: int
    key: SigningKey
    leaves: list[bytes] = field(default_factory=list)
    clock: Callable[[], int] | None = None

    def verifier(self, log: str = "keys") -> NoteVerifier:
        return NoteVerifier(log_origin(str(UUID(bytes=self.tenant)), log), self.key.public)

    def append(self, user: bytes, entry: Entry) -> None:
        subject = key_log_subject(self.tenant, user)
        self.leaves.append(KeyLogEntry(CHAIN, subject, entry.seq, entry.hash, self.now).to_leaf())

    def checkpoint(self, size: int | None = None) -> str:
        """Return the signed head of the whole log, or of its first leaves."""
        hashes = self.hashes(size)
        verifier = self.verifier()
        signed_at = self.clock() if self.clock else self.now
        text = Checkpoint(verifier.name, len(hashes), merkle.root(hashes), signed_at).to_text()
        return sign_note(text, verifier=verifier, sign=self.key.sign)

    def hashes(self, size: int | None = None) -> list[bytes]:
        return [merkle.leaf_hash(leaf) for leaf in self.leaves[: len(self.leaves) if size is None else size]]

    def proof(self, user: bytes, seq: int, old_size: int | None) -> dict[str, Any] | None:
        """Return what `GET users/{id}/chain/proof` answers, or None while no leaf is there."""
        subject = key_log_subject(self.tenant, user)
        names = [(one.subject_hash, one.seq) for one in map(KeyLogEntry.from_leaf, self.leaves)]
        if (subject, seq) not in names:
            return None
        index = names.index((subject, seq))
        answer: dict[str, Any] = {
            "leaf_index": index,
            "leaf": b64u(self.leaves[index]),
            "proof": [b64u(one) for one in merkle.inclusion_proof(self.hashes(), index)],
            "checkpoint": self.checkpoint(),
        }
        if old_size is not None and old_size <= len(self.leaves):
            answer["consistency"] = [b64u(one) for one in merkle.consistency_proof(self.hashes(), old_size)]
        return answer
