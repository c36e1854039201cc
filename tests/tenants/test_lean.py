# SPDX-License-Identifier: Apache-2.0
"""The short way of the views that are asked the most answers, word for word, as the ordinary way does."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client

from holdfast.core.crypto.keys import SigningKey
from kernel.lean import LeanRequest
from tests.cast.tenants import Cast, Signer, changed, make_device

pytestmark = [pytest.mark.urls("tests.tenants.urls")]
JSON = "application/json"

# How a request is made: method, query, body, type of the body, further headers; and its status.
ASKED: dict[str, tuple[str, str, bytes, str, dict[str, str], int]] = {
    "a document": ("POST", "", b'{"a": [1, "\\u00e9", null]}', JSON, {}, 201),
    "a document, and JSON is wanted": ("POST", "", b"{}", JSON, {"Accept": JSON}, 201),
    "a document, and anything is wanted": ("POST", "", b"{}", JSON, {"Accept": "*/*"}, 201),
    "a document, and JSON is wanted among others": ("POST", "", b"{}", JSON, {"Accept": "text/html, */*;q=0.1"}, 201),
    "a document, and a page is wanted": ("POST", "", b"{}", JSON, {"Accept": "text/html"}, 400),
    "a document with a character set": ("POST", "", b"{}", "application/json; charset=utf-8", {}, 201),
    "no body": ("POST", "", b"", JSON, {}, 201),
    "a list": ("POST", "", b"[]", JSON, {}, 201),
    "nothing": ("POST", "", b"null", JSON, {}, 201),
    "a form": ("POST", "", b"a=1", "application/x-www-form-urlencoded", {}, 415),
    "text": ("POST", "", b"{}", "text/plain", {}, 415),
    "a body of no type": ("POST", "", b"{}", "", {}, 415),
    "no JSON": ("POST", "", b"{", JSON, {}, 400),
    "a name twice": ("POST", "", b'{"a": 1, "a": 2}', JSON, {}, 400),
    "a number that is none": ("POST", "", b'{"a": NaN}', JSON, {}, 400),
    "a number out of range": ("POST", "", b'{"a": 9223372036854775808}', JSON, {}, 400),
    "half of a pair": ("POST", "", b'{"a": "\\ud800"}', JSON, {}, 400),
    "no UTF-8": ("POST", "", b'{"a": "\xff"}', JSON, {}, 400),
    "too deep": ("POST", "", b"[" * 17 + b"]" * 17, JSON, {}, 400),
    "too large": ("POST", "", b'"' + b"a" * 999 + b'"', JSON, {}, 413),
    "a refusal": ("POST", "", b'{"refuse": true}', JSON, {}, 404),
    "an answer without a body": ("POST", "", b'{"empty": true}', JSON, {}, 204),
    "a bad idempotency key": ("POST", "", b"{}", JSON, {"Idempotency-Key": "a b"}, 400),
    "a look": ("GET", "?asked=x", b"", "", {}, 200),
    "a look, and a page is wanted": ("GET", "", b"", "", {"Accept": "text/html"}, 400),
    "a look at the head": ("HEAD", "", b"", "", {}, 200),
    "a control character": ("GET", "?asked=%00", b"", "", {}, 400),
    "a method that is not there": ("DELETE", "", b"", JSON, {}, 405),
    "a method of the framework's": ("OPTIONS", "", b"", "", {}, 405),
    "what is not permitted": ("PUT", "", b"{}", JSON, {}, 403),
}


def asked(device: Signer, path: str, how: str) -> Any:
    method, query, body, kind, headers, _ = ASKED[how]
    signed = device.headers(method, path + query, body) | headers
    return Client(raise_request_exception=False).generic(method, path + query, body, content_type=kind, headers=signed)


def shown(answer: Any) -> tuple[int, dict[str, str], Any]:
    headers = {name.lower(): value for name, value in answer.items() if name.lower() != "x-request-id"}
    body = answer.content
    return answer.status_code, headers, json.loads(body) if body and "json" in headers["content-type"] else body


@pytest.mark.parametrize("how", ASKED)
def test_both_ways_give_the_same_answer(how: str, world: Cast) -> None:
    device = make_device(world.alice)
    ordinary, lean = (shown(asked(device, f"/api/v1/{way}", how)) for way in ("ordinary", "lean"))
    assert ordinary == lean
    assert lean[0] == ASKED[how][5]


@pytest.mark.parametrize("who", ["a stranger", "nobody"])
def test_both_ways_refuse_the_same_people(who: str, world: Cast) -> None:
    device = make_device(world.alice)
    answers = []
    for way in ("ordinary", "lean"):
        path = f"/api/v1/{way}"
        stranger = changed(device, key=SigningKey.generate())
        headers = {} if who == "nobody" else stranger.headers("POST", path, b"{}")
        status, fields, body = shown(Client().generic("POST", path, b"{}", content_type=JSON, headers=headers))
        body.pop("server_time", None)
        answers.append((status, fields, body))
    assert answers[0] == answers[1]
    assert answers[0][0] == 401


def test_usual_request_goes_the_short_way_and_any_other_the_long_one(
    world: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = make_device(world.alice)
    made: list[str] = []
    before = LeanRequest.__init__

    def counted(self: Any, *args: Any) -> None:
        made.append("lean")
        before(self, *args)

    monkeypatch.setattr(LeanRequest, "__init__", counted)
    for how in ("a document", "a document, and anything is wanted", "a look"):
        asked(device, "/api/v1/lean", how)
    assert len(made) == 3
    for how in ("text", "a document, and a page is wanted", "a method that is not there", "a look at the head"):
        asked(device, "/api/v1/lean", how)
    assert len(made) == 3
