# SPDX-License-Identifier: Apache-2.0
"""Whose pages may call the REST API from a browser: those that the operator lists, and in no other way than told."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

APP = "https://app.example"
OURS = "/api/v1/vault"
ASKED = {"Access-Control-Request-Method": "PUT", "Access-Control-Request-Headers": "content-digest,signature"}
LIKE_IT = [
    "https://app.example.evil.example",
    "https://evil.example",
    "https://sub.app.example",
    "http://app.example",
    "https://app.example:8443",
    "https://app.example/",
    "HTTPS://APP.EXAMPLE",
    f"{APP}, {APP}",
    "null",
    "*",
    "",
]

pytestmark = pytest.mark.django_db


def said(answer: Any) -> dict[str, str]:
    """Return what an answer says about pages of others."""
    return {name.lower(): value for name, value in answer.headers.items() if name.lower().startswith("access-control-")}


@pytest.fixture
def listed(settings: Any) -> None:
    settings.HOLDFAST_WEB_ORIGINS = ["https://other.example", APP]


@pytest.mark.parametrize("method", ["GET", "OPTIONS", "POST"])
def test_nothing_is_said_while_the_list_is_empty(method: str, client: Client) -> None:
    answer = client.generic(method, OURS, headers={"Origin": APP, **ASKED})
    assert answer.status_code in (401, 405)
    assert said(answer) == {}
    assert "Origin" not in answer.headers.get("vary", "")


@pytest.mark.usefixtures("listed")
def test_listed_origin_may_send_what_a_client_sends_and_nothing_else(client: Client) -> None:
    answer = client.options(OURS, headers={"Origin": APP, **ASKED})
    assert (answer.status_code, answer.content) == (204, b"")
    assert said(answer) == {
        "access-control-allow-origin": APP,
        "access-control-allow-methods": "GET, POST, PUT, DELETE",
        "access-control-allow-headers": "content-digest, content-type, holdfast-turn, idempotency-key, if-match, "
        "signature, signature-input",
        "access-control-expose-headers": "holdfast-turn, retry-after",
        "access-control-max-age": "7200",
    }
    assert "Origin" in answer["vary"]
    assert not answer.cookies


@pytest.mark.usefixtures("listed")
def test_listed_origin_reads_a_refusal_and_no_cookie_counts(client: Client) -> None:
    for method, path, status in (("GET", OURS, 401), ("GET", "/api/v1/nowhere", 404), ("POST", OURS, 401)):
        answer = client.generic(method, path, headers={"Origin": APP, "Cookie": "sessionid=x"})
        assert answer.status_code == status, (method, path)
        assert said(answer) == {
            "access-control-allow-origin": APP,
            "access-control-expose-headers": "holdfast-turn, retry-after",
        }
        assert "Origin" in answer["vary"]


@pytest.mark.usefixtures("listed")
@pytest.mark.parametrize("origin", LIKE_IT)
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_no_other_origin_is_told_anything(method: str, origin: str, client: Client) -> None:
    answer = client.generic(method, OURS, headers={"Origin": origin, **ASKED})
    assert answer.status_code != 204
    assert said(answer) == {}
    assert "Origin" in answer["vary"], "what is kept for this origin would be handed to the listed one"


@pytest.mark.usefixtures("listed")
@pytest.mark.parametrize("path", ["/", "/console/sign-in/", "/me/", "/livez", "/api/schema/", "/api/docs/", "/apis/v1"])
def test_no_page_of_ours_is_read_by_one_of_others(path: str, client: Client) -> None:
    for method in ("GET", "OPTIONS"):
        assert said(client.generic(method, path, headers={"Origin": APP, **ASKED})) == {}


@pytest.mark.usefixtures("listed")
def test_wrong_host_is_refused_before(client: Client) -> None:
    answer = client.options(OURS, headers={"Origin": APP, "Host": "evil.example", **ASKED})
    assert answer.status_code == 400
    assert said(answer) == {}


@pytest.mark.usefixtures("listed")
def test_every_route_answers_alike(client: Client) -> None:
    """What is asked before is answered without a look at who asks or at what there is."""
    known = client.options(reverse("vault"), headers={"Origin": APP, **ASKED})
    unknown = client.options("/api/v1/nowhere", headers={"Origin": APP, **ASKED})
    assert (known.status_code, said(known)) == (unknown.status_code, said(unknown)) == (204, said(known))
