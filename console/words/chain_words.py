# SPDX-License-Identifier: Apache-2.0
"""Account chain entries in words a person reads, decoded from the stored bytes and from nothing beside them.

PROTOCOL section 5. It verifies nothing: `keys.chains` does; a page says which of the two it shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from holdfast.core.base.errors import HoldfastError
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

if TYPE_CHECKING:
    from keys.models import ChainEntry, Device

_REASONS: Final = {
    Reason.SCHEDULE: "on schedule",
    Reason.USER_REQUEST: "because the user asked for it",
    Reason.SECURITY_EVENT: "after a security event",
    Reason.DEVICE_LOST: "because a device was lost",
    Reason.DEVICE_COMPROMISED: "because a device was compromised",
    Reason.DEVICE_RETIRED: "because a device was retired",
    Reason.RECOVERY: "after a recovery",
}


@dataclass(frozen=True)
class ChainLine:
    """One entry: what it does, to which device, the words of the key it sets, and when it was signed and taken."""

    seq: int
    hash: bytes
    title: str
    text: str
    accepted_at: datetime
    signed_at: int | None = None
    device_id: UUID | None = None
    device_name: str = ""
    words: tuple[str, ...] = ()
    is_alarm: bool = False


def read(row: ChainEntry, devices: Mapping[UUID, Device]) -> ChainLine:
    """Return what one stored entry says; a row that cannot be read is said to be so, not left out."""
    try:
        entry = Entry.parse(bytes(row.entry))
    except HoldfastError as error:
        return ChainLine(
            row.seq, bytes(row.entry_hash), "This entry cannot be read", str(error), row.appended_at, is_alarm=True
        )
    title, text, words = _say(entry.body)
    device_id = UUID(bytes=entry.body.device) if isinstance(entry.body, AddDevice | RevokeDevice) else None
    return ChainLine(
        seq=entry.seq,
        hash=entry.hash,
        title=title,
        text=text,
        accepted_at=row.appended_at,
        signed_at=entry.header.issued_at,
        device_id=device_id,
        device_name=devices[device_id].name if device_id and device_id in devices else "",
        words=words,
        is_alarm=isinstance(entry.body, ReGenesis),
    )


def _say(body: Body) -> tuple[str, str, tuple[str, ...]]:  # noqa: PLR0911 — one line for each type of entry
    """Return title, sentence and words of a body."""
    match body:
        case Genesis():
            phrase = "With a recovery phrase." if body.recovery_key else "Without a recovery phrase."
            return "The account begins", phrase, body.aik.fingerprint("aik")
        case AddDevice():
            return "Device added", "", ()
        case RevokeDevice():
            return "Device revoked", f"Taken out {_REASONS[body.reason]}.", ()
        case RotateKey():
            return "Identity key changed", f"Changed {_REASONS[body.reason]}.", body.aik.fingerprint("aik")
        case SetRecoveryKey():
            return "Recovery phrase set", "An earlier phrase no longer counts.", ()
        case ArchiveGeneration():
            return f"Archive generation {body.generation} begins", "A new archive key, with its commitment.", ()
        case ShareManifest():
            return "Trusted contacts set", "Shares of the recovery key are with contacts.", ()
        case ReGenesis():
            signed = f"{len(body.attestations)} officers attest the new key. Peers ask before they trust it."
            return "The account begins again", signed, body.aik.fingerprint("aik")
