# SPDX-License-Identifier: Apache-2.0
"""After a collected case the account begins again, on the word of m officers and not before the delay is over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from django.utils import timezone

from holdfast.core.base.encoding import b64u
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.identity import chain_author
from holdfast.core.identity.cases import Attestation, Case
from holdfast.core.identity.chain_author import Author
from holdfast.core.identity.policy import SignedPolicy
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.payloads import Header
from kernel.scope import tenant_scope
from keys import chains, devices
from keys.models import Device
from recovery import tasks
from recovery.models import Case as CaseRow
from tests.cast.founded import Hsm
from tests.cast.phones import enrolled, issue, new_phone, now, post_enrolment
from tests.cast.world import OpenCase, World, as_superuser

pytestmark = pytest.mark.django_db(transaction=True)


def collected(world: World) -> OpenCase:
    case, _ = world.approved("carol", "dan")
    world.tick()
    assert world.collect(case).status_code == 200
    return case


def propose(world: World, case: OpenCase, key: SigningKey) -> Any:
    head = world.directory.account("alice").chain.head
    document = {"identity_key": b64u(key.public.encoded), "old_head": b64u(head)}
    return case.phone.send("PUT", f"{case.path}/successor", document)


def attestation(world: World, case: OpenCase, name: str, key: SigningKey) -> Sign1:
    asked = Case.from_payload(case.statement.payload)
    said = Attestation(
        header=Header(world.tenant_id.bytes, asked.subject, b"", now()),
        old_head=world.directory.account("alice").chain.head,
        new_aik=key.public,
        case_id=asked.case_id,
        device_hash=asked.recipient_device_hash,
    )
    return cose.sign(said.to_payload(), purpose=Purpose.ATTESTATION, key=world.founders[name].signing_key)


def attest(world: World, case: OpenCase, name: str, key: SigningKey) -> tuple[Any, Sign1]:
    signed = attestation(world, case, name, key)
    document = {"statement": b64u(signed.encode())}
    return world.directory.phone(name).send("POST", f"{case.path}/attestations", document), signed


def begin_again(
    world: World, case: OpenCase, key: SigningKey, said: list[Sign1], *, under: SignedPolicy | None = None
) -> Any:
    from holdfast.core.identity.chain import extend

    policy = under or world.policies[-1]
    account, author = world.directory.account("alice"), Author(case.phone.id.bytes, now(), key)
    again = chain_author.re_genesis(account.chain, by=author, attestations=said, policy_hash=policy.hash)
    begun = extend(account.chain, again, policies=world.policies)
    added = chain_author.add_device(
        begun, by=author, device=case.phone.id.bytes, statement_hash=case.phone.statement.payload_hash
    )
    entries = [b64u(entry.encode()) for entry in (again, added)]
    document = {"entries": entries, "expected_head": b64u(account.chain.head)}
    return case.phone.send("POST", f"{account.path}/chain", document)


def test_account_begins_again_once_enough_officers_attest_the_proposed_key(world: World, hsm: Hsm) -> None:
    case, key = collected(world), SigningKey.generate()
    assert propose(world, case, key).status_code == 200
    said = []
    for name in ("carol", "dan"):
        answer, signed = attest(world, case, name, key)
        assert answer.status_code == 201, answer.content
        said.append(signed)
    answer = begin_again(world, case, key, said)
    assert answer.status_code == 201, answer.content
    tasks.follow_rotations()
    assert world.state(case) == "rotated"


def test_account_does_not_begin_again_before_the_delay_is_over(found: Callable[..., World], hsm: Hsm) -> None:
    world = found(delay_seconds=2)
    case, _ = world.approved("carol", "dan")
    while world.state(case) != "released":
        world.tick()
    assert world.collect(case).status_code == 200
    key = SigningKey.generate()
    propose(world, case, key)
    said = [attest(world, case, name, key)[1] for name in ("carol", "dan")]
    answer = begin_again(world, case, key, said)
    assert (answer.status_code, answer.json()["code"]) == (409, "re-genesis-too-early")


@pytest.mark.parametrize("published", ["before", "after"])
def test_account_outlives_a_policy_that_was_signed_before_and_published_after_it_began_again(
    world: World, hsm: Hsm, published: str
) -> None:
    """A version is published up to a month after its date. Which is in force is judged as the entry is taken."""
    case, key = collected(world), SigningKey.generate()
    assert propose(world, case, key).status_code == 200
    said = [attest(world, case, name, key)[1] for name in ("carol", "dan")]
    first, draft = world.policies[-1], world.policy(m=2)
    draft = replace(draft, header=replace(draft.header, issued_at=now() - 2 * 3600))
    signers = [world.founders[name] for name in ("carol", "dan")]
    if published == "before":
        world.publish(draft, signers=signers)
        answer = begin_again(world, case, key, said, under=first)
        assert (answer.status_code, answer.json()["code"]) == (422, "untrusted")
        return
    assert begin_again(world, case, key, said).status_code == 201
    world.publish(draft, signers=signers)
    with tenant_scope(world.tenant_id):
        assert chains.chain_state(world.cast.people["alice"].pk).state.re_genesis


def test_attest_refuses_another_key_than_the_one_proposed(world: World, hsm: Hsm) -> None:
    case, key = collected(world), SigningKey.generate()
    early, _ = attest(world, case, "carol", key)
    assert (early.status_code, early.json()["code"]) == (422, "attestation-refused")
    propose(world, case, key)
    answer, _ = attest(world, case, "carol", SigningKey.generate())
    assert (answer.status_code, answer.json()["code"]) == (422, "attestation-refused")
    second = propose(world, case, SigningKey.generate())
    assert (second.status_code, second.json()["code"]) == (409, "case-moved")


def test_attest_is_refused_before_the_release(world: World, hsm: Hsm) -> None:
    case, _ = world.approved("carol", "dan")
    answer, _ = attest(world, case, "carol", SigningKey.generate())
    assert (answer.status_code, answer.json()["code"]) == (409, "case-moved")


def test_account_does_not_begin_again_on_attestations_that_were_never_sent(world: World, hsm: Hsm) -> None:
    # Two officers' signatures alone, without the log ever hearing of them, do not move a chain.
    case, key = collected(world), SigningKey.generate()
    propose(world, case, key)
    said = [attestation(world, case, name, key) for name in ("carol", "dan")]
    answer = begin_again(world, case, key, said)
    assert (answer.status_code, answer.json()["code"]) == (403, "regenesis-refused")


@pytest.mark.postgres
def test_device_that_waits_for_its_case_is_not_ended_by_new_ones(
    world: World, hsm: Hsm, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = collected(world)
    monkeypatch.setattr(devices, "MAX_WAITING", 2)
    others = [enrolled(world.cast.alice) for _ in range(3)]
    states = {row.id: str(row.state) for row in Device.unscoped.filter(user_id=case.phone.person.pk)}
    assert states[case.phone.id] == "pending", "three codes of an officer do not end what the case is about"
    assert [states[one.id] for one in others] == ["revoked", "revoked", "pending"]
    monkeypatch.setattr(devices, "MAX_WAITING", 1)
    with as_superuser("keys_device"):
        Device.unscoped.filter(id=others[2].id).update(state="revoked")
    late = new_phone(world.cast.alice)
    issue(late)
    refused = post_enrolment(late)
    assert (refused.status_code, refused.json()["code"], refused.json()["limit"]) == (
        409,
        "limit-reached",
        "waiting-devices",
    )


@pytest.mark.postgres
def test_device_that_waits_for_its_case_is_not_swept_away(world: World, hsm: Hsm) -> None:
    case = collected(world)
    Device.unscoped.update(created_at=timezone.now() - devices.WAITING_LIFE * 2)
    assert devices.sweep_waiting() == 0
    assert Device.unscoped.get(id=case.phone.id).state == "pending"
    with as_superuser("recovery_case"):
        CaseRow.unscoped.update(state="cancelled")
    assert devices.sweep_waiting() == 1
