# SPDX-License-Identifier: Apache-2.0
"""One rotation as it is kept between its steps: what was asked, the keys on both sides of it, how far it is.

Implements docs/formats/rotation.md. Does nothing by itself; `rotation` takes the steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Final
from uuid import UUID

from holdfast.client.profile.state import Device, VaultKey
from holdfast.client.profile.store import Store
from holdfast.core.base.encoding import MAX_VAULT, Encodable, Fields, decode, encode
from holdfast.core.base.secret import SecretBytes
from holdfast.core.identity.entries import Reason
from holdfast.core.signed.payloads import HASH_SIZE, ID_SIZE

KIND: Final = "rotation"
_VERSION: Final = 1
_SEEDS: Final = (0, 32)
_NONE: Final = SecretBytes(b"")


class Part(IntFlag):
    """What a rotation replaces."""

    IDENTITY = 1
    DEVICE = 2
    VAULT = 4
    ARCHIVE = 8


class Step(IntEnum):
    """The step that is next. PROTOCOL section 5, in its order."""

    GENERATE = 1
    SIGN = 2
    UPLOAD = 3
    NOTIFY = 4
    RE_ESTABLISH = 5
    ARCHIVE = 6
    DESTROY = 7


@dataclass
class Rotation:
    """What is asked (parts, reason, devices to revoke, since when they are doubted), and all that the steps made.

    identity, archive_key, vault: the new keys, empty when not asked for or no longer needed. old_*: what they replace.
    entries: the signed chain entries, on `head`. is_accepted: they are in the chain and this device lives by them.
    """

    id: bytes
    parts: Part
    reason: Reason
    revoke: list[bytes]
    since: int
    started_at: int
    step: Step = Step.GENERATE
    identity: SecretBytes = _NONE
    device: Device | None = None
    vault: VaultKey = field(default_factory=VaultKey)
    archive_key: SecretBytes = _NONE
    entries: list[bytes] = field(default_factory=list)
    head: bytes = b""
    is_accepted: bool = False
    old_identity: SecretBytes = _NONE
    old_device: bytes = b""
    old_vault: VaultKey = field(default_factory=VaultKey)
    unreached: list[bytes] = field(default_factory=list)
    destroy_at: int = 0

    def to_secret(self) -> SecretBytes:
        """Return the row's bytes."""
        fields: dict[int, Encodable] = {
            1: _VERSION,
            2: self.id,
            3: int(self.parts),
            4: int(self.reason),
            5: self.revoke,
            6: self.since,
            7: self.started_at,
            8: int(self.step),
            9: self.identity.reveal(),
            11: self.vault.to_value(),
            12: self.archive_key.reveal(),
            13: self.entries,
            14: self.head,
            15: int(self.is_accepted),
            16: self.old_identity.reveal(),
            17: self.old_device,
            18: self.old_vault.to_value(),
            19: self.unreached,
            20: self.destroy_at,
        }
        if self.device:
            fields[10] = self.device.to_value()
        return SecretBytes(encode(fields))

    @classmethod
    def from_secret(cls, secret: SecretBytes) -> Rotation:
        """Read what `to_secret` gave; raises Malformed."""
        value = decode(secret.reveal(), max_size=MAX_VAULT)
        read = Fields(value, "rotation", (*range(1, 10), *range(11, 21)), (10,))
        read.uint(1, minimum=_VERSION, maximum=_VERSION)
        return cls(
            id=read.octets(2, ID_SIZE),
            parts=Part(read.uint(3, minimum=1, maximum=15)),
            reason=Reason(read.uint(4, minimum=1, maximum=len(Reason))),
            revoke=_ids(read, 5),
            since=read.uint(6),
            started_at=read.uint(7),
            step=Step(read.uint(8, minimum=1, maximum=len(Step))),
            identity=SecretBytes(read.octets(9, _SEEDS)),
            device=Device.from_value(read.value(10)) if 10 in read else None,
            vault=VaultKey.from_value(read.value(11)),
            archive_key=SecretBytes(read.octets(12, _SEEDS)),
            entries=_octets(read, 13),
            head=read.octets(14, (0, HASH_SIZE)),
            is_accepted=bool(read.uint(15, maximum=1)),
            old_identity=SecretBytes(read.octets(16, _SEEDS)),
            old_device=read.octets(17, (0, ID_SIZE)),
            old_vault=VaultKey.from_value(read.value(18)),
            unreached=_ids(read, 19),
            destroy_at=read.uint(20),
        )


def _ids(read: Fields, key: int) -> list[bytes]:
    row = Fields.of_row(read.array(key), "rotation ids", len(read.array(key)))
    return [row.octets(index, ID_SIZE) for index in range(len(read.array(key)))]


def _octets(read: Fields, key: int) -> list[bytes]:
    row = Fields.of_row(read.array(key), "rotation entries", len(read.array(key)))
    return [row.octets(index) for index in range(len(read.array(key)))]


@dataclass(frozen=True)
class Progress:
    """How far a rotation is, for people. step: the next one; DESTROY means that only the grace period is left.

    unreached: people whose sessions could not be begun anew. needs: doors that only the person can open again.
    is_destroyed: the grace period is over too, and the old keys are gone.
    """

    id: UUID
    parts: Part
    reason: Reason
    step: Step
    started_at: int
    revoked: tuple[UUID, ...]
    unreached: tuple[UUID, ...]
    destroy_at: int
    needs: tuple[str, ...] = ()
    is_destroyed: bool = False

    @property
    def is_done(self) -> bool:
        """Whether everything but the destruction of the old keys has happened."""
        return self.step is Step.DESTROY


def put(store: Store, rotation: Rotation) -> None:
    """Keep a rotation as it stands."""
    store.put(KIND, rotation.id, rotation.to_secret())


def kept(store: Store) -> list[Rotation]:
    """Return every rotation that is kept, oldest first."""
    rows = (store.get(KIND, key) for key in store.keys(KIND))
    return [Rotation.from_secret(row) for row in rows if row is not None]


def progress(rotation: Rotation, *, needs: tuple[str, ...] = ()) -> Progress:
    """Say how far a rotation is."""
    return Progress(
        id=UUID(bytes=rotation.id),
        parts=rotation.parts,
        reason=rotation.reason,
        step=rotation.step,
        started_at=rotation.started_at,
        revoked=tuple(UUID(bytes=one) for one in rotation.revoke),
        unreached=tuple(UUID(bytes=one) for one in rotation.unreached),
        destroy_at=rotation.destroy_at,
        needs=needs,
    )
