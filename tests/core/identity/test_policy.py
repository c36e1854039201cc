# SPDX-License-Identifier: Apache-2.0
"""Policies are made by all founders, changed by m of the version before, and lowered in nobody's silence."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.base.encoding import MAX_BLOB, decode, encode
from holdfast.core.base.errors import Forked, InvalidSignature, Malformed, QuorumNotMet, Untrusted
from holdfast.core.crypto.keys import SealingKey, SigningKey
from holdfast.core.identity.policy import (
    ApproveWith,
    DepositRule,
    Officer,
    Policy,
    find_lowered,
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

FRESH = Officer(3, cast.RITA, SigningKey.generate().public, SealingKey.generate().public)


def roster_of(n: int) -> tuple[Officer, ...]:
    sealing = [SealingKey.generate().public for _ in range(n)]
    return tuple(Officer(i + 1, cast.id_of(f"officer {i}"), SigningKey.generate().public, sealing[i]) for i in range(n))


def signed(policy: Policy, *keys: SigningKey) -> tuple[cose.Sign1, ...]:
    return cast.signed_by(keys, policy.to_payload(), Purpose.POLICY)


@pytest.mark.parametrize("m", [0, 1, 3, 4, 2**32])
def test_policy_refuses_m_outside_two_to_one_below_n(m: int) -> None:
    with pytest.raises(Malformed, match="field 8"):
        Policy.from_payload(replace(POLICY, m=m).to_payload())


@pytest.mark.parametrize("n", [0, 1, 2, 17])
def test_policy_refuses_fewer_than_three_and_more_than_sixteen_officers(n: int) -> None:
    with pytest.raises(Malformed, match="field"):
        Policy.from_payload(replace(POLICY, roster=roster_of(n)).to_payload())


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
        Policy.from_payload(replace(POLICY, roster=roster).to_payload())


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
        Policy.from_payload(replace(POLICY, terms=replace(TERMS, **terms)).to_payload())


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
        changed = cast.next_policy(version=version, predecessor=SIGNED_POLICY.hash if version > 1 else b"")
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


def versions(*delays: int, cooling_off: int = 100) -> list[Policy]:
    """Versions that differ in their delay alone."""
    return [
        replace(POLICY, version=number, terms=replace(TERMS, delay_seconds=delay, cooling_off_seconds=cooling_off))
        for number, delay in enumerate(delays, 1)
    ]


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
    long, short = versions(60, 60, cooling_off=500), versions(60, 60, 30, cooling_off=10)
    assert in_force_times([long[0], short[1], short[2]], [0, 1000, 1001])[2] == 1501


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 200)), min_size=1, max_size=8))
def test_times_never_go_back_and_a_guard_is_never_lowered_without_its_wait(made: list[tuple[int, int]]) -> None:
    published = list(itertools.accumulate(gap for _, gap in made))
    rows = versions(*(delay for delay, _ in made))
    times = in_force_times(rows, published)
    assert list(times) == sorted(times)
    for place in range(1, len(rows)):
        standing = max(earlier for earlier in range(place) if times[earlier] <= published[place])
        if find_lowered(rows[standing], rows[place]):
            assert times[place] >= published[place] + 100
