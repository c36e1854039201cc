# SPDX-License-Identifier: Apache-2.0
"""Deposits: what is taken into custody, who reads it back, and what coverage says (FAULTS C10, R16, X6)."""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
import uuid
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import Error, connection, connections
from django.test.utils import CaptureQueriesContext

from audit.models import Entry
from escrow import services
from escrow.errors import RecordUnreadable
from escrow.models import Deposit
from holdfast.core.base.encoding import b64u, unb64u
from holdfast.core.identity.acts import Standing
from holdfast.core.identity.policy import NEVER
from holdfast.core.signed import cose
from holdfast.core.signed.cose import Purpose
from holdfast.core.signed.statements import DepositStatement
from kernel.clock import database_now
from kernel.scope import tenant_scope
from keys.models import Device
from tests.cast.phones import audit_away
from tests.cast.plans import plan
from tests.cast.world import World, as_superuser, columns_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]


def refused(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_deposit_is_listed_and_read_back_byte_for_byte_by_a_pending_device(world: World) -> None:
    deposit = world.deposit()
    phone = world.new_phone()
    (row,) = phone.send("GET", "/api/v1/escrow/deposits").json()["deposits"]
    assert unb64u(row["record_hash"]) == hashlib.sha256(deposit.to_record()).digest()
    answer = phone.send("GET", f"/api/v1/escrow/deposits/{row['deposit_id']}").json()
    assert unb64u(answer["record"]) == deposit.to_record()


def test_deposit_is_not_found_for_bob_mallory_and_officers_without_a_case(world: World) -> None:
    deposit_id = uuid.UUID(bytes=world.deposit().header.deposit_id)
    for name in ("bob", "mallory", "carol"):
        answer = world.directory.phone(name).send("GET", f"/api/v1/escrow/deposits/{deposit_id}")
        unknown = world.directory.phone(name).send("GET", f"/api/v1/escrow/deposits/{uuid.uuid4()}")
        assert (answer.status_code, answer.content) == (404, unknown.content)


def test_deposit_is_read_by_officers_while_a_case_names_it(world: World) -> None:
    case, deposit = world.approved()
    path = f"/api/v1/escrow/deposits/{uuid.UUID(bytes=deposit.header.deposit_id)}"
    assert world.directory.phone("carol").send("GET", path).status_code == 200
    assert world.directory.phone("bob").send("GET", path).status_code == 404
    case.phone.send("POST", f"{case.path}/cancel", {})
    assert world.directory.phone("carol").send("GET", path).status_code == 404


@pytest.mark.parametrize("where", ["random", "truncated", "flipped", "empty"])
def test_deposit_refuses_a_record_that_is_not_what_was_signed(world: World, where: str) -> None:
    deposit = world.build()
    record = deposit.to_record()
    broken = {
        "random": secrets.token_bytes(2000),
        "truncated": record[:-1],
        "flipped": record[:-1] + bytes([record[-1] ^ 1]),
        "empty": b"\0",
    }[where]
    assert refused(world.upload(deposit, record=broken)) == (422, "deposit-refused")
    assert Deposit.unscoped.count() == 0


def test_deposit_refuses_a_half_that_no_escrow_key_could_have_sealed(world: World) -> None:
    poisoned = replace(world.build(), sealed_half=b"\xff" * 384)
    assert refused(world.upload(poisoned)) == (422, "deposit-refused")


def test_deposit_refuses_a_key_that_the_chain_does_not_announce(world: World) -> None:
    deposit = world.build()
    header = replace(deposit.header, ak_commitment=bytes(32))
    assert refused(world.upload(replace(deposit, header=header))) == (422, "deposit-refused")


@pytest.mark.parametrize("field", ["tenant", "user", "device"])
def test_deposit_refuses_another_tenant_user_or_device(world: World, field: str) -> None:
    deposit = world.build()
    other: dict[str, Any] = {field: uuid.uuid4().bytes}
    header = replace(deposit.header, **other)
    assert refused(world.upload(replace(deposit, header=header))) == (422, "deposit-refused")


def test_deposit_refuses_without_consent_and_after_it_was_withdrawn(world: World) -> None:
    assert refused(world.upload(world.build(consent_hash=bytes(32)))) == (422, "deposit-refused")
    deposit = world.build()
    world.consent(agreed=False)
    assert refused(world.upload(deposit)) == (422, "deposit-refused")


def test_deposit_refuses_the_policy_before_the_newest(world: World) -> None:
    deposit = world.build()
    world.publish(world.policy(m=2), signers=world.founders.values())
    assert refused(world.upload(deposit)) == (409, "policy-stale")


def test_deposit_refuses_a_half_that_was_deposited_before(world: World) -> None:
    first = world.deposit()
    second = world.build()
    answer = world.upload(replace(second, sealed_half=first.sealed_half))
    assert refused(answer) == (409, "deposit-repeated")
    assert refused(world.upload(first)) == (409, "deposit-repeated")


def test_deposit_refuses_a_half_carried_over_from_another_user(world: World) -> None:
    mine = world.deposit()
    stolen = replace(world.build("bob"), sealed_half=mine.sealed_half)
    assert refused(world.upload(stolen, "bob")) == (409, "deposit-repeated")


def test_deposit_refuses_a_statement_of_another_device(world: World) -> None:
    deposit = world.build()
    bob = world.directory.phone("bob")
    statement = DepositStatement(bob.header(), hashlib.sha256(deposit.to_record()).digest())
    signed = cose.sign(statement.to_payload(), purpose=Purpose.DEPOSIT, key=bob.isk)
    document = {"record": b64u(deposit.to_record()), "statement": b64u(signed.encode())}
    assert refused(bob.send("POST", "/api/v1/escrow/deposits", document)) == (422, "deposit-refused")


def test_deposit_is_not_taken_when_the_log_cannot_be_written(world: World) -> None:
    deposit = world.build()
    with audit_away():
        assert world.upload(deposit).status_code == 503
    assert Deposit.unscoped.count() == 0


def test_parallel_deposits_of_one_record_store_it_once(world: World) -> None:
    deposit = world.build()
    answers: list[int] = []

    def send() -> None:
        try:
            answers.append(world.upload(deposit).status_code)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert sorted(answers) == [201, 409, 409, 409, 409, 409]
    assert Deposit.unscoped.count() == 1


def test_open_deposit_refuses_a_row_that_was_changed_or_moved(world: World) -> None:
    first, second = world.deposit(), world.deposit()
    with as_superuser("escrow_deposit"):
        one = Deposit.unscoped.get(id=uuid.UUID(bytes=first.header.deposit_id))
        other = Deposit.unscoped.get(id=uuid.UUID(bytes=second.header.deposit_id))
        Deposit.unscoped.filter(id=one.id).update(sealed=other.sealed)
    with tenant_scope(world.tenant_id), pytest.raises(RecordUnreadable):
        services.open_deposit(Deposit.objects.get(id=one.id))


def test_database_refuses_to_change_a_deposit(world: World) -> None:
    world.deposit()
    with pytest.raises(Error):
        Deposit.unscoped.update(user_id=uuid.uuid4())


def test_deposit_is_flagged_once_its_device_is_revoked(world: World) -> None:
    from escrow.tasks import flag_deposits_of_revoked_devices

    world.deposit()
    flag_deposits_of_revoked_devices()
    assert Deposit.unscoped.get().flagged_at is None
    Device.unscoped.filter(id=world.directory.phone("alice").id).update(state="revoked")
    flag_deposits_of_revoked_devices()
    assert Deposit.unscoped.get().flagged_at is not None


def test_looking_for_deposits_to_flag_costs_the_same_however_many_lie_there(world: World) -> None:
    from escrow.tasks import flag_deposits_of_revoked_devices

    world.deposit()
    (deposit,), device = Deposit.unscoped.all(), Device.unscoped.get(id=world.directory.phone("alice").id)

    def deposited(number: int, *, state: str) -> None:
        """Add deposits, each of a device of its own; those of revoked ones are flagged already."""
        ids = [uuid.uuid4() for _ in range(number)]
        with tenant_scope(world.tenant_id):
            Device.objects.bulk_create(
                Device(**columns_of(device) | {"id": one, "statement_hash": one.bytes * 2, "state": state})
                for one in ids
            )
            flagged = {"flagged_at": database_now() if state == "revoked" else None}
            Deposit.objects.bulk_create(
                Deposit(
                    **columns_of(deposit)
                    | {"id": uuid.uuid4(), "device_id": one, "half_hash": one.bytes * 2, "record_hash": one.bytes * 2}
                    | flagged
                )
                for one in ids
            )

    asked = []
    for number in (10, 990):
        deposited(number, state="active")
        deposited(number, state="revoked")
        with CaptureQueriesContext(connection) as queries:
            flag_deposits_of_revoked_devices()
        asked.append(len(queries))
    # One looks for them, the other for tenants that rest after a restored backup.
    assert asked == [2, 2]

    Device.unscoped.filter(id=device.id).update(state="revoked")
    flag_deposits_of_revoked_devices()
    assert Deposit.unscoped.filter(flagged_at=None).count() == 1000
    assert Entry.unscoped.filter(tag="escrow:deposit:flag").count() == 1
    with CaptureQueriesContext(connection) as queries:
        flag_deposits_of_revoked_devices()
    assert len(queries) == 2


def test_coverage_counts_the_indices_of_officers_who_count_now(world: World) -> None:
    world.deposit()
    with tenant_scope(world.tenant_id):
        ((user,), more) = services.tenant_coverage()
        assert not more
        (deposit,) = user.deposits
        assert (deposit.indices, deposit.is_open, deposit.is_alarming) == ((1, 2, 3), True, False)
    for name in ("dan", "erin"):
        world.stand(name, Standing.SUSPENDED, by="carol")
    with tenant_scope(world.tenant_id):
        (deposit,) = services.user_coverage(world.cast.alice.pk).deposits
        assert (deposit.indices, deposit.is_open, deposit.is_alarming) == ((1,), False, True)
    answer = world.directory.phone("carol").send("GET", "/api/v1/escrow/coverage").json()
    assert (answer["users"], answer["recoverable"]) == (1, 0)
    assert world.directory.phone("alice").send("GET", "/api/v1/escrow/coverage").status_code == 403


def test_coverage_says_which_generations_were_announced_and_never_deposited(world: World) -> None:
    """FAULTS X6: a key in use that is not in custody is lost with its devices, whatever else is there."""
    world.deposit()
    world.build()
    world.build("bob")
    with tenant_scope(world.tenant_id):
        of_alice = services.user_coverage(world.cast.alice.pk)
        assert ([one.generation for one in of_alice.deposits], of_alice.missing) == ([1], (2,))
        assert not of_alice.is_recoverable
        of_bob = services.user_coverage(world.cast.bob.pk)
        assert (of_bob.deposits, of_bob.missing) == ((), (1,))
        assert services.user_coverage(world.cast.carol.pk).missing == ()
    answer = world.directory.phone("carol").send("GET", "/api/v1/escrow/coverage").json()
    missing = {(row["user_id"], row["generation"]) for row in answer["missing"]}
    assert missing == {(str(world.cast.alice.pk), 2), (str(world.cast.bob.pk), 1)}
    assert (answer["last"], answer["more"]) == (max(user_id for user_id, _ in missing), False)


def test_coverage_comes_page_by_page_though_a_page_has_no_deposit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "tenant_coverage", partial(services.tenant_coverage, limit=1))
    users = sorted(str(world.cast.people[name].pk) for name in ("alice", "bob"))
    names = {str(world.cast.people[name].pk): name for name in ("alice", "bob")}
    world.build(names[users[0]])
    world.deposit(names[users[1]])
    carol = world.directory.phone("carol")
    first = carol.send("GET", "/api/v1/escrow/coverage").json()
    assert (first["deposits"], [row["user_id"] for row in first["missing"]], first["more"]) == ([], users[:1], True)
    second = carol.send("GET", f"/api/v1/escrow/coverage?after={first['last']}").json()
    assert ([row["user_id"] for row in second["deposits"]], second["missing"], second["more"]) == (users[1:], [], False)
    # What counts the whole tenant is counted once for a reading.
    assert ("users" in first, "users" in second) == (True, False)


def test_coverage_of_one_user_is_read_without_the_others(world: World) -> None:
    for name in ("alice", "bob"):
        world.deposit(name)
    carol, alice = world.directory.phone("carol"), str(world.cast.alice.pk)
    answer = carol.send("GET", f"/api/v1/escrow/coverage?user={alice}").json()
    assert [row["user_id"] for row in answer["deposits"]] == [alice]
    assert (answer["last"], answer["more"], "users" in answer) == (alice, False, False)
    for nobody in (world.cast.carol.pk, world.cast.mallory.pk, uuid.uuid4()):
        answer = carol.send("GET", f"/api/v1/escrow/coverage?user={nobody}").json()
        assert (answer["deposits"], answer["missing"], answer["more"]) == ([], [], False)
    refused_ = carol.send("GET", "/api/v1/escrow/coverage?user=alice")
    assert (refused_.status_code, refused_.json()["errors"][0]["field"]) == (400, "user")


def test_coverage_asks_as_many_queries_for_a_hundred_deposits_as_for_one(world: World) -> None:
    counts = []
    for _ in range(2):
        world.deposit()
        world.deposit("bob")
        with tenant_scope(world.tenant_id), CaptureQueriesContext(connection) as captured:
            services.tenant_coverage()
        counts.append(len(captured))
    # Users with deposits, users who announced, policies, officers' states, whose keys were lost, active officers,
    # announcements, deposits.
    assert counts == [8, 8]


def test_page_of_coverage_is_found_by_indexes_wherever_it_lies(world: World) -> None:
    """Ten thousand people are a hundred pages: each is led to by the last user of the one before, and sorts nobody."""
    for name in ("alice", "bob"):
        world.deposit(name)
    with tenant_scope(world.tenant_id):
        first, *_ = services.tenant_coverage(limit=1)[0]
        with CaptureQueriesContext(connection) as captured:
            services.tenant_coverage(after=first.user_id)
        users = [one["sql"] for one in captured if re.match(r'SELECT DISTINCT "\w+"."user_id"', one["sql"])]
        assert len(users) == 2, users
        for sql in users:
            found = plan(sql)
            assert "user_id>" in found or "user_id >" in found, found


def test_consent_is_refused_for_another_policy_and_under_another_key(world: World) -> None:
    with pytest.raises(AssertionError, match="policy-stale"):
        world.consent(policy_hash=bytes(32))
    account = world.directory.account("alice")
    account.aik = world.root
    with pytest.raises(AssertionError, match="consent-refused"):
        world.consent()


def test_key_is_deposited_so_often_under_one_policy(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "MAX_DEPOSITS", 1)
    first, other = world.deposit(), world.build()
    again = replace(
        first, header=replace(first.header, deposit_id=uuid.uuid4().bytes), sealed_half=world.build().sealed_half
    )
    answer = world.upload(again)
    assert refused(answer) == (409, "limit-reached")
    assert answer.json()["limit"] == "deposits"
    assert world.upload(other).status_code == 201, "another key has room of its own"


def test_consents_are_bounded_and_a_withdrawal_is_always_taken(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "MAX_CONSENTS", 1)
    given = world.consent(text_hash=b"2" * 32)
    assert given
    with pytest.raises(AssertionError, match="limit-reached"):
        world.consent(text_hash=b"3" * 32)
    world.consent(agreed=False)
    for agreed in (False, True):
        with pytest.raises(AssertionError, match="limit-reached"):
            world.consent(agreed=agreed, text_hash=b"4" * 32)


@pytest.mark.parametrize(("binds", "said"), [(30 * 86400, "back before 20"), (NEVER, "back while this version stands")])
def test_consent_that_binds_is_not_taken_back_and_the_answer_to_another_version_is_free(
    world: World, monkeypatch: pytest.MonkeyPatch, binds: int, said: str
) -> None:
    signers = [world.founders[name] for name in ("carol", "dan")]
    world.publish(world.policy(m=2, consent_binds_seconds=binds), signers=signers)
    world.consent(agreed=False, text_hash=b"2" * 32)
    world.consent()
    clock = database_now()
    monkeypatch.setattr(services, "database_now", lambda: clock)
    for days in (0, 29):
        clock += timedelta(days=days)
        world.consent(text_hash=bytes([days]) * 32)  # said again, as after a rotation
        with pytest.raises(AssertionError, match="consent-binding") as refused:
            world.consent(agreed=False)
        assert said in str(refused.value)
    if binds < NEVER:
        clock += timedelta(days=2)
        world.consent(agreed=False)
    else:
        world.publish(world.policy(m=2, undelivered_delay_seconds=86400), signers=signers)
        world.consent(agreed=False)
