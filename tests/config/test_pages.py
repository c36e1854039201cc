# SPDX-License-Identifier: Apache-2.0
"""Pages of no app: the API's document and its page cost nothing twice; a form that is refused says why."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.test import Client
from drf_spectacular.generators import SchemaGenerator

from config import views

SIGN_IN = "/console/sign-in/"


@pytest.fixture
def generated(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Count how often the OpenAPI document is made, in a process that has not made it yet."""
    runs: list[int] = []
    honest = SchemaGenerator.get_schema

    def get_schema(self: Any, *args: Any, **kwargs: Any) -> Any:
        runs.append(1)
        return honest(self, *args, **kwargs)

    monkeypatch.setattr(SchemaGenerator, "get_schema", get_schema)
    views._made.cache_clear()
    yield runs
    views._made.cache_clear()


def test_api_document_is_made_once_for_fifty_requests_that_come_at_once(generated: list[int]) -> None:
    start = threading.Barrier(10)

    def ask(number: int) -> tuple[int, str]:
        if number < 10:
            start.wait(timeout=30)
        answer = Client().get("/api/schema/" if number % 2 else "/api/docs/")
        return answer.status_code, answer["etag"]

    with ThreadPoolExecutor(10) as pool:
        answers = set(pool.map(ask, range(50)))
    assert len(generated) == 1
    assert {status for status, _ in answers} == {200}
    assert len(answers) == 2


@pytest.mark.parametrize("path", ["/api/schema/", "/api/docs/"])
def test_api_document_and_page_may_be_kept_and_are_asked_for_by_their_tag(path: str, client: Client) -> None:
    answer = client.get(path)
    assert answer["cache-control"] == "public, max-age=3600"
    assert not answer.cookies
    again = client.get(path, headers={"If-None-Match": answer["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.head(path).status_code == 200
    assert client.post(path).status_code == 405


def test_api_document_is_openapi(client: Client) -> None:
    answer = client.get("/api/schema/")
    assert answer["content-type"].startswith("application/vnd.oai.openapi+json")
    assert json.loads(answer.content)["openapi"].startswith("3.1")
    assert b"/api/v1/cases" in client.get("/api/docs/").content


# Forms.


def form(client: Client, **headers: str) -> Any:
    """Send the sign-in form with the token of its page, as a browser does."""
    page = client.get(SIGN_IN, headers={"Host": headers.get("Host", "testserver")}).content.decode()
    token = page.partition('name="csrfmiddlewaretoken" value="')[2].partition('"')[0]
    fields = {"tenant": "acme", "email": "a@acme.test", "password": "no", "csrfmiddlewaretoken": token}
    return client.post(SIGN_IN, fields, headers=headers)


@pytest.fixture
def browser(settings: Any, db: None) -> Client:
    """Behind a proxy that passes another Host on than the one that people type."""
    settings.HOLDFAST_PUBLIC_URL = "https://holdfast.example"
    settings.CSRF_TRUSTED_ORIGINS = ["https://holdfast.example"]
    settings.ALLOWED_HOSTS = ["holdfast.example", "web.internal", "testserver"]
    return Client(enforce_csrf_checks=True)


@pytest.mark.parametrize("host", ["web.internal", "holdfast.example"])
def test_form_of_the_public_origin_is_taken_whatever_host_a_proxy_passes(host: str, browser: Client) -> None:
    answer = form(browser, Host=host, Origin="https://holdfast.example")
    assert (answer.status_code, "did not match" in answer.content.decode()) == (401, True)


@pytest.mark.parametrize("origin", ["https://evil.example", "http://holdfast.example", "null"])
def test_form_of_another_origin_is_refused_on_a_page_of_ours(origin: str, browser: Client) -> None:
    answer = form(browser, Host="web.internal", Origin=origin)
    text = answer.content.decode()
    assert answer.status_code == 403
    assert "This form was not taken" in text
    assert f'href="{SIGN_IN}"' in text
    assert 'class="brand"' in text
    assert "no-store" in answer["cache-control"]
    assert "Django" not in text


def test_form_refused_on_another_page_leads_to_the_console(browser: Client) -> None:
    answer = browser.post("/console/sign-out/")
    assert (answer.status_code, 'href="/console/"' in answer.content.decode()) == (403, True)


def test_form_sent_to_the_api_is_refused_with_a_problem(browser: Client) -> None:
    answer = browser.post("/api/docs/")
    assert (answer.status_code, answer.json()["code"]) == (403, "denied")
    assert answer["content-type"] == "application/problem+json"


def test_settings_trust_the_public_origin_alone() -> None:
    from django.conf import settings

    assert settings.CSRF_TRUSTED_ORIGINS == [settings.HOLDFAST_PUBLIC_URL]
