# SPDX-License-Identifier: Apache-2.0
"""Account chains as the server sees them: stored entries in, the verified state out.

PROTOCOL section 5, by the same functions of `holdfast.core.identity.chain` that clients use.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

from audit import access as audit
from audit.errors import NoCheckpoint
from holdfast.core.crypto.keys import PublicKey
from holdfast.core.identity.chain import ChainState, verify_chain
from holdfast.core.identity.entries import ArchiveGeneration, Entry, ReGenesis
from holdfast.core.identity.policy import SignedPolicy
from holdfast.core.log.key_log import CHAIN_LEAF
from kernel.errors import NotFound
from kernel.scope import current_tenant
from keys import access, kept_chains
from keys.access import KeptHead
from keys.errors import NotLoggedYet
from keys.kept_chains import Kept

KEY_LOG: Final = "keys"


class RegenesisRules(Protocol):
    """What a higher app knows about beginning a chain anew; `escrow` and `recovery` provide it at start."""

    def policies(self) -> Sequence[SignedPolicy]:
        """Return every verified policy version of the open tenant, oldest first."""
        ...

    def require(self, *, user_id: UUID, case_id: UUID, device_hash: bytes) -> None:
        """Raise RegenesisRefused unless that case gave this user's key to the device of that statement."""
        ...

    def is_being_recovered(self, device_id: UUID, user_id: UUID) -> bool:
        """Tell whether a case, or a request to contacts, is to bring this user's account to this device."""
        ...


_rules: list[RegenesisRules] = []


def register_regenesis_rules(rules: RegenesisRules) -> None:
    """Say, at start, who answers for re-genesis. Without anybody, no chain begins anew."""
    _rules[:] = [rules]


def regenesis_rules() -> RegenesisRules | None:
    """Return who answers for re-genesis."""
    return _rules[0] if _rules else None


def is_being_recovered(device_id: UUID, user_id: UUID) -> bool:
    """Tell whether a device that its chain does not list waits for an account that is being recovered on it."""
    rules = regenesis_rules()
    return rules is not None and rules.is_being_recovered(device_id, user_id)


@dataclass(frozen=True)
class ChainView:
    """What a user's verified chain says: what is most asked, and the whole state for whoever needs more.

    seq, head: of the newest entry, 32 bytes its hash. aik: the current account identity key.
    """

    user_id: UUID
    seq: int
    head: bytes
    aik: PublicKey
    generations: tuple[ArchiveGeneration, ...]
    load: Callable[[], ChainState]

    @classmethod
    def of(cls, user_id: UUID, state: ChainState) -> ChainView:
        """Return the view of a state that was just verified."""
        return cls(user_id, state.seq, state.head, state.aik, state.generations, lambda: state)

    @property
    def state(self) -> ChainState:
        """The whole state. One query where it was kept, and the hashes of all entries."""
        return self.load()


@dataclass(frozen=True)
class ChainProof:
    """That one entry is a leaf of the key log, under its newest signed head; the head follows from an older one.

    hashes, consistency: 32 bytes each; no consistency when none was asked for or the log is smaller than that.
    """

    leaf_index: int
    leaf: bytes
    hashes: list[bytes]
    checkpoint: str
    consistency: list[bytes] | None


def prove(user_id: UUID, seq: int | None, *, old_size: int | None) -> ChainProof:
    """Prove an entry of a user's chain, the newest unless said, to whoever follows the key log (PROTOCOL section 8).

    Raises NotFound for no such entry, and NotLoggedYet while no signed head covers it. For an `old_size` above the
    newest head's, the head is shown without a proof: whoever has seen a larger log holds the evidence already.
    """
    if seq is None:
        seq = access.chain_head(user_id).seq
    access.chain_entry(user_id, seq)
    row = audit.key_leaf(type=CHAIN_LEAF, user=user_id, seq=seq)
    try:
        head = audit.latest_checkpoint(KEY_LOG)
    except NoCheckpoint as error:
        raise NotLoggedYet from error
    if row is None or row.leaf_index is None or row.leaf_index >= head.size:
        raise NotLoggedYet
    consistency = None
    if old_size is not None and old_size <= head.size:
        consistency = audit.consistency(KEY_LOG, old_size=old_size, size=head.size)
    hashes = audit.inclusion(KEY_LOG, index=row.leaf_index, size=head.size)
    return ChainProof(row.leaf_index, bytes(row.leaf), hashes, head.note, consistency)


def parse_entries(encoded: Sequence[bytes]) -> list[Entry]:
    """Read entries as uploaded. Raises Malformed."""
    return [Entry.parse(entry) for entry in encoded]


def policies_for(entries: Sequence[Entry]) -> Sequence[SignedPolicy]:
    """Return the policies under which these entries may begin a chain anew: none are read when none of them does."""
    rules = regenesis_rules()
    return rules.policies() if rules and any(isinstance(entry.body, ReGenesis) for entry in entries) else ()


def verify(user_id: UUID, entries: Sequence[Entry]) -> ChainState:
    """Verify a whole chain of one user of the open tenant. Raises what verify_chain raises."""
    tenant = current_tenant().bytes
    return verify_chain(entries, tenant=tenant, user=user_id.bytes, policies=policies_for(entries))


def announced_generations(user_ids: Collection[UUID]) -> dict[UUID, set[int]]:
    """Return the generations of the archive key that each of these users has announced. One query; nothing is verified.

    What is stored was verified when it was accepted: this is for looking, and decides nothing.
    """
    rows = access.archive_entries(user_ids)
    found: dict[UUID, set[int]] = {}
    for row, entry in zip(rows, parse_entries([bytes(row.entry) for row in rows]), strict=True):
        if isinstance(entry.body, ArchiveGeneration):
            found.setdefault(row.user_id, set()).add(entry.body.generation)
    return found


def chain_state(user_id: UUID) -> ChainView:
    """Return what a user's chain says. Raises NotFound when they have none.

    As it was kept with the head when its newest entry was verified (docs/formats/records.md). Where nothing is kept, or
    what is does not fit its MAC, its head or the newest entry, the chain is verified from its genesis, and kept anew.
    """
    return chain_state_at(user_id, access.chain_head_with_state(user_id))


def chain_state_at(user_id: UUID, head: KeptHead | None) -> ChainView:
    """Return what `chain_state` does, of a head that was read already as `access.chain_head_with_state` reads it."""
    kept = _kept_of(user_id, head) if head else None
    if kept is None:
        return ChainView.of(user_id, _verified_again(user_id))

    def load() -> ChainState:
        hashes = access.chain_hashes(user_id, until=kept.seq)
        return kept_chains.whole(user_id, kept, hashes) or _verified_again(user_id)

    return ChainView(user_id, kept.seq, kept.head, kept.aik, kept.generations, load)


def _kept_of(user_id: UUID, head: KeptHead) -> Kept | None:
    # Of another entry than the newest that is stored, it would say what the chain said some time ago.
    if head.newest != head.head:
        return None
    return kept_chains.read(user_id, seq=head.seq, head=head.head, state=head.state, mac=head.mac)


def whole_chain_state(user_id: UUID) -> ChainState:
    """Verify a user's chain from its genesis, whatever is kept of it: for whoever shows it. Raises NotFound."""
    rows = access.chain_entries(user_id)
    if not rows:
        raise NotFound
    return verify(user_id, parse_entries([bytes(row.entry) for row in rows]))


def _verified_again(user_id: UUID) -> ChainState:
    state = whole_chain_state(user_id)
    kept_chains.keep(user_id, state)
    return state
