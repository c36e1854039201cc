# SPDX-License-Identifier: Apache-2.0
"""Deposit, approval, judgement and combination: the escrow as pure code (FAULTS P1 to P9, P15, P16, R9)."""

from __future__ import annotations

import hashlib
import itertools
import secrets
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core.base.encoding import decode, encode
from holdfast.core.base.errors import HoldfastError, InvalidSignature, Malformed, QuorumNotMet, Untrusted, UnwrapFailed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import SigningKey, wrap_rsa
from holdfast.core.escrow import approvals
from holdfast.core.escrow.approvals import ShareBlamed, combine, require_quorum, take_off_outer
from holdfast.core.escrow.deposit import (
    Deposit,
    DepositHeader,
    combine_shares,
    oaep_hash,
    oaep_label,
    share_commitment,
)
from holdfast.core.escrow.release import NOTICE_SLACK_SECONDS, Ended, LoggedApproval, NoticeFacts, NotYet, judge
from holdfast.core.identity.cases import Approval, ClientKind
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose
from holdfast.core.signed.statements import EscrowKey
from tests.cast.custody import HSM_KEY, NOW, RECIPIENT_KEY, Custody
from tests.cast.officers import approve_as
from tests.cast.unread import unread


@pytest.fixture(scope="module")
def world() -> Custody:
    return Custody()


def one(world: Custody) -> Deposit:
    return next(iter(world.deposits.values()))


def halves(world: Custody, deposit: Deposit, *indices: int) -> tuple[SecretBytes, SecretBytes]:
    half = HSM_KEY.unwrap(deposit.sealed_half, hash_name="sha1")
    held = [(i, deposit.open_share(i, key=world.officers[i - 1].sealing_key)) for i in indices]
    return half, combine_shares(held)


@pytest.mark.parametrize("algorithm", ["oaep-sha256-ctx", "oaep-sha1-ctx"])
def test_half_under_a_label_opens_in_its_own_deposit_alone(algorithm: str) -> None:
    """What a module does that takes labels, here in software: the label is ctx, of this deposit and no other."""
    world = Custody(deposits_wanted=2)
    statement = replace(world.escrow_key.statement, algorithm=algorithm)
    assert EscrowKey.from_payload(statement.to_payload()) == statement
    world.escrow_key = replace(world.escrow_key, statement=statement)
    mine, other = (world.deposit(g, key) for g, key in enumerate(world.archive_keys, 1))
    hash_name = oaep_hash(algorithm)
    assert algorithm == f"oaep-{hash_name}-ctx"
    half = HSM_KEY.unwrap(mine.sealed_half, hash_name=hash_name, label=oaep_label(algorithm, mine.header.ctx))
    shares = combine_shares([(i, mine.open_share(i, key=world.officers[i - 1].sealing_key)) for i in (1, 3)])
    assert mine.open(half=half, officers_half=shares) == world.archive_keys[0]
    # Carried into another deposit, as whoever sees a record before it is stored would do.
    for label in (oaep_label(algorithm, other.header.ctx), oaep_label("oaep-sha256", mine.header.ctx), b"", bytes(32)):
        with pytest.raises(UnwrapFailed):
            HSM_KEY.unwrap(mine.sealed_half, hash_name=hash_name, label=label)
    assert oaep_label("oaep-sha256", mine.header.ctx) == oaep_label("oaep-sha1", mine.header.ctx) == b""


def test_a_deposit_opens_with_the_hsms_half_and_any_m_officers(world: Custody) -> None:
    deposit = one(world)
    for pair in itertools.combinations((1, 2, 3), 2):
        half, officers_half = halves(world, deposit, *pair)
        assert deposit.open(half=half, officers_half=officers_half) == world.archive_keys[0]


def test_a_deposit_stays_shut_when_either_half_is_another(world: Custody) -> None:
    deposit = one(world)
    half, officers_half = halves(world, deposit, 1, 2)
    wrong = SecretBytes(secrets.token_bytes(32))
    for given_half, given_officers in ((wrong, officers_half), (half, wrong), (officers_half, half)):
        with pytest.raises(UnwrapFailed):
            deposit.open(half=given_half, officers_half=given_officers)
    for short in (b"", bytes(31), bytes(33)):
        with pytest.raises(UnwrapFailed):
            deposit.open(half=SecretBytes(short), officers_half=officers_half)


def test_a_record_reads_back_as_it_was_written(world: Custody) -> None:
    record = one(world).to_record()
    assert Deposit.from_record(record).to_record() == record
    assert len(record) < 64 * 1024


@settings(max_examples=300)
@given(st.data())
def test_a_mutated_record_is_refused_or_is_another_record(data: st.DataObject) -> None:
    world = _WORLD
    record = bytearray(one(world).to_record())
    at = data.draw(st.integers(0, len(record) - 1))
    record[at] ^= data.draw(st.integers(1, 255))
    try:
        read = Deposit.from_record(bytes(record))
    except HoldfastError:
        return
    assert read.to_record() == bytes(record)
    half = SecretBytes(secrets.token_bytes(32))
    with pytest.raises(UnwrapFailed):
        read.open(half=half, officers_half=half)


_WORLD = Custody()


def test_every_part_of_the_header_is_bound_to_both_halves(world: Custody) -> None:
    deposit = one(world)
    half, officers_half = halves(world, deposit, 1, 2)
    changed: dict[str, Any] = {
        "tenant": bytes(16),
        "user": bytes(16),
        "device": bytes(16),
        "deposit_id": bytes(16),
        "generation": 99,
        "ak_commitment": bytes(32),
        "escrow_key_hash": bytes(32),
        "policy_hash": bytes(32),
        "consent_hash": b"\1" * 32,
    }
    for name, value in changed.items():
        moved = replace(deposit, header=replace(deposit.header, **{name: value}))
        with pytest.raises(UnwrapFailed):
            moved.open(half=half, officers_half=officers_half)
        with pytest.raises(UnwrapFailed):
            moved.open_share(1, key=world.officers[0].sealing_key)


@pytest.mark.parametrize(("m", "n"), [(0, 3), (1, 3), (3, 3), (4, 3), (2, 2), (2, 17)])
def test_a_deposit_refuses_a_quorum_outside_the_bounds(world: Custody, m: int, n: int) -> None:
    header = replace(one(world).header, m=m, n=n)
    with pytest.raises(Malformed):
        DepositHeader.from_bytes(unread(header, "to_bytes"))


def test_an_officer_opens_no_box_but_their_own(world: Custody) -> None:
    deposit = one(world)
    for index, officer in itertools.product((1, 2, 3), (1, 2, 3)):
        if index != officer:
            with pytest.raises(UnwrapFailed):
                deposit.open_share(index, key=world.officers[officer - 1].sealing_key)


def test_approve_refuses_a_share_that_the_depositor_did_not_commit_to(world: Custody) -> None:
    deposit = one(world)
    boxes = list(deposit.boxes)
    boxes[0] = replace(boxes[0], commitment=share_commitment(deposit.header.ctx, 1, SecretBytes(bytes(32))))
    with pytest.raises(UnwrapFailed):
        replace(deposit, boxes=tuple(boxes)).open_share(1, key=world.officers[0].sealing_key)


def test_approve_refuses_a_deposit_that_the_case_does_not_name(world: Custody) -> None:
    other = Custody()
    another = {key: one(other) for key in world.deposits}
    with pytest.raises(Untrusted):
        approve_as(world.case, another, world.approver(1), policy=world.policy)


# Counting.


def counted(world: Custody, *statements: cose.Sign1, m: int = 2, **excluded: Any) -> int:
    shares = require_quorum(world.case, statements, policy=world.policy, excluded=world.excluded(**excluded), m=m)
    return min(len(row) for row in shares.values())


def test_quorum_counts_m_distinct_officers(world: Custody) -> None:
    assert counted(world, world.approval(1), world.approval(3)) == 2


def test_quorum_refuses_one_approval(world: Custody) -> None:
    with pytest.raises(QuorumNotMet, match="1 of 2"):
        counted(world, world.approval(1))


def test_quorum_counts_one_officer_once_however_often_they_sign(world: Custody) -> None:
    with pytest.raises(QuorumNotMet, match="1 of 2"):
        counted(world, world.approval(1), world.approval(1), world.approval(1))


@pytest.mark.parametrize("who", ["cooling_off", "suspended", "away"])
def test_quorum_leaves_out_an_officer_who_does_not_count_now(world: Custody, who: str) -> None:
    out: dict[str, Any] = {who: frozenset({world.officers[1].person})}
    with pytest.raises(QuorumNotMet):
        counted(world, world.approval(1), world.approval(2), **out)


@pytest.mark.parametrize("role", ["requester", "subject", "recipient"])
def test_quorum_leaves_out_whoever_is_party_to_the_case(world: Custody, role: str) -> None:
    excluded = world.excluded(**{role: world.officers[0].person})
    with pytest.raises(QuorumNotMet, match="1 of 2"):
        require_quorum(world.case, [world.approval(1), world.approval(2)], policy=world.policy, excluded=excluded, m=2)


def test_quorum_leaves_out_an_approval_of_another_case(world: Custody) -> None:
    other = world.sign_case(reason="Another case.")
    with pytest.raises(QuorumNotMet):
        counted(world, world.approval(1), world.approval(2, case=other))


def test_quorum_leaves_out_an_approval_under_another_tenants_policy(world: Custody) -> None:
    stranger = Custody()
    with pytest.raises((QuorumNotMet, InvalidSignature)):
        counted(world, world.approval(1), stranger.approval(2))


def test_quorum_leaves_out_a_denial(world: Custody) -> None:
    officer = world.officers[1]
    denial = approvals.deny(
        world.case,
        policy=world.policy,
        signing_key=officer.signing_key,
        header=replace(world.tenant_header(), user=officer.person),
        identity_check="voice not recognised",
        client_kind=ClientKind.CLI,
    )
    with pytest.raises(QuorumNotMet, match="officer 2 denies"):
        counted(world, world.approval(1), denial)


def test_quorum_refuses_a_forged_signature(world: Custody) -> None:
    forged = replace(world.approval(2), signature=world.approval(1).signature)
    with pytest.raises((QuorumNotMet, InvalidSignature)):
        counted(world, world.approval(1), forged)


def test_quorum_leaves_out_an_approval_that_hands_over_anothers_index(world: Custody) -> None:
    read = Approval.from_payload(world.approval(2).payload)
    shares = tuple((deposit_id, 1, digest) for deposit_id, _, digest in read.shares)
    crossed = cose.sign(
        replace(read, shares=shares).to_payload(), purpose=Purpose.APPROVAL, key=world.officers[1].signing_key
    )
    with pytest.raises(QuorumNotMet):
        counted(world, world.approval(3), crossed)


def test_quorum_counts_each_deposit_by_its_own_shares() -> None:
    world = Custody(deposits_wanted=2)
    read = Approval.from_payload(world.approval(2).payload)
    half = cose.sign(
        replace(read, shares=read.shares[:1]).to_payload(), purpose=Purpose.APPROVAL, key=world.officers[1].signing_key
    )
    with pytest.raises(QuorumNotMet, match="1 of 2"):
        counted(world, world.approval(1), half)
    assert counted(world, world.approval(1), half, world.approval(3)) == 2


def test_quorum_takes_no_approval_from_a_client_that_the_policy_does_not_allow(world: Custody) -> None:
    browser = world.approval(2, client_kind=ClientKind.BROWSER)
    with pytest.raises(QuorumNotMet):
        counted(world, world.approval(1), browser)


# The judgement.


def test_judge_orders_one_rewrap_for_each_deposit() -> None:
    world = Custody(deposits_wanted=2)
    orders = judge(world.facts(1, 2))
    assert [order.deposit.header.deposit_id for order in orders] == list(world.deposits)
    assert all(order.recipient == RECIPIENT_KEY.public for order in orders)
    assert all(set(order.share_hashes) == {1, 2} for order in orders)


def test_judge_refuses_one_approval(world: Custody) -> None:
    with pytest.raises(QuorumNotMet):
        judge(world.facts(1))


def test_judge_waits_for_the_delay_after_the_quorum(world: Custody) -> None:
    with pytest.raises(NotYet) as caught:
        judge(world.facts(1, 2, now=NOW + 61))
    assert caught.value.at == NOW + 2 + 60
    assert judge(world.facts(1, 2, now=NOW + 62))


def test_judge_waits_for_not_before() -> None:
    world = Custody()
    case = world.sign_case(not_before=NOW + 5000)
    world.case = case
    with pytest.raises(NotYet) as caught:
        judge(world.facts(1, 2))
    assert caught.value.at == NOW + 5000


def test_judge_waits_until_the_subject_was_told(world: Custody) -> None:
    with pytest.raises(NotYet) as caught:
        judge(world.facts(1, 2, notice=NoticeFacts()))
    assert caught.value.at is None


def test_judge_takes_the_long_delay_when_the_subject_could_not_be_told(world: Custody) -> None:
    failed = NoticeFacts(failed_at=NOW + 1)
    with pytest.raises(NotYet) as caught:
        judge(world.facts(1, 2, notice=failed))
    assert caught.value.at == NOW + 2 + 14 * 86400


def test_judge_ends_a_vetoed_an_expired_and_a_misused_case(world: Custody) -> None:
    for changes in ({"is_vetoed": True}, {"now": NOW + 86400}):
        with pytest.raises(Ended):
            judge(world.facts(1, 2, **changes))
    purposeless = Custody(terms={"purposes": frozenset({"legal"})})
    with pytest.raises(Ended):
        judge(purposeless.facts(1, 2))


def test_judge_ends_a_case_that_delays_notice_longer_than_allowed() -> None:
    world = Custody()
    world.case = world.sign_case(notice_at=NOW + 3600)
    with pytest.raises(Ended, match="notice"):
        judge(world.facts(1, 2))
    world.case = world.sign_case(notice_at=NOW + NOTICE_SLACK_SECONDS + 1)
    with pytest.raises(Ended, match="notice"):
        judge(world.facts(1, 2))
    patient = Custody(terms={"max_notice_delay_seconds": 3600})
    patient.case = patient.sign_case(notice_at=NOW + 3600)
    assert judge(patient.facts(1, 2, notice=NoticeFacts()))


@pytest.mark.parametrize("early", [1, 5, 60, NOTICE_SLACK_SECONDS])
def test_judge_bears_clocks_that_are_a_little_apart(early: int) -> None:
    """By the release process's clocks, a case was opened before the date that its device signed."""
    world = Custody()
    assert judge(world.facts(1, 2, opened_at=NOW - early))


@pytest.mark.parametrize("allowed", [0, 3600])
@pytest.mark.parametrize("ahead", [3, 60, NOTICE_SLACK_SECONDS])
def test_judge_lets_no_clock_that_is_ahead_release_before_the_notice(allowed: int, ahead: int) -> None:
    """A clock that is ahead, or is said to be, opens a case; its subject is told from the date that policies allow."""
    terms = {"delay_seconds": 0, "undelivered_delay_seconds": 0, "max_notice_delay_seconds": allowed}
    world = Custody(terms=terms)
    world.case = world.sign_case(notice_at=NOW + allowed + ahead, not_before=NOW)
    due = {"opened_at": NOW, "now": NOW + allowed + 2}
    with pytest.raises(NotYet, match="not been told"):
        judge(world.facts(1, 2, notice=NoticeFacts(), **due))
    assert judge(world.facts(1, 2, notice=NoticeFacts(handed_over_at=NOW + 2), **due))
    if allowed:
        assert judge(world.facts(1, 2, notice=NoticeFacts(), opened_at=NOW, now=NOW + allowed - 1))


def test_judge_takes_the_strictest_m_of_deposit_request_and_now() -> None:
    world = Custody(n=5)
    raised = world.sign_policy(replace(world.policy_payload(), m=3))
    with pytest.raises(QuorumNotMet, match="2 of 3"):
        judge(world.facts(1, 2, policy_now=raised))
    assert judge(world.facts(1, 2, 3, policy_now=raised))


def test_judge_gains_nothing_from_a_policy_lowered_meanwhile() -> None:
    world = Custody(m=3, n=5)
    lowered = world.sign_policy(replace(world.policy_payload(), m=2))
    with pytest.raises(QuorumNotMet, match="2 of 3"):
        judge(world.facts(1, 2, policy_now=lowered))


def test_judge_recounts_when_an_officer_was_removed(world: Custody) -> None:
    gone = world.excluded(suspended=frozenset({world.officers[1].person}))
    with pytest.raises(QuorumNotMet):
        judge(world.facts(1, 2, excluded=gone))
    assert judge(world.facts(1, 2, 3, excluded=gone))


def test_judge_starts_the_delay_anew_when_a_counted_officer_fell_away(world: Custody) -> None:
    gone = world.excluded(suspended=frozenset({world.officers[0].person}))
    facts = world.facts(1, 2)
    late = (*facts.approvals, LoggedApproval(world.approval(3), NOW + 990))
    with pytest.raises(NotYet) as caught:
        judge(replace(facts, approvals=late, excluded=gone))
    assert caught.value.at == NOW + 990 + 60


def test_judge_refuses_what_rows_and_signatures_disagree_about(world: Custody) -> None:
    other = Custody()
    edited = replace(world.case, payload=world.case_payload(subject=bytes(16)).to_payload())
    wrong: list[dict[str, Any]] = [
        {"case": edited},
        {"case": other.case},
        {"recipient": other.device},
        {"tenant": bytes(16)},
        {"records": {key: one(other).to_record() for key in world.deposits}},
        {"records": {}},
        {"policies_at_deposit": {}},
        {"policy_at_request": other.policy},
        {"excluded": world.excluded(subject=bytes(16))},
        {"excluded": world.excluded(requester=bytes(16))},
        {"excluded": world.excluded(recipient=bytes(16))},
    ]
    for changes in wrong:
        with pytest.raises((Untrusted, InvalidSignature, Malformed, QuorumNotMet)):
            judge(world.facts(1, 2, **changes))


def test_judge_refuses_a_deposit_of_somebody_else() -> None:
    world = Custody()
    stolen = world.deposit(7, SecretBytes(bytes(32)))
    theirs = replace(stolen, header=replace(stolen.header, user=bytes(16)))
    world.deposits = {theirs.header.deposit_id: theirs}
    world.case = world.sign_case()
    facts = world.facts()
    with pytest.raises(Untrusted, match="subject"):
        judge(facts)


# The recipient.


def released(world: Custody, *indices: int) -> tuple[bytes, dict[int, bytes]]:
    deposit = one(world)
    q, deposit_id = world.case.payload_hash, deposit.header.deposit_id
    shares = {}
    for index in indices:
        statement, outers = world.approval_and_shares(index)
        digest = Approval.from_payload(statement.payload).shares[0][2]
        shares[index] = take_off_outer(
            outers[0].outer, key=world.release_sealing, q=q, deposit_id=deposit_id, index=index, expected_hash=digest
        )
    half = HSM_KEY.unwrap(deposit.sealed_half, hash_name="sha1")
    return wrap_rsa(RECIPIENT_KEY.public, half, hash_name="sha1"), shares


def open_at_recipient(world: Custody, half: bytes, shares: dict[int, bytes]) -> approvals.Recovered:
    return combine(
        world.case,
        one(world),
        half=half,
        sealed_shares=shares,
        rsa_key=RECIPIENT_KEY,
        sealing_key=world.recipient_sealing,
        algorithm="oaep-sha1",
    )


def test_the_recipient_opens_the_archive_key(world: Custody) -> None:
    half, shares = released(world, 1, 3)
    recovered = open_at_recipient(world, half, shares)
    assert recovered.archive_key == world.archive_keys[0]
    assert recovered.blamed == ()


def test_a_wrong_share_is_laid_to_its_officer_and_another_officers_replaces_it(world: Custody) -> None:
    half, shares = released(world, 1, 2, 3)
    wrong = {**shares, 2: shares[3]}
    assert open_at_recipient(world, half, wrong).blamed == (2,)
    with pytest.raises(ShareBlamed, match="officer 2") as caught:
        open_at_recipient(world, half, {1: shares[1], 2: shares[3]})
    assert caught.value.indices == (2,)


def test_a_share_of_one_case_does_not_open_in_another(world: Custody) -> None:
    _, shares = released(world, 1, 2)
    other = Custody()
    other.recipient_sealing = world.recipient_sealing
    half, _ = released(world, 1, 2)
    with pytest.raises(UnwrapFailed):
        combine(
            world.sign_case(reason="another"),
            one(world),
            half=half,
            sealed_shares=shares,
            rsa_key=RECIPIENT_KEY,
            sealing_key=world.recipient_sealing,
            algorithm="oaep-sha1",
        )


def test_the_outer_sealing_is_taken_off_only_from_what_the_officer_signed_for(world: Custody) -> None:
    deposit = one(world)
    statement, outers = world.approval_and_shares(1)
    digest = Approval.from_payload(statement.payload).shares[0][2]
    q = world.case.payload_hash
    right: dict[str, Any] = {"q": q, "deposit_id": deposit.header.deposit_id, "index": 1, "expected_hash": digest}
    assert hashlib.sha256(take_off_outer(outers[0].outer, key=world.release_sealing, **right)).digest() == digest
    for name, value in {"q": bytes(32), "deposit_id": bytes(16), "index": 2, "expected_hash": bytes(32)}.items():
        with pytest.raises(UnwrapFailed):
            take_off_outer(outers[0].outer, key=world.release_sealing, **(right | {name: value}))


def test_a_release_of_another_half_opens_nothing(world: Custody) -> None:
    _, shares = released(world, 1, 2)
    other = wrap_rsa(RECIPIENT_KEY.public, SecretBytes(secrets.token_bytes(32)), hash_name="sha1")
    with pytest.raises(UnwrapFailed):
        open_at_recipient(world, other, shares)


@given(st.binary(max_size=300))
def test_any_octets_are_a_record_or_malformed(data: bytes) -> None:
    try:
        read = Deposit.from_record(data)
    except Malformed:
        return
    assert read.to_record() == data


def test_a_record_with_boxes_out_of_order_is_malformed(world: Custody) -> None:
    value = decode(one(world).to_record(), max_size=65536)
    assert isinstance(value, dict)
    rows = value[6]
    assert isinstance(rows, list)
    for order in ([1, 0, 2], [0, 0, 1], [0, 1]):
        with pytest.raises(Malformed):
            Deposit.from_record(encode({**value, 6: [rows[i] for i in order]}))


def test_a_strangers_signature_never_counts(world: Custody) -> None:
    statement = world.approval(1)
    stranger = cose.sign(statement.payload, purpose=Purpose.APPROVAL, key=SigningKey.generate())
    with pytest.raises(QuorumNotMet):
        counted(world, world.approval(2), stranger)
