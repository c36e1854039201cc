# SPDX-License-Identifier: Apache-2.0
"""That an account chain stands in the key log, proven to whoever asks (PROTOCOL section 8), on a real log token."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from audit import sequencer
from holdfast.core.base.encoding import unb64u
from holdfast.core.log.checkpoint import Checkpoint, LogVerifier
from holdfast.core.log.key_log import InclusionProof, keys_verifier, require_same_log, verify_chain_entry
from hsm import registry
from hsm.config import HsmConfig
from hsm.runtime import open_tokens
from tests.cast.hsm import hsm_config  # noqa: F401
from tests.cast.phones import Account, Directory, Phone, issue, new_phone, post_enrolment


@pytest.fixture
def verifier(hsm_config: HsmConfig, directory: Directory) -> Iterator[LogVerifier]:  # noqa: F811
    with open_tokens(hsm_config, ["log"]) as tokens:
        registry.install(lambda: {"log": tokens.log})
        directory.phone("alice")
        sequence(directory)
        answer = directory.phone("otto").send("GET", "/api/v1/audit/checkpoint?log=keys").json()
        known = keys_verifier([answer["vkey"]], directory.world.acme.pk.bytes)
        assert known is not None
        yield known
    registry.install(dict)


def sequence(directory: Directory) -> None:
    sequencer.sequence(directory.world.acme.pk, "keys")


def shown(phone: Phone, account: Account, query: str = "") -> dict[str, Any]:
    answer = phone.send("GET", f"{account.path}/chain/proof{query}")
    assert answer.status_code == 200, answer.content
    found: dict[str, Any] = answer.json()
    return found


def verified(answer: dict[str, Any], account: Account, seq: int, verifier: LogVerifier) -> Checkpoint:
    hashes = [unb64u(one) for one in answer["proof"]]
    return verify_chain_entry(
        InclusionProof(answer["leaf_index"], unb64u(answer["leaf"]), hashes, answer["checkpoint"]),
        verifier=verifier,
        tenant=account.person.tenant_id.bytes,
        user=account.person.pk.bytes,
        seq=seq,
        entry_hash=account.chain.hashes[seq],
    )


@pytest.mark.postgres
def test_proof_of_each_entry_holds_under_the_newest_signed_head(directory: Directory, verifier: LogVerifier) -> None:
    alice = directory.account("alice")
    for _ in range(3):
        alice.append(alice.phones[0], [alice.generation(alice.phones[0], len(alice.chain.generations) + 1)])
    sequence(directory)
    otto = directory.phone("otto")
    for seq in range(alice.chain.seq + 1):
        verified(shown(otto, alice, f"?seq={seq}"), alice, seq, verifier)
    newest = shown(otto, alice)
    verified(newest, alice, alice.chain.seq, verifier)
    assert "consistency" not in newest


@pytest.mark.postgres
def test_proof_from_an_older_head_shows_that_the_log_only_grew(directory: Directory, verifier: LogVerifier) -> None:
    alice, bob = directory.account("alice"), directory.phone("bob")
    sequence(directory)
    old = verified(shown(bob, alice), alice, 1, verifier)
    for _ in range(5):
        alice.append(alice.phones[0], [alice.generation(alice.phones[0], len(alice.chain.generations) + 1)])
    sequence(directory)
    answer = shown(bob, alice, f"?seq=1&old_size={old.size}")
    new = verified(answer, alice, 1, verifier)
    assert new.size > old.size
    require_same_log(old, new, [unb64u(one) for one in answer["consistency"]])
    assert shown(bob, alice, f"?old_size={new.size}")["consistency"] == []


def test_proof_to_whoever_has_seen_a_larger_log_comes_without_consistency(
    directory: Directory, verifier: LogVerifier
) -> None:
    """The head itself is what the follower needs: the larger and this smaller one, both signed, are the evidence."""
    answer = shown(directory.phone("alice"), directory.account("alice"), "?old_size=1000000")
    assert "consistency" not in answer
    verified(answer, directory.account("alice"), 1, verifier)


@pytest.mark.postgres
def test_proof_of_an_entry_that_no_head_covers_is_not_there_yet(directory: Directory, verifier: LogVerifier) -> None:
    alice = directory.account("alice")
    alice.append(alice.phones[0], [alice.generation(alice.phones[0])])
    refused = alice.phones[0].send("GET", f"{alice.path}/chain/proof?seq=2")
    assert (refused.status_code, refused.json()["code"]) == (404, "not-logged-yet")
    assert alice.phones[0].send("GET", f"{alice.path}/chain/proof?seq=1").status_code == 200
    sequence(directory)
    verified(shown(alice.phones[0], alice, "?seq=2"), alice, 2, verifier)


def test_proof_before_the_first_head_is_not_there_yet(directory: Directory) -> None:
    alice = directory.phone("alice")
    refused = alice.send("GET", f"{directory.account('alice').path}/chain/proof")
    assert (refused.status_code, refused.json()["code"]) == (404, "not-logged-yet")


@pytest.mark.postgres
def test_proof_is_given_to_a_pending_device_and_not_found_for_mallory(
    directory: Directory, verifier: LogVerifier
) -> None:
    alice = directory.account("alice")
    pending = new_phone(alice.person)
    issue(pending)
    post_enrolment(pending)
    verified(shown(pending, alice), alice, 1, verifier)
    mallory = directory.phone("mallory")
    foreign = mallory.send("GET", f"{alice.path}/chain/proof?seq=1")
    unknown = mallory.send("GET", f"/api/v1/users/{uuid.uuid4()}/chain/proof?seq=1")
    assert foreign.status_code == unknown.status_code == 404
    assert foreign.content == unknown.content
    absent = alice.phones[0].send("GET", f"{alice.path}/chain/proof?seq=99")
    assert absent.json()["code"] == "not-found"
