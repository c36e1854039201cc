# SPDX-License-Identifier: Apache-2.0
"""A tenant whose database was put back: it answers what is asked, and nothing of it is changed, on every route."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction
from django.utils import timezone

from audit import restored
from audit import services as audit
from audit.models import Tally
from kernel import queue
from kernel.scope import tenant_scope
from keys.models import Claim, Device, Message
from recovery.models import ContactRequest
from tenants import mails
from tenants.models import Mail, Tenant
from tenants.roles import Role
from tests.cast.phones import issue, new_phone, post_enrolment
from tests.cast.world import as_superuser
from tests.faults.routes import Route, api_calls, changed, picture, routes
from tests.faults.world import ROLES, VALID, Installation, Organisation, _claim_user, _message_sent

pytestmark = pytest.mark.postgres
# What goes on: officers accept the backup, and devices show what they hold.
GOES_ON = {("audit-head", "POST"), ("escrow-resolutions", "POST")}
# What is handed out by being read, and counts as taken from then on.
CHANGES = {("case-release", "GET"), ("contact-request", "GET")}
SIGNING_IN = {
    "console-invitation",
    "console-password-reset",
    "console-password-reset-link",
    "console-sign-in",
    "console-sign-in-code",
    "console-sign-out",
    "me-sessions-end",
}


def _mark(one: Organisation) -> None:
    with tenant_scope(one.tenant_id):
        restored.mark(by="sequencer")


@pytest.mark.parametrize(("name", "method"), sorted(api_calls()))
def test_every_route_but_the_way_out_only_looks_while_a_backup_is_not_accepted(
    name: str, method: str, installation: Installation
) -> None:
    act = VALID[name, method](installation.acme)
    _mark(installation.acme)
    before = picture()
    response = act.send()
    if (name, method) in GOES_ON or (method == "GET" and (name, method) not in CHANGES):
        assert response.status_code in (200, 201, 202), response.content
        # A read is an entry, and no more than that.
        assert (name, method) in GOES_ON or changed(before) <= {"audit_waiting", "audit_tally"}
        return
    assert response.status_code == 503, response.content
    assert (response.json()["code"], response["retry-after"]) == ("log-restored", "60")
    assert changed(before) == set()


@pytest.mark.parametrize(("name", "method"), sorted(call for call in api_calls() if call[1] != "GET"))
def test_one_tenants_mark_is_nobody_elses_trouble(name: str, method: str, installation: Installation) -> None:
    _mark(installation.other)
    response = VALID[name, method](installation.acme).send()
    assert response.status_code in (200, 201, 202, 204), response.content


def _address(route: Route) -> str:
    """An address of this route, with ids that nobody has."""
    filled = re.sub(r"<uuid:\w+>", str(UUID(int=7)), route.pattern)
    return "/" + re.sub(r"<int:\w+>", "1", re.sub(r"<(slug|str):\w+>", "person-suspend", filled))


@pytest.mark.parametrize("name", sorted(route.name for route in routes() if route.is_console))
def test_no_form_of_a_page_is_taken_but_those_that_sign_in_and_out(name: str, installation: Installation) -> None:
    one, route = installation.acme, next(one for one in routes() if one.name == name)
    browser = one.sign_in("olivia")
    _mark(one)
    before = picture()
    answer = browser.post(_address(route), {"session": "others"})
    if name in SIGNING_IN:
        assert answer.status_code in (200, 302, 401, 404), answer.content
        return
    assert answer.status_code in (405, 503), answer.content
    assert changed(before) == set()
    if answer.status_code == 503:
        text = answer.content.decode()
        assert "Nothing was changed" in text
        assert "put back from a backup" in text
        assert answer["retry-after"] == "60"


# What becomes due by itself: the column that is aged so that it is.
DUE: dict[str, Callable[[Organisation], None]] = {
    "messages that nobody fetched": lambda one: _aged(Message, "received_at", made_by=_message_sent(one)),
    "claims of a month ago": lambda one: _aged(Claim, "claimed_at", made_by=_claim_user(one).send()),
    "a device that no chain lists": lambda one: _waiting_device(one),  # noqa: PLW0108 — defined below
    "counts of an hour that is over": lambda one: _counted(one),  # noqa: PLW0108
    "the end of a lock": lambda one: _aged(Tenant, "unlock_at", pk=one.tenant_id, state="locked"),
    "requests to contacts": lambda one: _aged(ContactRequest, "expires_at", tenant_id=one.tenant_id),
}
LONG_AGO = timedelta(days=400)


def _aged(model: Any, column: str, *, made_by: object = None, **which: Any) -> None:
    state = {"state": which.pop("state")} if "state" in which else {}
    with as_superuser(model._meta.db_table):
        assert model._base_manager.filter(**which).update(**{column: timezone.now() - LONG_AGO}, **state)


def _waiting_device(one: Organisation) -> None:
    phone = new_phone(one.cast.bob)
    issue(phone)
    assert post_enrolment(phone).status_code == 201
    _aged(Device, "created_at", tenant_id=one.tenant_id, state="pending")


def _counted(one: Organisation) -> None:
    with tenant_scope(one.tenant_id), transaction.atomic():
        for _ in range(3):
            audit.append_first(tag="audit:entries:read", actor=one.ceremony, body={"count": 1})
    Tally.unscoped.update(hour=1)


def _promised(one: Organisation, kind: str) -> None:
    with tenant_scope(one.tenant_id), transaction.atomic():
        mails.promise(kind=kind, to=one.cast.bob, actor=one.ceremony)


def _work() -> None:
    """All that the worker does by itself, once."""
    for _, work in queue.periodic():
        work()
    for name in ("worker", queue.MAIL):
        queue.run_due(name)


@pytest.mark.parametrize("what", DUE)
def test_nothing_of_its_tenant_changes_by_itself(what: str, installation: Installation) -> None:
    one = installation.acme
    _work()
    DUE[what](one)
    _mark(one)
    _work()  # the mails about it
    before = picture()
    _work()
    assert changed(before) - {"kernel_job"} == set()
    with tenant_scope(one.tenant_id):
        restored.end()
    before = picture()
    _work()
    assert changed(before) - {"kernel_job"}


def test_officers_and_owners_are_told_once_by_mail(installation: Installation) -> None:
    one = installation.acme
    _mark(one)
    _promised(one, "left")
    for _ in range(2):
        _work()
    told = Mail.unscoped.filter(tenant_id=one.tenant_id, kind="restored")
    roles = {name for name, role in ROLES.items() if role in (Role.OWNER, Role.OFFICER)}
    assert {row.person_id for row in told} == {one.cast.people[name].pk for name in roles}
    assert set(told.values_list("state", flat=True)) == {"handed-over"}
    assert Mail.unscoped.get(kind="left").state == "waiting"
    assert not Mail.unscoped.filter(tenant_id=installation.other.tenant_id, kind="restored").exists()
