# SPDX-License-Identifier: Apache-2.0
"""The client against a lying server: nothing that does not follow from the pin is believed.

Implements FAULTS S1 to S15 (the rows that exist) and its "release substitution".
Each test tells one lie; `test_client` shows that the same steps succeed without it.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast.client.errors import ConsentNeeded, NotPossible, NotYet, PeerChanged, TrustRefused, WrongWords
from holdfast.client.escrow import escrow
from holdfast.client.identity import chains, contacts, device, tenant
from holdfast.client.messages import bundles, prekey_rows, prekeys
from holdfast.client.officers import officer
from holdfast.client.recovery import by_case
from holdfast.client.vault import doors, vault
from holdfast.core.base.encoding import Encodable, b64u, decode, encode, unb64u
from holdfast.core.crypto.keys import RecipientRsaKey, SealingKey, SigningKey
from holdfast.core.identity.cases import Approval, Case
from holdfast.core.identity.entries import Entry
from holdfast.core.signed.cose import Purpose, Sign1, sign
from holdfast.core.vault import door_blob
from tests.cast.lying_server import Tenant, _payload_hash, text
from tests.cast.members import ALICE, BOB, CHEAP, MALLORY, PASSWORD, Members, heard
from tests.cast.officers import Founder

# S1 and S3: the escrow key, at every entry point


def own_key(world: Members) -> bytes:
    """The server's own key, under its own signatures."""
    attacker = [Founder(one.person) for one in world.server.tenant.officers]
    root = SigningKey.generate()
    return world.server.tenant.sign_key(
        RecipientRsaKey.generate().public, version=1, predecessor=b"", by_root=root, officers=attacker[:2]
    )


def replaced(statement: bytes) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def lie(answer: dict[str, Any]) -> dict[str, Any]:
        row = {"hash": b64u(_payload_hash(statement)), "statement": b64u(statement)}
        return {**answer, **row, "history": [row]}

    return lie


def appended(statement: bytes) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def lie(answer: dict[str, Any]) -> dict[str, Any]:
        row = {"hash": b64u(_payload_hash(statement)), "statement": b64u(statement)}
        return {**answer, **row, "history": [*answer["history"], row]}

    return lie


def test_enrolment_refuses_the_servers_own_escrow_key(world: Members) -> None:
    world.server.lies["GET escrow/key"] = replaced(own_key(world))
    with pytest.raises(TrustRefused, match="escrow key"):
        world.enrolled(ALICE)


def test_new_device_refuses_the_servers_own_escrow_key(world: Members) -> None:
    world.enrolled(ALICE)
    world.server.lies["GET escrow/key"] = replaced(own_key(world))
    with pytest.raises(TrustRefused, match="escrow key"):
        world.enrolled(ALICE)


def test_deposit_refuses_an_escrow_key_swapped_after_enrolment(world: Members) -> None:
    account = world.enrolled(ALICE)
    world.server.lies["GET escrow/key"] = replaced(own_key(world))
    with pytest.raises(TrustRefused, match="escrow key"):
        escrow.prepare(account)
    assert account.escrow_key.hash == _payload_hash(world.server.tenant.keys[0])


def test_whole_other_tenant_is_refused_by_the_pin(world: Members) -> None:
    other = Tenant()
    code = world.server.code(ALICE)
    world.server.tenant = other
    account = world.profile(ALICE)
    with pytest.raises(TrustRefused, match="pinned"):
        device.enrol(account, code, name="laptop")
    assert account.state.trust.policies == []


@pytest.mark.parametrize("lacking", ["root", "officer"])
def test_rotated_escrow_key_needs_root_and_officers(world: Members, lacking: str) -> None:
    account = world.enrolled(ALICE)
    house = world.server.tenant
    statement = house.sign_key(
        RecipientRsaKey.generate().public,
        version=2,
        predecessor=_payload_hash(house.keys[0]),
        by_root=SigningKey.generate() if lacking == "root" else None,
        officers=house.officers[:1] if lacking == "officer" else None,
    )
    world.server.lies["GET escrow/key"] = appended(statement)
    with pytest.raises(TrustRefused):
        tenant.refresh(account)


def test_rotated_escrow_key_that_names_no_predecessor_of_ours_is_refused(world: Members) -> None:
    account = world.enrolled(ALICE)
    house = world.server.tenant
    statement = house.sign_key(RecipientRsaKey.generate().public, version=2, predecessor=b"\0" * 32)
    world.server.lies["GET escrow/key"] = appended(statement)
    with pytest.raises(TrustRefused):
        tenant.refresh(account)


def test_rotated_escrow_key_is_taken_when_root_and_officers_signed_it(world: Members) -> None:
    account = world.enrolled(ALICE)
    house = world.server.tenant
    predecessor = _payload_hash(house.keys[0])
    house.keys.append(house.sign_key(RecipientRsaKey.generate().public, version=2, predecessor=predecessor))
    assert tenant.refresh(account).key_now == 2


def test_escrow_key_rolled_back_to_an_older_version_is_refused(world: Members) -> None:
    account = world.enrolled(ALICE)
    house = world.server.tenant
    predecessor = _payload_hash(house.keys[0])
    house.keys.append(house.sign_key(RecipientRsaKey.generate().public, version=2, predecessor=predecessor))
    tenant.refresh(account)
    del house.keys[1]
    with pytest.raises(TrustRefused, match="older"):
        tenant.refresh(account)


def test_sha1_padding_is_refused_outside_a_development_tenant(world: Members) -> None:
    house = world.server.tenant
    house.keys[0] = house.sign_key(house.escrow.public, version=1, predecessor=b"", algorithm="oaep-sha1")
    with pytest.raises(TrustRefused, match="development"):
        world.enrolled(ALICE)
    account = world.profile(BOB)
    assert device.enrol(account, world.server.code(BOB), name="laptop", is_development=True).is_active


# S2 and S15: policy and consent


def test_nothing_is_deposited_without_the_persons_own_yes(world: Members) -> None:
    account = world.enrolled(ALICE)
    with pytest.raises(ConsentNeeded):
        escrow.deposit_missing(account)
    assert world.server.posted("escrow/deposits") == []
    assert world.server.posted("statements") == []


def test_consent_to_one_policy_does_not_carry_over_to_the_next(world: Members, tmp_path: Path) -> None:
    account = world.depositor(tmp_path)
    house = world.server.tenant
    roster = [house.officers[0], house.officers[1], Founder(MALLORY)]
    signers = house.officers[:2]
    house.policies.append(
        house.sign_policy(roster, version=2, predecessor=_payload_hash(house.policies[0]), signers=signers)
    )
    escrow.prepare(account)
    assert escrow.status(account).consent == "for an older policy"
    with pytest.raises(ConsentNeeded):
        escrow.deposit_missing(account)


@pytest.mark.parametrize("signers", [0, 1])
def test_policy_changed_without_a_quorum_of_the_one_before_is_refused(world: Members, signers: int) -> None:
    account = world.enrolled(ALICE)
    house = world.server.tenant
    roster = [Founder(one.person) for one in house.officers]
    by = house.officers[:signers] or roster
    statement = house.sign_policy(roster, version=2, predecessor=_payload_hash(house.policies[0]), signers=by)
    world.server.lies["GET escrow/policy"] = appended(statement)
    with pytest.raises(TrustRefused):
        tenant.refresh(account)


def test_policy_that_does_not_name_the_one_in_force_is_refused_unless_it_was_known_before(world: Members) -> None:
    account = world.enrolled(ALICE)
    house = world.server.tenant
    first = _payload_hash(house.policies[0])
    by = house.officers[:2]
    for held in (b"", bytes(32)):
        statement = house.sign_policy(house.officers, version=2, predecessor=first, signers=by, held=held)
        world.server.lies["GET escrow/policy"] = appended(statement)
        with pytest.raises(TrustRefused, match="in force"):
            tenant.refresh(account)
    del world.server.lies["GET escrow/policy"]
    # A client from before the rule has such a version in its profile, and goes on from there.
    house.policies.append(house.sign_policy(house.officers, version=2, predecessor=first, signers=by, held=b""))
    account.state.trust.policies = [*account.state.trust.policies, house.policies[1]]
    second = _payload_hash(house.policies[1])
    house.policies.append(house.sign_policy(house.officers, version=3, predecessor=second, signers=by))
    assert tenant.refresh(account).policy_now == 3


def test_version_that_follows_a_withdrawn_one_is_taken_with_the_officers_word_only(world: Members) -> None:
    account = world.enrolled(ALICE)
    house = world.server.tenant
    first, by = _payload_hash(house.policies[0]), house.officers[:2]
    house.policies.append(house.sign_policy(house.officers, version=2, predecessor=first, signers=by))
    assert tenant.refresh(account).policy_now == 2
    house.policies.append(house.sign_policy(house.officers, version=3, predecessor=first, signers=by))
    for withdrawals in ([], [house.sign_withdrawal(2, by[:1])]):
        house.withdrawals = withdrawals
        with pytest.raises(TrustRefused):
            tenant.refresh(account)
        assert account.trusted.newest.policy.version == 2
    house.withdrawals = [house.sign_withdrawal(2, by)]
    assert tenant.refresh(account).policy_now == 3
    account.save()
    assert [one.policy.version for one in account.policies] == [1, 3]


def test_policy_rolled_back_to_an_older_version_is_refused(world: Members) -> None:
    account = world.enrolled(ALICE)
    house = world.server.tenant
    house.policies.append(
        house.sign_policy(
            house.officers, version=2, predecessor=_payload_hash(house.policies[0]), signers=house.officers[:2]
        )
    )
    tenant.refresh(account)
    del house.policies[1]
    with pytest.raises(TrustRefused, match="older"):
        tenant.refresh(account)


def test_first_use_without_a_pin_is_marked_and_then_held_to(world: Members) -> None:
    account = world.profile(ALICE)
    done = device.enrol(account, world.server.code(ALICE, pin=b""), name="laptop")
    assert done.trust.is_tofu
    assert account.state.trust.is_tofu
    again = device.enrol(account, world.server.code(ALICE, pin=b""), name="laptop")
    assert again.trust.is_tofu
    world.server.tenant = Tenant()
    with pytest.raises(TrustRefused):
        tenant.refresh(account)


def test_pin_from_a_person_vouches_for_what_was_met_first(world: Members) -> None:
    account = world.profile(ALICE)
    device.enrol(account, world.server.code(ALICE, pin=b""), name="laptop")
    tenant.pin_root(account, pin=world.server.tenant.pin, is_development=False)
    assert not tenant.refresh(account).is_tofu
    with pytest.raises(TrustRefused, match="another root"):
        tenant.pin_root(account, pin=b"\1" * 32, is_development=False)


# S7, S9, S10: the vault


def with_vault(world: Members) -> None:
    account = world.enrolled(ALICE)
    doors.set_password(account, PASSWORD, cost=CHEAP)


def second_device(world: Members, first: Any) -> Any:
    account = world.profile(ALICE)
    done = device.enrol(account, world.server.code(ALICE), name="phone")
    device.approve(first, done.device, words=done.words)
    return account


@pytest.mark.parametrize(
    "cost",
    [(8, 3, 4), (65536, 1, 4), (2**31, 3, 4), (65536, 2**31, 4), (65536, 3, 255), (65536, 3, 2**31), (65536, 0, 4),
     (-1, 3, 4), (65536, -1, 4), (65536, 3, -1)],
)  # fmt: skip
def test_vault_door_with_other_argon2_parameters_is_refused_before_hashing(
    world: Members, cost: tuple[int, int, int]
) -> None:
    first = world.enrolled(ALICE)
    doors.set_password(first, PASSWORD, cost=CHEAP)
    phone = second_device(world, first)

    def weaken(answer: dict[str, Any]) -> dict[str, Any]:
        door = decode(unb64u(answer["blob"]))
        assert isinstance(door, dict)
        kdf = door[door_blob.METHOD]
        assert isinstance(kdf, dict)
        kdf[3], kdf[4], kdf[5] = cost
        return {**answer, "blob": b64u(encode(door))}

    world.server.lies["GET vault/doors/password"] = weaken
    # A number below zero is no count at all: the door is refused as it is read, before its bounds are.
    with pytest.raises(TrustRefused, match="Argon2id" if min(cost) >= 0 else "not an integer of 0"):
        doors.open_with_password(phone, password=PASSWORD)


def test_vault_of_an_older_version_is_refused(world: Members) -> None:
    account = world.enrolled(ALICE)
    doors.set_password(account, PASSWORD, cost=CHEAP)
    old = copy.deepcopy(world.server.vaults[text(ALICE)])
    vault.save(account)
    world.server.lies["GET vault"] = lambda _answer: old
    with pytest.raises(TrustRefused, match="older"):
        doors.open_with_password(account, password=PASSWORD)


def test_vault_of_another_person_is_refused(world: Members) -> None:
    account, other = world.enrolled(ALICE), world.enrolled(BOB)
    doors.set_password(account, PASSWORD, cost=CHEAP)
    doors.set_password(other, PASSWORD, cost=CHEAP)
    world.server.lies["GET vault"] = lambda _answer: world.server.vaults[text(BOB)]
    with pytest.raises(TrustRefused):
        doors.open_with_password(account, password=PASSWORD)


def test_vault_blob_swapped_under_the_right_statement_is_refused(world: Members) -> None:
    account = world.enrolled(ALICE)
    doors.set_password(account, PASSWORD, cost=CHEAP)
    old = world.server.vaults[text(ALICE)]["blob"]
    vault.save(account)
    world.server.lies["GET vault"] = lambda answer: {**answer, "blob": old}
    with pytest.raises(TrustRefused):
        doors.open_with_password(account, password=PASSWORD)


# The account chain


def test_own_chain_that_got_shorter_is_refused(world: Members) -> None:
    account = world.enrolled(ALICE)
    first = world.server.chains[text(ALICE)][0]
    world.server.chains[text(ALICE)] = [first]
    with pytest.raises(TrustRefused, match="length"):
        chains.refresh(account)


def test_device_that_the_server_puts_forward_needs_the_words_of_the_person(world: Members) -> None:
    account = world.enrolled(ALICE)
    attacker = world.profile(ALICE)
    pending = device.enrol(attacker, world.server.code(ALICE), name="phone")
    with pytest.raises(WrongWords):
        device.approve(account, pending.device, words=("abandon",) * 8)
    assert pending.device.bytes not in account.chain.devices


def test_chain_of_another_person_in_a_contacts_place_is_refused(world: Members) -> None:
    bob = world.enrolled(BOB)
    world.enrolled(ALICE)
    world.enrolled(MALLORY)
    world.server.chains[text(ALICE)] = world.server.chains[text(MALLORY)]
    with pytest.raises(TrustRefused):
        contacts.refresh(bob, ALICE)


def test_contacts_chain_replaced_by_another_beginning_is_refused(world: Members) -> None:
    bob = world.enrolled(BOB)
    world.enrolled(ALICE)
    contacts.refresh(bob, ALICE)
    pinned = bob.state.contacts[ALICE].entries
    del world.server.chains[text(ALICE)]
    # The same length, other entries, and a key log made to match.
    world.server.keys_log.leaves.clear()
    world.published(ALICE)
    with pytest.raises(TrustRefused, match="another head"):
        bundles.claim(bob, ALICE)
    head = pinned[-1]
    world.server.lies[f"GET users/{text(ALICE)}/chain"] = lambda answer: {
        **answer,
        "head": b64u(Entry.parse(head).hash),
    }
    with pytest.raises(TrustRefused):
        bundles.claim(bob, ALICE)
    assert bob.state.contacts[ALICE].entries == pinned


# S12, S13, S9: bundles


def tampered(bundle: dict[str, Any], field: str, other: dict[str, Any]) -> dict[str, Any]:
    if field in ("batch", "leaf", "proof", "index"):
        return {**bundle, "one_time_pre_key": {**bundle["one_time_pre_key"], field: other["one_time_pre_key"][field]}}
    return {**bundle, field: other[field]}


@pytest.mark.parametrize("field", ["device_statement", "signed_pre_key", "batch", "leaf", "proof", "index", "suite"])
def test_bundle_with_a_part_of_mallorys_is_refused(world: Members, field: str) -> None:
    bob = world.enrolled(BOB)
    world.published(ALICE)
    world.published(MALLORY)
    world.server.batches[next(one for one in world.server.batches if world.server._user(one) == text(MALLORY))].pop(0)
    theirs = bundles_of(world, MALLORY)

    def lie(answer: dict[str, Any]) -> dict[str, Any]:
        other = {**theirs["bundles"][0], "suite": 1}
        return {**answer, "bundles": [tampered(answer["bundles"][0], field, other)]}

    world.server.lies[f"POST users/{text(ALICE)}/claim"] = lie
    with pytest.raises(TrustRefused):
        bundles.claim(bob, ALICE)


def bundles_of(world: Members, user: bytes) -> dict[str, Any]:
    _status, answer = world.server.claim("", {}, {}, text(user))
    assert isinstance(answer, dict)
    return answer


def test_bundles_of_another_person_are_refused(world: Members) -> None:
    bob = world.enrolled(BOB)
    world.published(ALICE)
    world.published(MALLORY)
    world.server.lies[f"POST users/{text(ALICE)}/claim"] = lambda answer: {
        **bundles_of(world, MALLORY),
        "chain_head": answer["chain_head"],
    }
    with pytest.raises(TrustRefused, match="another tenant, user or device"):
        bundles.claim(bob, ALICE)


def test_bundle_of_a_device_that_was_never_added_is_refused(world: Members) -> None:
    bob = world.enrolled(BOB)
    world.published(ALICE)
    stranger = world.profile(ALICE)
    device.enrol(stranger, world.server.code(ALICE), name="phone")
    assert not stranger.device.is_active
    statement = b64u(stranger.device.statement)

    def lie(answer: dict[str, Any]) -> dict[str, Any]:
        row = {**answer["bundles"][0], "device_id": stranger.device_text, "device_statement": statement}
        return {**answer, "bundles": [row]}

    world.server.lies[f"POST users/{text(ALICE)}/claim"] = lie
    with pytest.raises(TrustRefused, match="does not list"):
        bundles.claim(bob, ALICE)


def test_withheld_one_time_keys_are_allowed_and_shown(world: Members) -> None:
    bob = world.enrolled(BOB)
    world.published(ALICE)

    def withhold(answer: dict[str, Any]) -> dict[str, Any]:
        rows = [{k: v for k, v in one.items() if k != "one_time_pre_key"} for one in answer["bundles"]]
        return {**answer, "bundles": rows}

    world.server.lies[f"POST users/{text(ALICE)}/claim"] = withhold
    assert [one.is_last_resort for one in bundles.claim(bob, ALICE).devices] == [True]


def test_expired_signed_pre_key_is_refused(world: Members) -> None:
    bob = world.enrolled(BOB)
    alice = world.published(ALICE)
    assert alice.store.keys("signed-pre-key")
    bob.connect(transport=world.server.transport(), clock=_late(31))
    with pytest.raises(bundles.ExpiredBundle, match="expired"):
        bundles.claim(bob, ALICE)


def _late(days: int) -> Any:
    from holdfast.client.server.clock import Clock
    from tests.cast.lying_server import NOW

    return Clock(lambda: NOW + days * 86_400)


def test_batch_whose_upload_was_not_acknowledged_is_sent_again_as_it_was(world: Members) -> None:
    alice = world.enrolled(ALICE)
    path = f"devices/{alice.device_text}/pre-keys"
    world.server.lies[f"POST {path}"] = lambda _answer: {"nonsense": 1}
    with pytest.raises(Exception, match="stored"):
        prekeys.publish(alice)
    world.server.lies.clear()
    prekeys.publish(alice)
    first, second = world.server.posted(path)
    assert first == second
    assert len(alice.store.keys("one-time-pre-key")) == 100


# Deposits, cases and releases


def test_deposit_acknowledged_under_another_hash_is_refused(world: Members, tmp_path: Path) -> None:
    world.server.lies["POST escrow/deposits"] = lambda answer: {**answer, "record_hash": b64u(b"\0" * 32)}
    with pytest.raises(TrustRefused, match="acknowledged"):
        world.depositor(tmp_path)


def test_deposit_dropped_by_the_server_is_reported_to_its_owner(world: Members, tmp_path: Path) -> None:
    alice = world.depositor(tmp_path)
    assert escrow.status(alice).missing_on_server == []
    world.server.deposits.clear()
    assert escrow.status(alice).missing_on_server == [1]


def test_recovery_refuses_a_deposit_of_somebody_else(world: Members, tmp_path: Path) -> None:
    world.depositor(tmp_path)
    mallory = world.enrolled(MALLORY)
    escrow.consent(mallory)
    from holdfast.client.escrow import archive

    archive.new_generation(mallory)
    escrow.deposit_missing(mallory)
    theirs = [row for row in world.server.deposits.values() if row["user"] == text(MALLORY)]
    world.server.lies["GET escrow/deposits"] = lambda _answer: {"deposits": theirs, "more": False}
    with pytest.raises(TrustRefused, match="another person"):
        world.case()


def swapped_recipient(world: Members, opened: Any, **changes: Any) -> str:
    """The case with other recipient keys, signed by a device of the server's own making."""
    row = world.server.cases[str(opened.case_id)]
    case = Case.from_payload(Sign1.parse(unb64u(row["statement"])).payload)
    forged = dataclasses.replace(case, **changes)
    return b64u(sign(forged.to_payload(), purpose=Purpose.CASE, key=SigningKey.generate()).encode())


def test_officer_refuses_a_case_whose_recipient_key_was_swapped(world: Members, tmp_path: Path) -> None:
    world.depositor(tmp_path)
    _tablet, opened = world.case()
    forged = swapped_recipient(world, opened, recipient_sealing_key=SealingKey.generate().public)
    world.server.lies[f"GET cases/{opened.case_id}"] = lambda answer: {**answer, "statement": forged}
    with pytest.raises(TrustRefused, match="case"):
        world.seen(1, opened.case_id)


def test_officer_hears_that_a_forged_recipient_device_has_other_words(world: Members, tmp_path: Path) -> None:
    world.depositor(tmp_path)
    _tablet, opened = world.case()
    # The server makes a whole device in alice's name, and a case signed by it: everything verifies but the words.
    rogue = world.profile(ALICE)
    device.enrol(rogue, world.server.code(ALICE), name="tablet")
    forged = by_case.open_case(rogue, reason="lost both", purpose="recovery", subject=ALICE)
    account, view = world.seen(1, forged.case_id)
    typed = heard(account, view.words, read=opened.words)
    with pytest.raises(WrongWords, match="not the words of the key"):
        officer.approve(account, view, heard=typed, identity_check="I know the voice")
    assert world.server.cases[str(forged.case_id)]["approvals"] == []


def test_officer_refuses_a_deposit_swapped_under_the_case(world: Members, tmp_path: Path) -> None:
    alice = world.depositor(tmp_path)
    _tablet, opened = world.case()
    from holdfast.client.escrow import archive

    archive.new_generation(alice)
    escrow.deposit_missing(alice)
    first, second = world.server.deposits
    other = world.server.deposits[second]
    world.server.lies[f"GET escrow/deposits/{first}"] = lambda _answer: other
    with pytest.raises(TrustRefused, match="not the one"):
        world.seen(1, opened.case_id)


def test_officer_who_is_the_requester_may_not_approve(world: Members, tmp_path: Path) -> None:
    world.depositor(tmp_path)
    carol = world.server.tenant.officers[0]
    account = world.enrolled(carol.person, carol)
    escrow.consent(account)
    from holdfast.client.escrow import archive

    archive.new_generation(account)
    escrow.deposit_missing(account)
    opened = by_case.open_case(account, reason="mine", purpose="recovery", subject=carol.person)
    view = officer.see(account, opened.case_id)
    assert view.obstacle
    with pytest.raises(NotPossible, match="may not approve"):
        officer.approve(account, view, heard=heard(account, opened.words), identity_check="me")


def test_approval_names_the_case_and_no_other(world: Members, tmp_path: Path) -> None:
    world.depositor(tmp_path)
    _tablet, opened = world.case()
    world.approve(1, opened)
    row = world.server.cases[str(opened.case_id)]
    said = Approval.from_payload(Sign1.parse(unb64u(row["approvals"][0])).payload)
    assert said.case_hash == Sign1.parse(unb64u(row["statement"])).payload_hash


def test_officer_seals_to_the_release_key_of_the_policy_in_force_and_not_of_the_cases(
    world: Members, tmp_path: Path
) -> None:
    world.depositor(tmp_path)
    tablet, opened = world.case()
    tenant = world.server.tenant
    tenant.release_sealing = SealingKey.generate()
    named = tenant.sign_policy(tenant.officers, version=2, predecessor=tenant.policy_hash, signers=tenant.officers)
    tenant.policies.append(named)
    for index in (1, 2):
        world.approve(index, opened)
    assert by_case.collect(tablet).generations == [1]


def released(world: Members, tmp_path: Path) -> Any:
    world.depositor(tmp_path)
    tablet, opened = world.case()
    for index in (1, 2):
        world.approve(index, opened)
    return tablet, opened


def test_wrong_share_is_laid_to_its_officer(world: Members, tmp_path: Path) -> None:
    tablet, opened = released(world, tmp_path)

    def spoil(answer: dict[str, Any]) -> dict[str, Any]:
        name, index, _share = answer["shares"][1]
        junk = bytes(1168)
        return {**answer, "shares": [answer["shares"][0], [name, index, b64u(junk)]]}

    world.server.lies[f"GET cases/{opened.case_id}/release"] = spoil
    with pytest.raises(NotYet, match="Wrong are those of: officer 2 "):
        by_case.collect(tablet)
    assert tablet.state.generations == []
    (reported,) = world.server.posted(f"cases/{opened.case_id}/blame")
    assert [indices for _, indices in reported["shares"]] == [[2]]
    # The same case goes on with another officer's share, and needs no new one.
    with pytest.raises(NotYet, match="awaiting-share"):
        by_case.collect(tablet)
    world.server.lies.clear()
    world.approve(3, opened)
    assert by_case.collect(tablet).generations == [1]


def test_wrong_share_among_enough_right_ones_is_blamed_and_does_no_harm(world: Members, tmp_path: Path) -> None:
    tablet, opened = released(world, tmp_path)

    def add_junk(answer: dict[str, Any]) -> dict[str, Any]:
        name = answer["shares"][0][0]
        return {**answer, "shares": [[name, 3, b64u(bytes(1168))], *answer["shares"]]}

    world.server.lies[f"GET cases/{opened.case_id}/release"] = add_junk
    done = by_case.collect(tablet)
    assert (done.generations, [share.number for share in done.blamed]) == ([1], [3])


@pytest.mark.parametrize("part", ["halves", "shares", "records"])
def test_release_that_leaves_a_part_out_opens_nothing(world: Members, tmp_path: Path, part: str) -> None:
    tablet, opened = released(world, tmp_path)
    world.server.lies[f"GET cases/{opened.case_id}/release"] = lambda answer: {**answer, part: []}
    with pytest.raises(TrustRefused):
        by_case.collect(tablet)
    assert tablet.state.generations == []


def test_release_with_another_half_opens_nothing(world: Members, tmp_path: Path) -> None:
    tablet, opened = released(world, tmp_path)

    def swap(answer: dict[str, Any]) -> dict[str, Any]:
        name, _half = answer["halves"][0]
        return {**answer, "halves": [[name, b64u(bytes(384))]]}

    world.server.lies[f"GET cases/{opened.case_id}/release"] = swap
    with pytest.raises(TrustRefused):
        by_case.collect(tablet)


# Re-genesis


def begun_again(world: Members, tmp_path: Path) -> Any:
    tablet, opened = released(world, tmp_path)
    done = by_case.collect(tablet)
    for index in (1, 2):
        account, view = world.seen(index, opened.case_id)
        officer.attest(account, view, officer.proposal(account, view), heard=heard(account, done.words))
    by_case.finish(tablet, password=PASSWORD)
    return tablet, done


def test_peer_who_began_again_is_another_person_until_a_human_confirms(world: Members, tmp_path: Path) -> None:
    bob = world.enrolled(BOB)
    alice = world.enrolled(ALICE)
    contacts.refresh(bob, ALICE)
    before = contacts.identity_words(alice.chain)
    world.server.chains[text(ALICE)] = world.server.chains[text(ALICE)][:2]
    escrow.consent(alice)
    from holdfast.client.escrow import archive

    archive.new_generation(alice)
    escrow.deposit_missing(alice)
    tablet, opened = world.case()
    for index in (1, 2):
        world.approve(index, opened)
    done = by_case.collect(tablet)
    for index in (1, 2):
        account, view = world.seen(index, opened.case_id)
        officer.attest(account, view, officer.proposal(account, view), heard=heard(account, done.words))
    by_case.finish(tablet, password=PASSWORD)
    prekeys.publish(tablet)
    for _ in range(2):
        with pytest.raises(PeerChanged):
            bundles.claim(bob, ALICE)
    with pytest.raises(WrongWords):
        contacts.confirm(bob, ALICE, words=before)
    with pytest.raises(PeerChanged):
        bundles.claim(bob, ALICE)
    contacts.confirm(bob, ALICE, words=done.words)
    assert bundles.claim(bob, ALICE).identity_words == done.words


def test_officer_refuses_to_attest_a_key_that_the_person_did_not_read_out(world: Members, tmp_path: Path) -> None:
    tablet, opened = released(world, tmp_path)
    done = by_case.collect(tablet)
    rogue = {"identity_key": b64u(SigningKey.generate().public.encoded)}
    world.server.lies[f"GET cases/{opened.case_id}"] = lambda answer: {
        **answer,
        "successor": {**answer["successor"], **rogue},
    }
    account, view = world.seen(1, opened.case_id)
    proposed = officer.proposal(account, view)
    with pytest.raises(WrongWords, match="not the words of the key"):
        officer.attest(account, view, proposed, heard=heard(account, proposed.words, read=done.words))
    assert world.server.cases[str(opened.case_id)]["attestations"] == []


def test_re_genesis_with_too_few_attestations_is_refused_by_every_peer(world: Members, tmp_path: Path) -> None:
    bob = world.enrolled(BOB)
    tablet, _done = begun_again(world, tmp_path)
    entries = world.server.chains[text(ALICE)]
    again = len(entries) - 3
    value = decode(entries[again])
    assert isinstance(value, list)
    payload = decode(value[2])  # type: ignore[arg-type]
    assert isinstance(payload, dict)
    body = payload[10]
    assert isinstance(body, dict)
    attestations = body[2]
    assert isinstance(attestations, list)
    forged: dict[int, Encodable] = {**payload, 10: {**body, 2: [attestations[0], attestations[0]]}}
    key = SigningKey.from_seed(tablet.identity_key.public.kind, tablet.state.identity_seed)
    entries[again] = sign(encode(forged), purpose=Purpose.CHAIN, key=key).encode()
    del entries[again + 1 :]
    with pytest.raises(TrustRefused):
        contacts.refresh(bob, ALICE)


def test_secrets_never_leave_the_device(world: Members, tmp_path: Path) -> None:
    tablet, _done = begun_again(world, tmp_path)
    bob = world.published(BOB)
    sent = repr(world.server.log)
    for account in (tablet, bob):
        device_seeds = [account.device.signing_seed, account.device.agreement_seed, account.device.sealing_seed]
        archive_keys = [one.key for one in account.state.generations]
        pre_keys = [one.dh_seed for one in prekey_rows.all_one_time(account.store)]
        for secret in [account.state.identity_seed, *device_seeds, *archive_keys, *pre_keys]:
            assert len(secret) == 32
            assert b64u(secret.reveal()) not in sent
            assert secret.reveal().hex() not in sent
    assert b64u(tablet.device.statement) in sent
