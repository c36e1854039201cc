# SPDX-License-Identifier: Apache-2.0
"""Rotation of identity, device keys, vault key and archive generation, in seven steps that can each be taken again.

Implements PROTOCOL section 5 (rotation, revocation) and the triggers named there; docs/formats/rotation.md.
Does not set doors that only the person can set: it says which ones wait for them.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Annotated, Final
from uuid import UUID

from holdfast.client.errors import NotPossible, Problem, ProfileError, RaceLost, WrongInput
from holdfast.client.escrow import escrow
from holdfast.client.identity import chains, evidence, security_events
from holdfast.client.identity.device import make_device
from holdfast.client.identity.evidence import Contradiction
from holdfast.client.messages import handshakes, letters, messages, prekeys
from holdfast.client.profile.account import Account
from holdfast.client.profile.state import Device, Generation, VaultKey
from holdfast.client.rotation import rotation_record
from holdfast.client.rotation.rotation_entries import signed_entries
from holdfast.client.rotation.rotation_record import Part, Progress, Rotation, Step, progress
from holdfast.client.server.transport import Credential
from holdfast.client.sessions import sessions
from holdfast.client.vault import doors, pairing, trusted, vault
from holdfast.client.waiting import Overtaken, retry, stale_problem
from holdfast.core.base.encoding import b64u
from holdfast.core.base.rows import seal_map, seal_row, secret, text, uint
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.escrow.archive import new_archive_key
from holdfast.core.identity.chain import ChainState
from holdfast.core.identity.entries import ArchiveGeneration, Entry, Genesis, Reason, ReGenesis, RotateKey
from holdfast.core.signed.cose import Sign1
from holdfast.core.signed.payloads import MAX_AHEAD_SECONDS
from holdfast.core.signed.statements import Consent, DeviceStatement
from holdfast.core.vault.blob import new_vault_key

IDENTITY, DEVICE, VAULT, ARCHIVE = "identity", "device", "vault", "archive"
EVERYTHING: Final = frozenset({IDENTITY, VAULT, ARCHIVE})
GRACE_SECONDS: Final = 30 * 86_400  # as long as a message under the old keys may be on its way
IDENTITY_LIFE_SECONDS: Final = 30 * 86_400  # PROTOCOL section 5: on schedule, once a month
EVENT_PAUSE_SECONDS: Final = 86_400  # a server that reports events without end makes one rotation a day
_PARTS: Final = {IDENTITY: Part.IDENTITY, DEVICE: Part.DEVICE, VAULT: Part.VAULT, ARCHIVE: Part.ARCHIVE}
_RETIRED: Final = "retired-key"
# An interrupted rotation may be taken up a day later: its entries are then signed with the date of that day.
_SIGNED_FOR_SECONDS: Final = 600
_READ_ANEW: Final = 3  # times: two runs of one profile that register at the same moment both come to an end


@dataclass(frozen=True)
class Due:
    """A rotation that should begin: what, for which reason in the chain, and the sentence for people."""

    what: frozenset[str]
    reason: Reason
    why: str


def rotate(
    account: Account,
    what: Collection[str],
    *,
    reason: Reason,
    revoke: Sequence[UUID] = (),
    since: int | None = None,
) -> Progress:
    """Replace keys, and bring the replacement as far as it goes now; what is left, `maintain` and `resume` do.

    what: of "identity", "device", "vault", "archive". Device keys bring a new identity key with them, and revoking
    devices brings all but this device's keys, since a revoked one knew them. since: UTC seconds from which a revoked
    device is doubted, now by default. One that was begun before is finished first. Raises ProfileError on a
    device that is not in the account, RaceLost without its newest identity key, NotPossible to revoke oneself, or to
    replace device keys while a case is open, TrustRefused when the chain or the vault is not to be believed; nothing is
    lost by any of them.
    """
    resume(account)
    parts = Part(0)
    for name in what:
        parts |= _PARTS[name]
    if revoke:
        parts |= Part.IDENTITY | Part.VAULT | Part.ARCHIVE
    if Part.DEVICE in parts:
        parts |= Part.IDENTITY
    if not parts:
        raise ValueError("a rotation replaces something")
    _require_may(account, revoke)
    if Part.DEVICE in parts and account.state.case is not None:
        raise NotPossible(
            "This device has a case open, and what is released in it is for the device's keys of now.",
            way_out="See how far it is: holdfast recover escrow status. Or withdraw it: holdfast recover escrow cancel",
        )
    now = account.api.clock.earliest()
    begun = Rotation(
        id=secrets.token_bytes(16),
        parts=parts,
        reason=reason,
        revoke=[device.bytes for device in revoke],
        since=now if since is None else since,
        started_at=now,
    )
    rotation_record.put(account.store, begun)
    return _run(account, begun)


def resume(account: Account) -> list[Progress]:
    """Take up every rotation that was interrupted, and finish it up to the grace period. Returns those finished."""
    return [
        _run(account, rotation)
        for rotation in rotation_record.load_rotations(account.store)
        if rotation.step is not Step.DESTROY
    ]


def list_rotations(account: Account) -> list[Progress]:
    """Return every rotation that is under way or whose old keys still wait to be destroyed."""
    return [progress(rotation) for rotation in rotation_record.load_rotations(account.store)]


def maintain(account: Account) -> list[Progress]:
    """Resume what was interrupted, destroy what is past its grace, rotate when that is due. Returns what was done."""
    done = resume(account)
    for rotation in rotation_record.load_rotations(account.store):
        if rotation.step is Step.DESTROY and _destroy(account, rotation):
            done.append(dataclasses.replace(progress(rotation), is_destroyed=True))
    wanted = due(account)
    if wanted:
        done.append(rotate(account, wanted.what, reason=wanted.reason))
    return done


def _require_may(account: Account, revoke: Sequence[UUID]) -> None:
    state = vault.chain_of(account)
    if not account.device.is_active:
        raise ProfileError(
            "This device is not part of your account, so it replaces nothing.",
            way_out="Approve it on another device of yours: holdfast devices approve",
        )
    if account.identity_key.public != state.aik and not _catch_up(account):
        raise RaceLost(
            "Another device of yours changed your account's identity key.",
            way_out="Run `holdfast maintain` there and here, then try again.",
        )
    if account.device.id in [device.bytes for device in revoke]:
        raise NotPossible(
            "A device does not revoke itself: it would know the keys that come after.",
            way_out="Revoke it from another device of yours; or replace its keys: holdfast rotate device",
        )
    unknown = [device for device in revoke if device.bytes not in state.devices and device.bytes not in state.revoked]
    if unknown:
        raise WrongInput(f"Device {unknown[0]} is not one of yours.", way_out="See: holdfast devices list")


def _catch_up(account: Account) -> bool:
    letters.fetch(account)
    return pairing.catch_up(account)


# The steps


def _run(account: Account, rotation: Rotation) -> Progress:
    while rotation.step is not Step.DESTROY:
        _STEPS[rotation.step](account, rotation)
        rotation.step = Step(rotation.step + 1)
        rotation_record.put(account.store, rotation)
    return progress(rotation, needs=tuple(doors.list_closed(account)) if Part.VAULT in rotation.parts else ())


def _generate(account: Account, rotation: Rotation) -> None:
    """Make every new key. They are kept before anything is signed with them, so that no step meets other ones."""
    suite = account.device_statement.suite
    if Part.IDENTITY in rotation.parts:
        rotation.identity = SigningKey.generate(suite.signing_kind).seed()
    if Part.DEVICE in rotation.parts:
        rotation.device = make_device(account, suite=suite, name=account.device_statement.name)
    if Part.ARCHIVE in rotation.parts:
        rotation.archive_key = new_archive_key()
    if Part.VAULT in rotation.parts and len(account.state.vault.key):
        rotation.vault = VaultKey(account.state.vault.epoch + 1, new_vault_key(), 0)


def _sign(account: Account, rotation: Rotation) -> None:
    """Sign the new keys with the old ones, on the newest head."""
    _sign_on(account, rotation, vault.chain_of(account))


def _sign_on(account: Account, rotation: Rotation, state: ChainState) -> None:
    entries = signed_entries(account, rotation, state)
    chains.require_extends(account, state, entries)
    rotation.entries, rotation.head = [entry.encode() for entry in entries], state.head
    rotation_record.put(account.store, rotation)


def _upload(account: Account, rotation: Rotation) -> None:
    """Bring the new keys to the server and take them into use: the chain first, then what is sealed under them."""
    if not rotation.is_accepted:
        if rotation.device:
            rotation.device = _of_today(account, rotation, rotation.device)
            _register_successor(account, rotation.device)
        if Part.IDENTITY in rotation.parts and not rotation.revoke and not len(rotation.vault.key):
            _keep_next_identity(account, rotation)
        _extend(account, rotation)
        _take_into_use(account, rotation)
    _write_vault(account, rotation)
    if rotation.device:
        prekeys.publish(account)
    if account.state.consent:
        # A policy that is newer than what is known here asks for a yes of its own; the new keys stand all the same.
        escrow.prepare(account)
        _restate_consent(account, rotation)
        if escrow.has_consented(account):
            escrow.deposit_missing(account)


def _of_today(account: Account, rotation: Rotation, device: Device) -> Device:
    """Return the new device; made anew where it lies in the future, since a clock was ahead: the server takes none."""
    header = DeviceStatement.from_payload(Sign1.parse(device.statement).payload).header
    if header.issued_at <= account.api.clock.earliest() + MAX_AHEAD_SECONDS or account.device.id == device.id:
        return device
    rotation.device = make_device(account, suite=account.suite, name=account.device_statement.name)
    _sign_on(account, rotation, vault.chain_of(account))
    return rotation.device


def _register_successor(account: Account, device: Device) -> None:
    """Register the device that follows this one. After a lost answer, the successor itself says that it is known."""
    if account.device.id == device.id:
        return
    try:
        _post_successor(account, device)
    except Problem as problem:
        _act_as(account, device)
        try:
            account.api.get(f"devices/{UUID(bytes=device.id)}")
        except Problem:
            raise problem from None
        finally:
            account.sign_as_device()


def _post_successor(account: Account, device: Device) -> None:
    """Register it in place of the successor that is seen to wait: a rotation given up, or another run."""
    document = {"device_statement": b64u(device.statement)}
    for attempt in range(_READ_ANEW):
        waiting = f'"{b64u(_waiting_successor(account))}"'
        try:
            account.api.post(f"devices/{account.device_text}/successor", document, if_match=waiting)
        except Problem as problem:
            if problem.code != "successor-stale" or attempt == _READ_ANEW - 1:
                raise
        else:
            return


def _waiting_successor(account: Account) -> bytes:
    """Return the hash of the statement of the pending device that is to follow this one; none when there is none."""
    for row in account.api.pages("devices", "devices", "device_id"):
        is_next = "successor_of" in row and row.text("successor_of") == account.device_text
        if is_next and row.text("state") == "pending":
            return Sign1.parse(row.octets("device_statement")).payload_hash
    return b""


def _act_as(account: Account, device: Device) -> None:
    statement = DeviceStatement.from_payload(Sign1.parse(device.statement).payload)
    key = SigningKey.from_seed(statement.suite.signing_kind, device.signing_seed)
    account.api.credential = Credential(UUID(bytes=device.id), key)


def _keep_next_identity(account: Account, rotation: Rotation) -> None:
    """Write the next identity key into the vault before the chain names it, so that no crash leaves it nowhere.

    Not when a device is revoked or the vault key is leaving: whoever holds the old vault key would read it there.
    """
    if len(account.state.vault.key) and account.identity_key.public == account.chain.aik:
        vault.save(account, next_identity=rotation.identity)


def _extend(account: Account, rotation: Rotation) -> None:
    """Have the entries in the chain: uploaded once, found there after a lost answer, signed again after a race."""
    if not rotation.entries:
        return  # a vault key alone: the chain does not name it

    def attempt() -> None:
        state = _newest(account, rotation)
        made = [Entry.parse(entry) for entry in rotation.entries]
        if made[-1].hash in state.hashes:
            return
        age = account.author(state).issued_at - made[0].header.issued_at
        if state.head != rotation.head or not -MAX_AHEAD_SECONDS <= age <= _SIGNED_FOR_SECONDS:
            # The server takes no entry that is dated long ago, or ahead of the chain; these are not in it.
            _sign_on(account, rotation, state)
            made = [Entry.parse(entry) for entry in rotation.entries]
        chains.require_extends(account, state, made)
        chains.upload(account, made, state.head)
        # The chain says whether they are in it: an answer may be lost, and a server may lie.
        raise Overtaken

    retry(attempt, stale=chains.STALE, lost=stale_problem(chains.STALE, chains.KEEPS_WRITING))


def _newest(account: Account, rotation: Rotation) -> ChainState:
    """Fetch the chain, as the new device when the old one is heard no more: its own entries have revoked it."""
    try:
        return vault.chain_of(account)
    except Problem as problem:
        if rotation.device is None or problem.status not in (401, 403):
            raise
        _act_as(account, rotation.device)
        return vault.chain_of(account)


def _take_into_use(account: Account, rotation: Rotation) -> None:
    """Change over to what the chain says now, in one transaction: the old keys are kept, none is lost."""
    state = _newest(account, rotation)
    own = account.state
    with account.store.transaction():
        rotation.old_identity, rotation.old_vault = own.identity_seed, own.vault
        if len(rotation.identity):
            own.identity_seed = rotation.identity
        if rotation.device:
            rotation.old_device = account.device.id
            account.store.put(handshakes.FORMER_DEVICE, account.device.id, seal_map(account.device))
            own.device = rotation.device
            own.device.is_active = rotation.device.id in state.devices
        announced = [Entry.parse(encoded).body for encoded in rotation.entries]
        for body in announced:
            if isinstance(body, ArchiveGeneration):
                fresh = Generation(body.generation, rotation.archive_key, body.not_before, body.commitment)
                own.generations = [
                    *(generation for generation in own.generations if generation.number != fresh.number),
                    fresh,
                ]
        if len(rotation.identity):
            security_events.clear_events(account)
        rotation.is_accepted = True
        rotation_record.put(account.store, rotation)
        account.save()
    account.sign_as_device()


def _write_vault(account: Account, rotation: Rotation) -> None:
    """Write the keyring under the new keys, and give it to the devices and contacts that are left."""
    if not len(account.state.vault.key):
        return
    if not len(rotation.vault.key):
        vault.save(account)
        if rotation.old_device:
            # What the old device sent about an earlier change is not believed any more: it has been revoked.
            pairing.sync(account)
        return
    try:
        vault.begin_epoch(account, key=rotation.vault.key, epoch=rotation.vault.epoch)
    except vault.VaultKeyChanged:
        # Another own device changed it as well. It may not know of the revocation, so its key is followed by ours.
        _catch_up(account)
        rotation.vault = VaultKey(account.state.vault.epoch + 1, rotation.vault.key, 0)
        rotation_record.put(account.store, rotation)
        vault.begin_epoch(account, key=rotation.vault.key, epoch=rotation.vault.epoch)
    pairing.sync(account)
    trusted.reshare(account)


def _restate_consent(account: Account, rotation: Rotation) -> None:
    """Say the person's own answer again under the key that is theirs now, if it was to this very policy and text.

    An answer to anything else is not carried over: they are asked, as after every change of the policy.
    """
    signed = Sign1.parse(account.state.consent)
    said = Consent.from_payload(signed.payload)
    old = SigningKey.from_seed(account.device_statement.suite.signing_kind, rotation.old_identity).public
    asked = (account.trusted.newest.hash, escrow.text_hash(account))
    if signed.kid == old.kid and (said.policy_hash, said.text_hash) == asked:
        escrow.consent(account, agreed=said.agreed)


def _notify(account: Account, rotation: Rotation) -> None:
    """Tell everybody there is a session with. A new device has none yet: its greeting is the notice."""
    if Part.IDENTITY in rotation.parts and not rotation.old_device:
        messages.announce(account)


def _re_establish(account: Account, rotation: Rotation) -> None:
    """Begin every session anew. Who cannot be reached is named; a message to or from them begins one as well."""
    if Part.IDENTITY in rotation.parts:
        greeted = messages.greet(account)
        rotation.unreached = [peer for peer in sessions.peers(account.store) if peer not in greeted]


@dataclass(frozen=True)
class _RetiredKey:
    """A key that was replaced, kept for the grace period. epoch: of a vault key; 0 for another."""

    name: Annotated[str, text()]
    key: Annotated[SecretBytes, secret()]
    epoch: Annotated[int, uint()]


def _archive(account: Account, rotation: Rotation) -> None:
    """Put the old keys aside for the grace period, and the new ones out of this row: they are where they belong."""
    rotation.destroy_at = account.api.clock.latest() + GRACE_SECONDS
    retired = {
        IDENTITY: rotation.old_identity if Part.IDENTITY in rotation.parts else None,
        VAULT: rotation.old_vault.key if len(rotation.vault.key) else None,
    }
    with account.store.transaction():
        for name, seed in retired.items():
            if seed is not None and len(seed):
                key = _RetiredKey(name, seed, rotation.old_vault.epoch if name == VAULT else 0)
                account.store.put(_RETIRED, rotation.id + name.encode(), seal_row(key))
        nothing = SecretBytes(b"")
        rotation.identity = rotation.archive_key = rotation.old_identity = nothing
        rotation.vault, rotation.old_vault, rotation.device = VaultKey(), VaultKey(), None
        rotation_record.put(account.store, rotation)


def _destroy(account: Account, rotation: Rotation) -> bool:
    """Destroy the old keys when their grace is over by a confirmed time, and forget the rotation. Returns whether."""
    now = account.api.clock.confirmed()
    if now is None:
        return False
    if rotation.destroy_at > now + GRACE_SECONDS + MAX_AHEAD_SECONDS:
        # Counted from a clock that was ahead: the grace begins today.
        rotation.destroy_at = now + GRACE_SECONDS
        rotation_record.put(account.store, rotation)
    if now < rotation.destroy_at:
        return False
    with account.store.transaction():
        for name in (IDENTITY, VAULT):
            account.store.delete(_RETIRED, rotation.id + name.encode())
        if rotation.old_device:
            account.store.delete(handshakes.FORMER_DEVICE, rotation.old_device)
        account.store.delete(rotation_record.KIND, rotation.id)
    return True


_STEPS: Final[dict[Step, Callable[[Account, Rotation], None]]] = {
    Step.GENERATE: _generate,
    Step.SIGN: _sign,
    Step.UPLOAD: _upload,
    Step.NOTIFY: _notify,
    Step.RE_ESTABLISH: _re_establish,
    Step.ARCHIVE: _archive,
}


# When


def due(account: Account) -> Due | None:
    """Say which rotation should begin now, and why; None when none should, or this device cannot."""
    if not account.device.is_active or not len(account.state.identity_seed):
        return None
    if _own_fork(account):
        return Due(EVERYTHING, Reason.SECURITY_EVENT, "Somebody has written into your account beside you.")
    age = account.api.clock.now() - _identity_since(account)
    noted = security_events.list_events(account)
    # The identity alone, and once a day: a contact who sends a used key on purpose closes no door of theirs.
    if noted and age >= EVENT_PAUSE_SECONDS:
        return Due(frozenset({IDENTITY}), Reason.SECURITY_EVENT, noted[0])
    if age >= IDENTITY_LIFE_SECONDS:
        return Due(frozenset({IDENTITY}), Reason.SCHEDULE, "The identity key has been in use for a month.")
    return None


def is_due(account: Account) -> bool:
    """Whether a rotation should begin now: the month is over, or something happened that asks for new keys."""
    return due(account) is not None


def _identity_since(account: Account) -> int:
    """Return from when the AIK is, as the chain dates it.

    A chain may lie in the future, where a clock was wrong, and its dates do not go back. Then this device's own word
    counts, of the rotations whose old keys still wait; 0 without one: what is of the future is due.
    """
    now = account.api.clock.now()
    for encoded in reversed(account.state.chain):
        entry = Entry.parse(encoded)
        if isinstance(entry.body, (Genesis, RotateKey, ReGenesis)):
            if entry.header.issued_at <= now + MAX_AHEAD_SECONDS:
                return entry.header.issued_at
            own = [rotation.started_at for rotation in rotation_record.load_rotations(account.store)]
            return max((at for at in own if at <= now + MAX_AHEAD_SECONDS), default=0)
    return now


def _own_fork(account: Account) -> bool:
    """Whether somebody has written into the own chain beside it since this identity key is in force."""
    since = _identity_since(account)
    return any(
        contradiction.what is Contradiction.CHAIN_FORK
        and contradiction.user == account.user
        and contradiction.seen_at >= since
        for contradiction in evidence.list_evidence(account)
    )


__all__ = [
    "ARCHIVE",
    "DEVICE",
    "EVERYTHING",
    "IDENTITY",
    "VAULT",
    "Due",
    "Progress",
    "Step",
    "due",
    "is_due",
    "list_rotations",
    "maintain",
    "resume",
    "rotate",
]
