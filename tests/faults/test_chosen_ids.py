# SPDX-License-Identifier: Apache-2.0
"""Ids that clients choose (FAULTS T1a): another tenant's is like one that nobody has, and both live side by side."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from holdfast.core.base.encoding import b64u
from kernel import queue
from keys.models import Device
from keys.vaults import READS_BY_PENDING
from recovery.models import Approval, Case
from tenants.models import Credential
from tests.cast.phones import Phone
from tests.faults.chosen import MAKERS
from tests.faults.world import API, Installation, Organisation

pytestmark = pytest.mark.postgres


@pytest.mark.parametrize("kind", MAKERS)
def test_id_of_another_tenant_is_taken_as_one_that_nobody_has(kind: str, installation: Installation) -> None:
    make, model = MAKERS[kind]
    own = model.unscoped.filter(tenant_id=installation.acme.tenant_id).first()
    foreign = model.unscoped.filter(tenant_id=installation.other.tenant_id).first()
    assert own is not None
    assert foreign is not None
    before = model.unscoped.filter(row_id=foreign.row_id).values().get()
    answers = [make(installation.acme, chosen).send() for chosen in (own.id, foreign.id, uuid.uuid4())]
    assert [answer.status_code for answer in answers] == [409, 201, 201], [answer.content for answer in answers]
    taken, fresh = (answer.json() for answer in answers[1:])
    assert taken.keys() == fresh.keys()
    assert model.unscoped.filter(row_id=foreign.row_id).values().get() == before
    assert make(installation.acme, foreign.id).send().status_code == 409


@pytest.fixture
def twins(installation: Installation) -> tuple[Phone, Phone]:
    """Alice's phone at Acme, and a phone of the other tenant's alice that has its id."""
    phone = installation.acme.phone("alice")
    twin = installation.other.directory.account("alice").add_phone(device_id=phone.id)
    assert Device.unscoped.filter(id=phone.id).count() == Credential.unscoped.filter(id=phone.id).count() == 2
    return phone, twin


def test_devices_of_one_id_sign_each_for_their_own_tenant(
    installation: Installation, twins: tuple[Phone, Phone]
) -> None:
    nonce = secrets.token_bytes(16)
    for device in twins:
        answer = replace(device.signer, nonce=nonce).send(Client(), "GET", f"{API}/devices")
        assert answer.status_code == 200, "what one tenant has spent is not spent in the other"
        assert str(device.id) in [row["device_id"] for row in answer.json()["devices"]]
        assert device.send("GET", f"{API}/users/{device.person.pk}/chain").status_code == 200
    for device, foreign in (twins, reversed(twins)):
        assert device.send("GET", f"{API}/users/{foreign.person.pk}/chain").status_code == 404
        assert replace(device.signer, nonce=nonce).send(Client(), "GET", f"{API}/devices").status_code == 401


def test_devices_of_one_id_have_keys_and_a_mailbox_of_their_own(
    installation: Installation, twins: tuple[Phone, Phone]
) -> None:
    phone, twin = twins
    count = phone.send("GET", "pre-keys").json()["count"]
    twin.publish(batches=[2])
    assert [device.send("GET", "pre-keys").json()["count"] for device in twins] == [count, 2]
    senders = [one.phone("bob") for one in (installation.acme, installation.other)]
    for device, sender in zip(twins, senders, strict=True):
        claimed = sender.claim(device).json()
        assert (claimed["device_statement"], claimed["one_time"]) == (b64u(device.statement.encode()), "handed-out")
    assert [device.send("GET", "pre-keys").json()["count"] for device in twins] == [count - 1, 1]
    assert senders[1].claim(twin).json()["one_time"] == "handed-out"
    assert senders[1].claim(twin).json()["one_time"] == "exhausted", "none of the other tenant's keys is handed out"
    letters = [b64u(secrets.token_bytes(64)) for _ in twins]
    for device, sender, letter in zip(twins, senders, letters, strict=True):
        named = {"kind": "share", "message": letter}
        sent = sender.send("POST", f"{device.path}/messages", named, idempotency_key=uuid.uuid4().hex)
        assert sent.status_code == 201, sent.content
    for device, letter in zip(twins, letters, strict=True):
        waiting = [row["message"] for row in device.send("GET", f"{API}/messages").json()["messages"]]
        assert [one for one in waiting if one in letters] == [letter]


def test_device_of_one_id_is_revoked_in_its_own_tenant_alone(
    installation: Installation, twins: tuple[Phone, Phone]
) -> None:
    phone, twin = twins
    assert installation.other.directory.account("alice").revoke(twin).status_code == 201
    assert twin.send("GET", f"{API}/devices").status_code == 401
    assert phone.send("GET", f"{API}/devices").status_code == 200
    states = Device.unscoped.filter(id=phone.id).order_by("row_id").values_list("state", flat=True)
    assert list(states) == ["active", "revoked"]


def test_pending_devices_of_one_id_read_their_owners_doors_each_on_their_own_count(installation: Installation) -> None:
    phone = installation.acme.new_phone()
    twin = installation.other.new_phone(device_id=phone.id)
    door = f"{API}/vault/doors/password"
    answers = [twin.send("GET", door).status_code for _ in range(READS_BY_PENDING + 1)]
    assert answers == [200] * READS_BY_PENDING + [429]
    assert phone.send("GET", door).status_code == 200


def test_deposits_and_cases_of_one_id_are_released_each_in_their_own_tenant(installation: Installation) -> None:
    acme, other = installation.acme, installation.other
    deposit = other.build(deposit_id=acme.archive.header.deposit_id)
    assert other.upload(deposit).status_code == 201
    case = other.opened(deposit, case_id=acme.case_open.id.bytes)
    assert _standing(acme, case.id) == ("requested", 1), "as it was"
    for name, standing in (("carol", ("requested", 1)), ("dan", ("waiting", 2))):
        assert other.approve(case, name, deposit).status_code == 201
        assert _standing(other, case.id) == standing
    other.sequence()
    with acme.process():
        queue.run_due("release")
    assert (_standing(acme, case.id), _standing(other, case.id)) == (("requested", 1), ("released", 2))
    document = other.collect(case).json()
    assert other.combine(case, deposit, document) == other.archive_keys[deposit.header.deposit_id]
    assert acme.collect(acme.case_open).status_code == 409
    for one, opened in ((acme, acme.case_open), (other, case)):
        shown = one.phone("carol").send("GET", f"{API}/cases/{opened.id}").json()
        assert shown["q"] == b64u(opened.statement.payload_hash)
        held = one.phone("alice").send("GET", f"{API}/escrow/deposits/{shown['deposits'][0]['deposit_id']}")
        assert held.status_code == 200
    assert acme.approve(acme.case_open, "dan", acme.archive).status_code == 201
    assert (_standing(acme, case.id), _standing(other, case.id)) == (("waiting", 2), ("collected", 2))


def _standing(one: Organisation, case_id: uuid.UUID) -> tuple[str, int]:
    state = Case.unscoped.get(tenant_id=one.tenant_id, id=case_id).state
    return state, Approval.unscoped.filter(tenant_id=one.tenant_id, case_id=case_id).count()


def test_request_to_contacts_that_another_device_made_is_not_handed_back(installation: Installation) -> None:
    one = installation.acme
    asked = one.contacts.asking(one.phone("alice"))
    assert asked.send().status_code == 201
    copied = replace(asked, signer=one.signer("bob")).send()
    assert copied.status_code == 422, copied.content


@pytest.mark.parametrize("kind", MAKERS)
def test_id_that_is_taken_is_refused_alike_whosever_it_is(kind: str, installation: Installation) -> None:
    """FAULTS X6: neither the answer nor what it costs tells one's own id from another person's."""
    one = installation.acme
    make, model = MAKERS[kind]
    own, others = OWNED[kind](one)
    assert own != others
    refusals = []
    # The first of them reads what the process keeps afterwards; what it costs says nothing of the id.
    for chosen in (own, own, others):
        act = make(one, chosen)
        kept = model.unscoped.filter(tenant_id=one.tenant_id, id=chosen).values().get()
        with CaptureQueriesContext(connection) as queries:
            answer = act.send()
        refusals.append((answer.status_code, shown_without(answer.json(), "instance"), len(queries)))
        assert model.unscoped.filter(tenant_id=one.tenant_id, id=chosen).values().get() == kept
    assert refusals[1] == refusals[2]
    assert [status for status, *_ in refusals] == [409, 409, 409]


def shown_without(document: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != name}


def _deposits(one: Organisation) -> tuple[uuid.UUID, uuid.UUID]:
    """Alice's deposit, who makes the next one, and one of bob's."""
    return uuid.UUID(bytes=one.archive.header.deposit_id), uuid.UUID(bytes=one.deposit("bob").header.deposit_id)


def _cases(one: Organisation) -> tuple[uuid.UUID, uuid.UUID]:
    """A case that alice asked for, as the next one, and one that bob did."""
    bobs = one.opened(one.deposit("bob"), phone=one.new_phone("bob"))
    return one.case_open.id, bobs.id


# By what `MAKERS` makes: an id of the maker's own, and one of another person.
OWNED: dict[str, Callable[[Organisation], tuple[uuid.UUID, uuid.UUID]]] = {
    "device": lambda one: (one.phone("bob").id, one.phone("alice").id),
    "deposit": _deposits,
    "case": _cases,
}
