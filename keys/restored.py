# SPDX-License-Identifier: Apache-2.0
"""Account chains given back that a restored database had lost, and the devices that come back with them.

Implements PROTOCOL section 5, "After a restored backup". Nobody is believed: an entry is verified as always, and that
it had been taken before, at its own date, is shown by a signed head of the key log that officers left behind. Without
that proof an owner's device may say it of its own chain, and then nothing is counted from the dates.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import transaction

from audit import access as audit_access
from audit import restored as audit_restored
from audit.errors import HeadRefused, LogRestored, RolesMissing
from holdfast.core.base.errors import HoldfastError
from holdfast.core.identity import given_back
from holdfast.core.identity.chain import ChainState
from holdfast.core.identity.entries import Entry, Reason, RevokeDevice
from holdfast.core.log.checkpoint import Checkpoint
from holdfast.core.log.key_log import InclusionProof
from holdfast.core.signed.payloads import MAX_AHEAD_SECONDS
from kernel.actors import Actor
from kernel.clock import database_now
from kernel.errors import LimitReached, NotFound
from kernel.scope import current_tenant
from keys import access, chains, devices
from keys.chains import KEY_LOG, ChainView
from keys.devices import PreparedDevice, prepare_device
from keys.entries import (
    MAX_CHAIN,
    appending_device,
    head_of,
    require_may_append,
    require_room,
    require_waited,
    stale,
    store,
    verify,
)
from keys.errors import ChainFork, ChainRefused, NothingRestored
from keys.models import Device
from keys.states import DeviceState
from tenants import access as tenants
from tenants.roles import Role
from tenants.states import PersonState

# How long a lost entry is taken again: whoever was on leave when it happened is back by then. After that the account
# goes on without it, as after any other loss.
GIVEN_BACK_WITHIN: Final = timedelta(days=90)
# Of one's own word, as many as an ordinary upload has: what is not in a signed head yet is of the last minute.
MOST_UNPROVEN: Final = 32
# Whom a person's state lets act, or act again.
_HERE: Final = (PersonState.INVITED, PersonState.ACTIVE)


@dataclass(frozen=True)
class GivenBack:
    """The chain as it is now, how many of the entries it did not have, and which devices came back with them."""

    view: ChainView
    taken: int
    devices: list[UUID]


class LostFork(ChainFork):
    """An entry that is given back contradicts a stored one; `entry` is to be kept as evidence."""

    def __init__(self, entry: bytes) -> None:
        super().__init__("Another entry has this place. Both are kept; compare your devices.", field="entries")
        self.entry = entry


def give_back(
    *,
    user_id: UUID,
    entries: Sequence[bytes],
    proof: InclusionProof | None,
    statements: Sequence[bytes],
    actor: Actor,
    is_waiting: bool = False,
) -> GivenBack:
    """Take entries of a user's chain again, all of them or none. The caller's transaction is the act's.

    entries: a run that follows the stored chain; those that it has are passed over. proof: of the last of them, in a
    head of the key log that was left behind; without it, the actor's own chain only. statements: of devices that these
    entries add. is_waiting: before the officers have accepted the log; then with a proof alone, in a head that the
    stored log does not lead to. Raises NothingRestored, NotFound, ChainStale for a gap, LostFork, ChainRefused,
    LimitReached, and what the verification raises. Idempotent.
    """
    accepted = None if is_waiting else _accepted_at()
    parsed = _run(entries)
    person = tenants.person(user_id)
    # The proof first: it costs one signature, and a chain and its devices may cost thousands.
    if proof is not None:
        require = _require_lost if is_waiting else _require_left_behind
        require(_proven(user_id, parsed, proof))
    elif actor.person_id != user_id:
        raise ChainRefused("Somebody else's entries are given back with the proof that the key log had them.")
    prepared = [prepare_device(tenant_id=current_tenant(), statement=one) for one in statements]
    device = appending_device(actor) if proof is None else None
    head = access.chain_head_for_update(user_id)
    before = chains.chain_state(user_id).state if head else None
    now = database_now()
    pairs = _fresh(before, list(zip(entries, parsed, strict=True)))
    after, fresh = before, [entry for _, entry in pairs]
    if fresh:
        if fresh[0].seq != (before.seq + 1 if before else 0):
            raise stale(**head_of(head))
        if proof is None:
            assert accepted is not None
            _require_on_own_word(user_id, before, fresh, accepted=accepted, now=now)
        elif fresh[-1].seq >= MAX_CHAIN:
            raise LimitReached("This account chain is as long as it may be.", limit="chain-entries", most=MAX_CHAIN)
        after = verify(user_id, before, fresh, is_of_today=False)
        if device is not None:
            require_may_append(device, after)
        store(user_id, head, after, pairs, tag="keys:chain:restore", now=now, actor=actor, is_proven=proof is not None)
    assert after is not None
    is_here = person.state in _HERE
    back = _bring_back(user_id, before, after, fresh, is_here=is_here, actor=actor)
    if proof is not None:
        back += _register_again(after, given_back.added(parsed), prepared, actor)
    return GivenBack(ChainView.of(user_id, after), len(fresh), back)


def come_back(*, prepared: PreparedDevice, entries: Sequence[bytes], proof: InclusionProof, actor: Actor) -> Device:
    """Take a device back whose row a restored database lost, with the chain that lists it. For who has no credential.

    Raises NothingRestored alike for whatever does not hold, so that a stranger learns of no tenant, person or device;
    LogRestored, to whom the proof holds, until officers have accepted the backup; but for a device of an officer, who
    may be one of those that have to accept it.
    """
    device_id, user_id = UUID(bytes=prepared.device.header.device), UUID(bytes=prepared.device.header.user)
    try:
        with transaction.atomic():
            give_back(
                user_id=user_id,
                entries=entries,
                proof=proof,
                statements=[prepared.statement],
                actor=actor,
                is_waiting=_is_waited_for(user_id, entries, proof),
            )
            row = access.device(device_id)
    except LogRestored:
        raise
    except (HoldfastError, NotFound, ChainRefused, RolesMissing) as error:
        raise NothingRestored from error
    if bytes(row.statement_hash) != prepared.statement_hash:
        raise NothingRestored
    return row


def tell(*, user_id: UUID, entries: Sequence[bytes], proof: InclusionProof, actor: Actor) -> None:
    """Take the head of a proof that holds as one that a client shows, and mark the tenant where its log lost it.

    Where everything was put back together, and whoever has seen more was lost with it, nothing else tells. What does
    not hold changes nothing.
    """
    with contextlib.suppress(HoldfastError, ChainRefused, HeadRefused, RolesMissing):
        _proven(user_id, _run(entries), proof)
        audit_restored.show_head(proof.checkpoint, actor=actor)


def _is_waited_for(user_id: UUID, entries: Sequence[bytes], proof: InclusionProof) -> bool:
    """Tell whether a backup waits for this user, an officer, and others. LogRestored for whom it does not wait.

    What is wrong with the proof is said first.
    """
    if not audit_access.is_restored():
        return False
    _proven(user_id, _run(entries), proof)
    if tenants.person(user_id).role != Role.OFFICER:
        raise LogRestored
    return True


def _run(entries: Sequence[bytes]) -> list[Entry]:
    """Read entries that follow each other."""
    parsed = chains.parse_entries(entries)
    given_back.require_run(parsed)
    return parsed


def _accepted_at() -> datetime:
    at = audit_access.accepted_at()
    if at is None or database_now() > at + GIVEN_BACK_WITHIN:
        raise NothingRestored
    return at


def _proven(user_id: UUID, entries: Sequence[Entry], proof: InclusionProof) -> Checkpoint:
    """Return the signed head of the key log that has the last of these entries."""
    return given_back.verify_proven(
        entries,
        proof,
        verifier=audit_restored.log_verifier(KEY_LOG),
        tenant=current_tenant().bytes,
        user=user_id.bytes,
    )


def _require_left_behind(head: Checkpoint) -> None:
    """Refuse a head that officers did not leave behind: what a log that goes on has would be in this chain."""
    if not any(accepted.leaves_behind(head) for accepted in audit_access.accepted_in(KEY_LOG)):
        raise ChainRefused("The proof is of no log that was given up when a backup was put back.", field="proof")


def _require_lost(head: Checkpoint) -> None:
    """Refuse a head that the stored log leads to: nothing was lost that it could prove."""
    if audit_restored.leads_to(KEY_LOG, head):
        raise ChainRefused("The proof is of the log that is stored.", field="proof")


def _fresh(before: ChainState | None, pairs: list[tuple[bytes, Entry]]) -> list[tuple[bytes, Entry]]:
    """Return the entries beyond the stored ones. Raises LostFork where one has another's place."""
    if before is None:
        return pairs
    for encoded, entry in pairs:
        if entry.seq <= before.seq and before.hashes[entry.seq] != entry.hash:
            try:
                # What no key of the chain has signed is no fork, and refused as that.
                verify(UUID(bytes=before.user), before, [entry], is_of_today=False)
            except ChainFork as error:
                raise LostFork(encoded) from error
    return [(encoded, entry) for encoded, entry in pairs if entry.seq > before.seq]


def _require_on_own_word(
    user_id: UUID, before: ChainState | None, fresh: Sequence[Entry], *, accepted: datetime, now: datetime
) -> None:
    """Refuse what may not be given back without a proof, or was not made before the officers accepted the log."""
    given_back.require_on_own_word(fresh)
    if len(fresh) > MOST_UNPROVEN:
        raise ChainRefused(f"Without a proof at most {MOST_UNPROVEN} entries are given back.", field="entries")
    latest = int(accepted.timestamp()) + MAX_AHEAD_SECONDS
    if any(entry.header.issued_at > latest for entry in fresh):
        raise ChainRefused("An entry is dated after the backup was put back: append it as always.", field="entries")
    require_waited(user_id, before, fresh, now=now)
    require_room(fresh)


def _bring_back(
    user_id: UUID,
    before: ChainState | None,
    after: ChainState,
    fresh: Sequence[Entry],
    *,
    is_here: bool,
    actor: Actor,
) -> list[UUID]:
    """Make the devices that have a row what the chain says; return those that it lists again."""
    listed = set(before.devices) if before else set()
    added = set(given_back.added(fresh))
    back = []
    for row in Device.objects.filter(user_id=user_id, state=DeviceState.PENDING).order_by("created_at", "id"):
        if is_here and after.devices.get(row.id.bytes) == bytes(row.statement_hash) and not devices.was_ended(row.id):
            devices.list_again(row, actor)
            back.append(row.id)
    reasons = {entry.body.device: entry.body.reason for entry in fresh if isinstance(entry.body, RevokeDevice)}
    # Also one that came and went between the backup and its restoring: its row may wait since then.
    gone = [one for one in (listed | added) if one not in after.devices]
    # A device that goes with an account that begins anew is named by no entry.
    devices.revoke_all(user_id, {UUID(bytes=one): reasons.get(one, Reason.RECOVERY) for one in sorted(gone)}, actor)
    return back


def _register_again(
    after: ChainState, added: dict[bytes, bytes], statements: Sequence[PreparedDevice], actor: Actor
) -> list[UUID]:
    """Register the devices that have no row, by their own statements; return those that act again."""
    back = []
    for prepared in statements:
        header, named = prepared.device.header, (prepared.device.header.device, prepared.statement_hash)
        device_id = UUID(bytes=header.device)
        # Proven to have been added, and listed to this day, by its own user: a chain can name any statement, and whose
        # device it makes says the statement.
        if header.user != after.user or named not in added.items() or after.devices.get(named[0]) != named[1]:
            continue
        if Device.objects.filter(id=device_id).exists():
            continue
        if devices.bring_back(prepared, actor) is DeviceState.ACTIVE:
            back.append(device_id)
    return back
