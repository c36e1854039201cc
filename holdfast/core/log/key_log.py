# SPDX-License-Identifier: Apache-2.0
"""What the `keys` log proves about one account chain, and what two of its signed heads prove about the log.

Implements PROTOCOL section 8 for clients, on `merkle` and `checkpoint`; docs/formats/key-log.md has the bytes.
Does not fetch, keep or wait; and no proof here says that the head shown is the newest.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from holdfast.core.base.errors import Forked, Untrusted
from holdfast.core.log.checkpoint import Checkpoint, LogVerifier, NoteVerifier
from holdfast.core.log.log_entry import KeyLogEntry, key_log_subject, log_origin
from holdfast.core.log.merkle import leaf_hash, verify_consistency, verify_inclusion

CHAIN_LEAF = 1  # field 1 of a leaf about a chain entry: docs/formats/audit-log.md


@dataclass(frozen=True)
class InclusionProof:
    """What a server shows for one leaf: the leaf's bytes, its place, 32-byte hashes, the signed head as a note."""

    index: int
    leaf: bytes
    hashes: Sequence[bytes]
    checkpoint: str


def keys_verifier(pinned: Sequence[str], tenant: bytes) -> LogVerifier | None:
    """Return the verifier of a tenant's `keys` log under the verifier keys pinned for it, or None without one.

    Both logs of a tenant are signed by one key under two names, so that either name pins it. Raises Malformed for
    text that is no verifier key.
    """
    # The names are built from the tenant and not read from the text: a pin of another tenant's log fits nothing here.
    names = {log_origin(str(UUID(bytes=tenant)), log) for log in ("audit", "keys")}
    found = [known.key for known in map(NoteVerifier.from_text, pinned) if known.name in names]
    return LogVerifier(log_origin(str(UUID(bytes=tenant)), "keys"), tuple(found)) if found else None


def verify_chain_entry(
    proof: InclusionProof, *, verifier: LogVerifier, tenant: bytes, user: bytes, seq: int, entry_hash: bytes
) -> Checkpoint:
    """Check that entry `seq` of a user's chain (32-byte hash) is a leaf under a signed head, and return the head.

    Raises Malformed, InvalidSignature for a head of another key or log, and Untrusted for a leaf about anything else
    or a proof that does not lead to the head. Whoever serves the log is at fault.
    """
    checkpoint = verifier.open_checkpoint(proof.checkpoint)
    # The leaf is compared before the proof: a perfect proof of somebody else's leaf says nothing about this user. Type
    # and place count too, or a policy of that number, or an older entry, could stand in.
    leaf = KeyLogEntry.from_leaf(proof.leaf)
    if (leaf.type, leaf.subject_hash, leaf.seq) != (CHAIN_LEAF, key_log_subject(tenant, user), seq):
        raise Untrusted("the key log's leaf is about something else")
    # Right place, other hash: the log shows others another chain than the one shown
    # here. That is a fork, not a mistake.
    if not hmac.compare_digest(leaf.statement_hash, entry_hash):
        raise Forked("the key log holds another entry in this place of the chain")
    verify_inclusion(
        leaf_hash(proof.leaf),
        index=proof.index,
        size=checkpoint.size,
        proof=proof.hashes,
        expected_root=checkpoint.root,
    )
    return checkpoint


def require_same_log(head: Checkpoint, other: Checkpoint, proof: Sequence[bytes]) -> None:
    """Check that the smaller of two signed heads is a prefix of the larger, by the consistency proof between them.

    proof: 32-byte hashes, none when the sizes are equal. Raises Forked when two heads of one size differ, which is
    proof by itself that the log's key signed two histories, and Untrusted when the proof does not connect them.
    """
    # By size and not by time: the time in a head is the signer's word, its size is held by the root.
    old, new = (head, other) if head.size <= other.size else (other, head)
    if old.size == new.size and not hmac.compare_digest(old.root, new.root):
        raise Forked("the log's key signed two different heads of one size")
    # Every tree extends the empty one, and RFC 6962 section 2.1.2 has no proof for it.
    if old.size == 0:
        return
    # Of equal sizes there is nothing to prove: a proof sent all the same is left alone and is no error.
    hashes = proof if old.size < new.size else ()
    verify_consistency(old_size=old.size, old_root=old.root, size=new.size, new_root=new.root, proof=hashes)
