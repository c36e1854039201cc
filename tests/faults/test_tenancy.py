# SPDX-License-Identifier: Apache-2.0
"""Goal G10 (FAULTS T1, T2, T3, P1, A10): another tenant's ids on every route, every method and in every field.

Made from the resolver: a route that declares no tenancy, or that no valid request is known for, fails.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.test import Client
from drf_spectacular.generators import SchemaGenerator

from holdfast.core.base.encoding import b64u
from kernel.api import ApiView
from tenants.permissions import PermissionName
from tenants.roles import Role
from tests.cast.tenants import make_device
from tests.faults.routes import Route, api_calls, api_routes, changed, ids_in, picture, routes, with_ids
from tests.faults.world import ROLES, VALID, Installation, Organisation

pytestmark = pytest.mark.postgres
CALLS = sorted(api_calls())
NAMING = {route.name for route in api_routes() if any(name.endswith("_id") for name in route.kwargs)}
# Nobody signs an enrolment: its code names its tenant; nor does a device that the server lost, which its chain names.
ENROLLING = {("devices", "POST"), ("device-restored", "POST")}
SIGNED = [call for call in CALLS if call not in ENROLLING]
# Place-holders that are no ids: they say which part of the caller's own tenant, or which act, is meant.
OWN = {"kind", "log", "level", "index", "name", "number"}
# What is hashed and looked up in one tenant alone, so that another's is nobody's.
HASHED = {"token"}
# Addresses that show nobody's data.
PUBLIC = {"front-page", "livez", "readyz", "schema", "api-page", "problems-page"}
SIGN_IN = {
    "console-invitation", "console-password-reset", "console-password-reset-link", "console-sign-in",
    "console-sign-in-code", "console-sign-out",
}  # fmt: skip
# Fields whose octets mean the same whoever sends them: a hash or a key of the sender's choosing, a sealed blob.
OPAQUE = {
    # Which of the caller's own two logs.
    ("audit-exports", "POST"): {"log"},
    # Another's code is a wrong one, and is written down as such.
    ("act", "POST"): {"code"},
    ("pending-confirm", "POST"): {"code"},
    ("case-successor", "PUT"): {"identity_key", "old_head"},
    ("contact-request-shares", "POST"): {"sealed"},
    ("device-messages", "POST"): {"content", "message"},
    ("enrolment-codes", "POST"): {"code_hash"},
    # Ids that are not in the caller's own mailbox are passed over, whosever they are.
    ("imports", "POST"): {"csv"},
    ("messages-ack", "POST"): {"message_ids"},
    ("user-messages", "POST"): {"content"},
    ("vault-door", "PUT"): {"blob"},
}
APPROVING = sorted(
    (route.name, method)
    for route in api_routes()
    for method, name in getattr(route.view_class, "permission_names", {}).items()
    if name in (PermissionName.CASE_APPROVE, PermissionName.OFFICER_SIGN)
)


def octets(response: Any) -> bytes:
    return b"".join(response) if response.streaming else response.content


def refused(response: Any) -> bool:
    return bool(400 <= response.status_code < 500 and response["content-type"] == "application/problem+json")


def test_every_address_belongs_to_the_api_the_console_or_nobody() -> None:
    strangers = [route.pattern for route in routes() if not (route.is_api or route.is_console or route.name in PUBLIC)]
    assert strangers == []


@pytest.mark.parametrize("route", api_routes(), ids=lambda route: route.name)
def test_route_declares_its_tenancy_and_a_permission_for_each_method(route: Route) -> None:
    view = route.view_class
    assert issubclass(view, ApiView)
    assert view.tenancy == "tenant", "only a single method may be open to whoever has a code"
    undeclared = set(route.methods) - set(view.permission_names)
    assert undeclared == {method for name, method in ENROLLING if name == route.name}
    assert set(view.permission_names) <= set(route.methods)
    assert {(route.name, method) for method in route.methods} <= set(VALID)


@pytest.mark.parametrize("route", [one for one in routes() if one.is_console], ids=lambda route: route.name)
def test_console_page_declares_its_permission(route: Route) -> None:
    assert route.name in SIGN_IN or route.view.permission_name in set(PermissionName)


@pytest.mark.parametrize("route", routes(), ids=lambda route: route.pattern)
def test_every_placeholder_is_an_id_or_is_known_to_be_none(route: Route) -> None:
    assert all(name.endswith("_id") or name in OWN | HASHED for name in route.kwargs)


# Ids in the address.


@pytest.mark.parametrize(("name", "method"), [call for call in CALLS if call[0] in NAMING])
def test_foreign_id_in_the_address_is_answered_like_an_unknown_one(
    name: str, method: str, installation: Installation
) -> None:
    act, foreign = VALID[name, method](installation.acme), VALID[name, method](installation.other)
    before = picture()
    for one, value in ids_in(foreign.uri).items():
        own = ids_in(act.uri)
        answers = [replace(act, uri=with_ids(act.uri, {**own, one: other})).send() for other in (value, uuid4())]
        assert [answer.status_code for answer in answers] == [404, 404], answers[0].content
        assert answers[0].content == answers[1].content
        # But for the number of the request, which is every request's own.
        first, second = ({**answer.headers, "x-request-id": ""} for answer in answers)
        assert first == second
    assert changed(before) == set()


@pytest.mark.parametrize(("name", "method"), SIGNED)
def test_whole_request_of_another_tenant_is_refused_from_the_same_role(
    name: str, method: str, installation: Installation
) -> None:
    act, foreign = VALID[name, method](installation.acme), VALID[name, method](installation.other)
    theirs = installation.acme.markers()
    before = picture()
    answer = replace(act, signer=foreign.signer).send()
    if ids_in(act.uri):
        assert answer.status_code == 404, answer.content
    elif method == "GET" or OPAQUE.get((name, method), set()) == set(act.document or {}):
        # An address without an id is the caller's own: it answers, of nobody but the caller.
        assert not [marker for marker in theirs if marker.encode() in octets(answer)]
        return
    else:
        assert refused(answer), answer.content
    assert changed(before) == set()


# Ids and statements in the body.


def uuids(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Give the place of every id in a document."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from uuids(inner, (*path, key))
    elif isinstance(value, str) and len(value) == 36:
        UUID(value)
        yield path


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


@pytest.mark.parametrize(("name", "method"), [call for call in CALLS if call[1] in ("POST", "PUT", "PATCH")])
def test_foreign_value_in_a_field_is_refused(name: str, method: str, installation: Installation) -> None:
    act, foreign = VALID[name, method](installation.acme), VALID[name, method](installation.other)
    places = {(key,) for key in act.document} | set(uuids(act.document))
    before = picture()
    for place in sorted(places, key=repr):
        theirs = at(foreign.document, place)
        if theirs == at(act.document, place) or place[0] in OPAQUE.get((name, method), set()):
            continue
        sent = replace(act, document=replaced(act.document, place, theirs)).send()
        assert refused(sent), (place, sent.content)
        if place in set(uuids(act.document)):
            answer = replace(act, document=replaced(act.document, place, str(uuid4()))).send()
            same = {**sent.json(), "server_time": ""} == {**answer.json(), "server_time": ""}
            assert (answer.status_code, same) == (sent.status_code, True), place
        assert changed(before) == set(), place


def test_case_about_a_foreign_deposit_is_answered_like_an_unknown_one(installation: Installation) -> None:
    acme, other = installation.acme, installation.other
    phone, header, answers = acme.new_phone(), acme.archive.header, []
    for deposit_id, record_hash in ((other.archive.header.deposit_id, b"r" * 32), (uuid4().bytes, b"r" * 32)):
        case = acme.case(phone, acme.archive, deposits=((deposit_id, record_hash),), subject=header.user)
        before = picture()
        answers.append(acme.open(case))
        assert changed(before) == set()
    assert answers[0].status_code == 422
    assert answers[0].content == answers[1].content


# Lists, filters and exports.


@pytest.mark.parametrize(("name", "method"), [call for call in CALLS if call[1] == "GET"])
def test_answer_names_nothing_of_another_tenant(name: str, method: str, installation: Installation) -> None:
    own, theirs = installation.acme.markers(), installation.other.markers()
    assert not own & theirs
    answer = octets(VALID[name, method](installation.acme).send())
    assert not [marker for marker in theirs if marker.encode() in answer]


def _text_parameters() -> list[tuple[str, str]]:
    """List (route name, parameter) of every query parameter of text that the OpenAPI document declares."""
    document = SchemaGenerator().get_schema(request=None, public=True)
    by_path = {route.template: route.name for route in api_routes()}
    return [
        (by_path[path], parameter["name"])
        for path, operations in document["paths"].items()
        for parameter in operations.get("get", {}).get("parameters", [])
        if parameter["in"] == "query" and parameter["schema"]["type"] == "string" and "enum" not in parameter["schema"]
    ]


def _texts_of(one: Organisation) -> list[str]:
    phone = one.phone("alice")
    ids = [phone.person.pk, phone.id, one.case_open.id, UUID(bytes=one.archive.header.deposit_id)]
    return [*map(str, ids), f"device:{phone.id}", b64u(one.policies[-1].hash)]


def test_foreign_value_in_a_filter_finds_what_an_unknown_one_finds(installation: Installation) -> None:
    foreign = _texts_of(installation.other)
    unknown = [*[str(uuid4()) for _ in range(4)], f"device:{uuid4()}", b64u(secrets.token_bytes(32))]
    asked = _text_parameters()
    assert {name for name, _ in asked} == {
        "audit-entries",
        "cases",
        "contact-requests",
        "devices",
        "enrolment-code-person",
        "escrow-coverage",
        "escrow-deposits",
        "escrow-officer-statements",
        "escrow-resolutions",
        "key-proposals",
        "notices",
        "people",
        "policy-answers",
        "policy-proposals",
        "statements",
        "users",
    }
    for name, parameter in asked:
        act = VALID[name, "GET"](installation.acme)
        joint = "&" if "?" in act.uri else "?"
        for theirs, nobodys in zip(foreign, unknown, strict=True):
            answers = []
            for text in (theirs, nobodys):
                with installation.undone():
                    answers.append(replace(act, uri=f"{act.uri}{joint}{parameter}={text}").send())
            assert answers[0].status_code == answers[1].status_code < 500
            assert answers[0].content.replace(theirs.encode(), b"") == answers[1].content.replace(nobodys.encode(), b"")


# Who approves.


@pytest.mark.parametrize(("name", "method"), APPROVING)
@pytest.mark.parametrize("role", sorted(set(Role) - {Role.OFFICER}))
def test_approval_is_refused_from(role: str, name: str, method: str, installation: Installation) -> None:
    act = VALID[name, method](installation.acme)
    person = next(one for one, of in ROLES.items() if of == role)
    before = picture()
    answer = replace(act, signer=installation.acme.signer(person)).send()
    assert (answer.status_code, answer.json()["code"]) == (403, "denied")
    assert changed(before) == set()


@pytest.mark.parametrize(("name", "method"), APPROVING)
def test_approval_is_refused_from_what_is_no_person(name: str, method: str, installation: Installation) -> None:
    act = VALID[name, method](installation.acme)
    officer = installation.acme.cast.people["erin"]
    programs = {"service account": installation.acme.service, "pending device": make_device(officer, active=False)}
    before = picture()
    for what, signer in programs.items():
        answer = replace(act, signer=signer).send()
        assert (answer.status_code, answer.json()["code"]) == (403, "denied"), what
    answer = installation.acme.browser.generic(method, act.uri, act.body, content_type="application/json")
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
    assert changed(before) == set()


def test_approving_is_what_the_matrix_is_tried_on() -> None:
    assert {name for name, _ in APPROVING} == {
        "case-approvals",
        "case-attestations",
        "case-deny",
        "escrow-officer-statements",
        "escrow-officer-states",
        "escrow-resolutions",
        "key-proposal-signatures",
        "officers-door",
        "officers-door-proof",
        "officers-section",
        "policy-proposal-signatures",
    }


# Console pages.

PAGES: dict[str, str] = {
    "console-act": "acts/person-invite/",
    "console-act-on": "acts/person-suspend/{person}/",
    "console-answers": "escrow/answers/",
    "console-audit": "audit/",
    "console-audit-entry": "audit/0/",
    "console-log-exports": "audit/exports/",
    "console-case": "cases/{case}/",
    "console-cases": "cases/",
    "console-ceremonies": "ceremonies/",
    "console-device": "devices/{device}/",
    "console-escrow": "escrow/",
    "console-failing-devices": "people/devices/",
    "console-few-doors": "people/doors/",
    "console-organisation": "organisation/",
    "console-import": "people/import/{file}/",
    "console-import-bad-lines": "people/import/{file}/bad-lines/",
    "console-import-form": "people/import/",
    "console-overview": "",
    "console-pending-act": "acts/pending/{pending}/",
    "console-people": "people/",
    "console-person": "people/{person}/",
    "console-policy": "escrow/policy/",
    "console-policy-propose": "escrow/policy/propose/",
    "console-programs": "programs/",
    "console-transcript": "ceremonies/1/",
}
# Pages that owners alone see.
OWNERS_PAGES = {"console-organisation", "console-programs"}


# Pages about whoever asks; no address names anybody.
OWN_PAGES: dict[str, str] = {
    "me-authenticator": "factors/authenticator/",
    "me-data": "data/",
    "me-devices": "devices/",
    "me-factors": "factors/",
    "me-home": "",
    "me-keys": "keys/",
    "me-notices": "notices/",
    "me-recovery": "recovery/",
    "me-sessions": "sessions/",
}
# Forms alone, without a page: tests/console/test_me.py.
OWN_ACTS = {"me-recovery-codes", "me-recovery-codes-confirm", "me-sessions-end"}


# An address that is not looked at: the list of people as a file.
POSTED = {"console-people-file"}


def page(name: str, one: Organisation) -> str:
    if name in OWN_PAGES:
        return "/me/" + OWN_PAGES[name]
    phone = one.phone("alice")
    places = {
        "case": one.case_open.id,
        "device": phone.id,
        "file": one.file,
        "pending": one.pending,
        "person": phone.person.pk,
    }
    return "/console/" + PAGES[name].format(**places)


# Answers that are no pages: whose they are, tests/console asks (test_export, test_log_exports, test_transcripts).
DOWNLOADS = {
    "console-export",
    "console-log-export",
    "console-transcript-signed",
    "console-transcript-text",
    "console-verifier",
}


def reader(name: str, one: Organisation) -> Client:
    """Return the browser of somebody who may see the page: an owner acts, an officer sees all else."""
    is_owners = name in OWNERS_PAGES or {"act", "import"} & set(name.split("-"))
    return one.owners["olivia"].client if is_owners else one.browser


def test_every_console_page_is_known_here() -> None:
    known = {*PAGES, *OWN_PAGES, *OWN_ACTS, *SIGN_IN, *DOWNLOADS, *POSTED}
    assert {route.name for route in routes() if route.is_console} == known


@pytest.mark.parametrize("name", sorted(PAGES | OWN_PAGES))
def test_console_page_shows_nothing_of_another_tenant(name: str, installation: Installation) -> None:
    browser = reader(name, installation.acme)
    markers = installation.other.markers()
    own = browser.get(page(name, installation.acme))
    assert own.status_code == 200
    content = octets(own)
    assert not [marker for marker in markers if marker.encode() in content]
    foreign = page(name, installation.other)
    if not ids_in(foreign):
        return
    answers = [browser.get(uri) for uri in (foreign, with_ids(foreign))]
    assert [answer.status_code for answer in answers] == [404, 404]
    pages = [_without_tokens(answer.content) for answer in answers]
    assert pages[0] == pages[1]


def _without_tokens(content: bytes) -> bytes:
    """Leave out what is fresh on every page: the form token of the sign-out button, and the policy's nonce."""
    return re.sub(rb'(name="csrfmiddlewaretoken" value|nonce)="[^"]*"', b"", content)


def test_list_of_people_goes_out_with_nobody_of_another_tenant(installation: Installation) -> None:
    markers = installation.other.markers()
    answer = installation.acme.owners["olivia"].client.post("/console/people/export/")
    content = octets(answer)
    assert str(installation.acme.cast.people["alice"].pk).encode() in content
    assert not [marker for marker in markers if marker.encode() in content]


@pytest.mark.parametrize("name", sorted(PAGES | OWN_PAGES))
def test_console_filter_finds_nothing_of_another_tenant(name: str, installation: Installation) -> None:
    browser, markers = reader(name, installation.acme), installation.other.markers()
    for text in _texts_of(installation.other):
        answer = browser.get(page(name, installation.acme), dict.fromkeys(("subject", "about", "by", "q"), text))
        assert answer.status_code == 200
        shown = octets(answer).replace(text.encode(), b"")
        assert not [marker for marker in markers if marker.encode() in shown]
