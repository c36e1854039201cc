# SPDX-License-Identifier: Apache-2.0
"""This device's pre-keys: made, kept before they are published, topped up, and dropped when their time is over.

Implements PROTOCOL sections 2 and 7 for their owner.
Does not use them: a session does, and claims of other people's are in `bundles`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from holdfast.client.account import Account
from holdfast.client.errors import ProfileError
from holdfast.client.state import PreKey
from holdfast.core.bundle import PrivatePreKey, build_batch
from holdfast.core.cose import Purpose, sign
from holdfast.core.encoding import b64u
from holdfast.core.prekeys import SignedPreKey
from holdfast.core.secret import SecretBytes

BATCH_SIZE: Final = 100
REFILL_BELOW: Final = 25
RENEW_AFTER_SECONDS: Final = 7 * 86_400
LIFE_SECONDS: Final = 30 * 86_400
# A sender may hold a bundle for the signed pre-key's whole life and use it on the last day.
KEEP_SECONDS: Final = 2 * LIFE_SECONDS


@dataclass(frozen=True)
class Published:
    """What a top-up did: whether the signed pre-key is new, one-time keys stored, and how many the server has."""

    is_renewed: bool
    stored: int
    count: int


def publish(account: Account) -> Published:
    """Renew the signed pre-key when it is a week old, and refill one-time pre-keys below 25.

    Private halves are kept durably before their public halves leave, so a crash costs at most unused keys.
    Raises ProfileError on a device that is not in its account's chain.
    """
    if not account.device.is_active:
        raise ProfileError(
            "This device is not part of your account yet, so it publishes nothing.",
            way_out="Approve it on another device of yours: holdfast devices approve",
        )
    is_renewed = _renew_signed(account)
    count = account.api.get(f"devices/{account.device_text}/pre-keys").number("count")
    stored = 0
    if count < REFILL_BELOW or account.state.pre_keys.unsent:
        stored, count = _refill(account)
    return Published(is_renewed, stored, count)


def _renew_signed(account: Account) -> bool:
    kept, now = account.state.pre_keys, account.api.clock.now()
    is_due = not kept.signed or now - kept.signed[-1].made_at >= RENEW_AFTER_SECONDS
    if is_due:
        suite = account.device_statement.suite
        private, public = PrivatePreKey.generate(kept.next_id, suite)
        kept.next_id += 1
        statement = SignedPreKey(
            header=account.header(lasts_seconds=LIFE_SECONDS),
            suite=suite,
            key_id=public.key_id,
            dh=public.dh,
            kem=public.kem,
        )
        signed = sign(statement.to_payload(), purpose=Purpose.PREKEY, key=account.signing_key)
        kept.signed = [one for one in kept.signed if now - one.made_at < KEEP_SECONDS]
        kept.signed.append(_kept(private, now))
        kept.signed_statement = signed.encode()
        account.save()
    # Sent each time: it is the same bytes, and heals a server that lost the answer or the key.
    document = {"v": 1, "signed_pre_key": b64u(kept.signed_statement)}
    account.api.put(f"devices/{account.device_text}/bundle", document)
    return is_due


def _refill(account: Account) -> tuple[int, int]:
    kept = account.state.pre_keys
    if kept.unsent is None:
        kept.unsent = _make_batch(account)
        account.save()
    batch, leaves = kept.unsent
    document = {"v": 1, "batch": b64u(batch), "leaves": b64u(leaves)}
    answer = account.api.post(f"devices/{account.device_text}/pre-keys", document)
    stored, count = answer.number("stored"), answer.number("count")
    kept.unsent = None
    account.save()
    return stored, count


def _make_batch(account: Account) -> tuple[bytes, bytes]:
    """Make 100 one-time keys, keep their private halves, and return the signed statement and the leaves."""
    kept = account.state.pre_keys
    batch = build_batch(
        account.header(),
        suite=account.device_statement.suite,
        first_key_id=kept.next_id,
        size=BATCH_SIZE,
        signing_key=account.signing_key,
    )
    kept.one_time += [_kept(one, account.api.clock.now()) for one in batch.private]
    # Ids only grow: a used one never comes back under another key.
    kept.next_id += BATCH_SIZE
    return batch.statement.encode(), batch.leaves


def _kept(private: PrivatePreKey, made_at: int) -> PreKey:
    return PreKey(private.key_id, private.dh, private.kem or SecretBytes(b""), made_at)
