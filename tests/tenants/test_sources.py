# SPDX-License-Identifier: Apache-2.0
"""Which address limits count, and that a client cannot choose it (FAULTS I10a)."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from kernel.errors import Throttled
from tenants.limits import count_against
from tenants.middleware import ProxyMiddleware
from tenants.models import RateWindow
from tenants.sources import UNKNOWN, source_of

CASES = [
    # remote, X-Forwarded-For, counted
    ("192.0.2.7", "", "192.0.2.7"),
    ("192.0.2.7", "198.51.100.1", "192.0.2.7"),
    ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
    ("10.0.0.1", "203.0.113.9, 198.51.100.1", "198.51.100.1"),
    ("10.0.0.1", "203.0.113.9, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
    ("10.0.0.1", "", "10.0.0.1"),
    ("10.0.0.1", "unknown", "10.0.0.1"),
    ("10.0.0.1", "198.51.100.1, junk", "10.0.0.1"),
    ("10.0.0.1", "10.0.0.2, 10.0.0.3", "10.0.0.2"),
    # As some proxies write it; without this everybody behind such a one would be one source.
    ("10.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
    ("10.0.0.1", "[2001:db8:1:2::7]:443", "2001:db8:1:2::"),
    ("10.0.0.1", "[2001:db8:1:2::7]", "2001:db8:1:2::"),
    ("10.0.0.1", "203.0.113.10, 198.51.100.8:40001", "198.51.100.8"),
    ("10.0.0.1", "198.51.100.1:4711:5", "10.0.0.1"),
    ("10.0.0.1", "[198.51.100.1", "198.51.100.1"),
    ("10.0.0.1", ":4711", "10.0.0.1"),
    ("2001:db8:1:2:3:4:5:6", "", "2001:db8:1:2::"),
    ("2001:db8:1:2:ffff::1", "", "2001:db8:1:2::"),
    ("::ffff:192.0.2.7", "198.51.100.1", "192.0.2.7"),
    ("::ffff:10.0.0.1", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
    ("fe80::1%eth0", "", "fe80::"),
    ("", "198.51.100.1", UNKNOWN),
    ("not an address", "", UNKNOWN),
]


@pytest.mark.parametrize(("remote", "forwarded", "counted"), CASES)
def test_source_is(remote: str, forwarded: str, counted: str, settings: Any) -> None:
    settings.HOLDFAST_TRUSTED_PROXIES = ["10.0.0.0/29"]
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    assert source_of(RequestFactory().get("/", REMOTE_ADDR=remote, headers=headers)) == counted


@pytest.mark.parametrize(
    ("forwarded", "counted"), [("198.51.100.1", "198.51.100.1"), ("a, 10.0.0.1", "10.0.0.1"), ("", UNKNOWN)]
)
def test_the_peer_at_the_local_socket_is_believed_where_it_is_listed(
    forwarded: str, counted: str, settings: Any
) -> None:
    settings.HOLDFAST_TRUSTED_PROXIES = ["unix"]
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    assert source_of(RequestFactory().get("/", REMOTE_ADDR="", headers=headers)) == counted
    stranger = RequestFactory().get("/", REMOTE_ADDR="192.0.2.7", headers=headers)
    assert source_of(stranger) == "192.0.2.7"


def test_forwarded_address_is_never_believed_without_a_list_of_proxies(settings: Any) -> None:
    settings.HOLDFAST_TRUSTED_PROXIES = []
    request = RequestFactory().get("/", REMOTE_ADDR="10.0.0.1", headers={"X-Forwarded-For": "198.51.100.1"})
    assert source_of(request) == "10.0.0.1"


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_window_counts_every_one_of_many_simultaneous_tries() -> None:
    refused = []

    def work() -> None:
        for _ in range(5):
            try:
                count_against("storm", limit=30, seconds=86_400)
            except Throttled:
                refused.append(1)
        connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert RateWindow.objects.get(key="storm").count == 40
    assert len(refused) == 10


FORWARDED = {"X-Forwarded-For": "198.51.100.1", "X-Forwarded-Proto": "https"}


@pytest.mark.parametrize(
    ("remote", "listed", "is_believed"),
    [
        ("10.0.0.1", ["10.0.0.0/29"], True),
        ("", ["unix"], True),
        ("192.0.2.7", ["10.0.0.0/29", "unix"], False),
        ("", ["10.0.0.0/29"], False),
        ("10.0.0.1", [], False),
    ],
)
def test_that_a_request_came_encrypted_is_a_trusted_proxys_word_alone(
    remote: str, listed: list[str], is_believed: bool, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.HOLDFAST_TRUSTED_PROXIES = listed
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    seen: list[tuple[bool, str]] = []

    def view(request: HttpRequest) -> HttpResponse:
        seen.append((request.is_secure(), source_of(request)))
        return HttpResponse()

    handler = ProxyMiddleware(view)
    for _ in range(3):
        handler(RequestFactory().get("/", REMOTE_ADDR=remote, headers=FORWARDED))
    assert seen == [(is_believed, "198.51.100.1" if is_believed else remote or UNKNOWN)] * 3
    # A proxy that was forgotten in the list makes all people one source: once, and not at each request, that is said.
    assert len([1 for record in caplog.records if "HOLDFAST_TRUSTED_PROXIES" in record.getMessage()]) == (
        0 if is_believed else 1
    )
