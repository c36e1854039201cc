# SPDX-License-Identifier: Apache-2.0
"""Two copies of one profile told from one: what a server makes of their marks, whoever comes in whatever order."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from holdfast.core.base.errors import Malformed
from holdfast.core.signed.turns import LATE_SECONDS, Answered, Kept, Turn, Verdict, follow


@dataclass
class Profile:
    """A profile as a client keeps it: `copy` is what `cp -r` makes of it."""

    name: str
    mark: bytes = b""
    next: bytes = b""
    number: int = 0

    def opened(self) -> Turn:
        self.number += 1
        self.next = self.next or f"{self.name:4}{self.number:4}".encode()
        return Turn(self.next, self.mark)

    def heard(self) -> None:
        self.mark, self.next = self.next, b""

    def copy(self, name: str) -> Profile:
        return replace(self, name=name)


class Server:
    def __init__(self) -> None:
        self.kept = Kept()
        self.now = 1_000

    def request(self, said: Turn | None) -> Verdict:
        verdict, self.kept = follow(self.kept, said, self.now)
        return verdict

    def opening(self, profile: Profile) -> Verdict:
        verdict = self.request(profile.opened())
        profile.heard()
        return verdict


def used(openings: int) -> tuple[Server, Profile]:
    server, profile = Server(), Profile("a")
    assert [server.opening(profile) for _ in range(openings)] == [Verdict.NEXT] * openings
    return server, profile


@pytest.mark.parametrize("openings", [1, 2, 9])
def test_one_profile_is_never_taken_for_two(openings: int) -> None:
    server, profile = used(openings)
    said = profile.opened()
    assert [server.request(said) for _ in range(3)] == [Verdict.NEXT, Verdict.SAME, Verdict.SAME]
    assert server.kept.breaks == 0


def test_lost_answer_breaks_nothing() -> None:
    server, profile = used(2)
    for _ in range(3):
        server.request(profile.opened())  # no answer came: the next opening says the same mark
    assert server.opening(profile) is Verdict.SAME
    assert server.opening(profile) is Verdict.NEXT


def test_opening_that_reached_no_server_breaks_nothing() -> None:
    server, profile = used(2)
    for _ in range(3):
        profile.opened()
    assert server.opening(profile) is Verdict.NEXT


def test_request_that_comes_late_breaks_nothing() -> None:
    server, profile = used(2)
    late = profile.opened()
    server.request(late)
    profile.heard()
    assert server.opening(profile) is Verdict.NEXT
    assert server.request(late) is Verdict.LATE
    assert server.opening(profile) is Verdict.NEXT


def test_copy_that_follows_is_told_from_an_original_that_stays_open() -> None:
    server, profile = used(2)
    staying = profile.opened()
    server.request(staying)
    profile.heard()
    its = profile.copy("b").opened()
    assert server.request(its) is Verdict.NEXT
    assert [server.request(said) for said in (staying, its)] == [Verdict.LATE, Verdict.SAME]
    server.now += LATE_SECONDS
    assert server.request(staying) is Verdict.LATE
    server.now += 1
    assert [server.request(said) for said in (staying, its)] == [Verdict.BROKEN] * 2


@pytest.mark.parametrize("is_open", [True, False])
def test_request_without_a_turn_is_a_break_once_there_is_a_mark(is_open: bool) -> None:
    server, profile = used(2)
    said = profile.opened()
    if is_open:
        server.request(said)
    assert [server.request(None) for _ in range(2)] == [Verdict.BROKEN, Verdict.SAME]
    assert [server.request(said) for _ in range(2)] == [Verdict.BROKEN, Verdict.SAME]
    assert server.kept.is_break
    profile.heard()
    assert server.opening(profile) is Verdict.NEXT
    assert server.request(None) is Verdict.BROKEN


def test_client_that_never_says_a_turn_breaks_nothing() -> None:
    server = Server()
    assert [server.request(None) for _ in range(2)] == [Verdict.SAME] * 2
    assert server.kept == Kept()
    assert server.opening(Profile("a")) is Verdict.NEXT


@pytest.mark.parametrize("by_first", [0, 1, 5])
@pytest.mark.parametrize("by_copy", [1, 5])
@pytest.mark.parametrize("before", [0, 1, 4])
def test_two_copies_are_both_noticed(before: int, by_copy: int, by_first: int) -> None:
    server, profile = used(before)
    copy = profile.copy("b")
    own = [server.opening(profile) for _ in range(by_first)]
    assert Verdict.BROKEN not in own
    its = [server.opening(copy) for _ in range(by_copy)]
    again = [server.opening(profile) for _ in range(2)]
    # Whoever comes after the other one is told; the other one is told when it comes again.
    assert its[0] is (Verdict.BROKEN if by_first else Verdict.NEXT)
    assert again == [Verdict.BROKEN, Verdict.NEXT]
    assert server.opening(copy) is Verdict.BROKEN


def test_copy_is_noticed_by_one_that_stays_open() -> None:
    server, profile = used(3)
    copy, staying = profile.copy("b"), profile.opened()
    server.request(staying)
    assert server.opening(copy) is Verdict.BROKEN
    assert server.request(staying) is Verdict.BROKEN


def test_profile_that_was_put_back_is_told_once_and_goes_on() -> None:
    server, profile = used(2)
    backup = profile.copy("r")
    for _ in range(3):
        server.opening(profile)
    assert server.opening(backup) is Verdict.BROKEN
    assert [server.opening(backup) for _ in range(4)] == [Verdict.NEXT] * 4
    assert server.kept.breaks == 1


def test_break_is_said_again_until_the_next_opening() -> None:
    server, profile = used(2)
    copy = profile.copy("b")
    server.opening(profile)
    said = copy.opened()
    assert server.request(said) is Verdict.BROKEN
    assert (server.request(said), server.kept.is_break) == (Verdict.SAME, True)
    copy.heard()
    assert (server.opening(copy), server.kept.is_break) == (Verdict.NEXT, False)


@pytest.mark.parametrize("turn", [Turn(b"m" * 8, b""), Turn(b"m" * 8, b"b" * 8)])
def test_field_of_a_request_is_read_as_it_is_written(turn: Turn) -> None:
    assert Turn.parse(turn.text) == turn


@pytest.mark.parametrize(
    "text",
    ["", ".", "AAAAAAAAAAA", "AAAAAAAAAAA.AAA", "AAAAAAAAAAB.", "AAAAAAAAAAA.AAAAAAAAAAA.", "é" * 11 + ".", " .  "],
)
def test_any_other_field_of_a_request_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        Turn.parse(text)


@pytest.mark.parametrize(
    "text",
    ["", "AAAAAAAAAAA", "AAAAAAAAAAA.", "AAAAAAAAAAA.-1", "AAAAAAAAAAA.1e9", "AAAAAAAAAAB.1", "A.1", "AAAAAAAAAAA.٣"],
)
def test_any_other_field_of_an_answer_is_refused(text: str) -> None:
    assert Answered.parse(Answered(b"m" * 8, 3).text) == Answered(b"m" * 8, 3)
    with pytest.raises(Malformed):
        Answered.parse(text)
