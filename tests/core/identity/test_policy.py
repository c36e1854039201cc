# SPDX-License-Identifier: Apache-2.0
"""Policies are made by all founders, changed by m of the version before, and lowered in nobody's silence."""

import hashlib
import itertools
from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from holdfast.core.base.encoding import MAX_BLOB, decode, encode
from holdfast.core.base.errors import Forked, InvalidSignature, Malformed, QuorumNotMet, Untrusted
from holdfast.core.crypto.keys import SealingKey, SigningKey
from holdfast.core.identity.policy import (
    NEVER,
    ApproveWith,
    DepositRule,
    GivenUp,
    History,
    Officer,
    Policy,
    SignedPolicy,
    Terms,
    find_lowered,
    history_of,
    in_force_times,
    officers_who_signed,
    strictest,
    verify_founding,
    verify_successor,
)
from holdfast.core.signed import cose
from holdfast.core.signed.cose import MAX_SIGNERS, Purpose
from tests.cast import statements as cast
from tests.cast.statements import ACME, FOUNDING, OFFICER_KEYS, OFFICERS, POLICY, SIGNED_POLICY, TERMS
from tests.cast.unread import unread

FRESH = Officer(3, cast.RITA, SigningKey.generate().public, SealingKey.generate().public)


def roster_of(n: int) -> tuple[Officer, ...]:
    sealing = [SealingKey.generate().public for _ in range(n)]
    return tuple(Officer(i + 1, cast.id_of(f"officer {i}"), SigningKey.generate().public, sealing[i]) for i in range(n))


def signed(policy: Policy, *keys: SigningKey) -> tuple[cose.Sign1, ...]:
    return cast.signed_by(keys, policy.to_payload(), Purpose.POLICY)


@pytest.mark.parametrize("m", [0, 1, 3, 4, 2**32])
def test_policy_refuses_m_outside_two_to_one_below_n(m: int) -> None:
    with pytest.raises(Malformed, match="field 8"):
        Policy.from_payload(unread(replace(POLICY, m=m)))


@pytest.mark.parametrize(
    ("number", "value", "binds", "text"),
    [(12, 1, 1, ""), (12, 365 * cast.DAY, 365 * cast.DAY, ""), (12, NEVER, NEVER, ""), (14, "x" * 600, 0, "x" * 600)],
)
def test_terms_of_a_consent_are_read_as_they_are_written(number: int, value: Any, binds: int, text: str) -> None:
    terms = replace(TERMS, consent_binds_seconds=binds, text=text)
    assert terms.to_map()[number] == value
    assert Terms.from_map(decode(encode(terms.to_map()))) == terms
    assert not {12, 14} & TERMS.to_map().keys()


@pytest.mark.parametrize(
    ("number", "value"),
    [
        (12, 0),
        (12, 365 * cast.DAY + 1),
        (12, NEVER - 1),
        (12, b""),
        (14, ""),
        (14, " \u3000"),
        (14, "x" * 601),
        (14, "two\nlines"),
        (14, "\x1b[2J"),
        (14, "\x7f"),
        (14, 1),
        (10, 1),
        (11, 1),
        (13, 1),
    ],
)
def test_terms_of_a_consent_have_one_form_and_a_bound(number: int, value: Any) -> None:
    with pytest.raises(Malformed):
        Terms.from_map(decode(encode(TERMS.to_map() | {number: value})))


def test_terms_of_a_consent_lower_no_guard_and_the_last_policy_says_them() -> None:
    said = replace(POLICY, terms=replace(TERMS, consent_binds_seconds=NEVER, text="Hear, hear."))
    assert find_lowered(POLICY, said) == find_lowered(said, POLICY) == ()
    assert strictest([said, POLICY])[1] == TERMS


@pytest.mark.parametrize("n", [0, 1, 2, 17])
def test_policy_refuses_fewer_than_three_and_more_than_sixteen_officers(n: int) -> None:
    with pytest.raises(Malformed, match="field"):
        Policy.from_payload(unread(replace(POLICY, roster=roster_of(n))))


def test_policy_of_sixteen_officers_fits_its_limits_with_every_signature() -> None:
    keys = [SigningKey.generate() for _ in range(16)]
    sealing = [SealingKey.generate().public for _ in range(16)]
    roster = tuple(Officer(i + 1, cast.id_of(str(i)), keys[i].public, sealing[i]) for i in range(16))
    large = replace(POLICY, m=15, roster=roster)
    assert len(large.to_payload()) < MAX_BLOB
    wire = cose.encode_many(signed(large, *keys))
    assert len(wire) < MAX_SIGNERS * MAX_BLOB
    assert verify_founding(cose.parse_many(wire, max_size=MAX_BLOB), tenant=ACME).policy == large


@pytest.mark.parametrize(
    "roster",
    [
        (OFFICERS[1], OFFICERS[0], OFFICERS[2]),
        (OFFICERS[0], OFFICERS[1], replace(OFFICERS[2], index=4)),
        (OFFICERS[0], OFFICERS[1], replace(OFFICERS[2], index=2)),
        (OFFICERS[0], OFFICERS[1], replace(FRESH, person=cast.CAROL)),
        (OFFICERS[0], OFFICERS[1], replace(FRESH, signing_key=OFFICERS[0].signing_key)),
        (OFFICERS[0], OFFICERS[1], replace(FRESH, sealing_key=OFFICERS[0].sealing_key)),
    ],
    ids=[
        "out of order",
        "a gap",
        "one index twice",
        "one person twice",
        "one signing key twice",
        "one X-Wing key twice",
    ],
)
def test_policy_refuses_a_roster_that_counts_somebody_twice_or_out_of_order(roster: tuple[Officer, ...]) -> None:
    with pytest.raises(Malformed, match="field 9"):
        Policy.from_payload(unread(replace(POLICY, roster=roster)))


@pytest.mark.parametrize(
    "terms",
    [
        {"delay_seconds": 365 * 86400 + 1},
        {"max_notice_delay_seconds": 365 * 86400 + 1},
        {"purposes": frozenset()},
        {"purposes": frozenset(map(str, range(17)))},
        {"purposes": frozenset({"p" * 65})},
        {"approve_with": 3},
        {"approve_with": 0},
        {"deposits": 3},
        {"release_signing_key": cast.SEALING.public},
        {"release_sealing_key": cast.ISK.public},
    ],
)
def test_policy_refuses_terms_outside_their_bounds(terms: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        Policy.from_payload(unread(replace(POLICY, terms=replace(TERMS, **terms))))


def test_founding_policy_is_believed_when_every_founder_has_signed() -> None:
    believed = verify_founding(FOUNDING, tenant=ACME)
    assert believed.policy == POLICY
    assert believed.hash == FOUNDING[0].payload_hash
    assert believed.policy.officer(OFFICERS[1].signing_key.kid) == OFFICERS[1]
    assert believed.policy.officer(bytes(16)) is None


@pytest.mark.parametrize("missing", range(3))
def test_founding_policy_refuses_a_missing_founder(missing: int) -> None:
    with pytest.raises(QuorumNotMet):
        verify_founding([one for i, one in enumerate(FOUNDING) if i != missing], tenant=ACME)


def test_founding_policy_counts_a_founder_once() -> None:
    with pytest.raises(QuorumNotMet):
        verify_founding([FOUNDING[0], FOUNDING[1], FOUNDING[0]], tenant=ACME)


def test_founding_policy_refuses_an_outsiders_signature_even_beside_all_founders() -> None:
    with pytest.raises(Untrusted, match="no officer"):
        verify_founding([*FOUNDING, *signed(POLICY, SigningKey.generate())], tenant=ACME)


def test_founding_policy_refuses_a_forged_signature_and_a_signature_for_another_purpose() -> None:
    forged = replace(FOUNDING[2], signature=FOUNDING[1].signature)
    other = cast.signed_by(OFFICER_KEYS[2:], POLICY.to_payload(), Purpose.CONSENT)[0]
    for bad in (forged, other):
        with pytest.raises(InvalidSignature):
            verify_founding([FOUNDING[0], FOUNDING[1], bad], tenant=ACME)


def test_founding_policy_refuses_another_tenant_another_version_and_differing_payloads() -> None:
    with pytest.raises(Untrusted, match="another tenant"):
        verify_founding(FOUNDING, tenant=cast.MALLORY_TENANT)
    with pytest.raises(Untrusted, match="version 1"):
        verify_founding(signed(cast.next_policy(), *OFFICER_KEYS), tenant=ACME)
    lower = signed(replace(POLICY, terms=replace(TERMS, delay_seconds=0)), OFFICER_KEYS[2])
    for statements in ([FOUNDING[0], FOUNDING[1], *lower], []):
        with pytest.raises(Malformed):
            verify_founding(statements, tenant=ACME)


def test_next_policy_is_believed_on_the_word_of_m_officers_of_the_version_before() -> None:
    second = cast.next_policy(roster=(OFFICERS[0], OFFICERS[1], FRESH))
    believed = verify_successor(signed(second, *OFFICER_KEYS[:2]), predecessor=SIGNED_POLICY)
    assert believed.policy == second
    # Erin has left with version 2: erin signs nothing after it, though version 1 would have allowed it.
    third = cast.next_policy(believed)
    with pytest.raises(Untrusted):
        verify_successor(signed(third, OFFICER_KEYS[0], OFFICER_KEYS[2]), predecessor=believed)
    assert verify_successor(signed(third, *OFFICER_KEYS[:2]), predecessor=believed).policy.version == 3


def test_next_policy_refuses_m_less_one_and_the_vote_of_its_own_newcomers() -> None:
    newcomers = [SigningKey.generate() for _ in range(3)]
    roster = tuple(replace(row, signing_key=key.public) for row, key in zip(OFFICERS, newcomers, strict=True))
    coup = cast.next_policy(roster=roster)
    with pytest.raises(QuorumNotMet):
        verify_successor(signed(coup, OFFICER_KEYS[0]), predecessor=SIGNED_POLICY)
    with pytest.raises(Untrusted):
        verify_successor(signed(coup, *newcomers), predecessor=SIGNED_POLICY)


def test_next_policy_refuses_a_skipped_version_a_repeat_and_another_past() -> None:
    for version in (1, 3):
        named = SIGNED_POLICY.hash if version > 1 else b""
        changed = cast.next_policy(version=version, predecessor=named, held_in_force=named)
        with pytest.raises(Untrusted):
            verify_successor(signed(changed, *OFFICER_KEYS), predecessor=SIGNED_POLICY)
    fork = cast.next_policy(predecessor=cast.hash_of("another first version"))
    with pytest.raises(Forked):
        verify_successor(signed(fork, *OFFICER_KEYS), predecessor=SIGNED_POLICY)
    foreign = cast.next_policy(header=replace(cast.TENANT, tenant=cast.MALLORY_TENANT))
    with pytest.raises(Untrusted, match="another tenant"):
        verify_successor(signed(foreign, *OFFICER_KEYS), predecessor=SIGNED_POLICY)


def test_officers_who_signed_are_counted_as_persons_of_the_roster() -> None:
    assert officers_who_signed(FOUNDING[:2], POLICY, purpose=Purpose.POLICY) == set(OFFICERS[:2])
    assert officers_who_signed([], POLICY, purpose=Purpose.POLICY) == frozenset()


@pytest.mark.parametrize(
    ("guard", "changes"),
    [
        ("m", {}),
        ("delay_seconds", {"delay_seconds": 0}),
        ("max_notice_delay_seconds", {"max_notice_delay_seconds": 31 * 86400}),
        ("cooling_off_seconds", {"cooling_off_seconds": 0}),
        ("undelivered_delay_seconds", {"undelivered_delay_seconds": 0}),
        ("approve_with", {"approve_with": ApproveWith.ANY}),
        ("purposes", {"purposes": TERMS.purposes | {"curiosity"}}),
        ("deposits", {"deposits": DepositRule.OPTIONAL}),
    ],
)
def test_lowered_names_the_guard_that_falls_and_is_silent_when_it_rises(guard: str, changes: dict[str, Any]) -> None:
    before = replace(POLICY, m=3, roster=roster_of(5))
    after = replace(before, m=2) if guard == "m" else replace(before, terms=replace(TERMS, **changes))
    assert find_lowered(before, after) == (guard,)
    assert find_lowered(after, before) == ()
    assert find_lowered(before, before) == ()


def test_strictest_takes_the_hardest_of_each_guard_whatever_the_order() -> None:
    soft = replace(
        POLICY,
        m=3,
        terms=replace(
            TERMS,
            delay_seconds=1,
            max_notice_delay_seconds=1,
            cooling_off_seconds=9 * 86400,
            approve_with=ApproveWith.ANY,
            purposes=frozenset({"legal", "curiosity"}),
            deposits=DepositRule.ALL,
            undelivered_delay_seconds=1,
        ),
    )
    for order in ([POLICY, soft], [soft, POLICY], [soft, POLICY, soft]):
        m, terms = strictest(order)
        assert m == 3
        assert terms.delay_seconds == TERMS.delay_seconds
        assert terms.max_notice_delay_seconds == 1
        assert terms.cooling_off_seconds == 9 * 86400
        assert terms.undelivered_delay_seconds == TERMS.undelivered_delay_seconds
        assert terms.approve_with is ApproveWith.CLI
        assert terms.purposes == {"legal"}
        assert terms.deposits is DepositRule.ALL


@pytest.mark.parametrize("purposes", [["legal", "device-loss"], ["legal", "legal"], [1], "legal", [["legal"]]])
def test_policy_refuses_purposes_that_do_not_ascend_or_are_no_text(purposes: Any) -> None:
    value: Any = decode(POLICY.to_payload(), max_size=MAX_BLOB)
    value[10][6] = purposes
    with pytest.raises(Malformed):
        Policy.from_payload(encode(value))


CAROL, DAN, ERIN = (officer.signing_key.kid for officer in OFFICERS)


def after(*history: SignedPolicy, signers: tuple[bytes, ...] = (CAROL, DAN), **changes: Any) -> SignedPolicy:
    """The version after these, signed by Carol and Dan unless told otherwise, made while the first was in force."""
    made = cast.next_policy(history[-1], **({"held_in_force": history[0].hash} | changes))
    return SignedPolicy(made, hashlib.sha256(made.to_payload()).digest(), frozenset(signers))


def versions(*delays: int, cooling_off: int = 100) -> list[SignedPolicy]:
    """Versions that differ in their delay alone, each made while the first was in force."""
    made: list[SignedPolicy] = []
    for delay in delays:
        terms = replace(TERMS, delay_seconds=delay, cooling_off_seconds=cooling_off)
        made.append(after(*made, terms=terms) if made else founded(replace(POLICY, terms=terms)))
    return made


def founded(policy: Policy) -> SignedPolicy:
    payload = policy.to_payload()
    return SignedPolicy(policy, hashlib.sha256(payload).digest(), frozenset((CAROL, DAN, ERIN)))


@pytest.mark.parametrize(
    ("delays", "published", "in_force"),
    [
        ([60], [1000], [0]),
        ([60, 90], [1000, 2000], [0, 2000]),  # raised: at once
        ([60, 30], [1000, 2000], [0, 2100]),  # lowered: after the cooling-off
        ([60, 30, 30], [1000, 2000, 2010], [0, 2100, 2110]),  # a copy of what waits, waits
        ([60, 30, 90], [1000, 2000, 2010], [0, 2100, 2100]),  # never before the version that it follows
        ([60, 30, 30], [1000, 2000, 2100], [0, 2100, 2100]),  # a copy of what is in force lowers nothing
        ([60, 30, 60], [1000, 2000, 2010], [0, 2100, 2100]),
        ([60, 90, 60], [1000, 2000, 2010], [0, 2000, 2110]),  # what was raised counts as soon as it is in force
        ([90, 60, 30, 30], [0, 10, 20, 30], [0, 110, 120, 130]),
    ],
)
def test_version_is_in_force_from(delays: list[int], published: list[int], in_force: list[int]) -> None:
    assert list(in_force_times(versions(*delays), published)) == in_force


def test_longest_cooling_off_of_all_that_are_compared_counts() -> None:
    first = versions(60, cooling_off=500)[0]
    shorter = replace(first.policy.terms, cooling_off_seconds=10)
    second = after(first, terms=shorter)
    third = after(first, second, terms=replace(shorter, delay_seconds=30))
    assert in_force_times([first, second, third], [0, 1000, 1001]) == (0, 1500, 1501)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 200)), min_size=1, max_size=8))
def test_times_never_go_back_and_a_guard_is_never_lowered_without_its_wait(made: list[tuple[int, int]]) -> None:
    published = list(itertools.accumulate(gap for _, gap in made))
    rows = versions(*(delay for delay, _ in made))
    times = in_force_times(rows, published)
    assert list(times) == sorted(times)
    for place in range(1, len(rows)):
        standing = max(earlier for earlier in range(place) if times[earlier] <= published[place])
        if find_lowered(rows[standing].policy, rows[place].policy):
            assert times[place] >= published[place] + 100


# Field 12: who is in force has a say.


def test_policy_names_the_version_in_force_from_version_2_on_and_may_give_deposits_up() -> None:
    made = cast.next_policy(given_up=GivenUp(3, cast.hash_of("ids")))
    assert Policy.from_payload(made.to_payload()) == made
    for change in ({"held_in_force": bytes(32)}, {"given_up": GivenUp(1, bytes(32))}):
        with pytest.raises(Malformed, match="is not for version 1"):
            Policy.from_payload(unread(replace(POLICY, **change)))
    with pytest.raises(Malformed, match="field 13"):
        Policy.from_payload(unread(replace(made, given_up=GivenUp(0, bytes(32)))))


def test_next_policy_asks_the_officers_in_force_as_well_as_those_of_the_version_before() -> None:
    keys = [SigningKey.generate() for _ in range(3)]
    theirs = tuple(replace(row, signing_key=key.public) for row, key in zip(roster_of(3), keys, strict=True))
    second = verify_successor(signed(cast.next_policy(roster=theirs), *OFFICER_KEYS), predecessor=SIGNED_POLICY)
    third = cast.next_policy(second, held_in_force=SIGNED_POLICY.hash)
    known = [SIGNED_POLICY, second]
    with pytest.raises(QuorumNotMet):
        verify_successor(signed(third, *keys), predecessor=second, history=known)
    with pytest.raises(QuorumNotMet):
        verify_successor(signed(third, *keys, OFFICER_KEYS[0]), predecessor=second, history=known)
    both = [*keys[:2], *OFFICER_KEYS[:2]]
    believed = verify_successor(signed(third, *both), predecessor=second, history=known)
    assert believed.signers == {key.public.kid for key in both}


def test_next_policy_names_a_version_in_force_that_there_is_unless_it_is_an_early_one() -> None:
    for name in (b"", cast.hash_of("another history")):
        with pytest.raises(Untrusted, match="in force"):
            verify_successor(signed(cast.next_policy(held_in_force=name), *OFFICER_KEYS), predecessor=SIGNED_POLICY)
    early = signed(cast.next_policy(held_in_force=b""), *OFFICER_KEYS)
    assert verify_successor(early, predecessor=SIGNED_POLICY, is_early=True).policy.version == 2
    unknown = cast.next_policy(held_in_force=cast.hash_of("another history"))
    with pytest.raises(Untrusted, match="in force"):
        verify_successor(signed(unknown, *OFFICER_KEYS), predecessor=SIGNED_POLICY, is_early=True)


def test_version_that_holds_a_waiting_one_to_be_in_force_begins_its_wait_with_it() -> None:
    """FAULTS P6: two lowerings of a hundred seconds each take two hundred, however soon the second is published."""
    first, second = versions(60, 30)
    third = after(first, second, held_in_force=second.hash, terms=replace(second.policy.terms, delay_seconds=0))
    assert in_force_times([first, second, third], [0, 1000, 1001]) == (0, 1100, 1200)


def test_version_without_the_word_of_those_in_force_is_never_in_force() -> None:
    """Signed by the officers who have gone and by those to come, while others are in office."""
    others = roster_of(3)
    kids = tuple(officer.signing_key.kid for officer in others)
    first = versions(60)[0]
    second = after(first, roster=others, signers=(CAROL, DAN, ERIN))
    third = after(first, second, roster=OFFICERS, held_in_force=second.hash, signers=kids)
    fourth = after(first, second, third, signers=(CAROL, DAN))
    published = [0, 1000, 2000, 2001]
    assert in_force_times([first, second, third, fourth], published) == (0, 1000, 2000, 2001)
    # The others have not all signed their own leaving: they are in force still, and have not signed the fourth.
    unsigned = replace(third, signers=frozenset(kids[:2]))
    assert in_force_times([first, second, unsigned, fourth], published) == (0, 1000, 2100, NEVER)


# The roster is a guard.


def test_officers_who_have_not_signed_stay_until_the_wait_is_over() -> None:
    """FAULTS P5, P8: whoever would object is not taken off at the moment of objecting."""
    first = versions(60)[0]
    for roster in ((OFFICERS[0], OFFICERS[1], FRESH), (OFFICERS[0], OFFICERS[1], replace(FRESH, person=cast.ERIN))):
        history = history_of([first, after(first, roster=roster)], [0, 1000])
        assert history.in_force_from == (0, 1100)
        assert OFFICERS[2] in history.counting(1099)
        assert OFFICERS[2] not in history.counting(1100)
        by_erin = history_of([first, after(first, roster=roster, signers=(CAROL, ERIN))], [0, 1000])
        assert by_erin.in_force_from == (0, 1000)


def test_new_keys_cool_off_unless_the_old_key_signed_for_them() -> None:
    first = versions(60)[0]
    roster = (OFFICERS[0], OFFICERS[1], replace(FRESH, person=cast.ERIN))
    assert history_of([first, after(first, roster=roster)], [0, 1000]).counts_from[1] == (0, 0, 1100)
    signers = (CAROL, ERIN)
    assert history_of([first, after(first, roster=roster, signers=signers)], [0, 1000]).counts_from[1] == (0, 0, 0)


def test_new_officer_counts_after_the_longest_cooling_off_and_whoever_left_begins_anew() -> None:
    first = versions(60, cooling_off=500)[0]
    short = replace(first.policy.terms, cooling_off_seconds=10)
    fourth_row = replace(FRESH, index=4)
    second = after(first, roster=(*OFFICERS, fourth_row), terms=short)
    history = history_of([first, second], [0, 1000])
    assert (history.in_force_from, history.counts_from[1], history.settled_at) == ((0, 1500), (0, 0, 0, 1500), 1500)
    without = after(second, roster=(OFFICERS[0], OFFICERS[1], FRESH), signers=(CAROL, DAN, ERIN))
    again = after(without, roster=(*without.policy.roster, replace(OFFICERS[2], index=4)))
    times = history_of([first, second, without, again], [0, 1000, 2000, 3000])
    assert times.counts_from[3] == (0, 0, 1500, 3010)
    assert [officer.person for officer in times.counting(3009)] == [cast.CAROL, cast.DAN, FRESH.person]


def test_officer_has_left_with_any_version_in_force_since_that_lacks_them_with_these_keys() -> None:
    """What an officer did in one term of office does not count in another, though they have the same keys again."""
    first = versions(60)[0]
    carol, _, erin = OFFICERS
    signers = (CAROL, DAN, ERIN)
    without = after(first, roster=(*OFFICERS[:2], FRESH), signers=signers)
    again = after(without, roster=OFFICERS, signers=signers)
    history = history_of([first, without, again], [0, 1000, 1000])
    assert history.in_force_from == (0, 1000, 1100)

    def has_left(officer: Officer, since: int, known: int = 1, at: int = 5000) -> bool:
        return history.has_left(officer, since=since, known=known, at=at)

    assert [has_left(erin, since) for since in (999, 1001, 1100)] == [True, False, False]
    # Within one second: whether that version had been published tells what came first.
    assert [has_left(erin, 1000, known) for known in (1, 2)] == [True, False]
    assert not has_left(erin, 500, at=999)
    assert not has_left(carol, 500)
    assert has_left(replace(carol, sealing_key=FRESH.sealing_key), 500)


def test_policy_refuses_a_cooling_off_of_more_than_thirty_days() -> None:
    longest = replace(POLICY, terms=replace(TERMS, cooling_off_seconds=30 * 86400))
    assert Policy.from_payload(longest.to_payload()) == longest
    with pytest.raises(Malformed, match="field 3"):
        Policy.from_payload(unread(replace(POLICY, terms=replace(TERMS, cooling_off_seconds=30 * 86400 + 1))))


# Withdrawal.


def test_withdrawn_version_counts_nowhere_and_what_follows_it_falls_with_it() -> None:
    first, second, third = versions(60, 30, 30)
    fourth = after(first, version=4, terms=replace(first.policy.terms, delay_seconds=50))
    rows, published = [first, second, third, fourth], [0, 1000, 1010, 1060]
    history = history_of(rows, published, {second.hash: 1050})
    assert history.in_force_from == (0, NEVER, NEVER, 1160)
    assert history.newest == fourth
    assert history.in_force(1159) == first


def test_withdrawal_that_comes_when_the_version_is_in_force_changes_nothing() -> None:
    first, second = versions(60, 30)
    instead = after(first, version=3)
    for withdrawn_at, times in ((1099, (0, NEVER, 1200)), (1100, (0, 1100, NEVER))):
        assert in_force_times([first, second, instead], [0, 1000, 1200], {second.hash: withdrawn_at}) == times


class Policies(RuleBasedStateMachine):
    """Any sequence of versions, withdrawals and times, lies among them: what is in force is never a surprise."""

    COOLING_OFF: Final = 100

    def __init__(self) -> None:
        super().__init__()
        self.rows = versions(3, cooling_off=self.COOLING_OFF)
        self.published = [0]
        self.withdrawn: dict[bytes, int] = {}
        self.now = 1000
        self.was_in_force: list[tuple[int, SignedPolicy]] = []

    @property
    def history(self) -> History:
        return history_of(self.rows, self.published, self.withdrawn)

    @rule(seconds=st.integers(0, 150))
    def wait(self, seconds: int) -> None:
        # Of this very second nothing is said: what is published now may be in force now.
        self.was_in_force.append((self.now - 1, self.history.in_force(self.now - 1)))
        self.now += seconds

    @rule(
        delay=st.integers(0, 5),
        cooling_off=st.sampled_from([COOLING_OFF, COOLING_OFF + 50]),
        leaver=st.booleans(),
        by_all=st.booleans(),
        held=st.integers(0, 8),
    )
    def publish(self, delay: int, cooling_off: int, leaver: bool, by_all: bool, held: int) -> None:
        history = self.history
        terms = replace(TERMS, delay_seconds=delay, cooling_off_seconds=cooling_off)
        roster = (OFFICERS[0], OFFICERS[1], FRESH) if leaver else OFFICERS
        # Also versions that lie about what is in force: they may wait longer, or fall, and never come sooner.
        lied = self.rows[held % len(self.rows)].hash
        signers = (CAROL, DAN, ERIN, FRESH.signing_key.kid) if by_all else (CAROL, DAN)
        changes = {"version": len(self.rows) + 1, "terms": terms, "roster": roster, "held_in_force": lied}
        self.rows.append(after(history.newest, signers=signers, **changes))
        self.published.append(self.now)

    @rule(place=st.integers(0, 8))
    def withdraw(self, place: int) -> None:
        # The founding version cannot be: it is in force from the beginning.
        self.withdrawn.setdefault(self.rows[place % len(self.rows)].hash, self.now)

    @invariant()
    def guard_falls_only_as_low_as_was_published_a_cooling_off_ago(self) -> None:
        history = self.history
        begins = sorted(at for at in history.in_force_from if at < NEVER)
        for earlier, at in itertools.combinations(begins, 2):
            before, now = history.in_force(earlier), history.in_force(at)
            between = [
                (signed, published)
                for signed, published, since in zip(self.rows, self.published, history.in_force_from, strict=True)
                if before.policy.version < signed.policy.version <= now.policy.version and since < NEVER
            ]
            known = [signed for signed, published in between if published + self.COOLING_OFF <= at]
            # Whoever signed the version that took them out has agreed to it, whoever signs those that follow.
            agreed = {
                officer.signing_key.kid
                for signed, _ in between
                for officer in before.policy.roster
                if officer not in signed.policy.roster and officer.signing_key.kid in signed.signers
            }
            signers = now.signers | agreed
            for guard in find_lowered(before.policy, now.policy, signers):
                assert any(guard not in find_lowered(one.policy, now.policy, signers) for one in known)

    @invariant()
    def what_was_in_force_stays_so(self) -> None:
        assert [self.history.in_force(at) for at, _ in self.was_in_force] == [one for _, one in self.was_in_force]

    @invariant()
    def times_of_what_stands_never_go_back(self) -> None:
        times = [at for at in self.history.in_force_from if at < NEVER]
        assert times == sorted(times)
        assert times[0] == 0

    @invariant()
    def nobody_new_counts_before_the_cooling_off(self) -> None:
        history = self.history
        for signed, published, since in zip(self.rows, self.published, history.counts_from, strict=True):
            for officer, counts_from in zip(signed.policy.roster, since, strict=True):
                if officer not in OFFICERS and counts_from < NEVER and FRESH.signing_key.kid not in signed.signers:
                    first = min(
                        at for row, at in zip(self.rows, self.published, strict=True) if officer in row.policy.roster
                    )
                    assert counts_from >= first + self.COOLING_OFF
                    assert published >= first


def test_whoever_signed_their_own_leaving_is_asked_no_more_by_the_version_after_it() -> None:
    machine = Policies()
    for by_all, place in ((True, 0), (False, 1)):
        machine.publish(delay=3, cooling_off=100, leaver=True, by_all=by_all, held=place)
        machine.wait(10)
        machine.guard_falls_only_as_low_as_was_published_a_cooling_off_ago()
    assert machine.history.in_force_from == (0, 1000, 1010)
    # Whoever did not sign it is asked still: the leaving waits.
    machine = Policies()
    machine.publish(delay=3, cooling_off=100, leaver=True, by_all=False, held=0)
    assert machine.history.in_force_from == (0, 1100)


TestPolicies = Policies.TestCase
TestPolicies.settings = settings(max_examples=80, stateful_step_count=20, deadline=None)
