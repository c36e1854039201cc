# SPDX-License-Identifier: Apache-2.0
"""Uploading pre-keys: everything verified, the exact bytes kept, a repeated upload harmless (FAULTS X2)."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from typing import Any

import pytest

from audit.models import Entry as AuditEntry
from holdfast.core.base.encoding import b64u, decode, encode, label, unb64u
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.crypto.suites import Suite
from holdfast.core.messages.prekeys import BatchStatement
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose, Sign1
from kernel.queue import run_due
from keys import batches, services
from keys.models import OneTimePreKey, PreKeyBatch, SignedPreKey
from tests.cast.phones import DAY, Directory, Phone, audit_away, batch_document


@pytest.fixture
def alice(directory: Directory) -> Phone:
    return directory.phone("alice")


def publish(phone: Phone, statement: bytes, *, by: Phone | None = None, if_match: str | None = None) -> Any:
    tag = phone.current_tag if if_match is None else if_match
    return (by or phone).send("PUT", f"{phone.path}/bundle", {"v": 1, "signed_pre_key": b64u(statement)}, if_match=tag)


# The signed pre-key.


@pytest.mark.postgres
def test_publish_keeps_the_exact_statement_and_is_harmless_when_repeated(alice: Phone) -> None:
    statement = alice.signed_pre_key()
    assert [publish(alice, statement).status_code for _ in range(2)] == [204, 204]
    assert bytes(SignedPreKey.unscoped.get().statement) == statement
    assert AuditEntry.unscoped.filter(tag="keys:signed-pre-key:publish").count() == 1


@pytest.mark.postgres
def test_publish_makes_the_newer_one_current(alice: Phone) -> None:
    now = int(time.time())
    for key_id, age in ((1, 60), (2, 0)):
        assert publish(alice, alice.signed_pre_key(key_id, issued_at=now - age)).status_code == 204
    assert [row.key_id for row in SignedPreKey.unscoped.filter(is_current=True)] == [2]
    refused = publish(alice, alice.signed_pre_key(3, issued_at=now - 30))
    assert (refused.status_code, refused.json()["code"]) == (409, "pre-key-older")


@pytest.mark.postgres
def test_publish_replaces_one_of_the_future(alice: Phone) -> None:
    """FAULTS W10a: it was made while a clock was two hours ahead, and no other device takes it."""
    assert publish(alice, alice.signed_pre_key(1)).status_code == 204
    SignedPreKey.unscoped.update(issued_at=int(time.time()) + 7200)
    assert publish(alice, alice.signed_pre_key(2)).status_code == 204


@pytest.mark.postgres
def test_publish_replaces_only_the_signed_pre_key_that_was_seen(alice: Phone) -> None:
    """A profile restored from a backup, or running twice, reads what stands before it replaces it."""
    none, first, second = '""', alice.signed_pre_key(1), alice.signed_pre_key(2)
    answer = publish(alice, first, if_match=none)
    assert (answer.status_code, answer["etag"]) == (204, alice.current_tag)
    for stale in (none, f'"{b64u(bytes(32))}"'):
        refused = publish(alice, second, if_match=stale)
        assert refused.status_code == 409
        assert refused.json()["code"] == "pre-key-stale"
    assert publish(alice, first, if_match=none).status_code == 204, "the same again, after a lost answer"
    read = alice.send("POST", "check", {}).json()["signed_pre_key_hash"]
    assert publish(alice, second, if_match=f'"{read}"').status_code == 204
    assert publish(alice, first, if_match=none).status_code == 204
    assert [row.key_id for row in SignedPreKey.unscoped.filter(is_current=True)] == [2]


@pytest.mark.parametrize("tag", ["3", '"3"', "*", '"', 'W/""', f'"{b64u(bytes(31))}"', f'"{b64u(bytes(32))}="'])
def test_publish_refuses_a_condition_that_is_no_hash(alice: Phone, tag: str) -> None:
    refused = publish(alice, alice.signed_pre_key(), if_match=tag)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, "if-match")


def test_publish_without_a_condition_is_refused(alice: Phone) -> None:
    document = {"v": 1, "signed_pre_key": b64u(alice.signed_pre_key())}
    refused = alice.send("PUT", "bundle", document)
    assert (refused.status_code, refused.json()["code"]) == (422, "if-match-missing")


def test_publish_refuses_an_id_used_for_another_key(alice: Phone) -> None:
    publish(alice, alice.signed_pre_key(1))
    refused = publish(alice, alice.signed_pre_key(1))
    assert (refused.status_code, refused.json()["code"]) == (409, "pre-key-id-reused")


def test_publish_refuses_a_forged_signature(alice: Phone) -> None:
    refused = publish(alice, alice.signed_pre_key(signer=SigningKey.generate()))
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid-signature")


def test_publish_refuses_another_devices_signed_pre_key(alice: Phone, directory: Directory) -> None:
    """A swapped signature: the statement is good, and is somebody else's."""
    bob, second = directory.phone("bob"), directory.account("alice").add_phone()
    for other in (bob, second):
        assert publish(alice, other.signed_pre_key()).json()["code"] == "invalid-signature"
    # The same key pair would not help either: the header names the device.
    stolen = replace(second, isk=alice.isk)
    assert publish(alice, stolen.signed_pre_key()).json()["code"] == "untrusted"
    assert SignedPreKey.unscoped.count() == 0


@pytest.mark.parametrize("issued_at", [-8 * DAY, 3600])
def test_publish_refuses_what_is_expired_or_from_the_future(alice: Phone, issued_at: int) -> None:
    refused = publish(alice, alice.signed_pre_key(issued_at=int(time.time()) + issued_at))
    assert (refused.status_code, refused.json()["code"]) == (422, "expired")


@pytest.mark.postgres
def test_publish_for_another_device_is_not_found(alice: Phone, directory: Directory) -> None:
    second = directory.account("alice").add_phone()
    for stranger in (second, directory.phone("bob"), directory.phone("mallory")):
        assert publish(alice, alice.signed_pre_key(), by=stranger).status_code == 404
    assert SignedPreKey.unscoped.count() == 0


# Batches.


@pytest.mark.postgres
@pytest.mark.parametrize("suite", [Suite.CLASSICAL, Suite.HYBRID, Suite.CLASSICAL_P256])
def test_store_keeps_every_leaf_as_it_came(directory: Directory, suite: Suite) -> None:
    alice = directory.phone("alice", suite=suite)
    built = alice.batch(100)
    answer = alice.send("POST", "pre-keys", batch_document(built))
    assert (answer.status_code, answer.json()) == (201, {"stored": 100, "count": 100})
    rows = OneTimePreKey.unscoped.order_by("index")
    assert [bytes(row.leaf) for row in rows] == decode(built.leaves, max_size=256 * 1024)
    assert bytes(PreKeyBatch.unscoped.get().statement) == built.statement.encode()
    assert {len(row.proof) for row in rows} <= {32 * 7, 32 * 6, 32 * 3, 32 * 4, 32 * 5}


@pytest.mark.postgres
def test_store_of_the_same_batch_again_stores_nothing(alice: Phone, directory: Directory) -> None:
    document = batch_document(alice.batch(5))
    alice.publish(batches=[])
    alice.send("POST", "pre-keys", document)
    directory.phone("bob").claim(alice)
    again = alice.send("POST", "pre-keys", document)
    assert (again.status_code, again.json()) == (200, {"stored": 0, "count": 4})
    assert AuditEntry.unscoped.filter(tag="keys:pre-key:store").count() == 1


def test_store_of_a_used_up_batch_again_stores_nothing(alice: Phone, directory: Directory) -> None:
    """The tombstone: what was handed out never comes back (Matrix lost answers that way)."""
    document = batch_document(alice.batch(1))
    alice.publish(batches=[])
    alice.send("POST", "pre-keys", document)
    bob = directory.phone("bob")
    assert bob.claim(alice).json()["one_time"] == "handed-out"
    assert alice.send("POST", "pre-keys", document).json() == {"stored": 0, "count": 0}
    assert bob.claim(alice).json()["one_time"] == "exhausted"


@pytest.mark.postgres
@pytest.mark.parametrize("first", [1, 3, 5])
def test_store_refuses_ids_that_meet_another_batchs(alice: Phone, first: int) -> None:
    alice.send("POST", "pre-keys", batch_document(alice.batch(5, first=1)))
    refused = alice.send("POST", "pre-keys", batch_document(alice.batch(5, first=first)))
    assert (refused.status_code, refused.json()["code"]) == (409, "pre-key-id-reused")
    assert OneTimePreKey.unscoped.count() == 5
    assert alice.send("POST", "pre-keys", batch_document(alice.batch(5, first=6))).status_code == 201


def test_store_refuses_a_batch_id_used_for_another_batch(alice: Phone) -> None:
    built = alice.batch(5)
    alice.send("POST", "pre-keys", batch_document(built))
    other = alice.batch(5)
    statement = BatchStatement.from_payload(other.statement.payload)
    same_id = replace(statement, batch_id=BatchStatement.from_payload(built.statement.payload).batch_id)
    signed = cose.sign(same_id.to_payload(), purpose=Purpose.PREKEY, key=alice.isk)
    refused = alice.send("POST", "pre-keys", batch_document(replace(other, statement=signed)))
    assert (refused.status_code, refused.json()["code"]) == (409, "pre-key-id-reused")


def test_store_refuses_a_forged_signature(alice: Phone) -> None:
    built = alice.batch(5)
    forged = cose.sign(built.statement.payload, purpose=Purpose.PREKEY, key=SigningKey.generate())
    refused = alice.send("POST", "pre-keys", batch_document(replace(built, statement=forged)))
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid-signature")


def test_store_refuses_a_signature_over_another_batch(alice: Phone) -> None:
    one, other = alice.batch(5), alice.batch(5)
    swapped = Sign1(one.statement.protected, one.statement.payload, other.statement.signature)
    refused = alice.send("POST", "pre-keys", batch_document(replace(one, statement=swapped)))
    assert refused.json()["code"] == "invalid-signature"


def test_store_refuses_leaves_that_are_not_those_signed(alice: Phone) -> None:
    one, other = alice.batch(5), alice.batch(5)
    refused = alice.send("POST", "pre-keys", batch_document(replace(one, leaves=other.leaves)))
    assert (refused.status_code, refused.json()["code"]) == (422, "untrusted")


@pytest.mark.postgres
def test_store_refuses_another_devices_batch(alice: Phone, directory: Directory) -> None:
    second = directory.account("alice").add_phone()
    theirs = second.batch(5)
    assert alice.send("POST", "pre-keys", batch_document(theirs)).json()["code"] == "invalid-signature"
    # Signed by this device, but made out for the other.
    crossed = alice.batch(5, header=second.header())
    assert alice.send("POST", "pre-keys", batch_document(crossed)).json()["code"] == "untrusted"
    # And the other's own device may not fill this pool.
    for stranger in (second, directory.phone("bob"), directory.phone("mallory")):
        refused = stranger.send("POST", f"{alice.path}/pre-keys", batch_document(alice.batch(5)))
        assert refused.status_code == 404
    assert OneTimePreKey.unscoped.count() == 0


def test_store_refuses_leaves_out_of_shape(alice: Phone) -> None:
    built = alice.batch(5)
    rows = decode(built.leaves)
    assert isinstance(rows, list)
    shapes = [encode(rows[:4]), encode([*rows, rows[0]]), encode(rows[::-1]), b"", built.leaves + b"\0", encode([5])]
    for leaves in shapes:
        refused = alice.send("POST", "pre-keys", batch_document(replace(built, leaves=leaves)))
        assert refused.status_code == 422, leaves
        assert refused.json()["code"] in ("malformed", "untrusted")
    assert OneTimePreKey.unscoped.count() == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [("batch", "AA=="), ("leaves", "A"), ("leaves", "AB"), ("leaves", {"x": 1}), ("v", 2), ("v", True), ("index", 1)],
)
def test_store_names_the_field_that_is_malformed(alice: Phone, field: str, value: object) -> None:
    refused = alice.send("POST", "pre-keys", batch_document(alice.batch(1)) | {field: value})
    if (field, value) == ("v", True):
        assert refused.status_code in (201, 400)
        return
    assert refused.status_code == 400, refused.content
    assert [error["field"] for error in refused.json()["errors"]] == [field]


def test_store_refuses_a_body_above_its_limit(alice: Phone) -> None:
    refused = alice.send("POST", "pre-keys", {"v": 1, "batch": "A" * 300_000, "leaves": ""})
    assert (refused.status_code, refused.json()["code"]) == (413, "too-large")


@pytest.mark.postgres
def test_store_does_not_happen_when_the_audit_log_is_away(alice: Phone) -> None:
    document = batch_document(alice.batch(5))
    with audit_away():
        assert alice.send("POST", "pre-keys", document).status_code == 503
        assert publish(alice, alice.signed_pre_key()).status_code == 503
    assert (OneTimePreKey.unscoped.count(), PreKeyBatch.unscoped.count(), SignedPreKey.unscoped.count()) == (0, 0, 0)
    assert alice.send("POST", "pre-keys", document).status_code == 201


# Count, forecast, consistency.


@pytest.mark.postgres
def test_count_says_how_many_are_left_and_when_they_run_out(alice: Phone, directory: Directory) -> None:
    empty = alice.send("GET", "pre-keys").json()
    assert empty == {"count": 0, "oldest_at": None, "per_day": 0, "empty_at": None}
    alice.publish(batches=[10])
    bob = directory.phone("bob")
    for _ in range(7):
        bob.claim(alice)
    shown = alice.send("GET", "pre-keys").json()
    assert (shown["count"], shown["per_day"]) == (3, 1)
    assert shown["oldest_at"] < shown["empty_at"]
    assert bob.send("GET", f"{alice.path}/pre-keys").status_code == 404


@pytest.mark.postgres
def test_check_gives_the_digest_that_the_device_computes_itself(alice: Phone, directory: Directory) -> None:
    alice.publish(batches=[3, 2])
    directory.phone("bob").claim(alice)
    shown = alice.send("POST", "check", {}).json()
    spk = bytes(SignedPreKey.unscoped.get().statement_hash)
    batches = {bytes(row.batch_id): row for row in PreKeyBatch.unscoped.all()}
    left = sorted((batch_id, [2, 3] if row.first_key_id == 1 else [4, 5]) for batch_id, row in batches.items())
    rows = [[batch_id, key_ids] for batch_id, key_ids in left]
    expected = hashlib.sha256(label("server-holds", alice.id.bytes, spk, rows)).digest()
    assert shown == {
        "digest": b64u(expected),
        "count": 4,
        "signed_pre_key_hash": b64u(spk),
        "epoch": 0,
        "batches": [{"batch_id": b64u(batch_id), "key_ids": key_ids} for batch_id, key_ids in left],
    }


def test_check_sees_a_key_that_vanished(alice: Phone) -> None:
    alice.publish(batches=[3])
    before = unb64u(alice.send("POST", "check", {}).json()["digest"])
    OneTimePreKey.unscoped.filter(key_id=2).delete()
    assert unb64u(alice.send("POST", "check", {}).json()["digest"]) != before


@pytest.mark.postgres
def test_void_leaves_nothing_to_hand_out_and_the_sweep_deletes_only_that(alice: Phone, directory: Directory) -> None:
    """FAULTS D10, D11: after a restore, what may have been handed out is void, and fresh keys are taken."""
    bob = directory.phone("bob")
    alice.publish(batches=[5])
    with directory.acme():
        assert services.void_unissued(actor=alice.actor()) == 2
    assert alice.send("GET", "pre-keys").json()["count"] == 0
    assert alice.send("POST", "check", {}).json()["count"] == 0
    alice.upload(4)
    assert alice.send("GET", "pre-keys").json()["count"] == 4
    assert OneTimePreKey.unscoped.count() == 9
    run_due("worker", limit=10)
    assert OneTimePreKey.unscoped.count() == 4
    assert bob.claim(alice).json()["one_time"] == "handed-out"


@pytest.mark.postgres
def test_void_leaves_another_tenants_keys_alone(alice: Phone, directory: Directory) -> None:
    mallory = directory.phone("mallory")
    mallory.publish(batches=[5])
    with directory.acme():
        services.void_unissued(actor=alice.actor())
    assert mallory.send("GET", "pre-keys").json()["count"] == 5


# Caps.


@pytest.mark.postgres
def test_device_keeps_so_many_one_time_pre_keys_and_may_send_the_last_batch_again(
    alice: Phone, directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "MAX_UNISSUED", 5)
    alice.publish(batches=[])
    last = batch_document(alice.batch(5))
    assert alice.send("POST", "pre-keys", last).status_code == 201
    refused = alice.send("POST", "pre-keys", batch_document(alice.batch(1)))
    assert (refused.status_code, refused.json()["code"]) == (409, "limit-reached")
    assert (refused.json()["limit"], refused.json()["most"]) == ("one-time-pre-keys", 5)
    assert alice.send("POST", "pre-keys", last).json() == {"stored": 0, "count": 5}
    assert directory.phone("bob").claim(alice).status_code == 200
    assert alice.send("POST", "pre-keys", batch_document(alice.batch(1))).status_code == 201


@pytest.mark.postgres
def test_device_keeps_so_many_signed_pre_keys_and_the_current_one_goes_on(
    alice: Phone, directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "MAX_SIGNED_PRE_KEYS", 2)
    last = alice.signed_pre_key(2)
    assert [publish(alice, one).status_code for one in (alice.signed_pre_key(1), last)] == [204, 204]
    refused = publish(alice, alice.signed_pre_key(3))
    assert (refused.json()["code"], refused.json()["limit"]) == ("limit-reached", "signed-pre-keys")
    assert publish(alice, last).status_code == 204
    assert directory.phone("bob").claim(alice).status_code == 200
