# SPDX-License-Identifier: Apache-2.0
"""Whose turn it is, in the server's rows: one statement with the nonce, one answer, and nothing without a turn."""

from __future__ import annotations

import pytest
from django.db import connection
from django.db.models import F
from django.test import Client
from django.test.utils import CaptureQueriesContext

from holdfast.core.signed.turns import LATE_SECONDS, Answered, Turn
from tenants.models import Credential
from tests.cast.tenants import Cast, Signer, changed, make_device

pytestmark = [pytest.mark.urls("tests.tenants.urls"), pytest.mark.postgres]
PROBE = "/api/v1/probe"
A, B, C, D = (letter * 8 for letter in (b"a", b"b", b"c", b"d"))


def ask(client: Client, device: Signer, mark: bytes, before: bytes = b"", method: str = "GET") -> str | None:
    signed = changed(device, turn=Turn(mark, before).text)
    answer = signed.send(client, method, PROBE, b"" if method == "GET" else b"{}")
    assert answer.status_code == 200
    said: str | None = answer.headers.get("holdfast-turn")
    return said


def test_two_copies_are_told_in_every_answer_of_an_opening(world: Cast, client: Client) -> None:
    device = make_device(world.alice)
    assert ask(client, device, A) == Answered(A).text
    assert ask(client, device, B, A, "POST") == Answered(B).text
    assert [ask(client, device, C, A) for _ in range(2)] == [Answered(C, 1).text] * 2
    assert ask(client, device, B, A) == Answered(B, 2).text
    assert ask(client, device, D, B) == Answered(D).text
    row = Credential.unscoped.get(id=device.id)
    assert (bytes(row.turn_mark), bytes(row.turn_before), row.turn_breaks, row.turn_is_break) == (D, B, 2, False)


def test_turn_is_written_with_the_nonce_and_only_when_it_moves(world: Cast, client: Client) -> None:
    device = make_device(world.alice)
    ask(client, device, A)

    def words(mark: bytes, before: bytes) -> list[str]:
        with CaptureQueriesContext(connection) as queries:
            ask(client, device, mark, before)
        return [query["sql"].split()[0] for query in queries]

    # The first request took tokens of its buckets in advance: these write their nonce alone, and the turn with it.
    moving = ["WITH"] if connection.vendor == "postgresql" else ["INSERT", "UPDATE"]
    assert words(A, b"") == ["SELECT", "INSERT"]
    assert words(B, A) == ["SELECT", *moving]
    assert words(B, A) == ["SELECT", "INSERT"]


def test_request_without_a_turn_is_let_in_and_told_to_whoever_says_one(world: Cast, client: Client) -> None:
    device = make_device(world.alice)

    def say_none() -> None:
        answer = device.send(client, "GET", PROBE)
        assert (answer.status_code, "holdfast-turn" in answer.headers) == (200, False)

    say_none()  # a client of before: nobody has said a turn yet
    assert ask(client, device, A) == Answered(A).text
    for _ in range(2):
        say_none()
    assert [ask(client, device, B, A) for _ in range(2)] == [Answered(B, 2).text] * 2
    assert ask(client, device, C, B) == Answered(C).text


def test_opening_that_stays_is_told_of_one_that_followed_it(world: Cast, client: Client) -> None:
    device = make_device(world.alice)
    ask(client, device, A)
    assert ask(client, device, B, A) == Answered(B).text
    assert ask(client, device, A) == Answered(A).text
    Credential.unscoped.filter(id=device.id).update(turn_since=F("turn_since") - LATE_SECONDS - 1)
    assert ask(client, device, A) == Answered(A, 1).text
    assert ask(client, device, B, A) == Answered(B, 2).text


def test_turns_of_two_devices_are_apart(world: Cast, client: Client) -> None:
    for device in (make_device(world.alice), make_device(world.alice), make_device(world.bob)):
        assert ask(client, device, A) == Answered(A).text


@pytest.mark.parametrize("what", ["taken away", "added", "changed", "no marks"])
def test_turn_that_is_not_signed_as_it_stands_is_refused(what: str, world: Cast, client: Client) -> None:
    device = make_device(world.alice)
    ask(client, device, A)
    signer = device if what == "added" else changed(device, turn=Turn(B, A).text if what != "no marks" else "x.y")
    headers = signer.headers("GET", PROBE)
    if what == "taken away":
        del headers["Holdfast-Turn"]
    elif what != "no marks":
        headers["Holdfast-Turn"] = Turn(C, A).text
    answer = client.get(PROBE, headers=headers)
    assert (answer.status_code, "holdfast-turn" in answer.headers) == (401, False)
    assert bytes(Credential.unscoped.get(id=device.id).turn_mark) == A


def test_replay_moves_no_turn(world: Cast, client: Client) -> None:
    device = make_device(world.alice)
    headers = changed(device, turn=Turn(A, b"").text).headers("GET", PROBE)
    assert client.get(PROBE, headers=headers).status_code == 200
    ask(client, device, B, A)
    ask(client, device, C, B)
    assert client.get(PROBE, headers=headers).status_code == 401
    assert bytes(Credential.unscoped.get(id=device.id).turn_mark) == C
