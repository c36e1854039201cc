# SPDX-License-Identifier: Apache-2.0
"""The migrations that made clients' ids unique in each tenant, on a database with rows of before."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.utils import DatabaseError
from django.utils import timezone

from escrow.models import Deposit
from kernel.scope import TenantModel
from keys.models import Device, OneTimePreKey, PreKeyBatch, SignedPreKey
from recovery.models import Approval, Attestation, Case, CaseDeposit, Notice, Release, SealedShare, Veto
from tenants.models import Credential, Nonce, Person, Tenant

pytestmark = [pytest.mark.postgres, pytest.mark.django_db(transaction=True)]

BEFORE = [
    ("keys", "0004_claims_end"),
    ("tenants", "0003_sign_in_place"),
    ("escrow", "0002_append_only"),
    ("recovery", "0005_cases_by_requester"),
]
OF_DEVICE: tuple[type[TenantModel], ...] = (SignedPreKey, PreKeyBatch)
OF_CASE: tuple[type[TenantModel], ...] = (CaseDeposit, Approval, Veto, Notice, Release, Attestation)
NOW = timezone.now()
TENANT, PERSON, DEVICE, DEPOSIT, CASE = (uuid.uuid4() for _ in range(5))


def _migrate(targets: list[tuple[str, str]] | None = None) -> Any:
    """Migrate there, or to the newest, and return the models of before."""
    executor = MigrationExecutor(connection)
    executor.migrate(targets or executor.loader.graph.leaf_nodes())
    return executor.loader.project_state(targets).apps if targets else None


@pytest.fixture
def before() -> Iterator[Any]:
    """The models of before, on a database as it was; whatever happens, it is the newest again at the end."""
    _empty()
    try:
        yield _migrate(BEFORE)
    finally:
        _migrate()


def _empty() -> None:
    """Take every table away: from where ids may be taken twice, no migration leads back."""
    with connection.constraint_checks_disabled(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("DROP SCHEMA public CASCADE")
            cursor.execute("CREATE SCHEMA public")
            return
        cursor.execute("SELECT name FROM sqlite_master WHERE type = 'view'")
        for (view,) in cursor.fetchall():
            cursor.execute(f"DROP VIEW {connection.ops.quote_name(view)}")
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"DROP TABLE {connection.ops.quote_name(table)}")


def _fill(apps: Any) -> None:
    def make(label: str, **fields: Any) -> Any:
        return apps.get_model(label)._base_manager.create(**fields)

    make("tenants.Tenant", id=TENANT, slug="acme", slug_skeleton="acme", name="Acme")
    person = {"id": PERSON, "email": "a@acme.test", "email_key": "a@acme.test", "name": "A", "state": "active"}
    make("tenants.Person", tenant_id=TENANT, **person)
    credential = {"id": DEVICE, "kind": "device", "person_id": PERSON, "public_key": b"k", "state": "active"}
    make("tenants.Credential", tenant_id=TENANT, **credential)
    apps.get_model("tenants.Nonce").objects.create(
        credential_id=DEVICE, nonce=b"n" * 16, tenant_id=TENANT, expires_at=NOW
    )
    signed: dict[str, Any] = {"tenant_id": TENANT, "statement": b"s", "statement_hash": b"h" * 32}
    make("keys.Device", id=DEVICE, user_id=PERSON, name="phone", suite=1, created_at=NOW, **signed)
    make("keys.SignedPreKey", device_id=DEVICE, key_id=1, issued_at=1, expires_at=2, **signed)
    batch = {"batch_id": b"b" * 16, "first_key_id": 1, "last_key_id": 2, "size": 2, "epoch": 0, "stored_at": NOW}
    row = make("keys.PreKeyBatch", device_id=DEVICE, **batch, **signed)
    one_time = {"epoch": 0, "batch": row, "key_id": 1, "index": 0, "leaf": b"l", "proof": b"p"}
    make("keys.OneTimePreKey", tenant_id=TENANT, device_id=DEVICE, **one_time)
    hashes = ("record_hash", "half_hash", "ak_commitment", "policy_hash", "escrow_key_hash")
    named = {name: name.encode().ljust(32) for name in hashes}
    owned = {"user_id": PERSON, "device_id": DEVICE, "generation": 1, "sealed": b"s", "created_at": NOW}
    make("escrow.Deposit", tenant_id=TENANT, id=DEPOSIT, **named, **owned)
    who = {"subject_id": PERSON, "requester_id": PERSON, "recipient_device_id": DEVICE, "recipient_person_id": PERSON}
    times = {"opened_at": NOW, "notice_at": NOW, "not_before": NOW, "expiry": NOW + timedelta(hours=1)}
    case = {"q": b"q" * 32, "statement": b"s", "purpose": "device-loss", "policy_hash": b"p" * 32}
    make("recovery.Case", tenant_id=TENANT, id=CASE, **case, **who, **times)
    of_case: dict[str, Any] = {"tenant_id": TENANT, "case_id": CASE}
    make("recovery.CaseDeposit", position=0, deposit_id=DEPOSIT, record_hash=b"r" * 32, generation=1, **of_case)
    officer = {"index": 1, "person_id": PERSON, "statement": b"s", "at": NOW}
    approval = make("recovery.Approval", decision="approve", statement_hash=b"h" * 32, **officer, **of_case)
    make("recovery.SealedShare", tenant_id=TENANT, approval=approval, deposit_id=DEPOSIT, sealed=b"s")
    make("recovery.Veto", device_id=DEVICE, at=NOW, **of_case)
    make("recovery.Notice", person_id=PERSON, kind="opened", due_at=NOW, **of_case)
    make("recovery.Release", deposit_id=DEPOSIT, half=b"h", at=NOW, **of_case)
    make("recovery.Attestation", **officer, **of_case)


def test_rows_of_before_are_the_same_rows_after(before: Any) -> None:
    _fill(before)
    _migrate()
    for model, named in ((Device, DEVICE), (Credential, DEVICE), (Deposit, DEPOSIT), (Case, CASE)):
        row = model.unscoped.get()
        assert (row.id, row.tenant_id, row.row_id) == (named, TENANT, row.pk)
    assert {model.unscoped.get().device_id for model in OF_DEVICE} == {DEVICE}
    assert OneTimePreKey.unscoped.get().device_id == DEVICE
    assert {model.unscoped.get().case_id for model in OF_CASE} == {CASE}
    assert SealedShare.unscoped.get().approval.case_id == CASE
    assert OneTimePreKey.unscoped.get().batch.batch_id == b"b" * 16
    assert PreKeyBatch.unscoped.get().number == 1
    nonce = Nonce.objects.get()
    assert (nonce.tenant_id, nonce.credential_id, bytes(nonce.nonce)) == (TENANT, DEVICE, b"n" * 16)


def test_batches_of_before_are_numbered_by_their_ids_and_keep_their_keys(before: Any) -> None:
    _fill(before)
    batches, keys = (before.get_model(f"keys.{name}")._base_manager for name in ("PreKeyBatch", "OneTimePreKey"))
    signed: dict[str, Any] = {"tenant_id": TENANT, "statement": b"s", "statement_hash": b"h" * 32}
    held: dict[str, Any] = {"device_id": DEVICE, "epoch": 0}
    for first in (201, 101):
        ids = {"batch_id": uuid.uuid4().bytes, "first_key_id": first, "last_key_id": first, "size": 1}
        row = batches.create(stored_at=NOW, **ids, **held, **signed)
        keys.create(tenant_id=TENANT, batch=row, key_id=first, index=0, leaf=b"l", proof=b"p", **held)
    _migrate()
    numbered = PreKeyBatch.unscoped.order_by("number").values_list("first_key_id", "number")
    assert list(numbered) == [(1, 1), (101, 2), (201, 3)]
    kept = OneTimePreKey.unscoped.order_by("id").values_list("key_id", "batch__number")
    assert list(kept) == [(1, 1), (201, 3), (101, 2)], "handed out in the order that they came in"


def test_what_was_fixed_before_is_fixed_after_and_ids_are_taken_once_in_each_tenant(before: Any) -> None:
    _fill(before)
    _migrate()
    fixed: list[tuple[Any, dict[str, Any]]] = [
        (Deposit.unscoped.all(), {"record_hash": b"x" * 32}),
        (Deposit.unscoped.all(), {"id": uuid.uuid4()}),
        (Case.unscoped.all(), {"q": b"x" * 32}),
        (Case.unscoped.all(), {"tenant_id": uuid.uuid4()}),
    ]
    for rows, change in fixed:
        with pytest.raises(DatabaseError, match=r"append-only|does not change so"), transaction.atomic():
            rows.update(**change)
    Deposit.unscoped.update(sealed=b"again")
    other = Tenant.objects.create(slug="other", slug_skeleton="other", name="Other")
    person = Person.unscoped.create(tenant=other, email="b@x.test", email_key="b@x.test", name="B")
    theirs: dict[str, dict[str, Any]] = {"Credential": {"person": person, "public_key": b"other"}}
    chosen: tuple[type[TenantModel], ...] = (Device, Credential, Deposit, Case)
    for model in chosen:
        row = model.unscoped.get()
        row.row_id, row.tenant_id = None, other.pk
        for name, value in theirs.get(model.__name__, {}).items():
            setattr(row, name, value)
        row.save(force_insert=True)
        assert [one.tenant_id for one in model.unscoped.filter(id=row.id).order_by("row_id")] == [TENANT, other.pk]
        row.row_id = None
        with pytest.raises(IntegrityError), transaction.atomic():
            row.save(force_insert=True)
    used = Nonce.objects.get()
    Nonce.objects.create(tenant_id=other.pk, credential_id=DEVICE, nonce=bytes(used.nonce), expires_at=NOW)
    with pytest.raises(IntegrityError), transaction.atomic():
        Nonce.objects.create(tenant_id=TENANT, credential_id=DEVICE, nonce=bytes(used.nonce), expires_at=NOW)


@pytest.mark.postgres_only
def test_what_names_a_device_or_a_case_names_one_of_its_own_tenant(before: Any) -> None:
    _fill(before)
    _migrate()
    for model in (*OF_DEVICE, *OF_CASE):
        with pytest.raises(IntegrityError), transaction.atomic():
            model.unscoped.update(tenant_id=uuid.uuid4())
