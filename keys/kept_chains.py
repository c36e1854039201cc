# SPDX-License-Identifier: Apache-2.0
"""What an account chain says at its head, kept beside the head, so that nobody verifies it from its genesis again.

Implements docs/formats/records.md, "What is kept of a chain". The MAC under a key of the web role's says that this code
wrote it, after it verified every entry; what does not fit is taken for nothing. It verifies no entry.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from audit import signing
from holdfast.core.base.encoding import Encodable, Fields, decode, encode, label
from holdfast.core.crypto.keys import SIGNING_KINDS, PublicKey, decode_public_key
from holdfast.core.identity.chain import AnnouncedKey, ChainState, ReGenesisMark
from holdfast.core.identity.entries import ArchiveGeneration
from holdfast.core.log.writers import Role
from kernel.scope import current_tenant
from keys.models import ChainHead

# Another number when what stands in it changes: what was kept before is then verified anew.
FORMAT: Final = 1
# A chain of as many entries as it may have, of generations alone, comes to less than half of this.
MAX_KEPT: Final = 1024 * 1024
_HASH: Final = 32


@dataclass(frozen=True)
class Kept:
    """What is most asked of a chain, and the rest of it still encoded."""

    seq: int
    head: bytes
    aik: PublicKey
    generations: tuple[ArchiveGeneration, ...]
    rest: bytes


def keep(user_id: UUID, state: ChainState) -> None:
    """Keep what a whole chain was verified to say, unless an append has moved its head meanwhile and kept its own."""
    kept = columns(user_id, state)
    if kept["state"] is not None:
        ChainHead.objects.filter(user_id=user_id, seq=state.seq, head=state.head).update(**kept)


def columns(user_id: UUID, state: ChainState) -> dict[str, bytes | None]:
    """Return what the head's row keeps of a verified chain; nothing in a process without the web role's key."""
    key, kept = _key(), _encode(state)
    if key is None or len(kept) > MAX_KEPT:
        return {"state": None, "state_mac": None}
    return {"state": kept, "state_mac": _mac(key, user_id, state.seq, state.head, kept)}


def read(user_id: UUID, *, seq: int, head: bytes, state: bytes | None, mac: bytes | None) -> Kept | None:
    """Return what a head's row keeps, or None for what was not kept under the web role's key for this very head."""
    key = _key()
    if key is None or state is None or mac is None or len(state) > MAX_KEPT:
        return None
    if not hmac.compare_digest(_mac(key, user_id, seq, head, state), mac):
        return None
    row = Fields.of_row(decode(state, max_size=MAX_KEPT), "kept chain", 3)
    generations = row.row(1)
    return Kept(
        seq,
        head,
        _public(row.octets(0)),
        tuple(ArchiveGeneration.from_map(generations.value(at)) for at in range(len(generations))),
        row.octets(2),
    )


def whole(user_id: UUID, kept: Kept, hashes: Sequence[bytes]) -> ChainState | None:
    """Return the state itself, or None when these are not the hashes of all its entries, in order."""
    row = Fields.of_row(decode(kept.rest, max_size=MAX_KEPT), "rest of a kept chain", 10)
    if not hmac.compare_digest(_digest(hashes), row.octets(0, _HASH)):
        return None
    re_genesis, announced = row.row(6), row.row(9)
    return ChainState(
        tenant=current_tenant().bytes,
        user=user_id.bytes,
        aik=kept.aik,
        recovery_key=_public(row.octets(1)) if row.octets(1) else None,
        hashes=tuple(hashes),
        devices=dict(zip(_all(row.row(2)), _all(row.row(3)), strict=True)),
        revoked=frozenset(_all(row.row(4))),
        generations=kept.generations,
        manifest_hash=row.octets(5) or None,
        re_genesis=ReGenesisMark(re_genesis.uint(0), re_genesis.octets(1), re_genesis.octets(2))
        if re_genesis
        else None,
        former_aiks=tuple(map(_public, _all(row.row(7)))),
        attested_device=row.octets(8) or None,
        time=announced.uint(0),
        announced=AnnouncedKey(_public(announced.octets(1)), announced.uint(2)) if announced.octets(1) else None,
    )


def _encode(state: ChainState) -> bytes:
    assert not state.is_rotation_due  # no chain ends between a revocation and its rotation
    mark, announced = state.re_genesis, state.announced
    rest: list[Encodable] = [
        _digest(state.hashes),
        state.recovery_key.encoded if state.recovery_key else b"",
        list(state.devices),
        list(state.devices.values()),
        sorted(state.revoked),
        state.manifest_hash or b"",
        [mark.seq, mark.case_id, mark.policy_hash] if mark else [],
        [key.encoded for key in state.former_aiks],
        state.attested_device or b"",
        [state.time, announced.key.encoded if announced else b"", announced.at if announced else 0],
    ]
    generations: list[Encodable] = [one.to_map() for one in state.generations]
    return encode([state.aik.encoded, generations, encode(rest)])


def _digest(hashes: Sequence[bytes]) -> bytes:
    return hashlib.sha256(b"".join(hashes)).digest()


def _mac(key: bytes, user_id: UUID, seq: int, head: bytes, state: bytes) -> bytes:
    said = label("kept-chain", FORMAT, current_tenant().bytes, user_id.bytes, seq, head, state)
    return hmac.digest(key, said, "sha256")


def _key() -> bytes | None:
    key = signing.derived_key(Role.WEB, label("kept-chain"))
    return key.reveal() if key else None


def _public(encoded: bytes) -> PublicKey:
    return decode_public_key(encoded, expect=SIGNING_KINDS)


def _all(row: Fields) -> list[bytes]:
    return [row.octets(at) for at in range(len(row))]
