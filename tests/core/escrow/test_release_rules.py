# SPDX-License-Identifier: Apache-2.0
"""The judgement under change: rosters, keys, vetoes, notices and denials against a model of plain sets."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from holdfast.core.base.encoding import label
from holdfast.core.base.errors import InvalidSignature, Malformed, QuorumNotMet, Untrusted, UnwrapFailed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto import sealing, wrapping
from holdfast.core.crypto.keys import SealingKey, SigningKey, wrap_rsa
from holdfast.core.crypto.suites import DEFAULT_SUITE
from holdfast.core.escrow import approvals
from holdfast.core.escrow.approvals import ShareBlamed, combine, require_quorum, share_index, take_off_outer
from holdfast.core.escrow.deposit import Deposit, DepositTerms, archive_key_commitment, build_deposit, combine_shares
from holdfast.core.escrow.release import Ended, LoggedApproval, NoticeFacts, NotYet, judge
from holdfast.core.identity.cases import Approval, ClientKind
from holdfast.core.identity.policy import ApproveWith, Officer, SignedPolicy, verify_successor
from holdfast.core.identity.trust import SignedTenantKey
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.statements import OfflineKey
from tests.cast.custody import HSM_KEY, NOW, RECIPIENT_KEY, Custody
from tests.cast.officers import approve_as
from tests.cast.unread import unread


def successor(world: Custody, **changes: Any) -> SignedPolicy:
    """Version 2 of the policy, signed by every officer of version 1."""
    policy = world.policy.policy
    terms = replace(policy.terms, **changes.pop("terms", {}))
    links: dict[str, Any] = {"predecessor": world.policy.hash, "held_in_force": world.policy.hash}
    after = replace(policy, version=2, terms=terms, **links, **changes)
    signed = [cose.sign(after.to_payload(), purpose=Purpose.POLICY, key=one.signing_key) for one in world.officers]
    return verify_successor(signed, predecessor=world.policy)


def numbered(roster: Iterable[Officer]) -> tuple[Officer, ...]:
    return tuple(replace(one, index=i) for i, one in enumerate(roster, 1))


def denial(world: Custody, index: int, *, case: Sign1 | None = None) -> Sign1:
    officer = world.officers[index - 1]
    return approvals.deny(
        case or world.case,
        policy=world.policy,
        signing_key=officer.signing_key,
        header=replace(world.tenant_header(), user=officer.person),
        identity_check="it was not the voice",
        client_kind=ClientKind.CLI,
    )


def only(world: Custody) -> Deposit:
    return next(iter(world.deposits.values()))


@pytest.fixture
def world() -> Custody:
    return Custody()


def test_judge_counts_no_officer_who_also_denies(world: Custody) -> None:
    facts = world.facts(1, 2, 3)
    both = (*facts.approvals, LoggedApproval(denial(world, 2), NOW + 500))
    assert set(judge(replace(facts, approvals=both))[0].share_hashes) == {1, 3}
    with pytest.raises(QuorumNotMet, match="officer 2 denies"):
        judge(replace(facts, approvals=(facts.approvals[0], facts.approvals[1], both[-1])))


def test_judge_starts_the_delay_at_the_quorum_of_those_who_still_approve(world: Custody) -> None:
    early = world.facts(1, 2).approvals
    later = (LoggedApproval(denial(world, 2), NOW + 10), LoggedApproval(world.approval(3), NOW + 990))
    with pytest.raises(NotYet) as caught:
        judge(world.facts(approvals=(*early, *later)))
    assert caught.value.at == NOW + 990 + 60


def test_judge_does_not_count_an_approval_past_its_own_expiry(world: Custody) -> None:
    header = replace(world.tenant_header(), user=world.officers[1].person)
    brief = world.approval(2, header=replace(header, expires_at=NOW + 900))
    facts = world.facts(1, approvals=(*world.facts(1).approvals, LoggedApproval(brief, NOW + 2)))
    assert judge(replace(facts, now=NOW + 899))
    with pytest.raises(QuorumNotMet):
        judge(replace(facts, now=NOW + 900))


def test_judge_does_not_count_browser_approvals_once_the_policy_asks_for_the_command_line() -> None:
    world = Custody(terms={"approve_with": ApproveWith.ANY})
    pages = tuple(LoggedApproval(world.approval(i, client_kind=ClientKind.BROWSER), NOW + i) for i in (1, 2))
    assert judge(world.facts(approvals=pages))
    with pytest.raises(QuorumNotMet):
        judge(world.facts(approvals=pages, policy_now=successor(world, terms={"approve_with": ApproveWith.CLI})))


def test_judge_does_not_count_an_officer_whose_key_was_replaced_or_who_left_the_roster() -> None:
    world = Custody(n=4)
    one, two, three, four = world.policy.policy.roster
    rekeyed = successor(world, roster=(one, replace(two, signing_key=SigningKey.generate().public), three, four))
    without = successor(world, roster=numbered((one, three, four)))
    for now in (rekeyed, without):
        with pytest.raises(QuorumNotMet, match="suspended or removed"):
            judge(world.facts(1, 2, policy_now=now))
        assert set(judge(world.facts(1, 2, 3, policy_now=now))[0].share_hashes) == {1, 3}


def test_judge_runs_the_delay_from_the_moment_the_subject_was_told(world: Custody) -> None:
    told = NoticeFacts(handed_over_at=NOW + 990)
    with pytest.raises(NotYet) as caught:
        judge(world.facts(1, 2, notice=told))
    assert caught.value.at == NOW + 990 + 60
    failed = NoticeFacts(failed_at=NOW + 500)
    with pytest.raises(NotYet) as caught:
        judge(world.facts(1, 2, notice=failed))
    assert caught.value.at == NOW + 500 + 14 * 86400


def test_judge_waits_long_for_a_subject_who_cannot_object_to_what_another_receives(world: Custody) -> None:
    assert judge(world.facts(1, 2))
    with pytest.raises(NotYet) as caught:
        judge(world.facts(1, 2, is_heard=False))
    assert caught.value.at == NOW + 2 + 14 * 86400


def test_judge_waits_long_from_a_veto_that_only_delays(world: Custody) -> None:
    with pytest.raises(NotYet) as caught:
        judge(world.facts(1, 2, objected_at=NOW + 500))
    assert caught.value.at == NOW + 500 + 14 * 86400
    # Never sooner than the quorum: whoever vetoes early shortens nothing.
    with pytest.raises(NotYet) as caught:
        judge(world.facts(1, 2, objected_at=NOW - 500))
    assert caught.value.at == NOW + 2 + 14 * 86400


def test_judge_asks_one_officer_more_after_a_third_veto(world: Custody) -> None:
    with pytest.raises(QuorumNotMet, match="2 of 3"):
        judge(world.facts(1, 2, extra_officers=1))
    assert judge(world.facts(1, 2, 3, extra_officers=1))


def test_judge_refuses_a_half_that_another_deposit_had_first(world: Custody) -> None:
    victim = only(world)
    thief = Custody()
    copied = replace(only(thief), sealed_half=victim.sealed_half)
    thief.deposits = {copied.header.deposit_id: copied}
    thief.case = thief.sign_case()
    with pytest.raises(Untrusted, match="by another before"):
        judge(thief.facts(1, 2, half_owners={victim.half_hash: victim.header.deposit_id}))
    with pytest.raises(Untrusted, match="by another before"):
        judge(thief.facts(1, 2, half_owners={}))


def test_judge_refuses_a_deposit_with_a_lower_m_than_its_policy() -> None:
    world = Custody(m=3, n=5)
    weak = world.sign_policy(replace(world.policy_payload(), m=2))
    strong, world.policy = world.policy, weak
    deposit = world.deposit(1, SecretBytes(bytes(32)))
    world.policy = strong
    weakened = replace(deposit, header=replace(deposit.header, policy_hash=strong.hash))
    world.deposits = {weakened.header.deposit_id: weakened}
    world.case = world.sign_case()
    with pytest.raises(Untrusted, match="another number of officers"):
        judge(world.facts())


def test_judge_refuses_a_recipient_device_of_another_tenant_or_user(world: Custody) -> None:
    for name in ("tenant", "user"):
        other = Custody()
        header = {"tenant": world.tenant, "user": world.rita, "device": world.device_id, name: secrets.token_bytes(16)}
        other.tenant, other.rita, other.device_id = header["tenant"], header["user"], header["device"]
        device = other.sign_device()
        case = cose.sign(
            world.case_payload(recipient_device_hash=device.payload_hash).to_payload(),
            purpose=Purpose.CASE,
            key=other.recipient_signing,
        )
        with pytest.raises(Untrusted):
            judge(world.facts(case=case, recipient=device))


# After an officer has left, the roster numbers the others anew; old deposits keep the old numbers.


def renumbered() -> tuple[Custody, SignedPolicy, Sign1]:
    """A world whose first officer has left since the deposit, and a case opened after that."""
    world = Custody(n=4)
    after = successor(world, roster=numbered(world.policy.policy.roster[1:]))
    return world, after, world.sign_case(policy_hash=after.hash)


def approve_after(world: Custody, after: SignedPolicy, case: Sign1, new_index: int, **changes: Any) -> Any:
    officer = world.officers[new_index]
    header = replace(world.tenant_header(), user=officer.person)
    row = after.policy.roster[new_index - 1]
    approver = approvals.Approver(row, officer.signing_key, officer.sealing_key, header, ClientKind.CLI)
    given = {"policy": after, "policies": {world.policy.hash: world.policy}} | changes
    return approve_as(case, world.deposits, approver, **given)


def test_share_index_is_that_of_the_policy_of_the_deposit() -> None:
    world, after, _ = renumbered()
    before = world.policy.policy
    assert [share_index(one, before) for one in after.policy.roster] == [2, 3, 4]
    assert share_index(before.roster[0], after.policy) is None


def test_an_older_deposit_is_approved_judged_and_opened_under_a_new_roster() -> None:
    world, after, case = renumbered()
    deposit = only(world)
    answers = {new: approve_after(world, after, case, new) for new in (1, 3)}
    logged = tuple(LoggedApproval(statement, NOW + new) for new, (statement, _) in answers.items())
    (order,) = judge(world.facts(case=case, approvals=logged, policy_at_request=after, policy_now=after))
    assert set(order.share_hashes) == {2, 4}
    sealed = {
        index: take_off_outer(
            answers[new][1][0].outer,
            key=world.release_sealing,
            q=case.payload_hash,
            deposit_id=deposit.header.deposit_id,
            index=index,
            expected_hash=order.share_hashes[index],
        )
        for new, index in ((1, 2), (3, 4))
    }
    half = wrap_rsa(RECIPIENT_KEY.public, HSM_KEY.unwrap(deposit.sealed_half, hash_name="sha1"), hash_name="sha1")
    back = combine(
        case,
        deposit,
        half=half,
        sealed_shares={**sealed, 0: b"", 5: b"", -70000: b""},
        rsa_key=RECIPIENT_KEY,
        sealing_key=world.recipient_sealing,
        algorithm="oaep-sha1",
    )
    assert back.archive_key == world.archive_keys[0]
    assert back.blamed == (-70000, 0, 5)


def test_approve_refuses_a_deposit_whose_policy_is_not_known_or_gave_no_share() -> None:
    world, after, case = renumbered()
    with pytest.raises(Untrusted, match="not known"):
        approve_after(world, after, case, 1, policies={})
    newcomer = replace(after.policy.roster[0], person=secrets.token_bytes(16))
    with pytest.raises(Untrusted, match="holds no share"):
        approve_after(world, after, case, 1, officer=newcomer)


def test_quorum_refuses_a_share_under_the_new_number_of_an_old_deposit() -> None:
    world, after, case = renumbered()
    statement, _ = approve_after(world, after, case, 1)
    read = Approval.from_payload(statement.payload)
    moved = replace(read, shares=tuple((one, 1, digest) for one, _, digest in read.shares))
    crossed = cose.sign(moved.to_payload(), purpose=Purpose.APPROVAL, key=world.officers[1].signing_key)
    made_under = dict.fromkeys(world.deposits, world.policy.policy)
    with pytest.raises(QuorumNotMet, match="not the officer's own"):
        require_quorum(case, [crossed], policy=after, excluded=world.excluded(), m=2, made_under=made_under)


# Building.


def terms(world: Custody, **changes: Any) -> DepositTerms:
    made = DepositTerms(
        suite=DEFAULT_SUITE,
        tenant=world.tenant,
        user=world.alice,
        device=world.device_id,
        policy=world.policy,
        escrow_key=world.escrow_key,
        consent_hash=bytes(32),
    )
    return replace(made, **changes)


def build(world: Custody, **changes: Any) -> Deposit:
    return build_deposit(
        world.archive_keys[0], generation=1, deposit_id=secrets.token_bytes(16), terms=terms(world, **changes)
    )


def test_build_refuses_policy_or_keys_of_another_tenant(world: Custody) -> None:
    other = Custody()
    for changes in ({"policy": other.policy}, {"escrow_key": other.escrow_key}, {"tenant": other.tenant}):
        with pytest.raises(Untrusted, match="another tenant"):
            build(world, **changes)


def test_build_refuses_an_archive_key_of_another_length(world: Custody) -> None:
    for size in (0, 16, 31, 33, 64):
        with pytest.raises(ValueError, match="32 bytes"):
            build_deposit(SecretBytes(bytes(size)), generation=1, deposit_id=bytes(16), terms=terms(world))


def test_an_offline_key_gets_the_same_half_sealed_a_second_time(world: Custody) -> None:
    key = SealingKey.generate()
    statement = OfflineKey(world.tenant_header(), key.public, 1, "x-wing", b"", world.policy.hash)
    deposit = build(world, offline_key=SignedTenantKey(statement, bytes(32)))
    read = Deposit.from_record(deposit.to_record())
    assert read.header.offline_kid == key.public.kid
    assert read.open_offline_half(key=key) == HSM_KEY.unwrap(read.sealed_half, hash_name="sha1")
    with pytest.raises(UnwrapFailed):
        read.open_offline_half(key=SealingKey.generate())
    with pytest.raises(UnwrapFailed):
        build(world).open_offline_half(key=key)
    with pytest.raises(Malformed, match="offline"):
        Deposit.from_record(unread(replace(read, offline_half=b""), "to_record"))


def test_no_two_deposits_of_one_key_share_anything_secret(world: Custody) -> None:
    one, two = build(world), build(world)
    assert one.half_hash != two.half_hash
    assert one.ciphertext != two.ciphertext
    assert one.commit != two.commit
    half = HSM_KEY.unwrap(one.sealed_half, hash_name="sha1")
    held = combine_shares([(i, two.open_share(i, key=world.officers[i - 1].sealing_key)) for i in (1, 2)])
    with pytest.raises(UnwrapFailed):
        two.open(half=half, officers_half=held)


def test_open_refuses_another_commitment_before_it_decrypts(world: Custody) -> None:
    deposit = only(world)
    half = HSM_KEY.unwrap(deposit.sealed_half, hash_name="sha1")
    held = combine_shares([(i, deposit.open_share(i, key=world.officers[i - 1].sealing_key)) for i in (1, 2)])
    with pytest.raises(UnwrapFailed, match="halves"):
        replace(deposit, commit=bytes(32)).open(half=half, officers_half=held)


def test_open_refuses_a_key_that_is_not_the_one_announced(world: Custody) -> None:
    # A depositor who announces one key in their chain and deposits another (FAULTS C10), everything else in order.
    header = replace(only(world).header, ak_commitment=archive_key_commitment(1, world.archive_keys[0]))
    half, officers_half, other = (SecretBytes(secrets.token_bytes(32)) for _ in range(3))
    ikm = SecretBytes(half.reveal() + officers_half.reveal())
    okm = wrapping.hkdf(salt=header.ctx, ikm=ikm, info=label("deposit"), length=64).reveal()
    key = SecretBytes(okm[:32])

    def holding(archive_key: SecretBytes) -> Deposit:
        ciphertext = wrapping.encrypt(archive_key, key=key, nonce=bytes(12), aad=header.ctx)
        return replace(only(world), header=header, commit=okm[32:], ciphertext=ciphertext)

    right = holding(world.archive_keys[0])
    assert right.open(half=half, officers_half=officers_half) == world.archive_keys[0]
    with pytest.raises(UnwrapFailed, match="committed"):
        holding(other).open(half=half, officers_half=officers_half)


# What an officer, a requester or a superuser could try.


def resigned(world: Custody, index: int, **changes: Any) -> Sign1:
    """Officer `index` signs an approval in which something was changed."""
    read = Approval.from_payload(world.approval(index).payload)
    header = replace(read.header, **changes.pop("header", {}))
    changed = replace(read, header=header, **changes)
    return cose.sign(changed.to_payload(), purpose=Purpose.APPROVAL, key=world.officers[index - 1].signing_key)


def test_quorum_leaves_out_an_approval_in_anothers_name_tenant_or_policy(world: Custody) -> None:
    def count(*statements: Sign1) -> int:
        held = require_quorum(world.case, statements, policy=world.policy, excluded=world.excluded(), m=2)
        return len(held[only(world).header.deposit_id])

    assert count(world.approval(1), resigned(world, 2)) == 2
    for changes in (
        {"header": {"user": world.officers[2].person}},
        {"header": {"tenant": bytes(16)}},
        {"policy_hash": bytes(32)},
        {"case_hash": bytes(32)},
        {"shares": ((bytes(16), 2, bytes(32)),)},
    ):
        with pytest.raises(QuorumNotMet, match="1 of 2"):
            count(world.approval(1), resigned(world, 2, **changes))


def test_a_decision_is_refused_under_another_policy_than_the_case_names(world: Custody) -> None:
    case = world.sign_case(policy_hash=bytes(32))
    with pytest.raises(Untrusted, match="another policy"):
        approvals.read_decision(world.approval(1, case=case), case=case, policy=world.policy)


def test_judge_refuses_a_case_with_a_forged_signature_or_of_another_policy(world: Custody) -> None:
    forged = cose.sign(world.case.payload, purpose=Purpose.CASE, key=SigningKey.generate())
    with pytest.raises((InvalidSignature, Untrusted)):
        judge(world.facts(1, 2, case=forged))
    with pytest.raises(InvalidSignature):
        judge(world.facts(1, 2, case=replace(world.case, signature=bytes(64))))
    with pytest.raises(Untrusted, match="in force when it was opened"):
        judge(world.facts(1, 2, policy_at_request=successor(world)))


def test_judge_keeps_the_m_of_the_deposit_after_the_policy_was_lowered() -> None:
    world = Custody(m=3, n=5)
    lowered = successor(world, m=2)
    world.case = world.sign_case(policy_hash=lowered.hash)
    given: dict[str, Any] = {"policy": lowered, "policies": {world.policy.hash: world.policy}}

    def facts(*indices: int) -> Any:
        logged = tuple(LoggedApproval(world.approval(i, **given), NOW + i) for i in indices)
        return world.facts(approvals=logged, policy_at_request=lowered, policy_now=lowered)

    with pytest.raises(QuorumNotMet, match="2 of 3"):
        judge(facts(1, 2))
    assert judge(facts(1, 2, 3))


def test_a_false_share_that_opens_is_laid_to_its_officer(world: Custody) -> None:
    # Sealed and signed in good order, yet not the share that was deposited (FAULTS R9).
    deposit, q = only(world), world.case.payload_hash
    sealed = {}
    for index in (1, 2, 3):
        share = deposit.open_share(index, key=world.officers[index - 1].sealing_key)
        false = SecretBytes(bytes([share.reveal()[0] ^ 1]) + share.reveal()[1:])
        info = label("release-share", q, deposit.header.deposit_id, index)
        sealed[index] = sealing.seal(false if index == 2 else share, to=world.recipient_sealing.public, info=info)
    half = wrap_rsa(RECIPIENT_KEY.public, HSM_KEY.unwrap(deposit.sealed_half, hash_name="sha1"), hash_name="sha1")

    def put_together(*indices: int) -> approvals.Recovered:
        return combine(
            world.case,
            deposit,
            half=half,
            sealed_shares={index: sealed[index] for index in indices},
            rsa_key=RECIPIENT_KEY,
            sealing_key=world.recipient_sealing,
            algorithm="oaep-sha1",
        )

    assert put_together(1, 2, 3).blamed == (2,)
    assert put_together(1, 2, 3).archive_key == world.archive_keys[0]
    with pytest.raises(ShareBlamed) as caught:
        put_together(1, 2)
    assert caught.value.indices == (2,)


# The judgement as a state machine, against a model of plain sets.

_CAST = Custody(n=5)
_OTHER_CASE = _CAST.sign_case(reason="another")
_INDICES = range(1, 6)
_APPROVALS = {i: _CAST.approval(i) for i in _INDICES}
_CROSSED = {i: _CAST.approval(i, case=_OTHER_CASE) for i in _INDICES}
_DENIALS = {i: denial(_CAST, i) for i in _INDICES}
_ROSTER = _CAST.policy.policy.roster
_POLICIES: dict[str, tuple[SignedPolicy, int, frozenset[int]]] = {
    "same": (_CAST.policy, 2, frozenset(_INDICES)),
    "raised": (successor(_CAST, m=3), 3, frozenset(_INDICES)),
    "raised to 4": (successor(_CAST, m=4), 4, frozenset(_INDICES)),
    "without 1": (successor(_CAST, roster=numbered(_ROSTER[1:])), 2, frozenset({2, 3, 4, 5})),
    "without 2": (successor(_CAST, roster=numbered((_ROSTER[0], *_ROSTER[2:]))), 2, frozenset({1, 3, 4, 5})),
}


@dataclass
class Model:
    """What a person with pencil and paper would keep of a case."""

    approved_at: dict[int, int] = field(default_factory=dict)
    denied: set[int] = field(default_factory=set)
    out: dict[str, set[int]] = field(default_factory=lambda: {"suspended": set(), "away": set(), "cooling_off": set()})
    policy: str = "same"
    extra: int = 0
    vetoed: bool = False
    told_at: int | None = None
    now: int = NOW + 1

    def counting(self) -> set[int]:
        _, _, members = _POLICIES[self.policy]
        return (self.approved_at.keys() & members) - self.denied - set().union(*self.out.values())

    def verdict(self) -> str:
        needed = max(2, _POLICIES[self.policy][1]) + self.extra
        counting = self.counting()
        if self.vetoed or self.now >= NOW + 86400:
            return "ended"
        if len(counting) < needed:
            return "short"
        if self.told_at is None:
            return "wait"
        quorum_at = sorted(self.approved_at[i] for i in counting)[needed - 1]
        return "release" if self.now >= max(quorum_at, self.told_at) + 60 else "wait"


class Judgement(RuleBasedStateMachine):
    """Every order of approvals, denials, removals, policies, vetoes and time gives the model's verdict."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.log: list[LoggedApproval] = []

    @rule(i=st.sampled_from(_INDICES))
    def approve(self, i: int) -> None:
        self.log.append(LoggedApproval(_APPROVALS[i], self.model.now))
        self.model.approved_at.setdefault(i, self.model.now)

    @rule(i=st.sampled_from(_INDICES))
    def approve_another_case(self, i: int) -> None:
        self.log.append(LoggedApproval(_CROSSED[i], self.model.now))

    @rule(i=st.sampled_from(_INDICES))
    def deny(self, i: int) -> None:
        self.log.append(LoggedApproval(_DENIALS[i], self.model.now))
        self.model.denied.add(i)

    @rule(i=st.sampled_from(_INDICES), how=st.sampled_from(["suspended", "away", "cooling_off"]))
    def take_out(self, i: int, how: str) -> None:
        self.model.out[how].add(i)

    @rule(how=st.sampled_from(["suspended", "away", "cooling_off"]))
    def bring_back(self, how: str) -> None:
        self.model.out[how].clear()

    @rule(name=st.sampled_from(sorted(_POLICIES)))
    def publish(self, name: str) -> None:
        self.model.policy = name

    @rule()
    def veto_a_third_time(self) -> None:
        self.model.extra = 1

    @rule(sure=st.integers(0, 9))
    def veto(self, sure: int) -> None:
        self.model.vetoed = self.model.vetoed or sure == 0

    @rule()
    def tell_the_subject(self) -> None:
        self.model.told_at = self.model.told_at or self.model.now

    @rule(seconds=st.sampled_from([1, 30, 59, 60, 61, 3600]))
    def wait(self, seconds: int) -> None:
        self.model.now += seconds

    @invariant()
    def judge_agrees_with_the_model(self) -> None:
        model = self.model
        persons = {how: frozenset(_CAST.officers[i - 1].person for i in indices) for how, indices in model.out.items()}
        facts = _CAST.facts(
            approvals=tuple(self.log),
            policy_now=_POLICIES[model.policy][0],
            excluded=_CAST.excluded(**persons),
            notice=NoticeFacts(handed_over_at=model.told_at),
            is_vetoed=model.vetoed,
            extra_officers=model.extra,
            now=model.now,
        )
        try:
            (order,) = judge(facts)
        except Ended:
            verdict = "ended"
        except QuorumNotMet:
            verdict = "short"
        except NotYet:
            verdict = "wait"
        else:
            verdict = "release"
            assert set(order.share_hashes) == model.counting()
        assert verdict == model.verdict()


def test_judge_agrees_with_the_model_in_any_order_of_events() -> None:
    run_state_machine_as_test(Judgement, settings=settings(max_examples=60, stateful_step_count=20, deadline=None))


@pytest.mark.soak("judge")
@pytest.mark.timeout(3600)
def test_judge_agrees_with_the_model_in_very_many_orders_of_events() -> None:
    run_state_machine_as_test(Judgement, settings=settings(max_examples=2000, stateful_step_count=30, deadline=None))


def test_judge_refuses_a_decision_whose_signature_is_anothers(world: Custody) -> None:
    forged = replace(world.approval(2), signature=world.approval(1).signature)
    facts = world.facts(1)
    with pytest.raises(InvalidSignature):
        judge(replace(facts, approvals=(*facts.approvals, LoggedApproval(forged, NOW + 2))))
