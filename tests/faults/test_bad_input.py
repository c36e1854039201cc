# SPDX-License-Identifier: Apache-2.0
"""FAULTS section 12: what is not the one right form is answered with a problem that names it, never with a 500.

Each body is a valid request of that very route, broken in one place (I1a to I5a, I3a, I7a); goal G8 by schemathesis.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from django.apps import apps
from rest_framework import serializers

from holdfast.core.base.encoding import b64u
from kernel.fields import Base64UrlField
from recovery.api import BlamedField
from tests.faults.acts import Act
from tests.faults.routes import api_calls, api_routes, changed, picture
from tests.faults.world import VALID, Installation

pytestmark = pytest.mark.postgres
WRITES = sorted(call for call in api_calls() if call[1] in ("POST", "PUT", "PATCH"))
VIEWS = {route.name: route.view_class for route in api_routes()}

# Octets that a client has sealed: whatever they are, the server cannot tell.
SEALED = {
    ("contact-request-shares", "POST", "sealed"),
    ("device-messages", "POST", "content"),
    ("device-messages", "POST", "message"),
    ("user-messages", "POST", "content"),
}

# Bodies that are no strict JSON, whatever the route: what they are → (octets, the code that refuses them).
NOT_JSON = {
    "a list 30,000 deep": (b"[" * 30_000 + b"]" * 30_000, "invalid-json"),
    "objects 17 deep": (b'{"a":' * 17 + b"1" + b"}" * 17, "invalid-json"),
    "a name twice": (b'{"statement":"AA","statement":"AA"}', "invalid-json"),
    "a name twice, deep inside": (b'{"statement":[{"a":1,"a":2}]}', "invalid-json"),
    "1e999": (b'{"v":1e999}', "invalid-json"),
    "-1e999": (b'{"v":-1e999}', "invalid-json"),
    "NaN": (b'{"v":NaN}', "invalid-json"),
    "Infinity": (b'{"v":-Infinity}', "invalid-json"),
    "half a surrogate pair": (b'{"v":"\\ud800"}', "invalid-json"),
    "half a surrogate pair as a name": (b'{"\\udfff":1}', "invalid-json"),
    "invalid UTF-8": (b'{"v":"\xff"}', "invalid-json"),
    "overlong UTF-8": (b'{"v":"\xc0\xaf"}', "invalid-json"),
    "a byte-order mark": (b"\xef\xbb\xbf{}", "invalid-json"),
    "UTF-16": ('{"v":1}'.encode("utf-16"), "invalid-json"),
    "a number of 5,000 digits": (b'{"v":' + b"9" * 5_000 + b"}", "invalid-json"),
    "2^63": (b'{"v":9223372036854775808}', "invalid-json"),
    "a body cut short": (b'{"statement":"AA', "invalid-json"),
    "something behind it": (b"{}{}", "invalid-json"),
    "a comma too many": (b'{"v":1,}', "invalid-json"),
    "a control character": (b'{"v":"\x00"}', "invalid-json"),
    "a list": (b"[]", "malformed-request"),
    "a string": (b'"x"', "malformed-request"),
    "a number": (b"0", "malformed-request"),
    "null": (b"null", "malformed-request"),
}
WRONG_TYPES: tuple[Any, ...] = (
    None,
    True,
    0,
    1.0,
    1.5,
    -1,
    2**62,
    "",
    "1",
    "\x00",
    "x" * 301,
    [],
    {},
    [[]],
    [None],
    {"a": 1},
)


def problem_of(response: Any) -> dict[str, Any]:
    """Return the problem of a refusal; an answer that is none, or a server's fault, fails the test."""
    assert 400 <= response.status_code < 500, (response.status_code, response.content)
    assert response["content-type"] == "application/problem+json"
    found: dict[str, Any] = response.json()
    assert {"type", "title", "status", "code", "detail"} <= set(found)
    return found


def fields_named(problem: dict[str, Any]) -> set[str]:
    return {row["field"].partition("[")[0].partition(".")[0] for row in problem.get("errors", [])}


def serializer_of(name: str, method: str) -> type[serializers.Serializer[Any]]:
    """Return the request serializer that the view declares to the OpenAPI document."""
    inspector = getattr(VIEWS[name], method.lower()).kwargs["schema"]()
    inspector.view, inspector.method = VIEWS[name](request=None, args=(), kwargs={}, format_kwarg=None), method
    found: type[serializers.Serializer[Any]] = inspector.get_request_serializer()
    return found


def is_required(name: str, method: str, field: str) -> bool:
    return bool(serializer_of(name, method)().fields[field].required)


@pytest.mark.parametrize(("name", "method"), WRITES)
def test_body_that_is_no_strict_json_is_refused(name: str, method: str, installation: Installation) -> None:
    act = VALID[name, method](installation.acme)
    before = picture()
    for what, (body, code) in NOT_JSON.items():
        problem = problem_of(act.send(body))
        assert (problem["status"], problem["code"]) == (400, code), (what, problem)
    assert changed(before) == set()


@pytest.mark.parametrize(("name", "method"), WRITES)
def test_body_too_large_or_of_another_type_is_refused(name: str, method: str, installation: Installation) -> None:
    act = VALID[name, method](installation.acme)
    limit = VIEWS[name].max_body  # type: ignore[attr-defined]
    before = picture()
    padded = act.body[:-1] + b" " * (limit + 1 - len(act.body)) + b"}"
    assert len(padded) == limit + 1
    assert problem_of(act.send(padded))["code"] == "too-large"
    for media in ("text/plain", "application/xml", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        problem = problem_of(act.send(content_type=media))
        assert (problem["status"], problem["code"]) == (415, "unsupported-media-type"), media
    assert changed(before) == set()


FIELDS = [(name, method, str(field)) for name, method in WRITES for field in serializer_of(name, method)().fields]


@pytest.mark.parametrize(("name", "method", "field"), FIELDS)
def test_field_missing_or_of_the_wrong_type_is_refused_by_name(
    name: str, method: str, field: str, installation: Installation
) -> None:
    act = VALID[name, method](installation.acme)
    before = picture()
    if is_required(name, method, field):
        problem = problem_of(act.without_field(field).send())
        assert (problem["status"], fields_named(problem)) == (400, {field})
    for value in WRONG_TYPES:
        if _fits(serializer_of(name, method)().fields[field], value):
            continue
        problem = problem_of(act.with_field(field, value).send())
        assert (problem["status"], fields_named(problem)) == (400, {field}), value
    assert changed(before) == set()


def _fits(field: Any, value: Any) -> bool:
    """Tell whether a value has the JSON type that a field takes, so that its refusal, if any, is another matter."""
    match field:
        case _ if value is None:
            return bool(field.allow_null)
        case serializers.DictField() | serializers.UUIDField() | serializers.IntegerField():
            return isinstance(value, dict) and isinstance(field, serializers.DictField)
        case Base64UrlField():
            return value == "" and field.length is None
        case serializers.CharField():
            return isinstance(value, str) and len(value) <= (field.max_length or 0) and "\x00" not in value
        case serializers.ListField():
            return value == [] and bool(field.allow_empty)
    return False


def base64_values(value: Any) -> Iterator[tuple[Any, str]]:
    """Break a value of base64url in each way that a lenient decoder lets pass; name what was done."""
    if isinstance(value, list):
        for broken, what in base64_values(value[-1]):
            yield [*value[:-1], broken], what
        return
    text = value[:-1] + ("-" if value[-1] != "-" else "A") if len(value) % 4 == 0 else value
    yield value + "=" * (-len(value) % 4 or 1), "padding"
    yield "+/" + value[2:], "the standard alphabet"
    yield value + "\n", "a line break behind it"
    yield value[:4] + " " + value[4:], "a space inside"
    yield value[:4] + "\u0410" + value[5:], "a letter that only looks right"
    yield value + "A" * (1 + (-len(value) % 4)), "an impossible length"
    if len(text) % 4:
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        yield value[:-1] + alphabet[alphabet.index(value[-1]) | 1], "stray bits"


def is_base64(field: Any) -> bool:
    if isinstance(field, serializers.ListField):
        # All lists are of octets, but for this one of numbers (tests/recovery/cases/test_shares.py).
        return not isinstance(field.child, BlamedField)
    return isinstance(field, Base64UrlField)


@pytest.mark.parametrize(
    ("name", "method", "field"),
    [row for row in FIELDS if is_base64(serializer_of(row[0], row[1])().fields[row[2]])],
)
def test_base64_in_any_other_form_is_refused_by_name(
    name: str, method: str, field: str, installation: Installation
) -> None:
    act = VALID[name, method](installation.acme)
    value = act.document[field]
    before = picture()
    for broken, what in base64_values(value):
        problem = problem_of(act.with_field(field, broken).send())
        assert (problem["status"], fields_named(problem)) == (400, {field}), (what, problem)
    assert changed(before) == set()


@pytest.mark.parametrize(
    ("name", "method", "field"),
    [row for row in FIELDS if row not in SEALED and is_base64(serializer_of(row[0], row[1])().fields[row[2]])],
)
def test_octets_cut_short_or_too_many_are_refused(
    name: str, method: str, field: str, installation: Installation
) -> None:
    from holdfast.core.base.encoding import unb64u

    act = VALID[name, method](installation.acme)
    value = act.document[field]
    text = value if isinstance(value, str) else value[-1] if isinstance(value[-1], str) else value[-1][1]
    octets = unb64u(text)
    before = picture()
    for changed_octets in (octets[:-1], octets + b"\0", octets[:1], octets * 40):
        new: Any = b64u(changed_octets)
        if not isinstance(value, str):
            new = [*value[:-1], new if isinstance(value[-1], str) else [value[-1][0], new]]
        problem_of(act.with_field(field, new).send())
    assert changed(before) == set()


def every_column() -> set[str]:
    """Name the columns of every table: what a careless update would let a client set."""
    return {field.name for model in apps.get_models() for field in model._meta.concrete_fields} | {
        field.attname for model in apps.get_models() for field in model._meta.concrete_fields
    }


@pytest.mark.parametrize(("name", "method"), WRITES)
def test_unknown_field_is_refused_by_name(name: str, method: str, installation: Installation) -> None:
    act = VALID[name, method](installation.acme)
    known = set(serializer_of(name, method)().fields)
    strangers = every_column() | {"tenant", "role", "state", "approved_by", "is_staff", "__proto__", "constructor"}
    before = picture()
    for stranger in ("tenant", "tenant_id", "role", "state", "approved_by", "is_staff"):
        if stranger not in known:
            problem = problem_of(act.with_field(stranger, "x").send())
            assert (problem["status"], fields_named(problem)) == (400, {stranger})
    all_at_once = replace(act, document={**act.document, **dict.fromkeys(strangers - known, 1)})
    problem = problem_of(all_at_once.send())
    assert (problem["status"], fields_named(problem)) == (400, strangers - known)
    assert changed(before) == set()


@pytest.mark.parametrize("key", ["", " ", "x" * 65, "käse", "a b", "\x7f", "a\tb"])
def test_idempotency_key_of_another_form_is_refused(key: str, installation: Installation) -> None:
    for name, method in (("device-claim", "POST"), ("cases", "POST")):
        act: Act = VALID[name, method](installation.acme)
        before = picture()
        problem = problem_of(replace(act, headers={**act.headers, "Idempotency-Key": key}).send())
        assert (problem["status"], fields_named(problem)) == (400, {"idempotency-key"})
        assert changed(before) == set()


@pytest.mark.parametrize("tag", ["", "1", 'W/"1"', '"-1"', '"01"', '"1", "2"', "*", '"9999999999"', '"x"'])
def test_if_match_of_another_form_is_refused(tag: str, installation: Installation) -> None:
    for name in ("vault", "vault-door", "contacts"):
        act = VALID[name, "PUT"](installation.acme)
        before = picture()
        problem = problem_of(replace(act, headers={"If-Match": tag}).send())
        assert (problem["status"], fields_named(problem)) == (400, {"if-match"})
        assert changed(before) == set()


def test_numbers_in_addresses_and_queries_are_bounded(installation: Installation) -> None:
    signer = installation.acme.signer("otto")
    huge = "9" * 5_000
    for uri in (
        f"/api/v1/tiles/audit/{2**63}/0",
        f"/api/v1/tiles/audit/0/{2**63}",
        f"/api/v1/tiles/audit/0/{huge}",
        f"/api/v1/audit/proof?index={huge}&size=1",
        f"/api/v1/audit/proof?index=0&size={2**70}",
        f"/api/v1/audit/proof?from=0&to={2**63}",
        f"/api/v1/audit/entries?limit={huge}",
        "/api/v1/audit/entries?since=9999-99-99T00:00:00Z",
        "/api/v1/audit/entries?person=x",
        "/api/v1/audit/checkpoint?log=keys%00",
        "/api/v1/statements?hash=====",
        f"/api/v1/statements?hash={'A' * 5_000}",
        "/api/v1/users",
        "/api/v1/users?email=",
        "/api/v1/users?email=bob%00%40acme.test",
        "/api/v1/users?email=alice%40acme.test&email=bob%40acme.test",
        f"/api/v1/users?email={huge}%40acme.test",
        f"/api/v1/users?email={'%CC%81' * 5_000}%40acme.test",
        f"/api/v1/enrolment-codes/person?email={huge}",
        "/api/v1/organisation/people?email=",
        "/api/v1/organisation/people?email=alice%40acme.test&email=bob%40acme.test",
        "/api/v1/organisation/people?email=bob%00%40acme.test",
        f"/api/v1/organisation/people?q={huge}",
        "/api/v1/organisation/people?q=%00",
        "/api/v1/organisation/people?role=king",
        "/api/v1/organisation/people?state=",
        f"/api/v1/organisation/people?after={huge}",
        f"/api/v1/messages?limit={huge}",
        "/api/v1/messages?limit=0",
        "/api/v1/messages?limit=101",
        "/api/v1/messages?limit=%D9%A3",
        f"/api/v1/users/{installation.acme.phone('alice').person.pk}/chain?after={huge}",
        f"/api/v1/users/{installation.acme.phone('alice').person.pk}/chain?after=--1",
        *(
            f"/api/v1/users/{installation.acme.phone('alice').person.pk}/chain/proof?{query}"
            for query in (f"seq={huge}", "seq=-1", "seq=1.0", "seq=", "old_size=0", f"old_size={huge}", "seq=99999")
        ),
    ):
        problem_of(Act(signer, "GET", uri).send())
