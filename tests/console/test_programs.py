# SPDX-License-Identifier: Apache-2.0
"""Programs in the console: service accounts let in, stopped and revoked, and the page that lists them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from audit.models import Entry
from holdfast.core.base.encoding import b64u
from holdfast.core.crypto.keys import SigningKey
from tenants.models import ServiceAccount
from tests.cast.administrators import Administrator, administrator
from tests.cast.browsers import text_of
from tests.cast.tenants import Cast, Signer, build_world, make_device, make_service


@pytest.fixture
def cast(db: None) -> Cast:
    return build_world()


@pytest.fixture
def olivia(cast: Cast) -> Administrator:
    return administrator(cast.olivia)


def made(olivia: Administrator, **changes: str) -> str:
    page = olivia.do("log-token-create", **({"name": "SIEM", "days": "90"} | changes))
    found = re.search(r"hf_log_[A-Za-z0-9_-]{43}", page.content.decode())
    assert found, page.content.decode()
    return found[0]


def tags(subject: Any) -> list[str]:
    return list(Entry.unscoped.filter(subject=str(subject)).order_by("seq").values_list("tag", flat=True))


class TestServiceAccounts:
    @pytest.mark.parametrize("encode", [b64u, bytes.hex, lambda key: key.hex(" ", 4)])
    def test_program_is_let_in_by_a_pasted_key(self, cast: Cast, olivia: Administrator, encode: Any) -> None:
        key = SigningKey.generate()
        answer = olivia.do("service-account-create", name="payroll", public_key=encode(key.public.encoded))
        assert answer.status_code == 302
        account = ServiceAccount.unscoped.get()
        assert account.created_by == cast.olivia.pk
        assert tags(account.pk) == ["tenants:service-account:create"]
        assert str(account.pk) in text_of(olivia.client.get("/console/programs/"))
        assert Signer(account.pk, key).send(Client(), "GET", "/api/v1/audit/entries").status_code == 200

    @pytest.mark.parametrize("key", ["nonsense", "00" * 33, b64u(b"\x01" * 40)])
    def test_what_is_no_key_is_refused_at_its_field(self, cast: Cast, olivia: Administrator, key: str) -> None:
        page = olivia.look("service-account-create", name="payroll", public_key=key)
        assert page.status_code == 400
        assert "no public signing key" in text_of(page)
        assert key in page.content.decode()
        assert not ServiceAccount.unscoped.exists()

    def test_taken_name_is_refused_at_its_field(self, cast: Cast, olivia: Administrator) -> None:
        make_service(cast.acme, "payroll")
        key = b64u(SigningKey.generate().public.encoded)
        assert olivia.look("service-account-create", name="payroll", public_key=key).status_code == 409

    def test_suspended_resumed_and_revoked_program(self, cast: Cast, olivia: Administrator) -> None:
        signer = make_service(cast.acme)
        account = ServiceAccount.unscoped.get(pk=signer.id)

        def status() -> int:
            answer = signer.send(Client(), "GET", "/api/v1/audit/entries")
            return int(answer.status_code)

        assert status() == 200
        assert olivia.do("service-account-suspend", account).status_code == 302
        assert status() == 401
        assert olivia.do("service-account-resume", account).status_code == 302
        assert status() == 200
        assert olivia.do("service-account-revoke", account).status_code == 302
        assert status() == 401
        for act in ("suspend", "resume", "revoke"):
            assert olivia.look(f"service-account-{act}", account).status_code == 409
        assert tags(signer.id)[1:] == [
            "tenants:credential:suspend",
            "tenants:credential:activate",
            "tenants:credential:revoke",
        ]

    def test_device_is_no_service_account(self, cast: Cast, olivia: Administrator) -> None:
        device = make_device(cast.bob)
        page = olivia.client.post(f"/console/acts/service-account-revoke/{device.id}/")
        assert page.status_code == 404

    def test_another_tenants_program_is_not_found(self, cast: Cast, olivia: Administrator) -> None:
        theirs = ServiceAccount.unscoped.get(pk=make_service(cast.other).id)
        assert olivia.look("service-account-revoke", theirs).status_code == 404


class TestPage:
    def test_empty_page_says_what_to_do_first(self, cast: Cast, olivia: Administrator) -> None:
        shown = text_of(olivia.client.get("/console/programs/"))
        assert "No program is let in" in shown
        assert "No log token" in shown

    @pytest.mark.parametrize("name", ["carol", "rex", "otto"])
    def test_page_is_owners(self, cast: Cast, name: str) -> None:
        assert administrator(cast.people[name]).client.get("/console/programs/").status_code == 403

    def test_queries_do_not_grow_with_the_rows(self, cast: Cast, olivia: Administrator) -> None:
        def queries() -> int:
            with CaptureQueriesContext(connection) as captured:
                assert olivia.client.get("/console/programs/").status_code == 200
            return len(captured)

        def more(number: int) -> None:
            make_service(cast.acme, f"program {number}")
            made(olivia, name=f"token {number}")

        more(0)
        before = queries()
        for number in range(1, 4):
            more(number)
        assert queries() == before

    def test_name_is_escaped(self, cast: Cast, olivia: Administrator) -> None:
        made(olivia, name="<script>alert(1)</script>")
        shown = olivia.client.get("/console/programs/").content.decode()
        assert "<script>alert" not in shown
        assert "&lt;script&gt;" in shown
