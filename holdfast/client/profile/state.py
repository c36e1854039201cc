# SPDX-License-Identifier: Apache-2.0
"""What one device remembers between commands, and its bytes inside the encrypted profile and the vault.

Implements PROTOCOL section 2 (vault contents) in the strict CBOR profile.
Does not judge anything: what is pinned here was verified by the module that put it here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from holdfast.core.base.encoding import MAX_VAULT, Encodable, Fields, Value, decode, encode
from holdfast.core.base.errors import Malformed
from holdfast.core.base.secret import SecretBytes

VERSION: Final = 1
MAX_STATE: Final = 2 * MAX_VAULT - 4096  # with its frame, what a row holds
_SEED_SIZES: Final = (0, 32)


def _octets(items: Sequence[Value], what: str) -> list[bytes]:
    row = Fields.of_row(list(items), what, len(items))
    return [row.octets(index) for index in range(len(items))]


def _texts(items: Sequence[Value], what: str) -> list[str]:
    row = Fields.of_row(list(items), what, len(items))
    return [row.text(index, maximum=4096) for index in range(len(items))]


@dataclass
class Trust:
    """What this client holds its tenant to. `pin` is 32 bytes; `is_tofu` says it was taken from the server.

    policies, escrow_keys: every version's statement as received, oldest first, each verified when taken.
    checkpoints: per log origin, the newest signed checkpoint this client has seen.
    """

    pin: bytes = b""
    is_tofu: bool = False
    is_development: bool = False
    root_key: bytes = b""
    policies: list[bytes] = field(default_factory=list)
    escrow_keys: list[bytes] = field(default_factory=list)
    log_keys: list[str] = field(default_factory=list)
    checkpoints: dict[str, str] = field(default_factory=dict)

    def to_value(self) -> dict[int, Encodable]:
        return {
            1: self.pin,
            2: int(self.is_tofu),
            3: int(self.is_development),
            4: self.root_key,
            5: self.policies,
            6: self.escrow_keys,
            7: self.log_keys,
            8: [[origin, text] for origin, text in sorted(self.checkpoints.items())],
        }

    @classmethod
    def from_value(cls, value: Value) -> Trust:
        read = Fields(value, "profile trust", range(1, 9))
        rows = [Fields.of_row(row, "profile checkpoint", 2) for row in read.array(8)]
        return cls(
            pin=read.octets(1, (0, 32)),
            is_tofu=bool(read.uint(2, maximum=1)),
            is_development=bool(read.uint(3, maximum=1)),
            root_key=read.octets(4),
            policies=_octets(read.array(5), "profile policies"),
            escrow_keys=_octets(read.array(6), "profile escrow keys"),
            log_keys=_texts(read.array(7), "profile log keys"),
            checkpoints={row.text(0): row.text(1, maximum=4096) for row in rows},
        )


@dataclass
class Device:
    """This device: 16-byte id, three seeds of 32 bytes, its signed statement, and whether the chain lists it."""

    id: bytes
    signing_seed: SecretBytes
    agreement_seed: SecretBytes
    sealing_seed: SecretBytes
    statement: bytes
    is_active: bool = False

    def to_value(self) -> dict[int, Encodable]:
        return {
            1: self.id,
            2: self.signing_seed.reveal(),
            3: self.agreement_seed.reveal(),
            4: self.sealing_seed.reveal(),
            5: self.statement,
            6: int(self.is_active),
        }

    @classmethod
    def from_value(cls, value: Value) -> Device:
        read = Fields(value, "profile device", range(1, 7))
        return cls(
            id=read.octets(1, 16),
            signing_seed=SecretBytes(read.octets(2, 32)),
            agreement_seed=SecretBytes(read.octets(3, 32)),
            sealing_seed=SecretBytes(read.octets(4, 32)),
            statement=read.octets(5),
            is_active=bool(read.uint(6, maximum=1)),
        )


@dataclass
class Generation:
    """One archive key: generation g, 32-byte key, start, commitment; and its newest deposit, once acknowledged."""

    number: int
    key: SecretBytes
    not_before: int
    commitment: bytes
    deposit_id: bytes = b""
    record_hash: bytes = b""
    is_exposed: bool = False

    def to_value(self) -> list[Encodable]:
        return [
            self.number,
            self.key.reveal(),
            self.not_before,
            self.commitment,
            self.deposit_id,
            self.record_hash,
            int(self.is_exposed),
        ]

    @classmethod
    def from_value(cls, value: Value) -> Generation:
        row = Fields.of_row(value, "profile generation", 7)
        return cls(
            number=row.uint(0),
            key=SecretBytes(row.octets(1, 32)),
            not_before=row.uint(2),
            commitment=row.octets(3, 32),
            deposit_id=row.octets(4, (0, 16)),
            record_hash=row.octets(5, (0, 32)),
            is_exposed=bool(row.uint(6, maximum=1)),
        )


@dataclass
class Contact:
    """A peer as pinned: her chain as verified, entry by entry, and the entries of a new beginning not yet confirmed.

    suite: the suite her devices were first seen with; 0 before any. verified: the chain head (32 bytes) at which two
    people compared a number or words; empty before, and after a new beginning.
    """

    user: bytes
    entries: list[bytes]
    unconfirmed: list[bytes] = field(default_factory=list)
    suite: int = 0
    verified: bytes = b""

    def to_value(self) -> list[Encodable]:
        return [self.user, self.entries, self.unconfirmed, self.suite, self.verified]

    @classmethod
    def from_value(cls, value: Value) -> Contact:
        row = Fields.of_row(value, "profile contact", 5)
        return cls(
            user=row.octets(0, 16),
            entries=_octets(row.array(1), "profile contact"),
            unconfirmed=_octets(row.array(2), "profile contact"),
            suite=row.uint(3, maximum=4),
            verified=row.octets(4, (0, 32)),
        )


@dataclass
class VaultKey:
    """The key of the server-side vault: epoch, 32-byte VK (empty before there is one), highest version seen."""

    epoch: int = 0
    key: SecretBytes = field(default_factory=lambda: SecretBytes(b""))
    version: int = 0

    def to_value(self) -> list[Encodable]:
        return [self.epoch, self.key.reveal(), self.version]

    @classmethod
    def from_value(cls, value: Value) -> VaultKey:
        row = Fields.of_row(value, "profile vault", 3)
        return cls(row.uint(0), SecretBytes(row.octets(1, _SEED_SIZES)), row.uint(2))


@dataclass
class OpenCase:
    """The case this device is the recipient of: keys made for it alone, destroyed when it ends.

    recipient_rsa: PKCS#8 DER. new_identity: the seed of the identity key that will begin the account again.
    """

    case_id: bytes
    statement: bytes
    recipient_rsa: SecretBytes
    recipient_seed: SecretBytes
    new_identity: SecretBytes

    def to_value(self) -> list[Encodable]:
        return [
            self.case_id,
            self.statement,
            self.recipient_rsa.reveal(),
            self.recipient_seed.reveal(),
            self.new_identity.reveal(),
        ]

    @classmethod
    def from_value(cls, value: Value) -> OpenCase:
        row = Fields.of_row(value, "profile case", 5)
        return cls(
            case_id=row.octets(0, 16),
            statement=row.octets(1),
            recipient_rsa=SecretBytes(row.octets(2)),
            recipient_seed=SecretBytes(row.octets(3, 32)),
            new_identity=SecretBytes(row.octets(4, 32)),
        )


@dataclass
class OfficerKeys:
    """An officer's own two keys, apart from any device's: seeds of 32 bytes."""

    signing_seed: SecretBytes
    sealing_seed: SecretBytes

    def to_value(self) -> list[Encodable]:
        return [self.signing_seed.reveal(), self.sealing_seed.reveal()]

    @classmethod
    def from_value(cls, value: Value) -> OfficerKeys:
        row = Fields.of_row(value, "profile officer keys", 2)
        return cls(SecretBytes(row.octets(0, 32)), SecretBytes(row.octets(1, 32)))


@dataclass
class State:
    """Everything of one profile. identity_seed is the AIK's, empty on a device that has not got it yet.

    chain: the user's own account chain, every entry as received and verified. contacts: kept as rows of their own
    (`state_rows`), and so in no bytes of the state.
    """

    server: str = ""
    trust: Trust = field(default_factory=Trust)
    device: Device | None = None
    identity_seed: SecretBytes = field(default_factory=lambda: SecretBytes(b""))
    chain: list[bytes] = field(default_factory=list)
    generations: list[Generation] = field(default_factory=list)
    contacts: dict[bytes, Contact] = field(default_factory=dict)
    vault: VaultKey = field(default_factory=VaultKey)
    consent: bytes = b""
    case: OpenCase | None = None
    officer: OfficerKeys | None = None

    def to_secret(self) -> SecretBytes:
        """Return the bytes of the state without its contacts."""
        fields: dict[int, Encodable] = {
            1: VERSION,
            2: self.server,
            3: self.trust.to_value(),
            5: self.identity_seed.reveal(),
            6: self.chain,
            8: [one.to_value() for one in self.generations],
            10: self.vault.to_value(),
            11: self.consent,
        }
        if self.device:
            fields[4] = self.device.to_value()
        if self.case:
            fields[12] = self.case.to_value()
        if self.officer:
            fields[13] = self.officer.to_value()
        return SecretBytes(encode(fields))

    @classmethod
    def from_secret(cls, secret: SecretBytes) -> State:
        """Read the state. Raises Malformed for bytes that this version did not write."""
        value = decode(secret.reveal(), max_size=MAX_STATE)
        read = Fields(value, "profile", (1, 2, 3, 5, 6, 8, 10, 11), (4, 12, 13))
        if read.uint(1) != VERSION:
            raise Malformed("profile: written by another version of this program")
        return cls(
            server=read.text(2),
            trust=Trust.from_value(read.value(3)),
            device=Device.from_value(read.value(4)) if 4 in read else None,
            identity_seed=SecretBytes(read.octets(5, _SEED_SIZES)),
            chain=_octets(read.array(6), "profile chain"),
            generations=[Generation.from_value(row) for row in read.array(8)],
            vault=VaultKey.from_value(read.value(10)),
            consent=read.octets(11),
            case=OpenCase.from_value(read.value(12)) if 12 in read else None,
            officer=OfficerKeys.from_value(read.value(13)) if 13 in read else None,
        )

    def generation(self, number: int) -> Generation | None:
        """Return the archive key of one generation, if this device has it."""
        return next((one for one in self.generations if one.number == number), None)
