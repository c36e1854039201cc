# SPDX-License-Identifier: Apache-2.0
"""FAULTS I11a, I17a, C2: on every route, what is not freshly signed by a registered key, or not for us, is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from django.test import Client

from holdfast.core.base.encoding import b64u, unb64u
from holdfast.core.crypto.keys import SigningKey
from kernel.fields import Base64UrlField
from tests.cast.tenants import Signer
from tests.faults.acts import Act
from tests.faults.routes import api_calls, api_routes, changed, picture, routes
from tests.faults.test_bad_input import FIELDS, problem_of, serializer_of
from tests.faults.test_tenancy import ENROLLING
from tests.faults.world import VALID, Installation

SIGNED = [call for call in sorted(api_calls()) if call not in ENROLLING]
# Octets that are whatever their sender says: nothing in them could be wrong. Or sealed to another device: only that
# one can tell, and tests/client shows that it does.
ANY_OCTETS = {
    ("case-successor", "PUT", "identity_key"),
    ("case-successor", "PUT", "old_head"),
    ("contact-request-shares", "POST", "sealed"),
    ("contact-requests", "POST", "request"),  # signed by nobody: the contact compares its code with the person
    ("device-messages", "POST", "content"),
    ("device-messages", "POST", "message"),
    ("enrolment-codes", "POST", "code_hash"),
    ("policy-proposals", "POST", "payload"),  # signed by nobody yet: each officer reads what they sign
    ("user-messages", "POST", "content"),
    ("vault-door", "PUT", "blob"),
}
VERIFIED = [
    row
    for row in FIELDS
    if row not in ANY_OCTETS and isinstance(serializer_of(row[0], row[1])().fields[row[2]], Base64UrlField)
]


def send(act: Act, headers: dict[str, str]) -> Any:
    client = Client(raise_request_exception=False)
    return client.generic(act.method, act.uri, act.body, content_type="application/json", headers=headers)


@pytest.mark.parametrize(("name", "method"), SIGNED)
def test_request_that_is_not_freshly_signed_is_refused(name: str, method: str, installation: Installation) -> None:
    act = VALID[name, method](installation.acme)
    assert act.signer is not None
    signer, own = act.signer, act.headers
    good = signer.headers(act.method, act.uri, act.body)
    elsewhere = signer.headers(act.method, act.uri + "/", act.body)
    before = picture()
    bad = {
        "unsigned": {},
        "signed by a stranger": Signer(signer.id, SigningKey.generate()).headers(act.method, act.uri, act.body),
        "signed for another address": elsewhere,
        "signed too long ago": replace(signer, shift=-90).headers(act.method, act.uri, act.body),
        "signed for a time to come": replace(signer, shift=90).headers(act.method, act.uri, act.body),
        "with half of its fields": {"Signature-Input": good["Signature-Input"]},
    }
    if method != "GET":
        bad["signed for another body"] = signer.headers(act.method, act.uri, act.body + b" ")
    for what, headers in bad.items():
        answer = send(act, {**headers, **own})
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), what
    assert changed(before) == set()
    assert send(act, {**good, **own}).status_code in (200, 201, 202, 204)
    after = picture()
    answer = send(act, {**good, **own})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), "a replay, word for word"
    assert changed(after) == set()


@pytest.mark.parametrize(("name", "method", "field"), VERIFIED)
def test_statement_with_one_bit_changed_is_refused(
    name: str, method: str, field: str, installation: Installation
) -> None:
    act = VALID[name, method](installation.acme)
    octets = unb64u(act.document[field])
    before = picture()
    for place in {0, len(octets) // 3, len(octets) // 2, max(len(octets) - 33, 0), len(octets) - 1}:
        flipped = bytearray(octets)
        flipped[place] ^= 1
        problem_of(act.with_field(field, b64u(bytes(flipped))).send())
    assert changed(before) == set()


@pytest.mark.parametrize("route", routes(), ids=lambda route: route.pattern)
def test_request_for_another_host_is_refused(route: Any, installation: Installation) -> None:
    path = "/" + route.pattern
    for text, value in (("<uuid:", "00000000-0000-4000-8000-000000000000"), ("<int:", "0"), ("<str:", "audit")):
        head, mark, tail = path.partition(text)
        while mark:
            path = head + value + tail.partition(">")[2]
            head, mark, tail = path.partition(text)
    answer = Client(raise_request_exception=False).get(path, headers={"Host": "evil.example"})
    assert answer.status_code == 400


def test_every_api_route_is_among_those_tried() -> None:
    assert {name for name, _ in [*SIGNED, *ENROLLING]} == {route.name for route in api_routes()}
