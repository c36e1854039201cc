# SPDX-License-Identifier: Apache-2.0
"""Authenticators' keys under the tenant's master key, in a real token: where they open, and who waits without it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.db import IntegrityError, connection, transaction

from audit.models import Entry
from config.checks import check_authenticators
from holdfast.core.base.secret import SecretBytes
from hsm import registry
from hsm.backend import RootToken
from hsm.errors import HsmUnavailable
from kernel.actors import system_actor
from kernel.scope import tenant_scope
from keys.models import TenantMasterKey
from tenants import sign_in
from tenants.errors import FactorsAway
from tenants.models import Authenticator, Person, RateWindow, RecoveryCode
from tests.cast.tenants import Cast, build_world, forget_codes, give_password, give_totp, sealing


@pytest.fixture
def world(root_token: RootToken, db: None) -> Cast:
    return sealing(build_world())


@contextmanager
def hsm_away(root_token: RootToken) -> Iterator[None]:
    def away() -> Any:
        raise HsmUnavailable("the token was removed")

    registry.install(away)
    try:
        yield
    finally:
        registry.install(lambda: {"root": root_token})


def code_of(key: SecretBytes) -> str:
    return sign_in.totp_code(key, at=time.time())


def row_of(person: Person) -> Authenticator:
    found: Authenticator = Authenticator.objects.get(user=person)
    return found


def give_old_totp(person: Person) -> SecretBytes:
    """Give a person an authenticator of before keys were sealed."""
    key = give_totp(person)
    Authenticator.objects.filter(user=person).update(sealed=None, unsealed=key.reveal())
    return key


@pytest.mark.postgres
def test_row_holds_no_key_and_its_code_is_taken(world: Cast) -> None:
    key = give_totp(world.carol)
    row = row_of(world.carol)
    assert row.sealed is not None
    assert row.unsealed is None
    assert len(row.sealed) == 93 + 20
    assert key.reveal() not in bytes(row.sealed)
    assert sign_in.accept_code(person=world.carol, code=code_of(key)) == row


@pytest.mark.parametrize("moved", ["person", "tenant", "serial", "octets", "tenant-of-person"])
def test_row_that_was_moved_opens_nowhere(moved: str, world: Cast, caplog: pytest.LogCaptureFixture) -> None:
    key, mallory, whose = give_totp(world.carol), world.people["mallory"], world.carol
    rows = Authenticator.objects.filter(user=world.carol)
    match moved:
        case "person":
            rows.update(user=world.dan)
            whose = world.dan
        case "tenant":
            rows.update(user=mallory)
            whose = mallory
        case "tenant-of-person":
            Person.unscoped.filter(pk=whose.pk).update(tenant=world.other)
            whose = whose.reload()
        case "serial":
            rows.update(serial=world.dan.pk)
        case "octets":
            give_totp(world.dan)
            Authenticator.objects.filter(user=world.dan).update(sealed=row_of(world.carol).sealed)
            whose = world.dan
    with caplog.at_level(logging.CRITICAL, logger="holdfast.sign-in"):
        assert sign_in.accept_code(person=whose, code=code_of(key)) is None
    assert "somebody changed the row" in caplog.text
    assert str(whose.pk) in caplog.text


def test_without_the_hsm_no_code_is_taken_and_none_is_spent(world: Cast, root_token: RootToken) -> None:
    key = give_totp(world.carol)
    with tenant_scope(world.acme.pk):
        codes = sign_in.make_recovery_codes(person=world.carol, actor=system_actor(world.acme.pk, "ceremony"))
    before = row_of(world.carol).__dict__ | {"_state": None}
    with hsm_away(root_token):
        for code in (code_of(key), "000000"):
            with pytest.raises(FactorsAway):
                sign_in.accept_code(person=world.carol, code=code)
        assert row_of(world.carol).__dict__ | {"_state": None} == before
        assert not RateWindow.objects.filter(
            key=f"totp:{row_of(world.carol).pk}", window=int(time.time()) // 30
        ).exists()
        # Recovery codes ask no HSM: the right one is taken once, and no wrong one.
        assert sign_in.accept_code(person=world.carol, code=codes[0]) is not None
        assert sign_in.accept_code(person=world.carol, code=codes[0]) is None
        assert sign_in.accept_code(person=world.carol, code="aaaa-bbbb-cccc-dddd") is None
    assert sign_in.accept_code(person=world.carol, code=code_of(key)) is not None


def test_without_the_hsm_no_new_authenticator_is_kept(world: Cast, root_token: RootToken) -> None:
    key = SecretBytes(b"k" * 20)
    with hsm_away(root_token), tenant_scope(world.acme.pk), pytest.raises(FactorsAway):
        sign_in.confirm_totp(
            person=world.carol, key=key, code=code_of(key), actor=system_actor(world.acme.pk, "ceremony")
        )
    assert not Authenticator.objects.exists()


def test_tenant_without_a_master_key_confirms_no_authenticator(world: Cast) -> None:
    TenantMasterKey.unscoped.all().delete()
    key = SecretBytes(b"k" * 20)
    with tenant_scope(world.acme.pk), pytest.raises(FactorsAway):
        sign_in.confirm_totp(
            person=world.carol, key=key, code=code_of(key), actor=system_actor(world.acme.pk, "ceremony")
        )


def test_old_authenticator_is_sealed_at_its_next_use(world: Cast) -> None:
    key = give_old_totp(world.carol)
    assert sign_in.accept_code(person=world.carol, code=code_of(key)) is not None
    row = row_of(world.carol)
    assert (row.unsealed, len(row.sealed or b"")) == (None, 113)
    assert Entry.unscoped.filter(tag="tenants:totp:seal", subject=str(world.carol.pk)).count() == 1
    forget_codes(world.carol)
    assert sign_in.accept_code(person=world.carol, code=code_of(key)) is not None


def test_old_authenticator_opens_while_the_hsm_is_away_and_stays_as_it_was(world: Cast, root_token: RootToken) -> None:
    key = give_old_totp(world.carol)
    with hsm_away(root_token):
        assert sign_in.accept_code(person=world.carol, code=code_of(key)) is not None
    assert row_of(world.carol).sealed is None


@pytest.mark.postgres
def test_worker_seals_all_that_are_left_and_one_tenants_trouble_keeps_no_other_waiting(
    world: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_in, "_BATCH", 2)
    mallory = world.people["mallory"]
    keys = {name: give_old_totp(world.people[name]) for name in ("olivia", "carol", "dan", "mallory", "erin")}
    with tenant_scope(world.acme.pk):
        TenantMasterKey.objects.all().delete()
    [found] = check_authenticators(None, databases=["default"])
    assert (found.id, found.msg[:2]) == ("holdfast.W001", "5 ")
    assert sign_in.seal_unsealed() == 1
    assert row_of(mallory).unsealed is None
    sealing(world)
    assert sign_in.seal_unsealed() == 4
    assert sign_in.seal_unsealed() == 0
    assert check_authenticators(None, databases=["default"]) == []
    assert Entry.unscoped.filter(tag="tenants:totp:seal").count() == 5
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM tenants_authenticator")
        stored = b"".join(bytes(one) for row in cursor.fetchall() for one in row if isinstance(one, bytes | memoryview))
    for name, key in keys.items():
        assert key.reveal() not in stored
        assert sign_in.accept_code(person=world.people[name], code=code_of(key)) is not None


def test_row_has_its_key_once(world: Cast) -> None:
    give_totp(world.carol)
    for wrong in ({"sealed": None}, {"unsealed": b"k" * 20}):
        with pytest.raises(IntegrityError), transaction.atomic():
            Authenticator.objects.update(**wrong)


@pytest.mark.postgres
def test_migration_carries_the_keys_of_before_over_and_leaves_none_behind(world: Cast) -> None:
    key = "6b" * 20
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE otp_totp_totpdevice (id integer PRIMARY KEY, user_id "
            + ("uuid" if connection.vendor == "postgresql" else "char(32)")
            + ", name varchar(64), key varchar(80), confirmed boolean, last_t bigint)"
        )
        person = str(world.carol.pk) if connection.vendor == "postgresql" else world.carol.pk.hex
        cursor.execute("INSERT INTO otp_totp_totpdevice VALUES (7, %s, 'authenticator', %s, true, 4711)", [person, key])
    migration = import_module("tenants.migrations.0010_sealed_factors")
    with _editor() as editor:
        migration.carry_over(apps, editor)
    row = row_of(world.carol)
    assert (bytes(row.unsealed or b"").hex(), row.confirmed, row.last_t, row.sealed) == (key, True, 4711, None)
    assert "otp_totp_totpdevice" not in connection.introspection.table_names()
    assert sign_in.accept_code(person=world.carol, code=code_of(SecretBytes(bytes.fromhex(key)))) is not None
    with _editor() as editor:
        migration.carry_over(apps, editor)


@contextmanager
def _editor() -> Iterator[Any]:
    """What a migration reads of its editor; an editor of SQLite's cannot be opened inside a test's transaction."""

    class Editor:
        def __init__(self) -> None:
            self.connection = connection

    yield Editor()


def test_reset_takes_password_and_factors_away(world: Cast) -> None:
    actor = system_actor(world.acme.pk, "ceremony")
    give_password(world.carol)
    key = give_totp(world.carol)
    with tenant_scope(world.acme.pk):
        codes = sign_in.make_recovery_codes(person=world.carol, actor=actor)
        sign_in.reset_factors(person=world.carol, actor=actor)
    assert not Authenticator.objects.filter(user=world.carol).exists()
    assert not RecoveryCode.unscoped.filter(person=world.carol).exists()
    assert not world.carol.reload().has_usable_password()
    assert sign_in.accept_code(person=world.carol, code=code_of(key)) is None
    assert sign_in.accept_code(person=world.carol, code=codes[0]) is None
    assert Entry.unscoped.filter(tag="tenants:totp:reset", subject=str(world.carol.pk)).count() == 1
