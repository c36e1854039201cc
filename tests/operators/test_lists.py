# SPDX-License-Identifier: Apache-2.0
"""What operators see: metadata of all tenants, and no octets, names or secrets; each look is an entry (FAULTS T11)."""

from __future__ import annotations

import re
from typing import Any
from uuid import uuid4

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.db import connection, models, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import URLPattern, URLResolver, get_resolver

from audit.models import Entry, Tally
from kernel import heartbeats, queue
from kernel.admin import ReadOnlyAdmin
from kernel.models import Job
from kernel.scope import tenant_scope
from tests.cast.browsers import text_of
from tests.cast.operators import SIGN_IN, Desk
from tests.cast.phones import audit_away
from tests.cast.tenants import Cast, give_password, make_device, make_service

pytestmark = [pytest.mark.postgres, pytest.mark.usefixtures("_mounted")]
# Of each model the columns that an operator sees. A column that is not here is not shown, found or sorted by.
SEEN = {
    "kernel.job": {
        *("id", "tenant_id", "kind", "queue", "state", "attempts", "run_at", "lease_until", "fence"),
        *("last_error", "created_at"),
    },
    "kernel.heartbeat": {"name", "at"},
    "audit.loghead": {"tenant_id", "log", "size", "signed_size"},
    "tenants.tenant": {"id", "slug", "name", "state", "is_development", "created_at"},
    "tenants.person": {"id", "tenant_id", "role", "state", "created_at"},
    "tenants.serviceaccount": {"id", "tenant_id", "created_at"},
    "tenants.credential": {"id", "tenant_id", "kind", "state", "created_at"},
    "keys.device": {"id", "tenant_id", "user_id", "state", "suite", "created_at", "activated_at", "revoked_at"},
    "keys.tenantmasterkey": {"tenant_id", "version", "master_version", "state", "created_at"},
}
# What others chose or wrote, in the form in which these tests write it.
SECRETS = ("olivia", "Olivia", "acme.test", "argon2", "payload-of-somebody", "siem")


def listed() -> dict[str, ReadOnlyAdmin]:
    return {model._meta.label_lower: one for model, one in admin.site._registry.items()}  # type: ignore[misc]


def address(label: str) -> str:
    return f"/admin/{label.replace('.', '/')}/"


def patterns(found: Any, prefix: str = "") -> list[str]:
    if isinstance(found, URLPattern):
        return [prefix + str(found.pattern)]
    assert isinstance(found, URLResolver)
    return [one for below in found.url_patterns for one in patterns(below, prefix + str(found.pattern))]


def addresses() -> list[str]:
    (mounted,) = (one for one in get_resolver().url_patterns if str(one.pattern) == "admin/")
    return patterns(mounted)


@pytest.fixture
def rows(world: Cast) -> Cast:
    """A row of every kind that the tests' world has, with names and secrets in each."""
    give_password(world.olivia)
    make_device(world.olivia)
    make_service(world.acme)
    heartbeats.note("worker/mail")
    with tenant_scope(world.acme.pk), transaction.atomic():
        queue.enqueue("keys.notice", person="payload-of-somebody")
    return world


def test_exactly_these_models_are_listed_by_exactly_these_columns() -> None:
    assert {label: {*one.shown, *one.list_display} for label, one in listed().items()} == SEEN
    for one in listed().values():
        known = {field.name: field for field in one.model._meta.fields}
        assert isinstance(one, ReadOnlyAdmin)
        assert not [name for name in one.shown if isinstance(known.get(name), models.BinaryField | models.JSONField)]
        assert {*map(str, one.list_filter)} <= {*one.list_display}
    assert "tenants.authenticator" in {model._meta.label_lower for model in apps.get_models()}, (
        "there are secrets to list"
    )


def test_every_address_but_the_sign_in_asks_for_an_operator(rows: Cast, petra: Desk) -> None:
    places = {
        "<uuid:row_id>": str(uuid4()),
        "<slug:act>": "suspend",
        "<path:object_id>": "1",
        "<slug:app_label>": "keys",
    }
    found = addresses()
    assert len(found) == len(SEEN) * 2 + 6
    for pattern in found:
        for place, value in places.items():
            pattern = pattern.replace(place, value)  # noqa: PLW2901
        assert "<" not in pattern
        for method in ("get", "post"):
            answer = getattr(Client(), method)(f"/{pattern}")
            if pattern == "admin/sign-in/":
                assert answer.status_code in (200, 401)
            elif (pattern, method) == ("admin/sign-out/", "get"):
                assert answer.status_code == 405
            else:
                assert (answer.status_code, answer["location"]) == (302, SIGN_IN), pattern


def test_front_page_names_every_list(browser: Client) -> None:
    page = browser.get("/admin/")
    assert page.status_code == 200
    for label in SEEN:
        assert address(label) in page.content.decode()
    assert "no-store" in page["cache-control"]


@pytest.mark.parametrize("label", sorted(SEEN))
def test_list_and_row_show_no_secret_and_have_no_script(label: str, rows: Cast, browser: Client) -> None:
    page = browser.get(address(label))
    assert page.status_code == 200
    model = apps.get_model(label)
    some = model._base_manager.first()
    pages = [page]
    if some is not None:
        assert f"{address(label)}{quote(some.pk)}/" in page.content.decode()
        pages.append(browser.get(f"{address(label)}{quote(some.pk)}/"))
    for one in pages:
        text = one.content.decode()
        assert one.status_code == 200
        assert not [secret for secret in SECRETS if secret in text]
        assert "<script" not in text
        assert "<style" not in text
        assert not re.search(r"\sstyle=|\son\w+=", text)


@pytest.mark.parametrize(
    ("label", "question"),
    [
        ("tenants.person", "password__startswith=argon2"),
        ("tenants.person", "password__contains=a"),
        ("tenants.person", "email__startswith=olivia"),
        ("tenants.person", "name=Olivia"),
        ("tenants.person", "role__startswith=o"),
        ("tenants.person", "tenant__name__startswith=A"),
        ("tenants.person", "credentials__public_key__isnull=False"),
        ("tenants.serviceaccount", "name=siem"),
        ("tenants.tenant", "root_key__isnull=True"),
        ("kernel.job", "payload__person=payload-of-somebody"),
        ("kernel.job", "unique__startswith=a"),
        ("keys.device", "name__startswith=a"),
        ("keys.tenantmasterkey", "wrapped__isnull=False"),
    ],
)
def test_address_asks_for_nothing_that_is_not_shown(label: str, question: str, rows: Cast, browser: Client) -> None:
    assert browser.get(f"{address(label)}?{question}").status_code == 400


def test_filters_are_by_equality(rows: Cast, browser: Client) -> None:
    officers = text_of(browser.get(f"{address('tenants.person')}?role__exact=officer&tenant_id={rows.acme.pk}"))
    assert str(rows.carol.pk) in officers
    assert str(rows.olivia.pk) not in officers
    others = text_of(browser.get(f"{address('tenants.person')}?tenant_id={rows.other.pk}"))
    assert str(rows.mallory.pk) in others
    assert str(rows.carol.pk) not in others
    assert browser.get(f"{address('tenants.person')}?tenant_id=no-uuid").status_code in (302, 400)


@pytest.mark.parametrize("label", sorted(SEEN))
@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_nothing_is_written_through_a_list_or_a_row(label: str, method: str, rows: Cast, browser: Client) -> None:
    some = apps.get_model(label)._base_manager.first()
    for path in (address(label), f"{address(label)}{some.pk if some else 1}/"):
        assert getattr(browser, method)(path, {"state": "ended", "_save": "1"}).status_code == 405
    for path in ("add/", f"{some.pk if some else 1}/delete/", f"{some.pk if some else 1}/history/", "../jsi18n/"):
        assert browser.get(address(label) + path).status_code in (404, 302)


@pytest.mark.parametrize("label", sorted(SEEN))
@pytest.mark.parametrize("pk", ["00000000-0000-4000-8000-00000000dead", "1000000", "no-id", "0"])
def test_row_that_there_is_not(label: str, pk: str, rows: Cast, browser: Client) -> None:
    assert browser.get(f"{address(label)}{pk}/").status_code == 404


def test_looking_is_an_entry_in_the_log_of_each_tenant_shown(rows: Cast, petra: Desk, browser: Client) -> None:
    browser.get(address("tenants.person"))
    read = Entry.unscoped.filter(tag="operators:rows:read")
    assert {(row.tenant_id, row.body["kind"], row.body["count"]) for row in read} == {
        (rows.acme.pk, "person", 8),
        (rows.other.pk, "person", 1),
    }
    assert {row.actor for row in read} == {f"operator:{petra.operator.pk}"}
    # Again within the hour, it is counted.
    browser.get(address("tenants.person"))
    assert read.count() == 2
    assert {row.count for row in Tally.unscoped.filter(tag="operators:rows:read")} == {2}
    browser.get(f"{address('tenants.credential')}?tenant_id={rows.acme.pk}")
    assert read.filter(tenant_id=rows.acme.pk).count() == 2
    assert read.filter(tenant_id=rows.other.pk).count() == 1


def test_what_cannot_be_written_down_is_not_shown(rows: Cast, browser: Client) -> None:
    with audit_away():
        browser.raise_request_exception = False
        page = browser.get(address("tenants.person"))
    assert page.status_code == 503
    assert str(rows.olivia.pk) not in page.content.decode()
    assert not Entry.unscoped.filter(tag="operators:rows:read").exists()
    assert not Tally.unscoped.filter(tag="operators:rows:read").exists()


def test_page_of_a_tenant_counts_its_people(rows: Cast, browser: Client) -> None:
    page = browser.get(f"{address('tenants.tenant')}{rows.acme.pk}/")
    assert "officer active 3" in text_of(page)
    assert f"{address('kernel.job')}?tenant_id={rows.acme.pk}" in page.content.decode()


def test_queries_of_a_list_do_not_grow_with_its_rows(rows: Cast, browser: Client) -> None:
    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as caught:
            assert browser.get(address("kernel.job")).status_code == 200
        return len(caught)

    queries()
    before = queries()
    with tenant_scope(rows.acme.pk), transaction.atomic():
        for number in range(60):
            queue.enqueue("keys.notice", person=f"payload-of-somebody-{number}")
    assert queries() == before
    page = browser.get(address("kernel.job"))
    assert page.content.decode().count("keys.notice") == 50
    assert browser.get(address("kernel.job") + "?p=2").content.decode().count("keys.notice") == 11
    assert browser.get(address("kernel.job") + "?all=").content.decode().count("keys.notice") <= 50
    assert Job.unscoped.count() == 61


def test_hostile_text_stays_text(world: Cast, browser: Client) -> None:
    """Names are refused where they are given; what a hand wrote into the table is shown as it is."""
    payload = '"><script>alert(1)</script>'
    type(world.acme).objects.filter(pk=world.acme.pk).update(name=payload)
    with tenant_scope(world.acme.pk), transaction.atomic():
        job = queue.enqueue(payload)
    assert job is not None
    Job.unscoped.update(last_error=payload, state="dead")
    for path in (
        address("tenants.tenant") + f"{world.acme.pk}/",
        address("kernel.job"),
        address("kernel.job") + f"{job.pk}/",
        f"/admin/acts/tenant/{world.acme.pk}/suspend/",
        f"/admin/acts/job/{job.pk}/drop/",
    ):
        page = browser.get(path)
        assert page.status_code == 200
        assert "<script" not in page.content.decode()
        assert "&lt;script&gt;" in page.content.decode()
