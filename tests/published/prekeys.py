# SPDX-License-Identifier: Apache-2.0
"""A batch of one-time pre-keys as it is uploaded, bundles as they are handed out, and what is refused of both."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from holdfast.core.base.encoding import Encodable, encode
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.crypto.suites import Suite
from holdfast.core.messages.bundle import (
    OneTimePart,
    PreKeyBundle,
    PrivatePreKey,
    VerifiedBatch,
    build_batch,
    verify_batch_upload,
)
from holdfast.core.messages.prekeys import BatchStatement
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.payloads import Header
from tests.cast.devices import Device
from tests.cast.statements import NOW, id_of
from tests.published.mutations import malformed

SIZE: Final = 3  # no power of two, so that proofs differ in length


def write() -> dict[str, object]:
    """Make the file anew: every key is fresh."""
    return {"page": "docs/formats/pre-keys.md", "now": NOW, "suites": [_suite(suite) for suite in Suite]}


def _suite(suite: Suite) -> dict[str, object]:
    bob = Device("bob", suite)
    header = Header(bob.tenant, bob.user, bob.id, NOW)
    built = build_batch(header, suite=suite, first_key_id=100, size=SIZE, signing_key=bob.signing)
    batch = verify_batch_upload(built.statement, built.leaves, device=bob.statement, now=NOW)
    leaves = [one.leaf for one in batch.leaves]
    shown = [_bundle(bob, built.statement, batch, index) for index in range(SIZE)]
    return {
        "suite": int(suite),
        "owner": {name: value.hex() for name, value in _owner(bob).items()},
        "device_statement": bob.signed_statement.encode().hex(),
        "batch": {
            "statement": built.statement.encode().hex(),
            "leaves": built.leaves.hex(),
            "root": batch.statement.root.hex(),
            "keys": [_key(one) for one in built.private],
        },
        "bundles": [_row(one) for one in (*shown, replace(shown[0], one_time=None))],
        # Of each, what differs from the batch and from the first bundle.
        "refused_batches": [
            {"why": why} | _differing(_upload(statement, octets), _upload(built.statement, built.leaves))
            for why, (statement, octets) in _batches(bob, built.statement, leaves).items()
        ],
        "refused_bundles": [
            {"why": why} | _differing(_row(one), _row(shown[0])) for why, one in _bundles(bob, shown).items()
        ],
    }


def _upload(statement: Sign1, leaves: bytes) -> dict[str, object]:
    return {"statement": statement.encode().hex(), "leaves": leaves.hex()}


def _differing(row: dict[str, object], good: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in row.items() if value != good[name]}


def _owner(bob: Device) -> dict[str, bytes]:
    return {"tenant": bob.tenant, "user": bob.user, "device": bob.id}


def _key(private: PrivatePreKey) -> dict[str, object]:
    made: dict[str, object] = {"id": private.key_id, "dh_seed": private.dh.reveal().hex()}
    return made | ({"kem_seed": private.kem.reveal().hex()} if private.kem else {})


def _bundle(bob: Device, statement: Sign1, batch: VerifiedBatch, index: int) -> PreKeyBundle:
    leaf = batch.leaves[index]
    part = OneTimePart(statement, leaf.leaf, index, leaf.proof)
    return PreKeyBundle(int(bob.suite), bob.head, bob.signed_statement, bob.signed_spk, part)


def _row(bundle: PreKeyBundle) -> dict[str, object]:
    part = bundle.one_time
    made: dict[str, object] = {
        "suite": bundle.suite,
        "chain_head": bundle.chain_head.hex(),
        "device_statement": bundle.device_statement.encode().hex(),
        "signed_pre_key": bundle.signed_pre_key.encode().hex(),
    }
    if part is not None:
        made["one_time_pre_key"] = {
            "batch": part.batch.encode().hex(),
            "leaf": part.leaf.hex(),
            "index": part.index,
            "proof": part.proof.hex(),
        }
    return made


def _batches(bob: Device, signed: Sign1, leaves: list[bytes]) -> dict[str, tuple[Sign1, bytes]]:
    good = BatchStatement.from_payload(signed.payload)

    def said(**changes: object) -> Sign1:
        payload = replace(good, **changes).to_payload()  # type: ignore[arg-type]
        return cose.sign(payload, purpose=Purpose.PREKEY, key=bob.signing)

    def of(rows: list[bytes]) -> bytes:
        return encode(list[Encodable](rows))

    stranger = SigningKey.generate(bob.suite.signing_kind)
    header = good.header
    forms = {
        "a leaf missing": (signed, of(leaves[:-1])),
        "a leaf twice": (signed, of([*leaves[:-1], leaves[0]])),
        "two leaves exchanged": (signed, of([leaves[1], leaves[0], *leaves[2:]])),
        "one leaf too many": (signed, of([*leaves, leaves[0]])),
        "no leaves": (signed, of([])),
        "leaves that are no array": (signed, encode({0: leaves[0]})),
        "a byte after the leaves": (signed, of(leaves) + b"\0"),
        "signed by another key": (cose.sign(signed.payload, purpose=Purpose.PREKEY, key=stranger), of(leaves)),
        "signed for another purpose": (cose.sign(signed.payload, purpose=Purpose.DEVICE, key=bob.signing), of(leaves)),
        "another root": (said(root=bytes(32)), of(leaves)),
        "another number of leaves": (said(size=SIZE + 1), of(leaves)),
        "of another tenant": (said(header=replace(header, tenant=id_of("other"))), of(leaves)),
        "of another user": (said(header=replace(header, user=id_of("mallory"))), of(leaves)),
        "of another device": (said(header=replace(header, device=id_of("another device"))), of(leaves)),
        "expired": (said(header=replace(header, issued_at=NOW - 20, expires_at=NOW - 10)), of(leaves)),
        "issued in an hour": (said(header=replace(header, issued_at=NOW + 3600)), of(leaves)),
    }
    for why, leaf in list(malformed(leaves[0]).items())[:6]:
        forms[f"a leaf that is {why}"] = (signed, of([leaf, *leaves[1:]]))
    return forms


def _bundles(bob: Device, shown: list[PreKeyBundle]) -> dict[str, PreKeyBundle]:
    good, stranger = shown[0], Device("bob", bob.suite)
    part = good.one_time
    assert part is not None

    def with_part(**changes: object) -> PreKeyBundle:
        return replace(good, one_time=replace(part, **changes))  # type: ignore[arg-type]

    other = shown[1].one_time
    assert other is not None
    flipped = bytes((part.proof[0] ^ 1,)) + part.proof[1:]
    unsigned = replace(bob.signed_spk, signature=bytes(64))
    moved = replace(bob.signed_spk, payload=stranger.signed_spk.payload)
    wrong_purpose = cose.sign(bob.signed_spk.payload, purpose=Purpose.DEVICE, key=bob.signing)
    return {
        "another suite named": replace(good, suite=int(bob.suite) % 4 + 1),
        "suite 0": replace(good, suite=0),
        "another device's statement": replace(good, device_statement=stranger.signed_statement),
        "a device statement with a bit changed": replace(
            good, device_statement=replace(bob.signed_statement, signature=bytes(64))
        ),
        "a signed pre-key of another device": replace(good, signed_pre_key=stranger.signed_spk),
        "a signed pre-key that nobody signed": replace(good, signed_pre_key=unsigned),
        "a signed pre-key with another payload": replace(good, signed_pre_key=moved),
        "a signed pre-key signed for another purpose": replace(good, signed_pre_key=wrong_purpose),
        "the batch in place of the signed pre-key": replace(good, signed_pre_key=part.batch),
        "the signed pre-key in place of the batch": with_part(batch=bob.signed_spk),
        "another leaf": with_part(leaf=other.leaf),
        "another index": with_part(index=1),
        "an index beyond the batch": with_part(index=SIZE),
        "another leaf's proof": with_part(proof=other.proof),
        "a proof with a bit changed": with_part(proof=flipped),
        "a proof cut by a hash": with_part(proof=part.proof[:-32]),
        "a proof with a hash more": with_part(proof=part.proof + bytes(32)),
        "a proof of half a hash": with_part(proof=part.proof[:-16]),
        "no proof": with_part(proof=b""),
        "a batch that nobody signed": with_part(batch=replace(part.batch, signature=bytes(64))),
        "an empty leaf": with_part(leaf=b""),
    }
