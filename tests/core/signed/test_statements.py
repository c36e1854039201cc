# SPDX-License-Identifier: Apache-2.0
"""Every payload goes to bytes and back; nothing else is read."""

import copy
import dataclasses
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core.base.encoding import MAX_BLOB, MAX_STATEMENT, decode, encode
from holdfast.core.base.errors import Expired, InvalidSignature, Malformed
from holdfast.core.crypto.keys import AgreementKey, KemKey, RecipientRsaKey, SealingKey, SigningKey
from holdfast.core.crypto.suites import Suite
from holdfast.core.escrow.custody import OpenedFile
from holdfast.core.identity.policy import YEAR_SECONDS
from holdfast.core.messages.prekeys import OneTimePreKey, SignedPreKey
from holdfast.core.signed.payloads import Header, check_time
from holdfast.core.signed.statements import Consent, DeviceStatement
from tests.cast import statements as cast
from tests.cast.statements import ACME, ALICE, DAY, LAPTOP, NOW, PAYLOADS
from tests.cast.unread import unread

NAMES = sorted(PAYLOADS)
JUNK = (
    st.integers(-65536, 2**53 - 1)
    | st.sampled_from([0, 1, 2, 9, b"", bytes(16), bytes(32), "", "x", [], {}, [[]], {1: 1}])
    | st.binary(max_size=40)
    | st.lists(st.integers(0, 3), max_size=3)
)


def read_or_refuse(name: str, payload: bytes) -> None:
    """A payload that is read says what its bytes say, and says it in these bytes only."""
    try:
        again = type(PAYLOADS[name]).from_payload(payload)
    except Malformed:
        return
    assert again.to_payload() == payload


@pytest.mark.parametrize("name", NAMES)
def test_payload_goes_to_bytes_and_back(name: str) -> None:
    made = PAYLOADS[name]
    payload = made.to_payload()
    assert type(made).from_payload(payload) == made
    assert len(payload) <= (MAX_BLOB if "policy" in name else MAX_STATEMENT)


@pytest.mark.parametrize("name", NAMES)
def test_payload_refuses_each_missing_field_and_any_unknown_one(name: str) -> None:
    value = decode(PAYLOADS[name].to_payload(), max_size=MAX_BLOB)
    assert isinstance(value, dict)
    # A policy may give nothing up, and those from before field 12 are read without: `verify_successor` says which.
    # Cases from before field 22 are read without: the server says of which it asks.
    optional = {
        "second policy": {12, 13},
        "policy with a word to members": {12},
        "case": {22},
        "disclosure": {22},
        "second officer": {10},
    }
    for key in value.keys() - optional.get(name, set()):
        with pytest.raises(Malformed):
            type(PAYLOADS[name]).from_payload(encode({k: v for k, v in value.items() if k != key}))
    for key in (0, 15 if name == "batch" else 23, 1000):
        with pytest.raises(Malformed, match=f"field {key} is unknown"):
            type(PAYLOADS[name]).from_payload(encode({**value, key: 0}))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("version", [0, 2, b"", "1"])
def test_payload_refuses_another_version(name: str, version: Any) -> None:
    value = decode(PAYLOADS[name].to_payload(), max_size=MAX_BLOB)
    assert isinstance(value, dict)
    with pytest.raises(Malformed):
        type(PAYLOADS[name]).from_payload(encode({**value, 1: version}))


@pytest.mark.parametrize("name", NAMES)
def test_payload_refuses_ids_of_another_size(name: str) -> None:
    value = decode(PAYLOADS[name].to_payload(), max_size=MAX_BLOB)
    assert isinstance(value, dict)
    for key, bad in ((2, b""), (2, bytes(15)), (3, bytes(17)), (4, bytes(8)), (5, -1), (6, NOW), (6, 1)):
        with pytest.raises(Malformed):
            type(PAYLOADS[name]).from_payload(encode({**value, key: bad}))


@settings(max_examples=400)
@given(st.sampled_from(NAMES), st.data())
def test_payload_with_one_value_replaced_is_refused_or_says_so(name: str, data: st.DataObject) -> None:
    value: Any = copy.deepcopy(decode(PAYLOADS[name].to_payload(), max_size=MAX_BLOB))
    holder, key = value, data.draw(st.sampled_from(sorted(value)))
    while isinstance(holder[key], (list, dict)) and len(holder[key]) and data.draw(st.booleans()):
        holder = holder[key]
        key = data.draw(st.sampled_from(sorted(holder) if isinstance(holder, dict) else range(len(holder))))
    holder[key] = data.draw(JUNK)
    read_or_refuse(name, encode(value))


@settings(max_examples=400)
@given(st.sampled_from(NAMES), st.data())
def test_payload_with_bytes_changed_is_refused_or_says_so(name: str, data: st.DataObject) -> None:
    octets = bytearray(PAYLOADS[name].to_payload())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(octets)))
        octets[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    read_or_refuse(name, bytes(octets))


def test_no_payload_is_read_as_another_statement() -> None:
    shapes = {type(made) for made in PAYLOADS.values()}
    for made in PAYLOADS.values():
        for shape in shapes - {type(made)}:
            if {shape.__name__, type(made).__name__} == {"ArchiveStatement", "ExportStatement"}:
                continue  # of one shape, and kept apart by their purposes
            with pytest.raises(Malformed):
                shape.from_payload(made.to_payload())


@pytest.mark.parametrize("name", NAMES)
def test_payload_refuses_the_wrong_kind_of_signer_in_its_header(name: str) -> None:
    made = PAYLOADS[name]
    wrong = {
        "tenant": (Header(ACME, ALICE, b"", NOW), Header(ACME, b"", LAPTOP, NOW)),
        "user": (Header(ACME, b"", b"", NOW),),
        "device": (Header(ACME, ALICE, b"", NOW), Header(ACME, b"", LAPTOP, NOW)),
    }
    kind = "device" if made.header.device else "user" if made.header.user else "tenant"
    for header in wrong[kind]:
        forged = replace(made, header=replace(header, expires_at=made.header.expires_at))
        with pytest.raises(Malformed, match="names"):
            type(made).from_payload(unread(forged))


def test_payloads_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        cast.POLICY.m = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("issued_at", "expires_at", "fine"),
    [
        (NOW, 0, True),
        (NOW + 300, 0, True),
        (NOW + 301, 0, False),
        (NOW - 10, NOW + 1, True),
        (NOW - 10, NOW, False),
        (NOW - 10, NOW - 1, False),
        (0, 0, True),
    ],
)
def test_check_time_allows_five_minutes_ahead_and_ends_at_the_expiry(
    issued_at: int, expires_at: int, fine: bool
) -> None:
    header = Header(ACME, ALICE, LAPTOP, issued_at, expires_at)
    if fine:
        check_time(header, NOW)
    else:
        with pytest.raises(Expired):
            check_time(header, NOW)


def test_device_statement_proves_possession_of_its_signing_key() -> None:
    device = cast.device_statement()
    assert DeviceStatement.open(cast.signed_device(device)) == device
    # Mallory names alice's public key and signs with another.
    with pytest.raises(InvalidSignature):
        DeviceStatement.open(cast.signed_device(device, SigningKey.generate()))


@pytest.mark.parametrize("suite", list(Suite))
def test_device_statement_refuses_keys_of_another_suite(suite: Suite) -> None:
    device = cast.device_statement(SigningKey.generate(suite.signing_kind), suite=suite)
    assert DeviceStatement.from_payload(device.to_payload()) == device
    for other in Suite:
        if other.signing_kind is not suite.signing_kind:
            with pytest.raises(Malformed, match="not the kind"):
                DeviceStatement.from_payload(unread(replace(device, suite=other)))


@pytest.mark.parametrize("suite", [0, 5, 255])
def test_device_statement_refuses_an_unknown_suite(suite: int) -> None:
    value = decode(PAYLOADS["device"].to_payload())
    assert isinstance(value, dict)
    with pytest.raises(Malformed, match="field 7 is not a known suite"):
        DeviceStatement.from_payload(encode({**value, 7: suite}))


@pytest.mark.parametrize("suite", list(Suite))
def test_pre_keys_carry_a_kem_key_exactly_where_the_suite_has_one(suite: Suite) -> None:
    dh, kem = AgreementKey.generate(suite.agreement_kind).public, KemKey.generate().public
    right, wrong = (kem, None) if suite.has_kem else (None, kem)
    leaf = OneTimePreKey(9, dh, right).to_leaf()
    assert OneTimePreKey.from_leaf(leaf, suite).to_leaf() == leaf
    with pytest.raises(Malformed, match="does not fit the suite"):
        OneTimePreKey.from_leaf(OneTimePreKey(9, dh, wrong).to_leaf(), suite)
    with pytest.raises(Malformed, match="does not fit the suite"):
        SignedPreKey.from_payload(unread(cast.signed_pre_key(suite, kem=wrong)))


def test_one_time_pre_key_refuses_an_id_above_32_bits() -> None:
    dh = AgreementKey.generate().public
    assert OneTimePreKey.from_leaf(OneTimePreKey(2**32 - 1, dh, None).to_leaf(), Suite.CLASSICAL).key_id == 2**32 - 1
    with pytest.raises(Malformed, match="field 1"):
        OneTimePreKey.from_leaf(OneTimePreKey(2**32, dh, None).to_leaf(), Suite.CLASSICAL)


@given(st.data())
def test_one_time_pre_key_of_a_mutated_leaf_is_refused_or_given_back(data: st.DataObject) -> None:
    octets = bytearray(OneTimePreKey(300, cast.signed_pre_key(Suite.CLASSICAL).dh, None).to_leaf())
    at = data.draw(st.integers(0, len(octets)))
    octets[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        key = OneTimePreKey.from_leaf(bytes(octets), Suite.CLASSICAL)
    except Malformed:
        return
    assert key.to_leaf() == octets


@pytest.mark.parametrize("expires_at", [0, NOW + 30 * DAY + 1])
def test_signed_pre_key_refuses_a_life_above_thirty_days_or_none_stated(expires_at: int) -> None:
    header = replace(cast.DEVICE, expires_at=expires_at)
    with pytest.raises(Malformed, match="30 days"):
        SignedPreKey.from_payload(unread(cast.signed_pre_key(header=header)))


@pytest.mark.parametrize("size", [0, 101])
def test_batch_refuses_no_leaf_and_a_hundred_and_first(size: int) -> None:
    with pytest.raises(Malformed, match="field 13"):
        type(cast.BATCH).from_payload(unread(replace(cast.BATCH, size=size)))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("escrow key", {"algorithm": "oaep-md5"}),
        ("escrow key", {"algorithm": "x-wing"}),
        ("escrow key", {"key": cast.SEALING.public}),
        ("escrow key", {"version": 0}),
        ("escrow key", {"predecessor": cast.hash_of("x")}),
        ("second escrow key", {"predecessor": b""}),
        ("offline key", {"algorithm": "oaep-sha256"}),
        ("offline key", {"key": cast.RSA.public}),
        ("device", {"name": "n" * 65}),
        ("device", {"enrolment_hash": bytes(16)}),
        ("device", {"person": b""}),
        ("sync", {"kind": 5}),
        ("sync", {"blob_hash": bytes(31)}),
        ("door proof", {"kind": "x" * 33}),
        ("officer", {"person": cast.DAN}),
        ("officer", {"signing_key": cast.SEALING.public}),
        ("case", {"deposits": ()}),
        ("case", {"deposits": tuple((cast.id_of(str(i)), cast.hash_of("r")) for i in range(129))}),
        ("case", {"deposits": ((cast.id_of("d"), cast.hash_of("r")), (cast.id_of("d"), cast.hash_of("s")))}),
        ("case", {"expiry": NOW + 60}),
        ("case", {"expiry": NOW - 1, "not_before": 0}),
        ("case", {"notice_at": NOW + YEAR_SECONDS + 1}),
        ("case", {"reason": "r" * 1001}),
        ("case", {"recipient_rsa_key": cast.SEALING.public}),
        ("case", {"nonce": bytes(8)}),
        ("case", {"disclosure_ends": NOW + 30 * DAY}),
        ("disclosure", {"disclosure_ends": 0}),
        ("disclosure", {"disclosure_ends": NOW + 60}),
        ("disclosure", {"disclosure_ends": NOW + 14 * DAY + YEAR_SECONDS + 1}),
        ("disclosure", {"expiry": NOW + 3 * YEAR_SECONDS, "disclosure_ends": NOW + 2 * YEAR_SECONDS + 1}),
        ("first custody line", {"seq": 2}),
        ("first custody line", {"files": (OpenedFile(cast.hash_of("file"), NOW + 1, 1),)}),
        ("first custody line", {"files": (OpenedFile(cast.hash_of("file"), NOW, 1),) * 129}),
        ("first custody line", {"case_hash": bytes(16)}),
        ("closing custody line", {"seq": 1}),
        ("closing custody line", {"previous": b""}),
        ("approval", {"shares": ()}),
        ("approval", {"shares": ((cast.id_of("d"), 0, cast.hash_of("s")),)}),
        ("approval", {"shares": ((cast.id_of("d"), 17, cast.hash_of("s")),)}),
        ("approval", {"shares": ((cast.id_of("d"), 1, cast.hash_of("s")), (cast.id_of("d"), 2, cast.hash_of("t")))}),
        ("approval", {"client_kind": 3}),
        ("approval", {"approves": False}),
        ("denial", {"approves": True}),
        ("attestation", {"new_aik": cast.SEALING.public}),
        ("veto", {"case_hash": bytes(16)}),
        ("archive", {"kind": 256}),
    ],
)
def test_statement_refuses_what_its_page_forbids(name: str, changes: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        type(PAYLOADS[name]).from_payload(unread(replace(PAYLOADS[name], **changes)))


@pytest.mark.parametrize(("name", "kind"), [("signed pre-key", 2), ("batch", 1), ("batch", 3), ("signed pre-key", 0)])
def test_pre_key_statement_refuses_the_kind_of_the_other(name: str, kind: int) -> None:
    value: Any = decode(PAYLOADS[name].to_payload())
    with pytest.raises(Malformed, match="field 9 is not the kind"):
        type(PAYLOADS[name]).from_payload(encode({**value, 9: kind}))


def test_case_gives_its_recipients_two_keys_eight_words() -> None:
    one = cast.case()
    assert len(one.recipient_words) == 8
    assert one.recipient_words == cast.case(reason="another").recipient_words
    assert one.recipient_words != cast.case(recipient_sealing_key=SealingKey.generate().public).recipient_words
    assert one.recipient_words != cast.case(recipient_rsa_key=RecipientRsaKey.generate().public).recipient_words


def test_of_two_answers_of_one_second_the_no_is_the_later() -> None:
    made = next(one for one in PAYLOADS.values() if isinstance(one, Consent))
    yes, no = replace(made, agreed=True), replace(made, agreed=False)
    sooner, later = (replace(no, header=replace(no.header, issued_at=NOW + after)) for after in (-1, 1))
    after = replace(yes, header=later.header)
    assert sorted([after, no, sooner, yes], key=lambda one: one.order) == [sooner, yes, no, after]
