# SPDX-License-Identifier: Apache-2.0
"""Pre-key bundles: checking a batch when it is uploaded, and a whole bundle before anybody uses it.

Implements PROTOCOL sections 2, 4 ("all signatures before any DH") and 7. Shapes of the statements are in `prekeys`.
Derives no secret: the handshake does, with what is verified here.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from holdfast.core.base.encoding import Encodable, Fields, decode, encode
from holdfast.core.base.errors import Malformed, Untrusted
from holdfast.core.base.secret import SecretBytes
from holdfast.core.base.writing import require_readable
from holdfast.core.crypto.keys import AgreementKey, KemKey, SigningKey
from holdfast.core.crypto.suites import Suite
from holdfast.core.identity.chain import ChainState
from holdfast.core.log import merkle
from holdfast.core.messages.prekeys import MAX_BATCH, BatchStatement, OneTimePreKey, SignedPreKey
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.payloads import Header, check_time
from holdfast.core.signed.statements import DeviceStatement

# 100 hybrid leaves are some 127 KB, more than MAX_BLOB has room for.
MAX_LEAVES: Final = 256 * 1024  # bytes


@dataclass(frozen=True)
class PrivatePreKey:
    """The private half of a pre-key, as seeds: dh 32 bytes, kem 64 bytes or none."""

    key_id: int
    dh: SecretBytes
    kem: SecretBytes | None

    @classmethod
    def generate(cls, key_id: int, suite: Suite) -> tuple[PrivatePreKey, OneTimePreKey]:
        """Make a fresh pre-key, and its public half."""
        dh = AgreementKey.generate(suite.agreement_kind)
        kem = KemKey.generate() if suite.has_kem else None
        private = cls(key_id, dh.seed(), kem.seed() if kem else None)
        return private, OneTimePreKey(key_id, dh.public, kem.public if kem else None)


@dataclass(frozen=True)
class BuiltBatch:
    """What a device uploads, and what it keeps. leaves: dCBOR array of leaf bytes, as `PUT … pre-keys` takes it."""

    statement: Sign1
    leaves: bytes
    private: tuple[PrivatePreKey, ...]


def build_batch(header: Header, *, suite: Suite, first_key_id: int, size: int, signing_key: SigningKey) -> BuiltBatch:
    """Make `size` (1 to 100) one-time pre-keys with ascending ids, under one signature. PROTOCOL section 2."""
    made = [PrivatePreKey.generate(first_key_id + offset, suite) for offset in range(size)]
    leaves = [public.to_leaf() for _, public in made]
    # Ids ascend and all else is of one form: what holds of the first and the last holds of those between. Each of a
    # hundred hybrid keys read again would cost half as much as making it.
    for leaf in {*leaves[:1], *leaves[-1:]}:
        require_readable(lambda written: OneTimePreKey.from_leaf(written, suite), leaf)
    # One signature for all: a taker checks it and seven hashes (PROTOCOL section 2).
    root = merkle.root([merkle.leaf_hash(leaf) for leaf in leaves])
    statement = BatchStatement(header, suite, secrets.token_bytes(16), size, root)
    signed = cose.sign(statement.to_payload(), purpose=Purpose.PREKEY, key=signing_key)
    return BuiltBatch(signed, encode(list[Encodable](leaves)), tuple(private for private, _ in made))


def one_time_statement(batch: bytes, leaf: bytes) -> bytes:
    """Return dCBOR([payload of the batch statement, leaf]): a one-time pre-key's signed bytes. PROTOCOL section 4."""
    # Both parts, since the leaf alone says neither whose key it is nor for how long; ids can repeat between devices.
    return encode([batch, leaf])


@dataclass(frozen=True)
class VerifiedLeaf:
    """One one-time pre-key of a verified batch. proof: seven hashes for 100 leaves, concatenated."""

    key_id: int
    index: int
    leaf: bytes
    proof: bytes


@dataclass(frozen=True)
class VerifiedBatch:
    """A batch whose signature and root hold, ready to be handed out leaf by leaf."""

    statement: BatchStatement
    leaves: tuple[VerifiedLeaf, ...]

    @property
    def first_key_id(self) -> int:
        """The lowest key id."""
        return self.leaves[0].key_id

    @property
    def last_key_id(self) -> int:
        """The highest key id."""
        return self.leaves[-1].key_id


def verify_batch_upload(statement: Sign1, leaves: bytes, *, device: DeviceStatement, now: int) -> VerifiedBatch:
    """Check an uploaded batch of one device: one signature, one root, every key. For the server.

    Raises InvalidSignature, Expired; Untrusted when it is of another device, user, tenant or suite, or the leaves do
    not lead to the signed root; Malformed for leaves that are not keys of the suite with strictly ascending ids.
    """
    # Signature, owner, time and root come before the keys: only for a device's own leaves are 100 ML-KEM keys checked.
    statement.verify(device.signing_key, purpose=Purpose.PREKEY)
    batch = BatchStatement.from_payload(statement.payload)
    _require_of_device(batch.header, batch.suite, device)
    check_time(batch.header, now)
    rows = _leaf_list(leaves)
    # An inclusion proof is made for the signed size: with another number of leaves no proof would hold.
    if len(rows) != batch.size:
        raise Malformed("pre-key batch: holds another number of leaves than it says")
    hashes = [merkle.leaf_hash(leaf) for leaf in rows]
    if merkle.root(hashes) != batch.root:
        raise Untrusted("the leaves are not those that the batch signs")
    # Every key is parsed now: a bad one, handed out later, would be found by a sender who cannot mend it.
    ids = [OneTimePreKey.from_leaf(leaf, batch.suite).key_id for leaf in rows]
    # Two leaves of one id are two keys of one name: the device would answer one sender with the other's private half.
    if any(later <= earlier for earlier, later in pairwise(ids)):
        raise Malformed("pre-key batch: key ids do not ascend")
    return VerifiedBatch(
        batch,
        tuple(
            VerifiedLeaf(key_id, index, leaf, b"".join(proof))
            for index, (key_id, leaf, proof) in enumerate(zip(ids, rows, merkle.inclusion_proofs(hashes), strict=True))
        ),
    )


def _leaf_list(leaves: bytes) -> list[bytes]:
    value = decode(leaves, max_size=MAX_LEAVES)
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_BATCH:
        raise Malformed("pre-key batch: not an array of 1 to 100 leaves")
    rows = Fields(dict(enumerate(value)), "pre-key batch", range(len(value)))
    # bytes: the largest leaf has 1,265, with P-256 and ML-KEM
    return [rows.octets(index, maximum=2048) for index in range(len(value))]


def verify_signed_pre_key(statement: Sign1, *, device: DeviceStatement, now: int) -> SignedPreKey:
    """Check a device's signed pre-key. Raises InvalidSignature, Malformed, Expired, Untrusted."""
    statement.verify(device.signing_key, purpose=Purpose.PREKEY)
    signed = SignedPreKey.from_payload(statement.payload)
    _require_of_device(signed.header, signed.suite, device)
    check_time(signed.header, now)
    return signed


def _require_of_device(header: Header, suite: Suite, device: DeviceStatement) -> None:
    own = device.header
    # The signature shows the key, the header shows the place: a key moved to another tenant keeps its signatures.
    if (header.tenant, header.user, header.device) != (own.tenant, own.user, own.device):
        raise Untrusted("a pre-key of another tenant, user or device")
    if suite is not device.suite:
        raise Untrusted("a pre-key of another suite than its device's")


@dataclass(frozen=True)
class OneTimePart:
    """A one-time pre-key as it is handed out, with what proves it."""

    batch: Sign1
    leaf: bytes
    index: int
    proof: bytes


@dataclass(frozen=True)
class PreKeyBundle:
    """A bundle as received. one_time is None when the device has none left (FAULTS S13)."""

    suite: int
    chain_head: bytes
    device_statement: Sign1
    signed_pre_key: Sign1
    one_time: OneTimePart | None


@dataclass(frozen=True)
class VerifiedBundle:
    """A bundle whose every signature holds under its owner's verified chain. Made by verify_bundle only.

    The three byte strings are what was signed, as the handshake's transcript takes it: the payload of the device
    statement, that of the signed pre-key, and one_time_statement() or b"".
    """

    device: DeviceStatement
    signed_pre_key: SignedPreKey
    one_time: OneTimePreKey | None
    device_bytes: bytes
    signed_pre_key_bytes: bytes
    one_time_bytes: bytes

    @property
    def is_last_resort(self) -> bool:
        """Whether no one-time key came with it: the session starts with less, and says so."""
        return self.one_time is None


def verify_bundle(
    bundle: PreKeyBundle, *, chain: ChainState, device: bytes, now: int, pinned_suite: Suite | None = None
) -> VerifiedBundle:
    """Check a claimed bundle of one device of the user whose verified chain this is.

    device: the 16-byte id that was asked for. pinned_suite: the contact's known suite, from which only 1→2 and 3→4 are
    moves. Raises InvalidSignature, Malformed, Expired; Untrusted for a device that the chain does not list, another
    statement than it lists, another tenant or user, a leaf that is not in its batch, a downgrade.
    """
    # In this order: the device holds its key, it is the one asked for, its owner's chain lists exactly this statement,
    # the suite is no step down, nothing has ended; then the pre-keys under the key so proven. All before any DH: X3DH
    # "Signatures" tells the attack, a server's own pre-key now and the stolen identity key later (FAULTS S12).
    statement = DeviceStatement.open(bundle.device_statement)
    own = statement.header
    if (own.tenant, own.user, own.device) != (chain.tenant, chain.user, device):
        raise Untrusted("the bundle is of another tenant, user or device than was asked for")
    # By hash: a device that signs a second statement with other keys has not been accepted with those.
    if chain.devices.get(device) != bundle.device_statement.payload_hash:
        raise Untrusted("the account chain does not list this device statement")
    if bundle.suite != statement.suite or not is_move(pinned_suite, statement.suite):
        raise Untrusted("the bundle's suite is not the contact's")
    check_time(own, now)
    signed = verify_signed_pre_key(bundle.signed_pre_key, device=statement, now=now)
    part = bundle.one_time
    return VerifiedBundle(
        device=statement,
        signed_pre_key=signed,
        # "None left" is the server's word and cannot be checked: the session begins, and is marked (FAULTS S13).
        one_time=_verify_one_time(part, statement, now) if part else None,
        device_bytes=bundle.device_statement.payload,
        signed_pre_key_bytes=bundle.signed_pre_key.payload,
        one_time_bytes=one_time_statement(part.batch.payload, part.leaf) if part else b"",
    )


def _verify_one_time(part: OneTimePart, device: DeviceStatement, now: int) -> OneTimePreKey:
    part.batch.verify(device.signing_key, purpose=Purpose.PREKEY)
    batch = BatchStatement.from_payload(part.batch.payload)
    _require_of_device(batch.header, batch.suite, device)
    check_time(batch.header, now)
    # A remainder would be dropped by the slices below: two proofs for one leaf.
    if len(part.proof) % merkle.HASH_SIZE:
        raise Malformed("pre-key bundle: the proof is not whole hashes")
    proof = [part.proof[at : at + merkle.HASH_SIZE] for at in range(0, len(part.proof), merkle.HASH_SIZE)]
    merkle.verify_inclusion(
        merkle.leaf_hash(part.leaf), index=part.index, size=batch.size, proof=proof, expected_root=batch.root
    )
    # Parsed once the leaf is known to be signed, and by the rules of the signed suite, not of what the leaf has.
    return OneTimePreKey.from_leaf(part.leaf, batch.suite)


def is_move(pinned: Suite | None, offered: Suite) -> bool:
    """Whether a contact whose suite is `pinned` may be met under `offered`: the same, or a move 1→2 or 3→4."""
    moves = {(Suite.CLASSICAL, Suite.HYBRID), (Suite.CLASSICAL_P256, Suite.HYBRID_P256)}
    # None: the first contact, when there is nothing to fall back from.
    return pinned is None or pinned is offered or (pinned, offered) in moves
