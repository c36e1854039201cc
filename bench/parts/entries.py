# SPDX-License-Identifier: Apache-2.0
"""Audit entries: signing one and checking one, each beside its bare Ed25519 operation with the unsigned work around it.

Ours and the floor take turns, and the best of each counts: what is left is the work itself.
"""

from __future__ import annotations

import hashlib
import secrets
from uuid import uuid4

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.world import best_of, report, row
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import KeyKind, SigningKey
from holdfast.core.identity.roles import RoleKey, Roles, check_leaf
from holdfast.core.log.log_entry import LogEntry, log_origin
from holdfast.core.log.writers import Role
from holdfast.core.signed.payloads import Header

ROUNDS = 200
PER_ROUND = 50
GOAL = "<= 1.2"

TENANT = uuid4()
SEED = secrets.token_bytes(32)
KEY = SigningKey.from_seed(KeyKind.ED25519, SecretBytes(SEED))
BARE = Ed25519PrivateKey.from_private_bytes(SEED)
BARE_PUBLIC = BARE.public_key()
# What most entries are: who did it, to what, an id, a hash and a number.
ENTRY = LogEntry(
    entry_id=uuid4().bytes,
    tag="escrow:deposit:accept",
    actor=f"device:{uuid4()}",
    person=uuid4().bytes,
    subject=str(uuid4()),
    time=1_700_000_000,
    body={"deposit": uuid4().bytes, "generation": 7, "record": hashlib.sha256(b"record").digest()},
)


def main() -> None:
    """Measure both and print the rows."""
    origin = log_origin(str(TENANT), "audit")
    roles = Roles(Header(TENANT.bytes, b"", b"", 1_700_000_000), 1, (RoleKey(Role.WEB, KEY.public),))
    signed = ENTRY.to_signed_leaf(origin=origin, key=KEY)
    # As many bytes as the signature is over: the leaf without its last field.
    message = signed[:-67]
    signature = BARE.sign(message)

    def sign() -> None:
        ENTRY.to_signed_leaf(origin=origin, key=KEY)

    def bare_sign() -> None:
        ENTRY.to_leaf()
        BARE.sign(message)

    def check() -> None:
        check_leaf(signed, index=0, roles=roles)

    def bare_check() -> None:
        LogEntry.from_leaf(signed)
        BARE_PUBLIC.verify(signature, message)

    report(
        [
            row(
                "encode and sign an audit entry",
                *best_of(sign, bare_sign, rounds=ROUNDS, per=PER_ROUND),
                "µs",
                scale=1e6,
                goal=GOAL,
            ),
            row(
                "decode and check an audit entry",
                *best_of(check, bare_check, rounds=ROUNDS, per=PER_ROUND),
                "µs",
                scale=1e6,
                goal=GOAL,
            ),
        ]
    )


if __name__ == "__main__":
    main()
