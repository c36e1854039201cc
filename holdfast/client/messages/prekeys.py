# SPDX-License-Identifier: Apache-2.0
"""This device's pre-keys: made, kept before they are published, checked, topped up, and destroyed in time.

Implements PROTOCOL sections 2 and 7 for their owner, and the digest check of docs/formats/pre-keys.md.
Does not use them: a session does, with what `signed` and `one_time` return; claims of others' are in `bundles`.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field, replace
from typing import Final

from holdfast.client.errors import AnswerRefused, Problem, ProfileError
from holdfast.client.messages.prekey_rows import (
    BATCH,
    ONE_TIME,
    SIGNED,
    BatchRow,
    Ledger,
    OneTimeRow,
    SignedRow,
    all_one_time,
    all_signed,
    key_of,
)
from holdfast.client.profile.account import Account
from holdfast.client.server.answers import Answer
from holdfast.core.base.encoding import Encodable, b64u, decode, encode, label
from holdfast.core.base.secret import SecretBytes
from holdfast.core.messages.bundle import PrivatePreKey, build_batch
from holdfast.core.messages.prekeys import BatchStatement, SignedPreKey
from holdfast.core.messages.session import OwnPreKey
from holdfast.core.signed.cose import Purpose, Sign1, sign
from holdfast.core.signed.payloads import MAX_AHEAD_SECONDS, MAX_U32

BATCH_SIZE: Final = 100  # PROTOCOL section 3
REFILL_BELOW: Final = 25  # a quarter: newcomers of a week find one while the device is away
RENEW_AFTER_SECONDS: Final = 7 * 86_400  # what a key that leaks exposes: the first messages of one week
LIFE_SECONDS: Final = 30 * 86_400  # as long as a first message may wait in a mailbox
# A message waits on the server for at most 30 days, so the last one begun with a key that was replaced arrives by then.
KEEP_REPLACED_SECONDS: Final = 30 * 86_400
# No honest sender begins with an expired key. What a device that was away for long still holds ends here all the same,
# since replays of what was begun with it are remembered for as long (`sessions.INITIAL_LIFE_SECONDS`).
KEEP_SECONDS: Final = LIFE_SECONDS + KEEP_REPLACED_SECONDS
# Anybody of the tenant may claim keys and never write: so many private halves are kept for them, the newest.
MOST_GONE: Final = 10_000
# How far ids jump when the server says that they were used: a profile restored from a backup counts from too low.
_JUMP: Final = 10_000
# More than any server keeps for one device, and few enough that what is noted of them fits its row.
_MOST_HELD: Final = 10_000
_JUMPS: Final = 5  # each leaves ten thousand ids aside: a profile restored from a backup is past its own after one
_REUSED: Final = ("pre-key-id-reused", "pre-key-older")
_STALE: Final = "pre-key-stale"
_PUBLISHED: Final = "pre-keys-published"  # device: [when it last published all that was due]
# The server holds a signed pre-key that this profile never made: after a restored backup nobody can begin a session,
# so it is replaced. Not at once after one was made, or two machines with one profile, or a server that lies, would
# have a new one made at each call.
REPLACE_FOREIGN_AFTER_SECONDS: Final = 3_600


@dataclass(frozen=True)
class Published:
    """What the care of pre-keys did.

    is_renewed: the signed pre-key is new. stored: one-time keys uploaded. count: what the server has now. destroyed:
    private halves whose time was over. warnings: what the server holds that it should not, or no longer holds.
    is_voided: it was restored from a backup, and hands out none of the one-time keys that it held; others were made.
    """

    is_renewed: bool
    stored: int
    count: int
    destroyed: int = 0
    warnings: tuple[str, ...] = ()
    is_voided: bool = False


@dataclass(frozen=True)
class Held:
    """What the server says it can still hand out: one-time key ids, and the hash (32 bytes) of the signed pre-key."""

    count: int
    signed_hash: bytes
    epoch: int
    key_ids: frozenset[int]


@dataclass
class _Findings:
    warnings: list[str] = field(default_factory=list)
    is_fresh_batch_due: bool = False
    is_voided: bool = False


# What a responder takes


def load_signed(account: Account, key_id: int) -> OwnPreKey | None:
    """Return the private half of a signed pre-key of this device, or None when there is none or its time is over.

    Over by a time that was confirmed: a clock that jumps would have honest messages refused, and so lost.
    """
    row, now = SignedRow.load(account.store, key_id), account.api.clock.confirmed()
    if row is None or (now is not None and now >= _ends_at(row)):
        return None
    return row.own(account.suite)


def one_time(account: Account, key_id: int) -> OwnPreKey | None:
    """Return the private half of a one-time pre-key of this device, or None when there is none: unknown, or used."""
    row = OneTimeRow.load(account.store, key_id)
    batch = BatchRow.load(account.store, row.batch_id) if row else None
    return row.own(account.suite, batch) if row and batch else None


def use_up(account: Account, key_id: int) -> None:
    """Destroy the private half of a one-time pre-key. In the transaction that keeps the session made with it."""
    account.store.delete(ONE_TIME, key_of(key_id))


def list_made(account: Account) -> list[int]:
    """Return when each signed pre-key was made whose private half is here, in UTC seconds."""
    return [row.made_at for row in all_signed(account.store)]


# Care


def publish(account: Account) -> Published:
    """Do all that this device's pre-keys need: renew, hold the server to what it was given, refill, destroy.

    The signed pre-key is renewed when it is a week old, one-time keys are refilled below 25, private halves go when
    no honest message can need them, by a time that was confirmed (`key_log.confirm_time`). They are kept durably before
    their public halves leave, so a crash costs at most unused keys. Raises ProfileError on a device that is not in its
    account's chain.
    """
    if not account.device.is_active:
        raise ProfileError(
            "This device is not part of your account yet, so it publishes nothing.",
            way_out="Approve it on another device of yours: holdfast devices approve",
        )
    held = fetch_held(account)
    is_renewed, is_sent = _publish_signed(account, held)
    # A batch whose upload was not acknowledged goes first, as it was: a second batch would be one too many.
    stored, count = _upload_unsent(account)
    if is_sent or stored:
        held = fetch_held(account)
    findings = _compare(account, held)
    if held.count < REFILL_BELOW or (findings.is_fresh_batch_due and not stored):
        more, count = _refill(account)
        stored += more
    destroyed = destroy_due(account)
    with account.store.transaction():
        for device in account.store.keys(_PUBLISHED):
            account.store.delete(_PUBLISHED, device)
        account.store.put(_PUBLISHED, account.device.id, SecretBytes(encode([account.api.clock.now()])))
    warnings = tuple(findings.warnings)
    return Published(is_renewed, stored, max(held.count, count), destroyed, warnings, findings.is_voided)


def publish_first(account: Account) -> None:
    """Publish if this device of the account never has. Raises as `publish` does."""
    if account.device.is_active and account.store.get(_PUBLISHED, account.device.id) is None:
        publish(account)


def _publish_signed(account: Account, held: Held) -> tuple[bool, bool]:
    """Have the server hold this device's newest signed pre-key, in place of the one that it was seen to hold.

    Returns whether the key is new, and whether it was sent: not when the server has it.
    """
    current = _current(account)
    is_due = current is None or _is_due(account, current, held)
    row = _make_signed(account) if is_due or current is None else current
    for _ in range(_JUMPS):
        if _hash_of(row) == held.signed_hash:
            _mark_replaced(account, by=row)
            return is_due, False
        try:
            document = {"v": 1, "signed_pre_key": b64u(row.statement)}
            account.api.put(f"devices/{account.device_text}/bundle", document, if_match=f'"{b64u(held.signed_hash)}"')
        except Problem as problem:
            if problem.code == _STALE:
                # Another process of this profile published meanwhile: read what, and decide again.
                held = fetch_held(account)
            elif problem.code in _REUSED:
                _jump(account)
                row, is_due = _make_signed(account), True
            else:
                raise
        else:
            _mark_replaced(account, by=row)
            return is_due, True
    raise ProfileError(*_CLONED)


def _current(account: Account) -> SignedRow | None:
    """Return the newest signed pre-key, published or about to be."""
    return next((row for row in reversed(all_signed(account.store)) if not row.replaced_at), None)


def _mark_replaced(account: Account, *, by: SignedRow) -> None:
    """Note that the server hands out one signed pre-key in place of the others: from now on they are left to end."""
    now = account.api.clock.latest()
    with account.store.transaction():
        for row in all_signed(account.store):
            if row.key_id != by.key_id and not row.replaced_at:
                replace(row, replaced_at=now).save(account.store)


def _is_due(account: Account, current: SignedRow, held: Held) -> bool:
    age = account.api.clock.earliest() - current.made_at
    is_foreign = held.signed_hash != b"" and all(_hash_of(row) != held.signed_hash for row in all_signed(account.store))
    return (
        age >= RENEW_AFTER_SECONDS
        # Made under a clock that was ahead: nobody takes a pre-key of the future.
        or _is_of_the_future(account, current.made_at)
        or (is_foreign and age >= REPLACE_FOREIGN_AFTER_SECONDS)
        or not _is_of_this_device(account, SignedPreKey, current.statement)
    )


def _is_of_the_future(account: Account, issued_at: int) -> bool:
    return issued_at > account.api.clock.earliest() + MAX_AHEAD_SECONDS


def _hash_of(row: SignedRow) -> bytes:
    return Sign1.parse(row.statement).payload_hash


def _is_of_this_device(account: Account, kind: type[SignedPreKey] | type[BatchStatement], statement: bytes) -> bool:
    # After a rotation of the device's keys the same profile is another device.
    return kind.from_payload(Sign1.parse(statement).payload).header.device == account.device.id


def _make_signed(account: Account) -> SignedRow:
    """Make and keep a signed pre-key. The one before counts as replaced when the server has this one."""
    now, suite, before = account.api.clock.earliest(), account.suite, _current(account)
    if before is not None and not _is_of_the_future(account, before.made_at):
        # The server takes none that is older than the one that it has; clocks are set back by seconds all the time.
        now = max(now, before.made_at)
    with account.store.transaction():
        ledger = Ledger.load(account.store)
        private, public = PrivatePreKey.generate(ledger.next_id, suite)
        statement = SignedPreKey(
            header=account.header(issued_at=now, lasts_seconds=LIFE_SECONDS),
            suite=suite,
            key_id=public.key_id,
            dh=public.dh,
            kem=public.kem,
        )
        signed = sign(statement.to_payload(), purpose=Purpose.PREKEY, key=account.signing_key)
        made = SignedRow(public.key_id, private.dh, private.kem or SecretBytes(b""), now, signed.encode())
        made.save(account.store)
        replace(ledger, next_id=ledger.next_id + 1).save(account.store)
    return made


def _refill(account: Account) -> tuple[int, int]:
    """Make, keep and upload a fresh batch; returns how many keys were stored, and how many the server has."""
    for _ in range(_JUMPS):
        _make_batch(account)
        try:
            return _upload_unsent(account)
        except Problem as problem:
            if problem.code not in _REUSED:
                raise
            _drop_unsent(account)
            _jump(account)
    raise ProfileError(*_CLONED)


def _upload_unsent(account: Account) -> tuple[int, int]:
    stored = count = 0
    for batch in _batches(account):
        if not batch.leaves:
            continue
        issued_at = BatchStatement.from_payload(Sign1.parse(batch.statement).payload).header.issued_at
        if not _is_of_this_device(account, BatchStatement, batch.statement) or _is_of_the_future(account, issued_at):
            # The device was replaced before the answer came, or a clock was ahead: the server would refuse the batch
            # for as long. It may have handed these out meanwhile, so they run out like every other key.
            replace(batch, leaves=b"").save(account.store)
            continue
        document = {"v": 1, "batch": b64u(batch.statement), "leaves": b64u(batch.leaves)}
        # A batch is known by its signed id: sent again, it stores nothing.
        answer = account.api.post(f"devices/{account.device_text}/pre-keys", document, is_once_by_itself=True)
        stored, count = stored + answer.number("stored"), answer.number("count")
        replace(batch, leaves=b"").save(account.store)
    return stored, count


def _make_batch(account: Account) -> None:
    """Make 100 one-time keys and keep their private halves, all of them or none."""
    with account.store.transaction():
        ledger = Ledger.load(account.store)
        built = build_batch(
            account.header(),
            suite=account.suite,
            first_key_id=ledger.next_id,
            size=BATCH_SIZE,
            signing_key=account.signing_key,
        )
        batch_id = BatchStatement.from_payload(built.statement.payload).batch_id
        BatchRow(batch_id, built.statement.encode(), built.leaves).save(account.store)
        leaves = decode(built.leaves, max_size=len(built.leaves))
        assert isinstance(leaves, list)
        for key, leaf in zip(built.private, leaves, strict=True):
            assert isinstance(leaf, bytes)
            OneTimeRow(key.key_id, key.dh, key.kem or SecretBytes(b""), batch_id, leaf).save(account.store)
        # Ids only grow: a used one never comes back under another key.
        replace(ledger, next_id=ledger.next_id + BATCH_SIZE).save(account.store)


def _drop_unsent(account: Account) -> None:
    """Destroy a batch that the server has refused: nobody was ever given a key of it."""
    unsent = {batch.batch_id for batch in _batches(account) if batch.leaves}
    with account.store.transaction():
        for row in list(all_one_time(account.store)):
            if row.batch_id in unsent:
                account.store.delete(ONE_TIME, key_of(row.key_id))
        for batch_id in unsent:
            account.store.delete(BATCH, batch_id)


def _jump(account: Account) -> None:
    ledger = Ledger.load(account.store)
    replace(ledger, next_id=ledger.next_id + _JUMP).save(account.store)


def _batches(account: Account) -> list[BatchRow]:
    loaded = (BatchRow.load(account.store, batch_id) for batch_id in account.store.keys(BATCH))
    return [batch for batch in loaded if batch]


_CLONED: Final = (
    "The server has pre-keys of this device that this profile never made: it was restored from an old backup, "
    "or it runs on two machines.",
)


# What the server holds


def fetch_held(account: Account) -> Held:
    """Ask what the server can still hand out. Raises AnswerRefused when its digest is not of what it names."""
    answer = account.api.post(f"devices/{account.device_text}/check", {})
    batches = [_held_batch(row) for row in answer.many("batches")]
    key_ids = [key_id for _, ids in batches for key_id in ids]
    if len(key_ids) > _MOST_HELD or any(key_id > MAX_U32 for key_id in key_ids):
        raise AnswerRefused("The server names more pre-keys of this device than there can be.")
    signed_hash = answer.octets("signed_pre_key_hash")
    rows: list[Encodable] = [[batch_id, list[Encodable](ids)] for batch_id, ids in batches]
    digest = hashlib.sha256(label("server-holds", account.device.id, signed_hash, rows)).digest()
    is_whole = len(set(key_ids)) == len(key_ids) == answer.number("count")
    if not is_whole or not hmac.compare_digest(digest, answer.octets("digest", 32)):
        raise AnswerRefused("The server's digest of this device's pre-keys is not of the keys that it names.")
    return Held(answer.number("count"), signed_hash, answer.number("epoch"), frozenset(key_ids))


def _held_batch(row: Answer) -> tuple[bytes, list[int]]:
    return row.octets("batch_id", 16), row.numbers("key_ids")


def _compare(account: Account, held: Held) -> _Findings:
    """Hold what the server has to what it was given and what was used, and remember what it no longer has."""
    findings = _Findings()
    store, now = account.store, account.api.clock.latest()
    with store.transaction():
        ledger = Ledger.load(store)
        kept = {row.key_id: row for row in all_one_time(store)}
        if held.epoch != ledger.epoch:
            findings.is_fresh_batch_due = findings.is_voided = True
        unknown = frozenset(key_id for key_id in held.key_ids if key_id not in kept or kept[key_id].gone_at)
        if unknown - ledger.foreign:
            findings.is_fresh_batch_due = True
            findings.warnings.append(
                f"The server holds {len(unknown)} one-time pre-keys that it handed out before or that this profile "
                "never made: what is begun with them may not open here, and its senders have to write again. Was this "
                "profile, or the server, restored from a backup? Does the profile run on two machines?"
            )
        for row in kept.values():
            if not row.gone_at and row.key_id not in held.key_ids:
                row.gone(now).save(store)
        replace(ledger, epoch=held.epoch, foreign=unknown).save(store)
    current = _current(account)
    if current is None or held.signed_hash != _hash_of(current):
        findings.warnings.append(
            "The server hands out another signed pre-key than this device's newest: nobody can begin a session with it."
        )
    return findings


# The end


def _ends_at(row: SignedRow) -> int:
    ends = row.made_at + KEEP_SECONDS
    return min(ends, row.replaced_at + KEEP_REPLACED_SECONDS) if row.replaced_at else ends


def destroy_due(account: Account) -> int:
    """Destroy the private halves that no honest message can need any more; returns how many. None without a confirmed
    time (`Clock.confirmed`).

    A one-time key is handed out together with the signed pre-key of that moment, and neither works without the
    other: once the server is without it, it goes with the last signed pre-key that was made before then. Not at
    once, since the server's word alone would otherwise decide what can still be read.
    """
    store, now = account.store, account.api.clock.confirmed()
    if now is None:
        return 0
    destroyed = 0
    with store.transaction():
        for row in all_signed(store):
            if row.replaced_at > now + MAX_AHEAD_SECONDS:
                # Replaced under a clock that was ahead: its month begins today.
                replace(row, replaced_at=now).save(store)
            # The current one is replaced before it ends; a device that cannot publish keeps it until it can.
            if row.replaced_at and now >= _ends_at(row):
                store.delete(SIGNED, key_of(row.key_id))
                destroyed += 1
        oldest = min((row.made_at for row in all_signed(store)), default=now)
        batches = set(store.keys(BATCH))
        kept = list(all_one_time(store))
        gone = sorted((key for key in kept if key.gone_at), key=lambda key: key.gone_at)
        over = {key.key_id for key in gone[: max(0, len(gone) - MOST_GONE)]}
        for key in kept:
            if key.key_id in over or (key.gone_at and key.gone_at < oldest):
                store.delete(ONE_TIME, key_of(key.key_id))
                destroyed += 1
            else:
                batches.discard(key.batch_id)
        for batch_id in batches:
            store.delete(BATCH, batch_id)
    return destroyed
