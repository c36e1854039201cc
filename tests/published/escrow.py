# SPDX-License-Identifier: Apache-2.0
"""A deposit, a case about it, its approvals and the opening: every key that takes part, and what must not open."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any, Final

from holdfast.core.base.encoding import decode, encode
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import SealingKey, wrap_rsa
from holdfast.core.crypto.suites import DEFAULT_SUITE
from holdfast.core.escrow.deposit import Deposit, DepositTerms, build_deposit
from holdfast.core.identity.trust import SignedTenantKey
from holdfast.core.signed.payloads import Header
from holdfast.core.signed.statements import OfflineKey
from tests.cast.custody import HSM_KEY, RECIPIENT_KEY, Custody
from tests.published.mutations import malformed, rows

GENERATION: Final = 7
_FORMS: Final = frozenset(
    {"empty", "cut by one byte", "a byte after it", "an array", "an unknown field", "field 5 missing"}
)


def write() -> dict[str, object]:
    """Make the file anew: keys, halves and polynomials are fresh each time."""
    world, offline, drawn = Custody(m=2, n=3), SealingKey.generate(), list[bytes]()
    archive_key = SecretBytes(secrets.token_bytes(32))
    deposit = _deposit(world, offline, archive_key, drawn)
    world.deposits = {deposit.header.deposit_id: deposit}
    world.case = world.sign_case()
    half = SecretBytes(drawn[0])
    return {
        "page": "docs/formats/deposit-and-case.md",
        "archive_key": archive_key.reveal().hex(),
        "escrow_key": {"private": HSM_KEY.pkcs8().reveal().hex(), "algorithm": "oaep-sha256"},
        "offline_key_seed": offline.seed().reveal().hex(),
        "half": half.reveal().hex(),
        "officers_half": drawn[1].hex(),
        "coefficients": [one.hex() for one in drawn[2:]],
        "officers": [_officer(world, deposit, index) for index in range(1, world.n + 1)],
        "release_sealing_seed": world.release_sealing.seed().reveal().hex(),
        "record": deposit.to_record().hex(),
        "context": deposit.header.ctx.hex(),
        "half_hash": deposit.half_hash.hex(),
        "case": {"statement": world.case.encode().hex(), "q": world.case.payload_hash.hex()},
        "approvals": [_approval(world, index) for index in (1, 3)],
        "recipient": {
            "sealing_seed": world.recipient_sealing.seed().reveal().hex(),
            "rsa_private": RECIPIENT_KEY.pkcs8().reveal().hex(),
            "rewrapped_half": wrap_rsa(RECIPIENT_KEY.public, half, hash_name="sha256").hex(),
        },
        "refused": rows(_records(deposit)),
        "unopened": rows(_unopened(deposit)),
    }


def _deposit(world: Custody, offline: SealingKey, archive_key: SecretBytes, drawn: list[bytes]) -> Deposit:
    """Build one whose random bytes are written down: r_h, r_o, and the coefficients of x, x^2, … of the polynomials."""

    def random(size: int) -> bytes:
        drawn.append(secrets.token_bytes(size))
        return drawn[-1]

    header = Header(world.tenant, b"", b"", world.escrow_key.statement.header.issued_at)
    key = OfflineKey(header, offline.public, 1, "x-wing", b"", world.policy.hash)
    terms = DepositTerms(
        suite=DEFAULT_SUITE,
        tenant=world.tenant,
        user=world.alice,
        device=world.device_id,
        policy=world.policy,
        escrow_key=replace(world.escrow_key, statement=replace(world.escrow_key.statement, algorithm="oaep-sha256")),
        consent_hash=bytes(32),
        offline_key=SignedTenantKey(key, secrets.token_bytes(32)),
    )
    deposit_id = secrets.token_bytes(16)
    return build_deposit(archive_key, generation=GENERATION, deposit_id=deposit_id, terms=terms, random=random)


def _officer(world: Custody, deposit: Deposit, index: int) -> dict[str, object]:
    key = world.officers[index - 1].sealing_key
    return {
        "index": index,
        "sealing_seed": key.seed().reveal().hex(),
        "share": deposit.open_share(index, key=key).reveal().hex(),
    }


def _approval(world: Custody, index: int) -> dict[str, object]:
    signed, outers = world.approval_and_shares(index)
    return {
        "index": index,
        "signer": world.officers[index - 1].signing_key.public.encoded.hex(),
        "statement": signed.encode().hex(),
        "outer": outers[0].outer.hex(),
    }


def _records(deposit: Deposit) -> dict[str, bytes]:
    """Records that are none. The whole has no version of its own: the header inside it has."""
    octets = deposit.to_record()
    value: Any = decode(octets)
    header, boxes = value[1], value[6]
    forms = {why: form for why, form in malformed(octets).items() if why in _FORMS}
    forms |= {
        "a header with another version": encode({**value, 1: encode({**decode_map(header), 1: 2})}),
        "m of 1": encode({**value, 1: encode({**decode_map(header), 12: 1})}),
        "m as large as n": encode({**value, 1: encode({**decode_map(header), 12: 3})}),
        "n other than the rows": encode({**value, 1: encode({**decode_map(header), 13: 4})}),
        "n of 17": encode({**value, 1: encode({**decode_map(header), 13: 17})}),
        "an offline half without an offline key": encode({**value, 1: encode(without(decode_map(header), 14))}),
        "a row missing": encode({**value, 6: boxes[:-1]}),
        "a row twice": encode({**value, 6: [*boxes[:-1], boxes[0]]}),
        "rows out of order": encode({**value, 6: [boxes[1], boxes[0], *boxes[2:]]}),
        "a short share": encode({**value, 6: [[1, boxes[0][1][:-1], boxes[0][2]], *boxes[1:]]}),
        "a short commitment": encode({**value, 6: [[1, boxes[0][1], boxes[0][2][:-1]], *boxes[1:]]}),
        "a short half": encode({**value, 4: value[4][:-1]}),
        "a short ciphertext": encode({**value, 3: value[3][:-1]}),
    }
    return forms


def _unopened(deposit: Deposit) -> dict[str, bytes]:
    """Well-formed records that the right halves must not open."""
    value: Any = decode(deposit.to_record())
    header = decode_map(value[1])

    def under(**changes: Any) -> bytes:
        return encode({**value, 1: encode({**header, **{int(key[1:]): one for key, one in changes.items()}})})

    return {
        "another tenant": under(_3=bytes(16)),
        "another user": under(_4=bytes(16)),
        "another device": under(_5=bytes(16)),
        "another deposit id": under(_6=bytes(16)),
        "another generation": under(_7=GENERATION + 1),
        "another key committed to": under(_8=bytes(32)),
        "another escrow key": under(_9=bytes(32)),
        "another policy": under(_10=bytes(32)),
        "another consent": under(_11=b"\x01" * 32),
        "another commitment": encode({**value, 2: bytes(32)}),
        "another ciphertext": encode({**value, 3: bytes((value[3][0] ^ 1,)) + value[3][1:]}),
    }


def decode_map(octets: bytes) -> dict[int, Any]:
    """Return a map's fields."""
    value: Any = decode(octets)
    return dict(value)


def without(fields: dict[int, Any], key: int) -> dict[int, Any]:
    """Return the fields but one."""
    return {one: value for one, value in fields.items() if one != key}
