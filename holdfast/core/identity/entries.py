# SPDX-License-Identifier: Apache-2.0
"""The entries of an account chain: eight types, to bytes and back.

Implements the `chain` statement of PROTOCOL sections 3 and 5.
Does not know whether an entry is valid where it stands; `chain` does.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import ClassVar, Final, TypeAlias

from holdfast.core.base.encoding import MAX_STATEMENT, Encodable, Fields, Value, decode, encode
from holdfast.core.base.errors import Malformed
from holdfast.core.crypto.keys import SIGNING_KINDS, PublicKey, SigningKey
from holdfast.core.identity.policy import MAX_OFFICERS
from holdfast.core.signed.cose import Purpose, Sign1, many_from_value, sign
from holdfast.core.signed.payloads import (
    HASH_SIZE,
    ID_SIZE,
    MAX_U32,
    Header,
    close_payload,
    open_payload,
    read_key,
    require_user,
)

# A rotation has two signers; nothing in a chain has more.
MAX_ENTRY_SIGNERS: Final = 2


class Reason(IntEnum):
    """Why a device is revoked or a key rotated."""

    SCHEDULE = 1
    USER_REQUEST = 2
    SECURITY_EVENT = 3
    DEVICE_LOST = 4
    DEVICE_COMPROMISED = 5
    DEVICE_RETIRED = 6
    RECOVERY = 7


# A device that goes for one of these goes in its owner's hands. After any other, and one that this version does not
# know, somebody else may have it.
_ORDERLY: Final = frozenset({Reason.SCHEDULE, Reason.USER_REQUEST, Reason.DEVICE_RETIRED})


def is_loss(reason: int) -> bool:
    """Tell whether a device that is revoked for this reason may be in somebody else's hands."""
    return reason not in _ORDERLY


def _read_reason(fields: Fields, key: int) -> Reason:
    # The bound before the enum: its own ValueError would be a crash and no refusal.
    return Reason(fields.uint(key, minimum=1, maximum=len(Reason)))


@dataclass(frozen=True)
class Genesis:
    """The first entry: the identity that everything else in the chain rests on."""

    TYPE: ClassVar = 1

    aik: PublicKey
    recovery_key: PublicKey | None

    def to_map(self) -> dict[int, Encodable]:
        """Return {1: AIK, 2: recovery public key when there is one}."""
        recovery = {2: self.recovery_key.encoded} if self.recovery_key else {}
        return {1: self.aik.encoded, **recovery}

    @classmethod
    def from_map(cls, value: Value) -> "Genesis":
        """Read the body; raises Malformed."""
        fields = Fields(value, "genesis", (1,), (2,))
        recovery = read_key(fields, 2, SIGNING_KINDS) if 2 in fields else None
        return cls(read_key(fields, 1, SIGNING_KINDS), recovery)


@dataclass(frozen=True)
class AddDevice:
    """A device of the user, by its id and the hash of its device statement."""

    TYPE: ClassVar = 2

    device: bytes
    statement_hash: bytes

    def to_map(self) -> dict[int, Encodable]:
        """Return {1: hash of the device statement, 2: device}."""
        return {1: self.statement_hash, 2: self.device}

    @classmethod
    def from_map(cls, value: Value) -> "AddDevice":
        """Read the body; raises Malformed."""
        fields = Fields(value, "add device", (1, 2))
        return cls(device=fields.octets(2, ID_SIZE), statement_hash=fields.octets(1, HASH_SIZE))


@dataclass(frozen=True)
class RevokeDevice:
    """A device that is the user's no longer. since: UTC seconds from which the user doubts it."""

    TYPE: ClassVar = 3

    device: bytes
    reason: Reason
    since: int

    def to_map(self) -> dict[int, Encodable]:
        """Return {1: device, 2: reason, 3: since}."""
        return {1: self.device, 2: int(self.reason), 3: self.since}

    @classmethod
    def from_map(cls, value: Value) -> "RevokeDevice":
        """Read the body; raises Malformed."""
        fields = Fields(value, "revoke device", (1, 2, 3))
        return cls(fields.octets(1, ID_SIZE), _read_reason(fields, 2), fields.uint(3))


@dataclass(frozen=True)
class RotateKey:
    """A new AIK, signed by the old one (or the recovery key) and by itself."""

    TYPE: ClassVar = 4

    aik: PublicKey
    reason: Reason

    def to_map(self) -> dict[int, Encodable]:
        """Return {1: new AIK, 2: reason}."""
        return {1: self.aik.encoded, 2: int(self.reason)}

    @classmethod
    def from_map(cls, value: Value) -> "RotateKey":
        """Read the body; raises Malformed."""
        fields = Fields(value, "rotate key", (1, 2))
        return cls(read_key(fields, 1, SIGNING_KINDS), _read_reason(fields, 2))


@dataclass(frozen=True)
class SetRecoveryKey:
    """The public half of the key that the recovery phrase holds."""

    TYPE: ClassVar = 5

    recovery_key: PublicKey

    def to_map(self) -> dict[int, Encodable]:
        """Return {1: recovery public key}."""
        return {1: self.recovery_key.encoded}

    @classmethod
    def from_map(cls, value: Value) -> "SetRecoveryKey":
        """Read the body; raises Malformed."""
        return cls(read_key(Fields(value, "set recovery key", (1,)), 1, SIGNING_KINDS))


@dataclass(frozen=True)
class ArchiveGeneration:
    """A generation of the archive key: from when it is used, and the commitment that a release must match."""

    TYPE: ClassVar = 6

    generation: int
    not_before: int
    commitment: bytes

    def to_map(self) -> dict[int, Encodable]:
        """Return {1: g, 2: not_before, 3: commitment}."""
        return {1: self.generation, 2: self.not_before, 3: self.commitment}

    @classmethod
    def from_map(cls, value: Value) -> "ArchiveGeneration":
        """Read the body; raises Malformed."""
        fields = Fields(value, "archive generation", (1, 2, 3))
        return cls(fields.uint(1, maximum=MAX_U32), fields.uint(2), fields.octets(3, HASH_SIZE))


@dataclass(frozen=True)
class ShareManifest:
    """The hash of the manifest of shares that the user's trusted contacts hold."""

    TYPE: ClassVar = 7

    manifest_hash: bytes

    def to_map(self) -> dict[int, Encodable]:
        """Return {1: hash of the manifest statement}."""
        return {1: self.manifest_hash}

    @classmethod
    def from_map(cls, value: Value) -> "ShareManifest":
        """Read the body; raises Malformed."""
        return cls(Fields(value, "share manifest", (1,)).octets(1, HASH_SIZE))


@dataclass(frozen=True)
class ReGenesis:
    """A new identity for a user who lost every door, on the word of at least m officers."""

    TYPE: ClassVar = 8

    aik: PublicKey
    attestations: tuple[Sign1, ...]
    policy_hash: bytes

    def to_map(self) -> dict[int, Encodable]:
        """Return {1: new AIK, 2: [attestation statement…], 3: hash of the policy they attest under}."""
        return {
            1: self.aik.encoded,
            2: [statement.encode() for statement in self.attestations],
            3: self.policy_hash,
        }

    @classmethod
    def from_map(cls, value: Value) -> "ReGenesis":
        """Read the body; raises Malformed."""
        fields = Fields(value, "re-genesis", (1, 2, 3))
        # Two is the smallest quorum there is, the roster's size the largest. How many it takes is the policy's to say.
        items = fields.array(2, minimum=2, maximum=MAX_OFFICERS)
        rows = Fields(dict(enumerate(items)), "re-genesis attestations", range(len(items)))
        return cls(
            aik=read_key(fields, 1, SIGNING_KINDS),
            attestations=tuple(Sign1.parse(rows.octets(i)) for i in range(len(items))),
            policy_hash=fields.octets(3, HASH_SIZE),
        )


Body: TypeAlias = (
    Genesis | AddDevice | RevokeDevice | RotateKey | SetRecoveryKey | ArchiveGeneration | ShareManifest | ReGenesis
)
# By the number on the wire. An unknown type is refused: whoever skips an entry cannot know what it took away.
_BODIES: Final[dict[int, type[Body]]] = {
    body.TYPE: body
    for body in (
        Genesis,
        AddDevice,
        RevokeDevice,
        RotateKey,
        SetRecoveryKey,
        ArchiveGeneration,
        ShareManifest,
        ReGenesis,
    )
}


@dataclass(frozen=True)
class Entry:
    """One entry as received or as made here: its signatures over one payload, and what the payload says."""

    signatures: tuple[Sign1, ...]
    header: Header
    seq: int
    prev: bytes
    body: Body

    @classmethod
    def parse(cls, data: bytes) -> "Entry":
        """Read one entry of at most 16 KiB: a Sign1, or an array of two of them. Raises Malformed."""
        value = decode(data)
        # A Sign1 is an array that begins with bytes, an array of them begins with an array: no mark is needed to tell.
        if isinstance(value, list) and value and isinstance(value[0], list):
            signatures = many_from_value(value)
            if len(signatures) != MAX_ENTRY_SIGNERS:
                # An array of one would be a second encoding of the single form.
                raise Malformed("chain entry: an array of signers is of exactly two")
        else:
            signatures = (Sign1.from_value(value),)
        return cls._of(signatures)

    @classmethod
    def _of(cls, signatures: tuple[Sign1, ...]) -> "Entry":
        # The payload of the first; that all payloads are the same bytes, `many_from_value` has seen to.
        header, fields = open_payload(signatures[0].payload, "chain entry", range(7, 11))
        require_user(header, "chain entry")
        seq = fields.uint(7, maximum=MAX_U32)
        shape = _BODIES.get(fields.uint(9))
        if shape is None:
            raise fields.refuse(9, "is not a known type")
        # Nothing precedes the first entry, and every other names exactly one.
        prev = fields.octets(8, HASH_SIZE if seq else 0)
        return cls(signatures, header, seq, prev, shape.from_map(fields.value(10)))

    @classmethod
    def make(cls, header: Header, seq: int, prev: bytes, body: Body, signers: Iterable[SigningKey]) -> "Entry":
        """Sign an entry with each of one or two keys, in the order in which they must stand.

        Raises Malformed for an entry that no verifier would read, above all one of over 16 KiB.
        """
        payload = close_payload(header, {7: seq, 8: prev, 9: body.TYPE, 10: body.to_map()})
        # Read back as a verifier will: what cannot be read must not be signed, since a chain never forgets an entry.
        entry = cls._of(tuple(sign(payload, purpose=Purpose.CHAIN, key=key) for key in signers))
        if len(entry.encode()) > MAX_STATEMENT:
            raise Malformed("chain entry: above 16 KiB")
        return entry

    @cached_property
    def hash(self) -> bytes:
        """SHA-256(dCBOR([protected, payload])) of the first signature: what the next entry names."""
        # Of what was signed, and never of the signature: an ECDSA signature has a twin, and one entry would have two
        # names. The protected header is in it, so that the first signer's key is fixed too.
        return self.signatures[0].entry_hash

    def encode(self) -> bytes:
        """Return the bytes of the entry: the received ones, since only one encoding parses."""
        if len(self.signatures) == 1:
            return self.signatures[0].encode()
        return encode([signature.value() for signature in self.signatures])
