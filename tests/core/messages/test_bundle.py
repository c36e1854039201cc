# SPDX-License-Identifier: Apache-2.0
"""A batch is checked whole when it is uploaded, and a bundle whole before anybody uses it. FAULTS S12, C2."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core.base.encoding import Encodable, decode, encode
from holdfast.core.base.errors import Expired, HoldfastError, InvalidSignature, Malformed, Untrusted
from holdfast.core.crypto.keys import AgreementKey, KemKey, SigningKey
from holdfast.core.crypto.suites import Suite
from holdfast.core.identity import chain_author
from holdfast.core.identity.chain import ChainState, extend, verify_chain
from holdfast.core.identity.chain_author import Author
from holdfast.core.log import merkle
from holdfast.core.messages.bundle import (
    OneTimePart,
    PreKeyBundle,
    build_batch,
    verify_batch_upload,
    verify_bundle,
    verify_signed_pre_key,
)
from holdfast.core.messages.prekeys import BatchStatement, OneTimePreKey
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose, Sign1
from tests.cast import statements as cast
from tests.cast.statements import ACME, AIK, ALICE, DAY, DEVICE, ISK, LAPTOP, NOW, PHONE, id_of

LAPTOP_STATEMENT = cast.device_statement()
LAPTOP_SIGNED = cast.signed_device(LAPTOP_STATEMENT)
SPK = cose.sign(cast.signed_pre_key().to_payload(), purpose=Purpose.PREKEY, key=ISK)
BATCH = build_batch(DEVICE, suite=Suite.HYBRID, first_key_id=100, size=7, signing_key=ISK)
UPLOAD = verify_batch_upload(BATCH.statement, BATCH.leaves, device=LAPTOP_STATEMENT, now=NOW)


def alices_chain() -> ChainState:
    by = Author(LAPTOP, NOW, AIK)
    state = verify_chain([chain_author.genesis(tenant=ACME, user=ALICE, by=by)], tenant=ACME, user=ALICE)
    laptop = chain_author.add_device(state, by=by, device=LAPTOP, statement_hash=LAPTOP_SIGNED.payload_hash)
    return extend(state, laptop)


CHAIN = alices_chain()


def part(**changes: Any) -> OneTimePart:
    leaf = UPLOAD.leaves[3]
    return replace(OneTimePart(BATCH.statement, leaf.leaf, 3, leaf.proof), **changes)


def bundle(**changes: Any) -> PreKeyBundle:
    return replace(PreKeyBundle(2, CHAIN.head, LAPTOP_SIGNED, SPK, part()), **changes)


def check(bundle: PreKeyBundle, **changes: Any) -> Any:
    asked: dict[str, Any] = {"chain": CHAIN, "device": LAPTOP, "now": NOW} | changes
    return verify_bundle(bundle, **asked)


def leaves_of(batch: bytes) -> list[Any]:
    rows = decode(batch, max_size=256 * 1024)
    assert isinstance(rows, list)
    return rows


def batch_over(leaves: list[Encodable], **changes: Any) -> tuple[Sign1, bytes]:
    """A batch that alice's own device signed over whatever leaves a test wants in it."""
    root = merkle.root([merkle.leaf_hash(leaf) for leaf in leaves if isinstance(leaf, bytes)])
    statement = replace(BatchStatement(DEVICE, Suite.HYBRID, id_of("batch"), len(leaves), root), **changes)
    return cose.sign(statement.to_payload(), purpose=Purpose.PREKEY, key=ISK), encode(leaves)


@pytest.mark.parametrize("suite", list(Suite))
@pytest.mark.parametrize("size", [1, 2, 3, 64, 100])
def test_batch_of_each_suite_is_verified_and_every_leaf_proves_itself(suite: Suite, size: int) -> None:
    key = SigningKey.generate(suite.signing_kind)
    device = cast.device_statement(key, suite=suite)
    made = build_batch(DEVICE, suite=suite, first_key_id=2**32 - size, size=size, signing_key=key)
    verified = verify_batch_upload(made.statement, made.leaves, device=device, now=NOW)
    assert (verified.first_key_id, verified.last_key_id) == (2**32 - size, 2**32 - 1)
    assert [leaf.leaf for leaf in verified.leaves] == leaves_of(made.leaves)
    for leaf, private in zip(verified.leaves, made.private, strict=True):
        proof = [leaf.proof[at : at + 32] for at in range(0, len(leaf.proof), 32)]
        assert len(proof) <= 7
        merkle.verify_inclusion(
            merkle.leaf_hash(leaf.leaf),
            index=leaf.index,
            size=size,
            proof=proof,
            expected_root=verified.statement.root,
        )
        public = OneTimePreKey.from_leaf(leaf.leaf, suite)
        assert public.key_id == private.key_id
        assert AgreementKey.from_seed(suite.agreement_kind, private.dh).public == public.dh
        assert (KemKey.from_seed(private.kem).public if private.kem else None) == public.kem


def test_upload_refuses_a_batch_that_another_device_signed_or_that_names_another() -> None:
    mallory = build_batch(DEVICE, suite=Suite.HYBRID, first_key_id=1, size=2, signing_key=SigningKey.generate())
    with pytest.raises(InvalidSignature):
        verify_batch_upload(mallory.statement, mallory.leaves, device=LAPTOP_STATEMENT, now=NOW)
    for changes in ({"tenant": cast.MALLORY_TENANT}, {"user": cast.MALLORY}, {"device": PHONE}):
        header: Any = replace(DEVICE, **changes)  # type: ignore[arg-type]
        made = build_batch(header, suite=Suite.HYBRID, first_key_id=1, size=2, signing_key=ISK)
        with pytest.raises(Untrusted):
            verify_batch_upload(made.statement, made.leaves, device=LAPTOP_STATEMENT, now=NOW)


def test_upload_refuses_another_suite_than_the_devices() -> None:
    made = build_batch(DEVICE, suite=Suite.CLASSICAL, first_key_id=1, size=2, signing_key=ISK)
    with pytest.raises(Untrusted, match="suite"):
        verify_batch_upload(made.statement, made.leaves, device=LAPTOP_STATEMENT, now=NOW)


def test_upload_refuses_leaves_swapped_dropped_added_or_replaced() -> None:
    rows = leaves_of(BATCH.leaves)
    other = leaves_of(build_batch(DEVICE, suite=Suite.HYBRID, first_key_id=100, size=1, signing_key=ISK).leaves)
    for leaves in ([rows[1], rows[0], *rows[2:]], rows[:-1], [*rows, *other], [*other, *rows[1:]], [], other):
        with pytest.raises((Untrusted, Malformed)):
            verify_batch_upload(BATCH.statement, encode(leaves), device=LAPTOP_STATEMENT, now=NOW)


@pytest.mark.parametrize("size", [6, 8, 100])
def test_upload_refuses_a_signed_root_with_another_number_of_leaves_than_it_says(size: int) -> None:
    statement, leaves = batch_over(leaves_of(BATCH.leaves), size=size)
    with pytest.raises(Malformed, match="another number"):
        verify_batch_upload(statement, leaves, device=LAPTOP_STATEMENT, now=NOW)


@pytest.mark.parametrize("ids", [(5, 5), (6, 5), (0, 2**32)])
def test_upload_refuses_ids_that_do_not_strictly_ascend_within_32_bits(ids: tuple[int, int]) -> None:
    public = OneTimePreKey.from_leaf(UPLOAD.leaves[0].leaf, Suite.HYBRID)
    statement, leaves = batch_over([replace(public, key_id=one).to_leaf() for one in ids])
    with pytest.raises(Malformed):
        verify_batch_upload(statement, leaves, device=LAPTOP_STATEMENT, now=NOW)


def test_upload_refuses_a_signed_leaf_with_a_hostile_key() -> None:
    good = OneTimePreKey.from_leaf(UPLOAD.leaves[0].leaf, Suite.HYBRID)
    assert good.kem is not None
    hostile_dh = encode({1: 1, 2: b"\x02" + bytes(32), 3: good.kem.encoded})
    hostile_kem = encode({1: 1, 2: good.dh.encoded, 3: b"\x05" + b"\xff" * 1184})
    no_kem = encode({1: 1, 2: good.dh.encoded})
    wrong_curve = encode({1: 1, 2: b"\x04" + bytes(65), 3: good.kem.encoded})
    for leaf in (hostile_dh, hostile_kem, no_kem, wrong_curve, b"", b"\x00" * 3000, 7):
        rows: list[Encodable] = [leaf]
        statement, leaves = batch_over(rows)
        with pytest.raises((Malformed, Untrusted)):
            verify_batch_upload(statement, leaves, device=LAPTOP_STATEMENT, now=NOW)


@pytest.mark.parametrize("leaves", [b"", b"\x80", b"\xa0", b"\x00", encode([b""] * 101), encode(bytes(300_000))])
def test_upload_refuses_what_is_not_an_array_of_leaves(leaves: bytes) -> None:
    with pytest.raises(Malformed):
        verify_batch_upload(BATCH.statement, leaves, device=LAPTOP_STATEMENT, now=NOW)


def test_upload_and_bundle_refuse_what_is_from_the_future_or_over() -> None:
    for now in (NOW - 301, NOW + 7 * DAY):
        with pytest.raises(Expired):
            verify_signed_pre_key(SPK, device=LAPTOP_STATEMENT, now=now)
        with pytest.raises(Expired):
            check(bundle(), now=now)
    with pytest.raises(Expired):
        verify_batch_upload(BATCH.statement, BATCH.leaves, device=LAPTOP_STATEMENT, now=NOW - 301)
    check(bundle(), now=NOW + 7 * DAY - 1)


@settings(max_examples=200)
@given(st.data())
def test_upload_with_bytes_changed_is_refused(data: st.DataObject) -> None:
    octets = bytearray(BATCH.leaves)
    octets[data.draw(st.integers(0, len(octets) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(HoldfastError):
        verify_batch_upload(BATCH.statement, bytes(octets), device=LAPTOP_STATEMENT, now=NOW)


def test_bundle_is_believed_with_and_without_a_one_time_key() -> None:
    full = check(bundle())
    assert full.device == LAPTOP_STATEMENT
    assert full.signed_pre_key.key_id == 7
    assert full.one_time.key_id == 103
    assert not full.is_last_resort
    assert check(bundle(one_time=None)).is_last_resort


def forged_statement(**changes: Any) -> Sign1:
    """Another statement of a device with alice's laptop's id, as a lying server would make one."""
    key = SigningKey.generate()
    return cast.signed_device(cast.device_statement(key, **changes), key)


@pytest.mark.parametrize(
    "changes",
    [
        {"device_statement": forged_statement()},
        {"device_statement": forged_statement(header=replace(DEVICE, user=cast.MALLORY))},
        {"device_statement": forged_statement(header=replace(DEVICE, tenant=cast.MALLORY_TENANT))},
        {"device_statement": forged_statement(header=replace(DEVICE, device=PHONE))},
        {"device_statement": cast.signed_device(cast.device_statement(name="another name"))},
        {"suite": 1},
        {"suite": 4},
        {"one_time": part(index=4)},
        {"one_time": part(index=9)},
        {"one_time": part(leaf=UPLOAD.leaves[4].leaf)},
        {"one_time": part(proof=UPLOAD.leaves[4].proof)},
        {"one_time": part(proof=b"")},
        {"one_time": part(proof=part().proof + bytes(32))},
        {"one_time": part(proof=part().proof[:-1])},
        {"one_time": part(batch=SPK)},
        {"signed_pre_key": BATCH.statement},
        {"signed_pre_key": LAPTOP_SIGNED},
        {"signed_pre_key": cose.sign(SPK.payload, purpose=Purpose.PREKEY, key=SigningKey.generate())},
        {"signed_pre_key": cose.sign(SPK.payload, purpose=Purpose.SYNC, key=ISK)},
    ],
)
def test_bundle_refuses_every_part_that_a_lying_server_exchanges(changes: dict[str, Any]) -> None:
    with pytest.raises((Untrusted, InvalidSignature, Malformed)):
        check(bundle(**changes))


def test_bundle_refuses_keys_of_another_device_user_or_tenant_under_the_right_signature() -> None:
    for changes in ({"tenant": cast.MALLORY_TENANT}, {"user": cast.MALLORY}, {"device": PHONE}):
        header: Any = replace(DEVICE, expires_at=NOW + DAY, **changes)  # type: ignore[arg-type]
        foreign = cose.sign(cast.signed_pre_key(header=header).to_payload(), purpose=Purpose.PREKEY, key=ISK)
        with pytest.raises(Untrusted):
            check(bundle(signed_pre_key=foreign))


def test_bundle_refuses_a_device_that_was_not_asked_for_or_was_revoked() -> None:
    with pytest.raises(Untrusted):
        check(bundle(), device=PHONE)
    revoked = replace(CHAIN, devices={})
    with pytest.raises(Untrusted, match="does not list"):
        check(bundle(), chain=revoked)
    with pytest.raises(Untrusted):
        check(bundle(), chain=replace(CHAIN, user=cast.MALLORY))


@pytest.mark.parametrize("pinned", [None, *Suite])
def test_bundle_moves_from_a_contacts_suite_to_its_hybrid_one_and_nowhere_else(pinned: Suite | None) -> None:
    if pinned in (None, Suite.CLASSICAL, Suite.HYBRID):
        check(bundle(), pinned_suite=pinned)
    else:
        with pytest.raises(Untrusted, match="suite"):
            check(bundle(), pinned_suite=pinned)


def test_bundle_refuses_the_downgrade_from_hybrid_to_classical() -> None:
    device = cast.device_statement(suite=Suite.CLASSICAL)
    statement = cast.signed_device(device)
    spk = cose.sign(cast.signed_pre_key(Suite.CLASSICAL).to_payload(), purpose=Purpose.PREKEY, key=ISK)
    classical = PreKeyBundle(1, CHAIN.head, statement, spk, None)
    chain = replace(CHAIN, devices={LAPTOP: statement.payload_hash})
    assert check(classical, chain=chain, pinned_suite=Suite.CLASSICAL).is_last_resort
    with pytest.raises(Untrusted, match="suite"):
        check(classical, chain=chain, pinned_suite=Suite.HYBRID)


def best(act: Callable[[], object]) -> float:
    def once() -> float:
        started = time.process_time()
        act()
        return time.process_time() - started

    return min(once() for _ in range(7))


def test_making_a_hundred_hybrid_pre_keys_costs_little_more_than_making_their_keys() -> None:
    def keys() -> None:
        for _ in range(100):
            KemKey.generate()
            AgreementKey.generate()

    def batch() -> None:
        build_batch(DEVICE, suite=Suite.HYBRID, first_key_id=1, size=100, signing_key=ISK)

    assert best(batch) < 1.5 * best(keys)
