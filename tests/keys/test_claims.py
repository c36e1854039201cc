# SPDX-License-Identifier: Apache-2.0
"""Claims: what is handed out, to whom, how often, and what undoes it (PROTOCOL section 7, FAULTS X1 to X9, D3)."""

from __future__ import annotations

import json
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from audit.models import Entry as AuditEntry
from holdfast.core.base.encoding import b64u, unb64u
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.crypto.suites import Suite
from holdfast.core.identity import chain_author
from holdfast.core.identity.entries import Reason
from holdfast.core.log import merkle
from holdfast.core.messages.prekeys import BatchStatement, OneTimePreKey
from holdfast.core.signed.cose import Purpose, Sign1
from keys import access, services
from keys.claims import claim_device
from keys.models import Claim, SignedPreKey
from keys.models import OneTimePreKey as KeyRow
from tests.cast.phones import Directory, Phone, audit_away, batch_document


def key_ids(answer_document: dict[str, Any]) -> int | None:
    one_time = answer_document.get("one_time_pre_key")
    if one_time is None:
        return None
    return OneTimePreKey.from_leaf(unb64u(one_time["leaf"]), Suite(answer_document["suite"])).key_id


@pytest.fixture
def alice(directory: Directory) -> Phone:
    phone = directory.phone("alice")
    phone.publish(batches=[3])
    return phone


@pytest.fixture
def bob(directory: Directory) -> Phone:
    return directory.phone("bob")


@pytest.mark.postgres
@pytest.mark.parametrize("suite", [Suite.CLASSICAL, Suite.HYBRID, Suite.HYBRID_P256])
def test_claim_hands_out_a_bundle_that_its_taker_can_verify(directory: Directory, bob: Phone, suite: Suite) -> None:
    alice = directory.phone("alice", suite=suite)
    alice.publish(batches=[5])
    answer = bob.claim(alice).json()
    assert unb64u(answer["chain_head"]) == directory.account("alice").chain.head
    assert unb64u(answer["device_statement"]) == alice.statement.encode()
    Sign1.parse(unb64u(answer["signed_pre_key"])).verify(alice.isk.public, purpose=Purpose.PREKEY)
    one_time = answer["one_time_pre_key"]
    batch = BatchStatement.from_payload(
        Sign1.parse(unb64u(one_time["batch"])).verify(alice.isk.public, purpose=Purpose.PREKEY)
    )
    proof = unb64u(one_time["proof"])
    merkle.verify_inclusion(
        merkle.leaf_hash(unb64u(one_time["leaf"])),
        index=one_time["index"],
        size=batch.size,
        proof=[proof[at : at + 32] for at in range(0, len(proof), 32)],
        expected_root=batch.root,
    )
    assert (answer["v"], answer["suite"], answer["one_time"]) == (1, suite, "handed-out")


@pytest.mark.postgres
def test_claim_gives_each_key_once_and_then_says_exhausted(alice: Phone, bob: Phone) -> None:
    answers = [bob.claim(alice).json() for _ in range(5)]
    assert [key_ids(answer) for answer in answers] == [1, 2, 3, None, None]
    assert [answer["one_time"] for answer in answers] == ["handed-out"] * 3 + ["exhausted"] * 2
    assert all("signed_pre_key" in answer for answer in answers)


@pytest.mark.postgres
def test_claim_gives_the_same_octets_when_its_answer_was_lost(alice: Phone, bob: Phone) -> None:
    first, again = bob.claim(alice, "k"), bob.claim(alice, "k")
    assert first.content == again.content
    assert "idempotent-replay" not in first.headers
    assert again.headers["idempotent-replay"] == "true"
    assert key_ids(bob.claim(alice, "l").json()) == 2


@pytest.mark.postgres
def test_claim_gives_the_same_octets_after_the_signed_pre_key_was_renewed(alice: Phone, bob: Phone) -> None:
    first = bob.claim(alice, "k")
    document = {"v": 1, "signed_pre_key": b64u(alice.signed_pre_key(9))}
    renewed = alice.send("PUT", "bundle", document, if_match=alice.current_tag)
    assert renewed.status_code == 204, renewed.content
    assert bob.claim(alice, "k").content == first.content
    assert bob.claim(alice, "l").json()["signed_pre_key"] != first.json()["signed_pre_key"]


@pytest.mark.postgres
def test_claim_refuses_a_key_used_for_another_target(directory: Directory, alice: Phone, bob: Phone) -> None:
    bob.claim(alice, "k")
    bob.publish(batches=[1])
    refused = bob.claim(bob, "k")
    assert (refused.status_code, refused.json()["code"]) == (422, "idempotency-key-reused")
    assert KeyRow.unscoped.filter(device_id=bob.id).count() == 1


def test_claim_by_another_requester_under_the_same_key_is_another_claim(
    directory: Directory, alice: Phone, bob: Phone
) -> None:
    carol = directory.phone("carol")
    assert [key_ids(one.claim(alice, "k").json()) for one in (bob, carol)] == [1, 2]


def test_claim_refuses_a_request_without_an_idempotency_key(alice: Phone, bob: Phone) -> None:
    refused = bob.send("POST", f"{alice.path}/claim", {})
    assert (refused.status_code, refused.json()["code"]) == (400, "idempotency-key-missing")
    assert KeyRow.unscoped.filter(device_id=alice.id).count() == 3


@pytest.mark.parametrize("body", [{"device": "x"}, [], 1, None, ""])
def test_claim_refuses_a_body_that_says_anything(alice: Phone, bob: Phone, body: object) -> None:
    refused = bob.signer.send(
        Client(),
        "POST",
        f"{alice.path}/claim",
        json.dumps(body).encode(),
        **{"idempotency-key": "k"},
    )
    assert refused.status_code == 400
    assert KeyRow.unscoped.filter(device_id=alice.id).count() == 3


@pytest.mark.postgres
def test_claim_of_unknown_foreign_pending_or_silent_devices_is_the_same_not_found(
    directory: Directory, alice: Phone, bob: Phone
) -> None:
    mallory = directory.phone("mallory")
    mallory.publish()
    silent = directory.phone("carol")
    answers = [
        bob.send("POST", f"/api/v1/devices/{target}/claim", {}, idempotency_key=uuid.uuid4().hex)
        for target in (uuid.uuid4(), mallory.id, silent.id)
    ]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.content for answer in answers}) == 1
    assert KeyRow.unscoped.filter(device_id=mallory.id).count() == 5


@pytest.mark.postgres
def test_claim_by_mallory_is_not_found_and_takes_nothing(directory: Directory, alice: Phone) -> None:
    assert directory.phone("mallory").claim(alice).status_code == 404
    assert KeyRow.unscoped.filter(device_id=alice.id).count() == 3


@pytest.mark.postgres
def test_claim_does_not_happen_when_the_audit_log_is_away(alice: Phone, bob: Phone) -> None:
    with audit_away():
        refused = bob.claim(alice, "k")
        assert refused.status_code == 503
        assert b"leaf" not in refused.content
    assert Claim.unscoped.count() == 0
    assert key_ids(bob.claim(alice, "k").json()) == 1


@pytest.mark.postgres
def test_claim_records_who_took_which_key(alice: Phone, bob: Phone) -> None:
    bob.claim(alice)
    entry = AuditEntry.unscoped.get(tag="keys:pre-key:claim")
    claim = Claim.unscoped.get()
    assert (entry.actor, entry.subject) == (f"device:{bob.id}", f"device:{alice.id}")
    assert entry.body == {"bundles": 1, "keys": f"{claim.batch_id.hex}:1"}


@pytest.mark.postgres
def test_claim_stops_at_the_limit_of_a_requester_and_takes_nothing(
    alice: Phone, bob: Phone, directory: Directory, settings
) -> None:
    settings.HOLDFAST_CLAIMS_PER_REQUESTER = 2
    answers = [bob.claim(alice) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].json()["code"] == "claim-limit"
    assert 0 < int(answers[2].headers["retry-after"]) <= 3600
    assert KeyRow.unscoped.filter(device_id=alice.id).count() == 1
    assert directory.phone("carol").claim(alice).status_code == 200


@pytest.mark.postgres
def test_claim_stops_at_the_limit_of_a_target(alice: Phone, bob: Phone, directory: Directory, settings) -> None:
    settings.HOLDFAST_CLAIMS_PER_TARGET = 2
    carol = directory.phone("carol")
    assert [one.claim(alice).status_code for one in (bob, carol, bob)] == [200, 200, 429]
    carol.publish()
    assert bob.claim(carol).status_code == 200


@pytest.mark.postgres
def test_claim_of_a_revoked_device_hands_out_nothing(directory: Directory, bob: Phone) -> None:
    account = directory.account("alice")
    kept, lost = account.add_phone(), account.add_phone()
    kept.publish()
    lost.publish()
    bob.claim(lost, "k")
    new = SigningKey.generate()
    pair = chain_author.revoke_device(
        account.chain, by=account.author(kept), device=lost.id.bytes, reason=Reason.DEVICE_LOST, since=0, new_aik=new
    )
    assert account.append(kept, pair).status_code == 201
    assert bob.claim(lost).status_code == 404
    assert bob.claim(lost, "k").status_code == 404
    assert bob.claim(kept).status_code == 200
    assert KeyRow.unscoped.filter(device_id=lost.id).count() == 0


@pytest.mark.postgres
def test_claim_of_a_user_gives_one_bundle_of_each_active_device(directory: Directory, bob: Phone) -> None:
    account = directory.account("alice")
    phones = [account.add_phone() for _ in range(3)]
    for phone in phones[:2]:
        phone.publish(batches=[1])
    path = f"{account.path}/claim"
    first = bob.send("POST", path, {}, idempotency_key="k")
    again = bob.send("POST", path, {}, idempotency_key="k")
    document = first.json()
    assert unb64u(document["chain_head"]) == account.chain.head
    assert {one["device_id"] for one in document["bundles"]} == {str(phone.id) for phone in phones[:2]}
    assert {one["one_time"] for one in document["bundles"]} == {"handed-out"}
    assert first.content == again.content
    after = bob.send("POST", path, {}, idempotency_key="l").json()
    assert {one["one_time"] for one in after["bundles"]} == {"exhausted"}


@pytest.mark.postgres
def test_claim_of_a_user_with_many_devices_records_every_key(directory: Directory, bob: Phone) -> None:
    account = directory.account("alice")
    for _ in range(12):
        account.add_phone().publish(batches=[1])
    assert len(bob.send("POST", f"{account.path}/claim", {}, idempotency_key="k").json()["bundles"]) == 12
    entries = AuditEntry.unscoped.filter(tag="keys:pre-key:claim")
    assert sum(entry.body["bundles"] for entry in entries) == 12
    assert len({key for entry in entries for key in entry.body["keys"].split()}) == 12


@pytest.mark.postgres
def test_claim_of_an_unknown_or_foreign_user_is_not_found(directory: Directory, bob: Phone) -> None:
    directory.phone("mallory").publish()
    foreign = directory.account("mallory").path
    unknown = f"/api/v1/users/{uuid.uuid4()}"
    answers = [bob.send("POST", f"{path}/claim", {}, idempotency_key="k") for path in (unknown, foreign)]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].content == answers[1].content


@pytest.mark.postgres
def test_claim_hands_out_nothing_that_was_voided(directory: Directory, alice: Phone, bob: Phone) -> None:
    with directory.acme():
        services.void_unissued(actor=alice.actor())
    assert bob.claim(alice).json()["one_time"] == "exhausted"
    alice.upload(1)
    assert key_ids(bob.claim(alice).json()) == 4


@pytest.mark.postgres
def test_claim_takes_few_statements(directory: Directory, alice: Phone, bob: Phone) -> None:
    with directory.acme(), CaptureQueriesContext(connection) as captured:
        claim_device(device_id=alice.id, key="k", actor=bob.actor())
    statements = [one["sql"].split()[0] for one in captured if one["sql"].split()[0] not in ("SAVEPOINT", "RELEASE")]
    # PostgreSQL: the claim and its audit entry. SQLite: target, key, batch, record, two budgets, audit entry.
    assert len(statements) <= (2 if connection.vendor == "postgresql" else 7), statements


@pytest.mark.postgres
def test_claims_of_more_than_a_month_ago_go_and_their_keys_do_not_come_back(
    alice: Phone, bob: Phone, directory: Directory
) -> None:
    assert key_ids(bob.claim(alice, "old").json()) == 1
    with directory.acme():
        device, later = access.device(alice.id), alice.signed_pre_key(2)
        current = access.current_signed_pre_key(device.id)
        assert current is not None
        expected = bytes(current.statement_hash)
        services.publish_signed_pre_key(device=device, statement=later, expected=expected, actor=alice.actor())
    fresh = bob.claim(alice, "new").json()
    assert services.sweep_claims() == 0
    aged = timezone.now() - services.CLAIM_LIFE - timedelta(hours=2)
    Claim.unscoped.filter(key="old").update(claimed_at=aged)
    SignedPreKey.unscoped.filter(is_current=False).update(retired_at=aged)
    assert services.sweep_claims() == 1
    assert Claim.unscoped.get().key == "new"
    assert SignedPreKey.unscoped.get(device_id=alice.id).key_id == 2
    assert bob.claim(alice, "new").json() == fresh, "what is younger is answered as before"
    # The key of the claim that is forgotten: neither an upload nor a claim brings it again.
    again = alice.batch(1, first=1)
    assert alice.send("POST", f"{alice.path}/pre-keys", batch_document(again)).status_code == 409
    assert [key_ids(bob.claim(alice).json()) for _ in range(2)] == [3, None]


@pytest.mark.postgres
def test_signed_pre_key_that_a_kept_claim_names_is_kept(alice: Phone, bob: Phone, directory: Directory) -> None:
    before = bob.claim(alice, "k").json()
    with directory.acme():
        device, later = access.device(alice.id), alice.signed_pre_key(2)
        current = access.current_signed_pre_key(device.id)
        assert current is not None
        expected = bytes(current.statement_hash)
        services.publish_signed_pre_key(device=device, statement=later, expected=expected, actor=alice.actor())
    services.sweep_claims()
    assert bob.claim(alice, "k").json() == before
