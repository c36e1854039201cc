# SPDX-License-Identifier: Apache-2.0
"""Entries of an account chain that a restored database lost, given back: what shows that they had been taken.

Implements PROTOCOL section 5, "After a restored backup". Reads no clock, and verifies no entry: `chain` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from holdfast.core.base.errors import Malformed, Untrusted
from holdfast.core.identity.entries import AddDevice, Entry, ReGenesis
from holdfast.core.log.checkpoint import Checkpoint, LogVerifier
from holdfast.core.log.key_log import InclusionProof, verify_chain_entry


def require_run(entries: Sequence[Entry]) -> None:
    """Check that entries name each other one by one, so that the last stands for all. Raises Malformed."""
    if not entries:
        raise Malformed("no entries are given back")
    for before, entry in pairwise(entries):
        if entry.seq != before.seq + 1 or entry.prev != before.hash:
            raise Malformed("the entries given back do not follow one upon the other")


def verify_proven(
    entries: Sequence[Entry], proof: InclusionProof, *, verifier: LogVerifier, tenant: bytes, user: bytes
) -> Checkpoint:
    """Check that the last of a run of entries was a leaf of the key log, and return the signed head that covers it.

    Each entry names the one before it, and a log takes them in order: all were taken, by rules that asked for their
    dates. Whether the head is of the past that was given up, `AcceptedLog.leaves_behind` says. Raises as `require_run`
    and `verify_chain_entry` do.
    """
    require_run(entries)
    last = entries[-1]
    return verify_chain_entry(proof, verifier=verifier, tenant=tenant, user=user, seq=last.seq, entry_hash=last.hash)


def require_on_own_word(entries: Sequence[Entry]) -> None:
    """Refuse what an owner may not give back without a proof that the log had it. Raises Untrusted.

    Nobody saw when these entries were made. A re-genesis counts the owner's time to object, and the officers who may
    sign for it, by its date. All else says the same on whichever day.
    """
    if any(isinstance(entry.body, ReGenesis) for entry in entries):
        raise Untrusted("an account that began anew is given back only with the proof that the key log had it")


def added(entries: Sequence[Entry]) -> dict[bytes, bytes]:
    """Return the devices that entries add: id → 32-byte hash of the device statement."""
    return {entry.body.device: entry.body.statement_hash for entry in entries if isinstance(entry.body, AddDevice)}
