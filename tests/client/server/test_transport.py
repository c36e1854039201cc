# SPDX-License-Identifier: Apache-2.0
"""The signed connection: what is signed, what is retried, what is refused.

Implements ORGANISATION "Requests" and FAULTS D3, S5 on the client; the signature base is checked by another library.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from http_message_signatures import HTTPMessageVerifier, HTTPSignatureKeyResolver, InvalidSignature, algorithms

from holdfast.client.errors import AnswerRefused, Problem, ServerReadOnly, Unreachable
from holdfast.client.server.clock import Clock
from holdfast.client.server.transport import Api, Credential, check_server
from holdfast.core.crypto.keys import KeyKind, SigningKey

SERVER = "http://127.0.0.1:8123"
DEVICE = uuid.UUID("6f2cbd5e-3d0b-4a5e-9a53-6ad1f2a9d111")


class Server:
    """Answers from a list, and keeps every request."""

    def __init__(self, *answers: httpx2.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        request.read()
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def problem(status: int, **extra: Any) -> httpx2.Response:
    body = {"type": "x", "title": "No", "status": status, "code": "denied", "detail": "Not you.", **extra}
    return httpx2.Response(status, json=body)


def api(server: Server, *, key: SigningKey | None = None, clock: Clock | None = None) -> Api:
    credential = Credential(DEVICE, key) if key else None
    transport = httpx2.MockTransport(server)
    return Api(SERVER, credential=credential, transport=transport, clock=clock, sleep=lambda _seconds: None)


class _Keys(HTTPSignatureKeyResolver):
    def __init__(self, key: SigningKey) -> None:
        self.key = key

    def resolve_public_key(self, key_id: str) -> Any:
        assert key_id == str(DEVICE)
        return self.key.public.parsed


@pytest.mark.parametrize("kind", [KeyKind.ED25519, KeyKind.P256_SIGNING])
def test_request_carries_a_signature_that_an_independent_library_verifies(kind: KeyKind) -> None:
    key = SigningKey.generate(kind)
    server = Server(httpx2.Response(201, json={"ok": True}), httpx2.Response(200, json={"ok": True}))
    connection = api(server, key=key)
    connection.post("cases", {"case": "AAAA"})
    connection.get("audit/proof", query={"index": "3", "size": "9"})
    algorithm = algorithms.ED25519 if kind is KeyKind.ED25519 else algorithms.ECDSA_P256_SHA256
    verifier = HTTPMessageVerifier(signature_algorithm=algorithm, key_resolver=_Keys(key))
    posted, got = server.requests
    (written,) = verifier.verify(posted, expect_tag="holdfast-v1", body=posted.content)
    assert set(written.covered_components) >= {'"@method"', '"@target-uri"', '"content-digest"'}
    (read,) = verifier.verify(got, expect_tag="holdfast-v1")
    assert read.covered_components['"@target-uri"'] == f"{SERVER}/api/v1/audit/proof?index=3&size=9"


def test_changed_body_fails_the_signature_of_the_request() -> None:
    key = SigningKey.generate()
    server = Server(httpx2.Response(201, json={}))
    api(server, key=key).post("cases", {"case": "AAAA"})
    verifier = HTTPMessageVerifier(signature_algorithm=algorithms.ED25519, key_resolver=_Keys(key))
    with pytest.raises(InvalidSignature, match="Digest"):
        verifier.verify(server.requests[0], expect_tag="holdfast-v1", body=b'{"case":"BBBB"}')


def test_lost_answer_is_asked_for_again_with_the_same_key_and_another_nonce() -> None:
    server = Server(httpx2.ReadTimeout("lost"), problem(503, code="hsm-unavailable"), httpx2.Response(201, json={}))
    api(server, key=SigningKey.generate()).post("cases", {"case": "AAAA"})
    assert len({request.headers["idempotency-key"] for request in server.requests}) == 1
    assert len({request.headers["signature-input"] for request in server.requests}) == 3


def test_two_acts_never_share_an_idempotency_key() -> None:
    server = Server(httpx2.Response(201, json={}), httpx2.Response(201, json={}))
    connection = api(server)
    connection.post("cases", {"case": "AAAA"})
    connection.post("cases", {"case": "AAAA"})
    assert len({request.headers["idempotency-key"] for request in server.requests}) == 2


def test_refusal_is_not_retried_and_names_code_field_and_way_out() -> None:
    server = Server(problem(403, errors=[{"field": "case", "detail": "Not you."}]))
    with pytest.raises(Problem) as caught:
        api(server).get("cases")
    assert (caught.value.code, caught.value.field, caught.value.status) == ("denied", "case", 403)
    assert caught.value.way_out
    assert len(server.requests) == 1


def test_dead_server_is_reported_after_a_bounded_number_of_attempts() -> None:
    server = Server(*[httpx2.ConnectError("refused") for _ in range(20)])
    with pytest.raises(Unreachable):
        api(server).get("cases")
    assert len(server.requests) == 5


def waiting(server: Server) -> tuple[Api, list[float]]:
    """An api, and how long it slept before each further attempt."""
    slept: list[float] = []
    return Api(SERVER, transport=httpx2.MockTransport(server), sleep=slept.append), slept


def busy(seconds: int) -> httpx2.Response:
    answer = problem(429, code="too-many-requests", detail="Too many requests.")
    answer.headers["retry-after"] = str(seconds)
    return answer


@pytest.mark.parametrize("asked", [1, 7, 30])
def test_wait_that_the_server_asks_for_is_kept_and_never_cut_short(asked: int) -> None:
    connection, slept = waiting(Server(busy(asked), busy(asked), httpx2.Response(201, json={})))
    connection.post("cases", {"case": "AAAA"})
    assert len(slept) == 2
    assert all(asked <= one <= 36 for one in slept)


@pytest.mark.parametrize(("status", "code"), [(503, "unavailable"), (503, "hsm-unavailable"), (502, "x"), (504, "x")])
@pytest.mark.parametrize("asked", ["", "1", "3", "5", "8", "9"])
def test_part_of_the_server_that_is_away_is_told_within_ten_seconds(status: int, code: str, asked: str) -> None:
    answers = [problem(status, code=code) for _ in range(9)]
    for answer in answers:
        answer.headers |= {"retry-after": asked} if asked else {}
    connection, slept = waiting(Server(*answers))
    with pytest.raises(Problem):
        connection.get("cases")
    assert sum(slept) < 10
    assert bool(slept) == (asked != "9"), "one that starts again is waited for"


def test_server_that_waits_for_its_officers_is_not_asked_again_at_once() -> None:
    server = Server(*(problem(503, code="log-restored") for _ in range(9)))
    connection, slept = waiting(server)
    with pytest.raises(ServerReadOnly) as caught:
        connection.post("cases", {"case": "AAAA"})
    assert (len(server.requests), slept) == (1, [])
    assert "officer resolve accept-log" in caught.value.way_out


def test_wait_that_is_too_long_is_told_and_not_tried_again_meanwhile() -> None:
    for seconds, said in ((31, "31 seconds"), (700, "12 minutes"), (7200, "2 hours"), (10**9, "24 hours")):
        server = Server(*(busy(seconds) for _ in range(9)))
        connection, slept = waiting(server)
        with pytest.raises(Problem, match="Too many") as caught:
            connection.get("cases")
        assert (len(server.requests), slept, caught.value.way_out) == (1, [], f"Try again in {said}.")
        assert caught.value.retry_after == min(seconds, 86_400)


def test_server_that_is_always_busy_is_given_up_after_five_attempts_each_after_its_wait() -> None:
    server = Server(*(busy(20) for _ in range(9)))
    connection, slept = waiting(server)
    with pytest.raises(Problem) as caught:
        connection.get("cases")
    assert (len(server.requests), len(slept), caught.value.way_out) == (5, 4, "Try again in 20 seconds.")
    assert min(slept) >= 20


def test_limit_that_is_reached_is_told_at_once_in_the_servers_words() -> None:
    server = Server(problem(409, code="limit-reached", detail="Fifty are kept. End some.", limit="x", most=50))
    connection, slept = waiting(server)
    with pytest.raises(Problem, match=r"^Fifty are kept\. End some\.$") as caught:
        connection.post("devices", {})
    assert (caught.value.code, slept, len(server.requests)) == ("limit-reached", [], 1)


def test_clock_is_corrected_once_by_a_401_and_never_judges_expiry_by_an_earlier_time() -> None:
    clock = Clock(lambda: 1_800_000_000.0)
    early = problem(401, code="unauthenticated", server_time="2027-01-15T07:00:00Z")
    server = Server(early, httpx2.Response(200, json={}))
    api(server, key=SigningKey.generate(), clock=clock).get("cases")
    assert (clock.for_requests(), clock.now()) == (1_799_996_400, 1_800_000_000)
    assert (clock.earliest(), clock.latest()) == (1_799_996_400, 1_800_000_000)
    server.answers = [problem(401, server_time="2027-01-15T07:00:00Z")]
    with pytest.raises(Problem):
        api(server, key=SigningKey.generate(), clock=clock).get("cases")


def test_what_is_signed_is_not_dated_into_the_future_by_a_server_that_is_ahead() -> None:
    clock = Clock(lambda: 1_800_000_000.0)
    assert clock.correct(1_800_007_200)
    assert (clock.for_requests(), clock.earliest(), clock.latest()) == (1_800_007_200, 1_800_000_000, 1_800_007_200)


@pytest.mark.parametrize("seconds", [90_000, -90_000, 36_500 * 86_400])
def test_clock_takes_no_correction_of_more_than_a_day_and_tells_it(seconds: int) -> None:
    clock = Clock(lambda: 4_800_000_000.0)
    assert not clock.correct(4_800_000_000 - seconds)
    assert (clock.offset, clock.for_requests(), clock.said) == (0, 4_800_000_000, -seconds)
    assert clock.is_off
    assert ("ahead of" if seconds > 0 else "behind") in clock.in_words()


@pytest.mark.parametrize(
    ("signed_at", "is_confirmed"), [(0, True), (300, True), (-300, True), (301, False), (-301, False), (None, False)]
)
def test_time_is_confirmed_by_a_head_within_five_minutes_of_this_machines_own(
    signed_at: int | None, is_confirmed: bool
) -> None:
    now = 1_800_000_000.0
    clock = Clock(lambda: now)
    assert clock.confirmed() is None
    clock.correct(1_800_003_600)
    clock.confirm(None if signed_at is None else 1_800_000_000 + signed_at)
    assert clock.confirmed() == (1_800_000_000 if is_confirmed else None)
    now += 700
    assert clock.confirmed() is None, "a clock that is turned after it is not confirmed any more"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirect_is_refused_and_nothing_is_sent_to_where_it_points(status: int) -> None:
    server = Server(httpx2.Response(status, headers={"location": "http://127.0.0.1:9/api/v1/vault"}))
    with pytest.raises(AnswerRefused):
        api(server, key=SigningKey.generate()).put("vault", {"blob": "AAAA"})
    assert [str(request.url) for request in server.requests] == [f"{SERVER}/api/v1/vault"]


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b'{"a":1,"a":2}',
        b'{"a":NaN}',
        b'{"a":1e999}',
        b'{"a":' * 50 + b"1" + b"}" * 50,
        b'{"a":"\xff"}',
        b"{" + b'"a":[' * 100_000,
        b"",
    ],
)
def test_answer_with_more_than_one_meaning_is_refused(body: bytes) -> None:
    with pytest.raises(AnswerRefused):
        api(Server(httpx2.Response(200, content=body))).get("devices")


def test_answer_that_does_not_end_is_cut_off_at_its_bound() -> None:
    read = 0

    def endless() -> Iterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield b" " * 65_536

    with pytest.raises(AnswerRefused):
        api(Server(httpx2.Response(200, content=endless()))).get("devices", maximum=1_000_000)
    assert read < 20


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (lambda a: a.octets("x", 4), "AAAA="),
        (lambda a: a.octets("x", 3), "AAA="),
        (lambda a: a.octets("x"), "AB"),
        (lambda a: a.octets("x"), 7),
        (lambda a: a.identifier("x"), "6F2CBD5E-3D0B-4A5E-9A53-6AD1F2A9D111"),
        (lambda a: a.identifier("x"), "6f2cbd5e3d0b4a5e9a536ad1f2a9d111"),
        (lambda a: a.number("x"), True),
        (lambda a: a.number("x"), -1),
        (lambda a: a.number("x"), 2**53),
        (lambda a: a.flag("x"), 1),
        (lambda a: a.time("x"), "2026-11-24T10:00:00+00:00"),
        (lambda a: a.text("x"), "a" * 5000),
        (lambda a: a.one("x"), []),
        (lambda a: list(a.many("x")), [1]),
        (lambda a: list(a.rows("x", 2)), [[1]]),
    ],
)
def test_answer_field_of_another_form_is_refused_by_name(read: Callable[[Any], Any], value: Any) -> None:
    answer = api(Server(httpx2.Response(200, content=json.dumps({"x": value}).encode()))).get("devices")
    with pytest.raises(AnswerRefused, match="x"):
        read(answer)


@pytest.mark.parametrize(
    "address",
    ["http://holdfast.example", "ftp://127.0.0.1", "https://", "https://a@b.example", "https://b.example/?x=1", ""],
)
def test_server_address_without_encryption_or_with_extras_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="server address"):
        check_server(address)


def page(*names: str, more: bool) -> httpx2.Response:
    return httpx2.Response(200, json={"rows": [{"name": name} for name in names], "more": more})


def test_list_is_read_page_by_page_to_its_end() -> None:
    server = Server(page("a", "b", more=True), page("c", more=False))
    assert [row.text("name") for row in api(server).pages("rows", "rows", "name")] == ["a", "b", "c"]
    assert [str(request.url.query, "ascii") for request in server.requests] == ["", "after=b"]


def test_list_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.client.server.transport._MOST_PAGES", 5)
    server = Server(*(page("a", more=True) for _ in range(9)))
    with pytest.raises(AnswerRefused, match="no end"):
        list(api(server).pages("rows", "rows", "name"))
    assert len(server.requests) == 5
