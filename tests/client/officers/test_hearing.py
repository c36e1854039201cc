# SPDX-License-Identifier: Apache-2.0
"""Three of eight words, as heard: at places that the officer's profile picks, shown nowhere, and tried three times."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from holdfast.client.errors import NotPossible, ProfileError, WordsNeeded, WrongInput, WrongWords
from holdfast.client.officers import hearing, officer
from holdfast.client.officers.officer import CaseView
from holdfast.client.profile.account import Account
from holdfast.client.profile.state import State
from holdfast.core.base.words import eight_words
from tests.cast.lying_server import TENANT
from tests.cast.members import ALICE, Members, heard

WORDS = eight_words(bytes(range(32)))


@pytest.fixture
def case(world: Members, tmp_path: Path) -> tuple[Account, CaseView]:
    """Officer 1 before alice's case."""
    world.depositor(tmp_path)
    _tablet, opened = world.case()
    return world.seen(1, opened.case_id)


def test_places_are_the_profiles_choice_and_stay_the_same_for_one_key(world: Members) -> None:
    carol, dan = (world.profile(one.person, one) for one in world.server.tenant.officers[:2])
    keys = [eight_words(bytes([number]) * 32) for number in range(60)]
    for account in (carol, dan):
        asked = [hearing.places(account, words) for words in keys]
        assert asked == [hearing.places(account, words) for words in keys]
        assert all(len(set(one)) == 3 and list(one) == sorted(one) and set(one) <= set(range(1, 9)) for one in asked)
        assert {place for one in asked for place in one} == set(range(1, 9))
        assert len(set(asked)) > 20, "each key is asked for at places of its own"
    assert [hearing.places(carol, words) for words in keys] != [hearing.places(dan, words) for words in keys]


def test_same_officer_is_asked_for_the_same_places_in_a_profile_opened_anew(world: Members) -> None:
    founder = world.server.tenant.officers[0]
    first, again = (world.profile(founder.person, founder) for _ in range(2))
    assert hearing.places(first, WORDS) == hearing.places(again, WORDS)
    with pytest.raises(ProfileError, match="officer's keys"):
        hearing.places(Account(first.store, State()), WORDS)
    assert first.tenant == TENANT


def test_right_words_at_other_places_are_not_heard(case: tuple[Account, CaseView]) -> None:
    account, view = case
    asked = hearing.places(account, view.words)
    wrong = [places for places in combinations(range(1, 9), 3) if places != asked]
    more = [asked[:2], (*asked, next(place for place in range(1, 9) if place not in asked)), ()]
    for places in [*wrong, *more]:
        with pytest.raises(WordsNeeded) as refusal:
            officer.approve(
                account, view, heard={place: view.words[place - 1] for place in places}, identity_check="a call"
            )
        assert refusal.value.places == asked
        # It says the places, and so nothing of the words.
        said = hearing.needed(asked)
        assert (str(refusal.value), refusal.value.way_out) == (str(said), said.way_out)
    assert hearing.tries_left(account, view.words) == 3


def test_three_wrong_tries_are_all_for_one_key_in_one_profile(world: Members, case: tuple[Account, CaseView]) -> None:
    account, view = case
    right = heard(account, view.words)
    wrong = {**right, max(right): "zoo" if right[max(right)] != "zoo" else "zone"}
    for left in (2, 1, 0):
        with pytest.raises(WrongWords, match=f"tries left: {left}"):
            officer.approve(account, view, heard=wrong, identity_check="a call")
    with pytest.raises(WrongWords, match="takes no more") as refusal:
        officer.approve(account, view, heard=right, identity_check="a call")
    assert "Another officer" in refusal.value.way_out
    assert not world.server.posted("cases/.*/approvals")
    # Another key has tries of its own, and another officer may call the same person.
    assert hearing.tries_left(account, WORDS) == 3
    other, seen = world.seen(2, view.case_id)
    officer.approve(other, seen, heard=heard(other, seen.words), identity_check="a call")


def test_mistyped_word_costs_no_try(case: tuple[Account, CaseView]) -> None:
    account, view = case
    right = heard(account, view.words)
    with pytest.raises(WrongWords, match="Not a word of the list"):
        officer.approve(account, view, heard={**right, min(right): "applle"}, identity_check="a call")
    assert hearing.tries_left(account, view.words) == 3
    officer.approve(account, view, heard=right, identity_check="a call")


def test_count_of_wrong_tries_goes_with_its_case(world: Members) -> None:
    founder = world.server.tenant.officers[0]
    account = world.profile(founder.person, founder)
    wrong = dict.fromkeys(hearing.places(account, WORDS), "zoo")
    for number in range(5):
        words = eight_words(bytes([number]) * 32)
        with pytest.raises(WrongWords):
            hearing.require_heard(
                account, words, dict.fromkeys(hearing.places(account, words), "zoo"), until=world.now + 60
            )
    assert len(account.store.keys("words-heard")) == 5
    world.now += 61
    hearing.prune(account)
    assert len(account.store.keys("words-heard")) == 5, "a clock that was set ahead gives nobody new tries"
    account.api.clock.confirm(world.now)
    with pytest.raises(WrongWords):
        hearing.require_heard(account, WORDS, wrong, until=world.now + 60)
    hearing.prune(account)
    assert len(account.store.keys("words-heard")) == 1


@pytest.mark.parametrize("text", ["", "  ", "\u200b\u2060", "x" * 201])
def test_officer_signs_no_decision_that_says_nothing(world: Members, case: tuple[Account, CaseView], text: str) -> None:
    account, view = case
    with pytest.raises(WrongInput, match="Nothing was signed"):
        officer.approve(account, view, heard=heard(account, view.words), identity_check=text)
    with pytest.raises(WrongInput, match="Nothing was signed"):
        officer.deny(account, view, reason=text)
    assert not world.server.posted("cases/.*")


def test_case_without_a_reason_is_neither_asked_for_nor_approved(
    world: Members, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from holdfast.client.recovery import by_case

    world.depositor(tmp_path)
    tablet = world.enrolled(ALICE)
    with pytest.raises(WrongInput, match="says nothing"):
        by_case.open_case(tablet, reason="\u200b ", purpose="recovery", subject=ALICE)
    assert not world.server.cases
    # A client of before this rule, and a server that took its case.
    monkeypatch.setattr(by_case, "says_nothing", lambda _text: False)
    opened = by_case.open_case(tablet, reason=" ", purpose="recovery", subject=ALICE)
    account, view = world.seen(1, opened.case_id)
    assert "no reason" in view.why_not
    with pytest.raises(NotPossible, match="no reason"):
        officer.approve(account, view, heard=heard(account, view.words), identity_check="a call")
