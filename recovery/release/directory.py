# SPDX-License-Identifier: Apache-2.0
"""The release process's own directory: what it trusts, what it has seen, what it has spent, its own keys.

Implements ESCROW "Release process". Files of mode 0600 under <directory>/<tenant>/; no other process reads it.
It decides nothing: `process` does, by the rules of `holdfast.core.escrow.release`.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from holdfast.core.base.encoding import Encodable, Fields, decode, encode
from holdfast.core.base.errors import Malformed, Untrusted
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import SIGNING_KINDS, KeyKind, PublicKey, SealingKey, SigningKey, decode_public_key
from kernel.files import write_durably

_SEED_BYTES = 32


@dataclass(frozen=True)
class ReleaseKeys:
    """The public halves, which the founders sign for in the policy's terms."""

    signing_key: PublicKey
    sealing_key: PublicKey


@dataclass(frozen=True)
class Trust:
    """What the ceremony pinned for one tenant; nothing in the database can change it."""

    root_key: PublicKey
    pin: bytes
    log_vkey: str
    is_development: bool


@dataclass(frozen=True)
class Seen:
    """The highest policy version ever seen, and its hash: an older history is refused."""

    version: int
    hash: bytes


@dataclass(frozen=True)
class Intent:
    """A case id spent: the one case, q and recipient that the HSM may be asked for under this id."""

    case_id: bytes
    q: bytes
    recipient: bytes
    at: int


class Directory:
    """One tenant's part of the release directory. Every write is durable before it returns."""

    def __init__(self, home: Path, tenant_id: UUID) -> None:
        self.tenant_id = tenant_id
        self.path = home / str(tenant_id)

    def create_keys(self) -> ReleaseKeys:
        """Make the process's own keys, once; afterwards return those there are. The ceremony calls it."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.path / "spent").mkdir(mode=0o700, exist_ok=True)
        if not (self.path / "signing.seed").exists():
            write_durably(self.path / "signing.seed", SigningKey.generate().seed().reveal())
        if not (self.path / "sealing.seed").exists():
            write_durably(self.path / "sealing.seed", SealingKey.generate().seed().reveal())
        return ReleaseKeys(self.signing_key().public, self.sealing_key().public)

    def signing_key(self) -> SigningKey:
        """Return the key that signs what this process states."""
        return SigningKey.from_seed(KeyKind.ED25519, self._seed("signing.seed"))

    def sealing_key(self) -> SealingKey:
        """Return the key that takes the outer sealing off officers' shares."""
        return SealingKey.from_seed(self._seed("sealing.seed"))

    def set_trust(self, trust: Trust) -> None:
        """Pin the tenant, once. Raises Untrusted when another pin is there already."""
        if (self.path / "trust").exists():
            if self.trust() != trust:
                raise Untrusted("the release process trusts another root for this tenant")
            return
        row: list[Encodable] = [trust.root_key.encoded, trust.pin, trust.log_vkey, int(trust.is_development)]
        write_durably(self.path / "trust", encode(row))

    def trust(self) -> Trust:
        """Return what the ceremony pinned. Raises FileNotFoundError before the ceremony, Malformed when damaged."""
        row = Fields.of_row(decode((self.path / "trust").read_bytes()), "release trust", 4)
        return Trust(
            root_key=decode_public_key(row.octets(0), expect=SIGNING_KINDS),
            pin=row.octets(1, 32),
            log_vkey=row.text(2),
            is_development=bool(row.uint(3, maximum=1)),
        )

    def seen_policy(self) -> Seen | None:
        """Return the highest policy version seen, if any."""
        try:
            row = Fields.of_row(decode((self.path / "policy").read_bytes()), "policy seen", 2)
        except FileNotFoundError:
            return None
        return Seen(row.uint(0), row.octets(1, 32))

    def see_policy(self, seen: Seen) -> None:
        """Remember a higher policy version for ever. Raises Untrusted for a lower one."""
        before = self.seen_policy()
        if before is not None and seen.version < before.version:
            raise Untrusted("the policy history is older than the one seen before")
        if seen != before:
            write_durably(self.path / "policy", encode([seen.version, seen.hash]))

    def follower(self) -> bytes | None:
        """Return the state of the log follower as kept, if any."""
        try:
            return (self.path / "follower").read_bytes()
        except FileNotFoundError:
            return None

    def keep_follower(self, state: bytes) -> None:
        """Keep the last checkpoint verified, so that no shorter or other log is believed after a restart."""
        write_durably(self.path / "follower", state)

    def intent(self, case_id: bytes) -> Intent | None:
        """Return the intent written for a case id, if any."""
        try:
            data = (self.path / "spent" / case_id.hex()).read_bytes()
        except FileNotFoundError:
            return None
        row = Fields.of_row(decode(data), "release intent", 4)
        return Intent(row.octets(0, 16), row.octets(1, 32), row.octets(2, 32), row.uint(3))

    def spend(self, intent: Intent) -> None:
        """Write the intent before the HSM is asked; a case id is spent for one q and one recipient, for ever.

        Raises Untrusted when the id is spent for another. Repeating the same intent changes nothing.
        """
        before = self.intent(intent.case_id)
        if before is None:
            row_out: list[Encodable] = [intent.case_id, intent.q, intent.recipient, intent.at]
            write_durably(self.path / "spent" / intent.case_id.hex(), encode(row_out))
        elif (before.q, before.recipient) != (intent.q, intent.recipient):
            raise Untrusted("this case id is spent for another case or another recipient")

    def _seed(self, name: str) -> SecretBytes:
        data = (self.path / name).read_bytes()
        if len(data) != _SEED_BYTES:
            raise Malformed(f"release key {name}: not 32 bytes")
        return SecretBytes(data)


def tenants(home: Path) -> list[UUID]:
    """List the tenants whose trust the ceremony has pinned here."""
    return sorted(UUID(path.parent.name) for path in home.glob("*/trust"))


@contextmanager
def only_process(home: Path) -> Iterator[None]:
    """Hold the directory for this process alone. Raises BlockingIOError when another process has it.

    Two processes on one directory could both find a case unspent; with the lock, a case that stands in
    `releasing` at start was left by a dead process and is ours to finish.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
