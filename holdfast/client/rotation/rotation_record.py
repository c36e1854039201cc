# SPDX-License-Identifier: Apache-2.0
"""One rotation as it is kept between its steps: what was asked, the keys on both sides of it, how far it is.

Implements docs/formats/rotation.md. Does nothing by itself; `rotation` takes the steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import Annotated, Final
from uuid import UUID

from holdfast.client.profile.state import Device, VaultKey
from holdfast.client.profile.store import Store
from holdfast.core.base.rows import (
    choice,
    flag,
    nested,
    nested_map,
    octets,
    open_map,
    seal_map,
    secret,
    several,
    uint,
)
from holdfast.core.base.secret import SecretBytes
from holdfast.core.identity.entries import Reason
from holdfast.core.signed.payloads import HASH_SIZE, ID_SIZE

KIND: Final = "rotation"
_VERSION: Final = 1  # docs/formats/rotation.md
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

    id: Annotated[bytes, octets(ID_SIZE).at(2)]
    parts: Annotated[Part, choice(Part).at(3)]
    reason: Annotated[Reason, choice(Reason).at(4)]
    revoke: Annotated[list[bytes], several(octets(ID_SIZE)).at(5)]
    since: Annotated[int, uint().at(6)]
    started_at: Annotated[int, uint().at(7)]
    step: Annotated[Step, choice(Step).at(8)] = Step.GENERATE
    identity: Annotated[SecretBytes, secret(0, 32).at(9)] = _NONE
    device: Annotated[Device | None, nested_map(Device, "new device").at(10, is_optional=True)] = None
    vault: Annotated[VaultKey, nested(VaultKey, "new vault key").at(11)] = field(default_factory=VaultKey)
    archive_key: Annotated[SecretBytes, secret(0, 32).at(12)] = _NONE
    entries: Annotated[list[bytes], several(octets()).at(13)] = field(default_factory=list)
    head: Annotated[bytes, octets(0, HASH_SIZE).at(14)] = b""
    is_accepted: Annotated[bool, flag().at(15)] = False
    old_identity: Annotated[SecretBytes, secret(0, 32).at(16)] = _NONE
    old_device: Annotated[bytes, octets(0, ID_SIZE).at(17)] = b""
    old_vault: Annotated[VaultKey, nested(VaultKey, "old vault key").at(18)] = field(default_factory=VaultKey)
    unreached: Annotated[list[bytes], several(octets(ID_SIZE)).at(19)] = field(default_factory=list)
    destroy_at: Annotated[int, uint().at(20)] = 0
    version: Annotated[int, uint(minimum=_VERSION, maximum=_VERSION).at(1)] = _VERSION

    def to_secret(self) -> SecretBytes:
        """Return the row's bytes."""
        return seal_map(self)

    @classmethod
    def from_secret(cls, secret: SecretBytes) -> Rotation:
        """Read what `to_secret` gave; raises Malformed."""
        return open_map(cls, secret, "rotation")


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


def load_rotations(store: Store) -> list[Rotation]:
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
        revoked=tuple(UUID(bytes=device) for device in rotation.revoke),
        unreached=tuple(UUID(bytes=contact) for contact in rotation.unreached),
        destroy_at=rotation.destroy_at,
        needs=needs,
    )
