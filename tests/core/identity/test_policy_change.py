# SPDX-License-Identifier: Apache-2.0
"""What a version changes, in words: the terms, the officers, from when, and which guards it lowers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from holdfast.core.base.words import word_list
from holdfast.core.crypto.keys import SealingKey, SigningKey
from holdfast.core.identity.policy import (
    NEVER,
    ApproveWith,
    DepositRule,
    GivenUp,
    Officer,
    Policy,
    SignedPolicy,
    find_lowered,
)
from holdfast.core.identity.policy_change import (
    PolicyChange,
    change_of,
    changed_terms,
    history_with,
    in_words,
    text_box,
)
from holdfast.core.identity.trust import GRACE_SECONDS, NOTICE_SECONDS, find_ending, founder_words
from tests.cast import statements as cast
from tests.cast.statements import DAY, NOW, OFFICERS, POLICY, SIGNED_POLICY, TERMS

CAROL, DAN, ERIN = (officer.signing_key.kid for officer in OFFICERS)
RITA = Officer(3, cast.RITA, SigningKey.generate().public, SealingKey.generate().public)
FOURTH = replace(RITA, index=4)


def change(after: Policy, *signers: bytes, at: int = NOW, **given: Any) -> PolicyChange:
    known: dict[str, Any] = {"versions": [SIGNED_POLICY], "published": [NOW - DAY]} | given
    return change_of(after, signers=frozenset(signers), at=at, **known)


def words(after: Policy, *signers: bytes, **given: Any) -> str:
    return "\n".join(in_words(change(after, *signers, **given), at=NOW))


def terms(**changes: Any) -> Policy:
    return cast.next_policy(terms=replace(TERMS, **changes))


def test_version_that_raises_a_guard_is_in_force_at_once_and_says_so() -> None:
    found = change(terms(delay_seconds=5 * DAY))
    assert (found.lowered, found.in_force_from) == ((), NOW)
    assert [(one.name, one.before, one.after) for one in found.terms] == [("Delay", "3 days", "5 days")]
    said = words(terms(delay_seconds=5 * DAY))
    assert "Delay: 3 days → 5 days" in said
    assert "In force at once if it is published now. It lowers no guard." in said


@pytest.mark.parametrize(
    ("guard", "changes", "said"),
    [
        ("delay_seconds", {"delay_seconds": 0}, "the delay"),
        ("max_notice_delay_seconds", {"max_notice_delay_seconds": 31 * DAY}, "how soon a subject is told"),
        ("cooling_off_seconds", {"cooling_off_seconds": 0}, "the cooling-off"),
        ("undelivered_delay_seconds", {"undelivered_delay_seconds": 0}, "the delay when notice fails"),
        ("approve_with", {"approve_with": ApproveWith.ANY}, "where approvals come from"),
        ("purposes", {"purposes": TERMS.purposes | {"curiosity"}}, "the purposes"),
        ("deposits", {"deposits": DepositRule.OPTIONAL}, "which generations are deposited"),
    ],
)
def test_each_guard_that_falls_is_named_and_the_wait_with_it(guard: str, changes: dict[str, Any], said: str) -> None:
    found = change(terms(**changes))
    assert (found.lowered, found.in_force_from) == ((guard,), NOW + DAY)
    assert f"(1 day from now) if it is published now. It lowers {said}." in words(terms(**changes))


def test_terms_of_a_consent_are_said_and_the_tenants_text_has_a_box_of_its_own() -> None:
    after = terms(consent_binds_seconds=30 * DAY, text="In force at once. It lowers no guard.")
    found = words(after)
    assert (
        "Consent: can be taken back at any time → can be taken back 30 days after it was given, and not before" in found
    )
    assert "Text to members: none → 37 characters, " in found
    assert after.terms.text not in found
    assert text_box(after.terms) == [
        "┌ Your organisation adds, in its own words:",
        "│ In force at once. It lowers no guard.",
        "└",
    ]
    assert text_box(TERMS) == []
    other = replace(after, terms=replace(after.terms, text="In force at once. It lowers no guard!"))
    assert [one.name for one in changed_terms(after, other)] == ["Text to members"], "of one length, and another text"
    assert "cannot be taken back while this version stands" in words(terms(consent_binds_seconds=NEVER))


def test_every_guard_has_words() -> None:
    low = replace(
        POLICY,
        m=2,
        terms=replace(
            TERMS,
            delay_seconds=0,
            max_notice_delay_seconds=31 * DAY,
            cooling_off_seconds=0,
            undelivered_delay_seconds=0,
            approve_with=ApproveWith.ANY,
            purposes=TERMS.purposes | {"x"},
            deposits=DepositRule.OPTIONAL,
        ),
        roster=(OFFICERS[0], OFFICERS[1], RITA),
    )
    high = replace(POLICY, m=3, roster=(*OFFICERS, FOURTH))
    lowered = find_lowered(high, low)
    assert len(lowered) == 9
    found = replace(change(cast.next_policy()), lowered=lowered)
    assert in_words(found, at=NOW)[-1].count(";") == 8


def test_new_officer_lowers_nothing_and_counts_after_the_cooling_off() -> None:
    found = change(cast.next_policy(roster=(*OFFICERS, FOURTH)))
    assert (found.lowered, found.in_force_from, found.came, found.fresh) == ((), NOW, (FOURTH,), (FOURTH,))
    assert found.counts_from == (0, 0, 0, NOW + DAY)
    assert "Officer 4" in words(cast.next_policy(roster=(*OFFICERS, FOURTH)))


def test_officer_who_goes_without_having_signed_makes_the_version_wait_and_their_own_signature_ends_that() -> None:
    after = cast.next_policy(roster=(OFFICERS[0], OFFICERS[1], RITA))
    assert (change(after).lowered, change(after).in_force_from) == (("roster",), NOW + DAY)
    assert (change(after, ERIN).lowered, change(after, ERIN).in_force_from) == ((), NOW)
    assert change(after).left == (OFFICERS[2],)
    assert "goes when it is in force" in words(after)


def test_other_keys_of_an_officer_are_said_to_be_that_and_are_a_new_row() -> None:
    other = replace(OFFICERS[2], signing_key=SigningKey.generate().public)
    after = cast.next_policy(roster=(OFFICERS[0], OFFICERS[1], other))
    found = change(after)
    assert (found.came, found.left, found.rekeyed, found.fresh) == ((), (), (other,), (other,))
    assert found.counts_from[2] == NOW + DAY
    assert change(after, ERIN).counts_from[2] == 0
    assert "gets other keys" in words(after)


def test_roster_that_cannot_be_signed_by_those_who_stay_is_taken_to_be_signed_by_all() -> None:
    keys = [SigningKey.generate().public for _ in range(3)]
    strangers = tuple(
        Officer(i, cast.id_of(f"stranger {i}"), key, SealingKey.generate().public) for i, key in enumerate(keys, 1)
    )
    found = change(cast.next_policy(roster=strangers))
    assert found.lowered == ("roster",)
    assert found.in_force_from < NEVER
    assert found.fresh == strangers


def test_version_that_follows_no_version_that_stands_can_never_be_in_force() -> None:
    after = cast.next_policy(predecessor=bytes(32))
    assert change(after).in_force_from == NEVER
    assert "It can never be in force" in words(after)


def test_what_waits_already_is_compared_with_as_well() -> None:
    """A copy of a version that waits lowers nothing against it, and waits as long."""
    low = terms(delay_seconds=0)
    second = SignedPolicy(low, cast.hash_of("second"), frozenset((CAROL, DAN)))
    copy = replace(low, version=3, predecessor=second.hash)
    found = change(copy, versions=[SIGNED_POLICY, second], published=[NOW - DAY, NOW])
    assert (found.terms, found.lowered, found.in_force_from) == ((), ("delay_seconds",), NOW + DAY)


def test_other_keys_of_the_release_process_and_the_end_are_said() -> None:
    after = cast.next_policy(
        header=replace(POLICY.header, expires_at=NOW + 365 * DAY),
        terms=replace(TERMS, release_sealing_key=SealingKey.generate().public),
    )
    said = words(after)
    assert "Release process: its keys as before → other keys" in said
    assert "Runs out: never → 20" in said


def test_what_is_given_up_is_said_last() -> None:
    after = cast.next_policy(given_up=GivenUp(7, bytes(32)))
    assert in_words(change(after), at=NOW)[-1].startswith("It gives up 7 deposits for good")


def test_founding_version_is_read_out_whole() -> None:
    found = change_of(POLICY, versions=[], published=[], at=NOW)
    assert (found.before, found.fresh, found.in_force_from) == (None, OFFICERS, NOW)
    said = "\n".join(in_words(found, at=NOW))
    assert "any 2 of 3 officers" in said
    for name in ("Quorum", "Delay", "Notice", "When notice fails", "Cooling-off", "Purposes", "Deposits"):
        assert f"{name}: " in said


def test_version_is_compared_with_the_one_that_somebody_agreed_to() -> None:
    second = SignedPolicy(terms(delay_seconds=5 * DAY), cast.hash_of("second"), frozenset((CAROL, DAN)))
    third = replace(second.policy, version=3, predecessor=second.hash, held_in_force=second.hash, m=2)
    known: dict[str, Any] = {"versions": [SIGNED_POLICY, second], "published": [NOW - DAY, NOW - DAY]}
    assert change(third, **known).terms == ()
    against = change(third, since=POLICY, **known)
    assert [one.name for one in against.terms] == ["Delay"]
    said = "\n".join(in_words(against, at=NOW, is_published=True))
    assert "comes after version 1" in said
    assert "It is in force." in said


def test_text_that_somebody_chose_is_written_out() -> None:
    said = words(terms(purposes=TERMS.purposes | {"x\u202e\n"}))
    assert "<U+202E>" in said
    assert "\u202e" not in said


def test_history_with_a_proposal_finds_it_by_its_hash() -> None:
    after = terms(delay_seconds=5 * DAY)
    found = history_with(after, versions=[SIGNED_POLICY], published=[NOW - DAY], policy_hash=b"h" * 32, at=NOW)
    assert (found.newest.hash, found.newest.policy) == (b"h" * 32, after)


# Founders' words, and ends.


def test_founders_words_are_of_one_person_one_policy_and_one_root() -> None:
    given = (cast.ACME, cast.ROOT.public, SIGNED_POLICY.hash, cast.CAROL)
    own = founder_words(*given)
    assert len(own) == 8
    assert set(own) <= set(word_list("english"))
    others = {
        founder_words(cast.MALLORY_TENANT, *given[1:]),
        founder_words(cast.ACME, cast.AIK.public, *given[2:]),
        founder_words(*given[:2], cast.hash_of("edited"), cast.CAROL),
        founder_words(*given[:3], cast.DAN),
    }
    assert len(others | {own}) == 5


def test_end_is_told_thirty_days_before_and_is_over_thirty_days_after() -> None:
    header = replace(POLICY.header, expires_at=NOW)
    assert find_ending("policy", replace(header, expires_at=0), NOW) is None
    assert find_ending("policy", header, NOW - NOTICE_SECONDS) is None
    expected = [
        (1 - NOTICE_SECONDS, False, False),
        (0, False, False),
        (1, True, False),
        (GRACE_SECONDS, True, False),
        (GRACE_SECONDS + 1, True, True),
    ]
    for seconds, has_ended, is_over in expected:
        found = find_ending("policy", header, NOW + seconds)
        assert found is not None
        assert (found.at, found.has_ended, found.is_over) == (NOW, has_ended, is_over)
