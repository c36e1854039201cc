# SPDX-License-Identifier: Apache-2.0
"""Entries of account chains as rows: who may bring them, how many there may be, and how they are kept.

PROTOCOL section 5. For `services`, which takes what is new, and `restored`, which takes again what a restored database
had lost. Every entry that is stored here was verified before.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone

from audit import services as audit
from holdfast.core.base.encoding import b64u
from holdfast.core.base.errors import Forked
from holdfast.core.identity.chain import RECOVERY_KEY_DELAY_SECONDS, ChainState, extend, in_force
from holdfast.core.identity.entries import Entry, ReGenesis, RevokeDevice, SetRecoveryKey
from kernel.actors import Actor
from kernel.errors import LimitReached, NotFound
from keys import access, chains, kept_chains
from keys.errors import ChainFork, ChainRefused, ChainStale
from keys.models import ChainEntry, ChainHead, Device
from keys.models import ChainFork as ChainForkRow
from keys.states import DeviceState

# How old an entry may be when it is appended: as an upload that hung in a device's outbox for an hour, while this
# server was two hours ahead of the device. Of a recovery key's seven days no more than this can lie in the past.
MAX_BEHIND_SECONDS: Final = 3 * 3600
# Entries of one chain, and how many of the last places are kept for uploads that revoke a device or begin anew: a chain
# at its end can still shut a thief out. A rotation of everything is some seven entries, and a device comes and goes in
# two: at a hundred in a year, which is one every third day, a chain has room for forty years.
MAX_CHAIN: Final = 4_000
CHAIN_RESERVE: Final = 200


def appending_device(actor: Actor) -> Device:
    """Return the device that brings entries of its own user's chain. Raises NotFound for a revoked one, too."""
    device = access.device(actor.id) if actor.id else None
    if device is None or device.user_id != actor.person_id or device.state == DeviceState.REVOKED:
        raise NotFound
    return device


def require_may_append(device: Device, after: ChainState) -> None:
    """An active device brings anything; a pending one what makes it one of the chain's devices, and nothing less.

    The entries' own signatures say whether it may: only who opened a door, or holds the recovery key, can make them.
    """
    if device.state == DeviceState.PENDING and after.devices.get(device.id.bytes) != bytes(device.statement_hash):
        raise ChainRefused(
            "This device is not in the chain yet: entries that it brings have to add it.", field="entries"
        )


def require_room(parsed: Sequence[Entry]) -> None:
    """Raise LimitReached for an upload that the chain has no place for; the last ones are for revocations."""
    is_revoking = any(isinstance(entry.body, (RevokeDevice, ReGenesis)) for entry in parsed)
    most = MAX_CHAIN if is_revoking else MAX_CHAIN - CHAIN_RESERVE
    if parsed[-1].seq >= most:
        raise LimitReached(
            "This account chain is as long as it may be: it takes only uploads that revoke a device or begin anew. "
            "Ask your officers for a new account.",
            field="entries",
            limit="chain-entries",
            most=most,
        )


def require_waited(user_id: UUID, before: ChainState | None, parsed: Sequence[Entry], *, now: datetime) -> None:
    """Raise ChainRefused where a recovery key takes effect by a wait that this server has not seen.

    The seven days count by the dates of two entries (PROTOCOL section 5), which are true since this server held them to
    its clock. An announcement that was given back without a proof was not: of that, they count from when it came.
    """
    waited = [
        entry.body.recovery_key
        for entry in parsed
        if isinstance(entry.body, SetRecoveryKey) and len(entry.signatures) == 1
    ]
    if len(set(waited)) < len(waited):
        raise ChainRefused("A recovery key is announced and set in one upload.", field="entries")
    if before is None or before.announced is None or before.announced.key not in waited:
        return
    # The newest of its kind is the announcement: a later one would have ended it or taken its place.
    announcement = access.newest_of_kind(user_id, SetRecoveryKey.TYPE)
    at = datetime.fromtimestamp(before.announced.at, UTC)
    if announcement.appended_at <= at + timedelta(seconds=MAX_BEHIND_SECONDS):
        return
    due = announcement.appended_at + timedelta(seconds=RECOVERY_KEY_DELAY_SECONDS)
    if now < due:
        raise ChainRefused(
            "A backup was put back since the recovery key was announced, and nothing shows when that was: its seven "
            f"days count from when the announcement came again. Try again after {due:%Y-%m-%d %H:%M} UTC.",
            field="entries",
        )


def verify(user_id: UUID, before: ChainState | None, parsed: Sequence[Entry], *, is_of_today: bool) -> ChainState:
    """Verify entries on top of a user's chain, or as its beginning. Raises ChainFork, and what `extend` raises.

    is_of_today: they are made now, so that officers of a policy that was replaced begin no account again.
    """
    try:
        if before is None:
            return chains.verify(user_id, parsed)
        policies = chains.policies_for(parsed)
        oldest = in_force(policies, int(timezone.now().timestamp())) if is_of_today else 0
        return extend(before, *parsed, policies=policies, oldest_policy=oldest)
    except Forked as error:
        raise ChainFork(
            "Another entry has this place. Both are kept; compare your devices.", field="entries"
        ) from error


def store(
    user_id: UUID,
    head: ChainHead | None,
    after: ChainState,
    entries: Sequence[tuple[bytes, Entry]],
    *,
    tag: str,
    now: datetime,
    actor: Actor,
    is_proven: bool = False,
) -> None:
    """Keep verified entries with a leaf of the key log and an audit entry (`tag`) for each, and move the head.

    now: by the database's clock. is_proven: the log that a restored database lost had them, so that they were taken at
    their own dates, and what is counted from then is not counted anew.
    """
    kept = kept_chains.columns(user_id, after)
    try:
        with transaction.atomic():
            for encoded, entry in entries:
                ChainEntry.objects.create(
                    user_id=user_id,
                    seq=entry.seq,
                    kind=entry.body.TYPE,
                    entry=encoded,
                    entry_hash=entry.hash,
                    appended_by=actor.id,
                    appended_at=_dated(entry, now) if is_proven else now,
                )
                audit.append_key_leaf(type=1, seq=entry.seq, statement_hash=entry.hash, user=user_id)
                audit.append(
                    tag=tag,
                    actor=actor,
                    subject=str(user_id),
                    body={"seq": entry.seq, "type": entry.body.TYPE, "entry": entry.hash},
                )
            if head is None:
                ChainHead.objects.create(user_id=user_id, seq=after.seq, head=after.head, **kept)
                return
    except IntegrityError as error:
        raise stale() from error
    standing = ChainHead.objects.filter(pk=head.pk, head=head.head)
    moved = standing.update(seq=after.seq, head=after.head, updated_at=now, **kept)
    if moved != 1:
        raise stale()


def _dated(entry: Entry, now: datetime) -> datetime:
    return datetime.fromtimestamp(min(entry.header.issued_at, int(now.timestamp())), UTC)


def stale(**head: Any) -> ChainStale:
    """Return the refusal of entries that do not stand on the newest one. head: where the chain stands, `head_of`."""
    return ChainStale("Read the newer entries, then make yours on top.", **head)


def head_of(head: ChainHead | None) -> dict[str, Any]:
    """Return where a chain stands, as refusals say it."""
    return {"head": b64u(bytes(head.head)), "seq": head.seq} if head else {"head": None, "seq": None}


def record_fork(*, user_id: UUID, entries: Sequence[bytes], actor: Actor) -> None:
    """Keep entries that contradict a chain, each once, as evidence, and say so in the log.

    In a transaction of its own: the one that refused them is undone.
    """
    with transaction.atomic():
        for encoded, entry in zip(entries, chains.parse_entries(entries), strict=True):
            _, is_new = ChainForkRow.objects.get_or_create(
                user_id=user_id,
                entry_hash=entry.hash,
                defaults={"seq": entry.seq, "entry": encoded, "received_from": actor.id},
            )
            if is_new:
                audit.append(
                    tag="keys:chain:fork",
                    actor=actor,
                    subject=str(user_id),
                    body={"seq": entry.seq, "entry": entry.hash},
                )
