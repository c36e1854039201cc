# SPDX-License-Identifier: Apache-2.0
"""Writing an account chain: one function for each type of entry, standing on a verified state.

Implements the signers and the order of PROTOCOL section 5.
Does not verify what it writes; the caller extends its state by the entry, as every verifier will.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.core.crypto.keys import PublicKey, SigningKey
from holdfast.core.identity.chain import ChainState
from holdfast.core.identity.entries import (
    AddDevice,
    ArchiveGeneration,
    Body,
    Entry,
    Genesis,
    Reason,
    ReGenesis,
    RevokeDevice,
    RotateKey,
    SetRecoveryKey,
    ShareManifest,
)
from holdfast.core.signed.cose import Sign1
from holdfast.core.signed.payloads import Header


@dataclass(frozen=True)
class Author:
    """Who writes: a device (16 bytes), UTC seconds, and the key that signs first (AIK, recovery key)."""

    device: bytes
    issued_at: int
    key: SigningKey


def _next(state: ChainState, by: Author, body: Body, *also: SigningKey) -> Entry:
    header = Header(state.tenant, state.user, by.device, by.issued_at)
    return Entry.make(header, state.seq + 1, state.head, body, (by.key, *also))


def genesis(*, tenant: bytes, user: bytes, by: Author, recovery_key: PublicKey | None = None) -> Entry:
    """Begin a chain under the author's key as AIK."""
    header = Header(tenant, user, by.device, by.issued_at)
    # Signed by the key it names: nobody can begin an account under another's AIK.
    return Entry.make(header, 0, b"", Genesis(by.key.public, recovery_key), (by.key,))


def add_device(state: ChainState, *, by: Author, device: bytes, statement_hash: bytes) -> Entry:
    """Add a device by the payload hash of its device statement."""
    return _next(state, by, AddDevice(device, statement_hash))


def revoke_device(
    state: ChainState, *, by: Author, device: bytes, reason: Reason, since: int, new_aik: SigningKey
) -> tuple[Entry, ...]:
    """Revoke a device and rotate the AIK that it knew: two entries for one upload, neither valid alone."""
    return revoke_devices(state, by=by, devices=[RevokeDevice(device, reason, since)], reason=reason, new_aik=new_aik)


def revoke_devices(
    state: ChainState, *, by: Author, devices: Sequence[RevokeDevice], reason: Reason, new_aik: SigningKey
) -> tuple[Entry, ...]:
    """Revoke several devices and rotate, for `reason`, the AIK that they knew: entries for one upload, none alone."""
    header = Header(state.tenant, state.user, by.device, by.issued_at)
    entries: list[Entry] = []
    seq, prev = state.seq, state.head
    # All by the old key, one upon the other: `seq` and `prev` count on here, since
    # the state is that of before the upload.
    for body in devices:
        seq += 1
        entries.append(Entry.make(header, seq, prev, body, (by.key,)))
        prev = entries[-1].hash
    # The rotation comes last: it must be newer than every revocation, and closes what the old key could still say.
    rotation = Entry.make(header, seq + 1, prev, RotateKey(new_aik.public, reason), (by.key, new_aik))
    return (*entries, rotation)


def rotate_key(state: ChainState, *, by: Author, new_aik: SigningKey, reason: Reason) -> Entry:
    """Rotate the AIK, signed by the old one (or the recovery key) and by the new one."""
    return _next(state, by, RotateKey(new_aik.public, reason), new_aik)


def set_recovery_key(state: ChainState, *, by: Author, recovery_key: PublicKey, old: SigningKey | None = None) -> Entry:
    """Set the recovery key, at once when none is set or when the `old` one signs as well.

    Without `old`, it is announced; the same entry again after `announced.due_at` sets it. Naming the key that is set
    cancels what is announced.
    """
    # The AIK stands first: the entry's hash is of the first signature, and a verifier looks for the AIK there.
    return _next(state, by, SetRecoveryKey(recovery_key), *((old,) if old else ()))


def archive_generation(state: ChainState, *, by: Author, generation: int, not_before: int, commitment: bytes) -> Entry:
    """Announce an archive generation with the commitment to its key."""
    return _next(state, by, ArchiveGeneration(generation, not_before, commitment))


def share_manifest(state: ChainState, *, by: Author, manifest_hash: bytes) -> Entry:
    """Name the manifest of shares that trusted contacts hold."""
    return _next(state, by, ShareManifest(manifest_hash))


def re_genesis(state: ChainState, *, by: Author, attestations: Sequence[Sign1], policy_hash: bytes) -> Entry:
    """Begin again under the author's key as AIK, on the word of officers who name the state's head."""
    return _next(state, by, ReGenesis(by.key.public, tuple(attestations), policy_hash))
