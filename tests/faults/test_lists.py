# SPDX-License-Identifier: Apache-2.0
"""Lists that grow: each comes in pages, shows every row once, and says when there is more."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from escrow.models import Consent, Deposit, PolicyProposal, Resolution
from holdfast.core.base.encoding import b64u
from holdfast.core.identity.acts import Act as Resolved
from kernel.paging import PAGE
from keys.models import Device
from recovery import access
from recovery.models import Case, ContactAnswer, ContactRequest, Notice
from tests.cast.browsers import signed_in
from tests.faults.acts import Act
from tests.faults.world import API, Installation, Organisation

pytestmark = pytest.mark.postgres
MANY = 2 * PAGE + 5


def copies(row: Any, count: int = MANY, **fresh: Callable[[int], Any]) -> list[Any]:
    """Put in many rows like one, each with an id and what else must differ of its own."""
    fields = {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}
    fields.pop("row_id", None)
    rows = [
        type(row)(**{**fields, "id": uuid.uuid4(), **{name: make(number) for name, make in fresh.items()}})
        for number in range(count)
    ]
    return list(type(row).unscoped.bulk_create(rows))


def octets(_number: int) -> bytes:
    return secrets.token_bytes(32)


def deposits(one: Organisation, *, users: bool = False) -> None:
    row = Deposit.unscoped.filter(tenant_id=one.tenant_id).first()
    others: dict[str, Any] = {"user_id": lambda _: uuid.uuid4()} if users else {}
    copies(row, half_hash=octets, record_hash=octets, **others)


def contact_requests(one: Organisation) -> None:
    row = ContactRequest.unscoped.get(pk=one.contact_request.id)
    made = copies(row, request_hash=octets, device_id=lambda _: uuid.uuid4(), state=lambda _: "cancelled")
    bob = one.phone("bob").person.pk
    ContactAnswer.unscoped.bulk_create(
        ContactAnswer(tenant_id=one.tenant_id, request=made_one, contact_id=bob) for made_one in made
    )


def devices(one: Organisation) -> None:
    row = Device.unscoped.get(id=one.phone("alice").id)
    copies(row, statement_hash=octets, state=lambda _: "revoked")


def notices(one: Organisation) -> None:
    row = Notice.unscoped.filter(tenant_id=one.tenant_id, person_id=one.phone("alice").person.pk).first()
    copies(row, kind=lambda number: f"k{number}", due_at=lambda number: timezone.now() - timedelta(days=number // 2))


def cases(one: Organisation) -> None:
    copies(Case.unscoped.get(id=one.case_open.id), q=octets, state=lambda _: "cancelled")


def resolutions(one: Organisation) -> None:
    made = one.resolution(Resolved.ACKNOWLEDGE_LEAF, 7, octets(0))
    assert one.resolve(made, "carol").status_code == 201
    copies(Resolution.unscoped.get(tenant_id=one.tenant_id), hash=octets)


def policy_proposals(one: Organisation) -> None:
    assert one.propose(one.policy(m=2, delay_seconds=600), "carol").status_code == 201
    copies(PolicyProposal.unscoped.get(tenant_id=one.tenant_id), hash=octets)


def people(one: Organisation) -> None:
    copies(one.cast.people["alice"], email_key=lambda number: f"p{number}@acme.test")


def statements(one: Organisation) -> None:
    copies(Consent.unscoped.filter(tenant_id=one.tenant_id).first(), hash=octets)


# Who lists what, under which name, by which key the next page is asked for, and the rows that make it long.
LISTS: dict[str, tuple[str, str, str, str, Callable[[Organisation], None], int]] = {
    "devices": ("alice", "devices", "devices", "device_id", devices, PAGE),
    "notices": ("alice", "notices", "notices", "notice_id", notices, PAGE),
    "cases": ("carol", "cases", "cases", "case_id", cases, PAGE),
    "deposits": ("alice", "escrow/deposits", "deposits", "deposit_id", deposits, PAGE),
    "coverage": (
        "carol", "escrow/coverage", "deposits", "user_id", lambda one: deposits(one, users=True), PAGE,
    ),
    "resolutions": ("carol", "escrow/resolutions", "resolutions", "resolution_id", resolutions, PAGE),
    "policy proposals": (
        "carol", "escrow/policy-proposals", "proposals", "proposal_id", policy_proposals, 20,
    ),
    "policy answers": ("carol", "escrow/policy-answers", "answers", "person_id", people, PAGE),
    "people": ("olivia", "organisation/people", "people", "id", people, PAGE),
    "statements": ("alice", "statements", "statements", "hash", statements, 20),
    "requests of an owner": (
        "alice", "recovery/contacts/requests?role=owner", "requests", "request_id", contact_requests, PAGE,
    ),
    "requests to a contact": (
        "bob", "recovery/contacts/requests?role=contact", "requests", "request_id", contact_requests, PAGE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LISTS)
def test_long_list_comes_in_pages_and_says_when_there_is_more(name: str, installation: Installation) -> None:
    who, path, rows, key, make, size = LISTS[name]
    one = installation.acme
    make(one)

    def get(after: str = "") -> Any:
        joint = "&" if "?" in path else "?"
        uri = f"{API}/{path}{joint}after={after}" if after else f"{API}/{path}"
        return Act(one.signer(who), "GET", uri).send()

    seen: list[str] = []
    after = ""
    for _ in range(40):
        answer = get(after)
        assert answer.status_code == 200, answer.content
        page = answer.json()
        seen += [row[key] for row in page[rows]]
        if not page["more"]:
            break
        assert len(page[rows]) == size
        after = seen[-1]
    assert len(seen) == len(set(seen)) > MANY
    assert get("nonsense-").status_code == 400
    unknown = b64u(bytes(32)) if key == "hash" else str(uuid.uuid4())
    assert get(unknown).status_code == 404


def test_what_is_open_stands_in_front_of_what_is_over(installation: Installation) -> None:
    one = installation.acme
    contact_requests(one)
    devices(one)
    asked = Act(one.signer("bob"), "GET", f"{API}/recovery/contacts/requests?role=contact").send().json()
    assert asked["requests"][0]["request_id"] == str(one.contact_request.id)
    listed = Act(one.signer("alice"), "GET", f"{API}/devices").send().json()["devices"]
    states = [row["state"] for row in listed]
    assert states == sorted(states, key=lambda state: state == "revoked")
    assert str(one.phone("alice").id) in {row["device_id"] for row in listed}


def test_timeline_that_is_cut_says_so(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    one = installation.acme
    path = f"{API}/cases/{one.case_open.id}"
    whole = Act(one.signer("carol"), "GET", path).send().json()
    assert (whole["timeline_more"], len(whole["timeline"]) > 2) == (False, True)
    monkeypatch.setattr(access, "MAX_TIMELINE", 2)
    cut = Act(one.signer("carol"), "GET", path).send().json()
    assert (cut["timeline_more"], cut["timeline"]) == (True, whole["timeline"][-2:])
    page = one.browser.get(f"/console/cases/{one.case_open.id}/").content.decode()
    assert "The newest 2 entries." in page


def test_overview_says_when_more_cases_wait_than_it_shows(installation: Installation) -> None:
    one = installation.acme
    dan = signed_in(one.cast.people["dan"])
    assert "than stand here" not in dan.get("/console/").content.decode()
    copies(Case.unscoped.get(id=one.case_open.id), 30, q=octets)
    text = dan.get("/console/").content.decode()
    assert "More wait for you than stand here" in text
    assert "More are open than stand here" in text
