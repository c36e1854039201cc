# SPDX-License-Identifier: Apache-2.0
"""Records at rest under tenant master keys, in a real PKCS#11 token: what opens, what never does (FAULTS C1 to C4)."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit.models import Entry as AuditEntry
from holdfast.core.base.errors import UnwrapFailed
from hsm import registry
from hsm.backend import RootToken
from hsm.errors import HsmKeyMismatch, HsmUnavailable
from kernel.actors import system_actor
from kernel.scope import UnscopedQuery, tenant_scope
from keys import records
from keys.errors import NoTenantKey
from keys.models import TenantMasterKey
from keys.states import KeyState

ALICE, BOB = uuid.UUID(int=1), uuid.UUID(int=2)
ACME, OTHER = uuid.UUID(int=10), uuid.UUID(int=11)
PLAIN = b"a client's ciphertext"


@pytest.fixture
def acme(db: None, root_token: RootToken) -> Iterator[UUID]:
    """Acme, with a master key of its own; so has another tenant."""
    for tenant in (ACME, OTHER):
        records.create_tenant_master_key(tenant)
    with tenant_scope(ACME):
        yield ACME


def seal(**changes: Any) -> bytes:
    return records.seal_record(PLAIN, **(context() | changes))


def context() -> dict[str, Any]:
    return {"user_id": ALICE, "object_id": uuid.UUID(int=5), "kind": "vault", "version": 3}


def test_create_makes_one_key_for_a_tenant_however_often_it_is_called(acme: UUID) -> None:
    assert records.create_tenant_master_key(ACME) == records.create_tenant_master_key(ACME) == 1
    row = TenantMasterKey.objects.get()
    assert (len(row.wrapped), len(row.key_check_value), row.master_version) == (40, 3, 1)
    assert AuditEntry.objects.filter(tag="keys:tenant-key:create").count() == 1


def test_create_makes_different_keys_for_different_tenants(acme: UUID) -> None:
    wrapped = {bytes(row.wrapped) for row in TenantMasterKey.unscoped.all()}
    assert len(wrapped) == 2


def test_record_opens_as_what_it_was_sealed_for_and_carries_no_plaintext(acme: UUID) -> None:
    sealed = seal()
    assert records.open_record(sealed, **context()) == PLAIN
    assert len(sealed) == len(PLAIN) + records.OVERHEAD
    assert PLAIN not in sealed


def test_record_sealed_twice_has_nothing_in_common(acme: UUID) -> None:
    one, other = seal(), seal()
    assert one[: records.HEADER_SIZE] == other[: records.HEADER_SIZE]
    assert one[records.HEADER_SIZE :] != other[records.HEADER_SIZE :]
    assert one[-16:] != other[-16:]


@pytest.mark.parametrize(
    "change",
    [{"user_id": BOB}, {"object_id": uuid.UUID(int=6)}, {"kind": "vaul"}, {"kind": "door-password"}, {"version": 2}],
)
def test_record_moved_to_another_place_does_not_open(acme: UUID, change: dict[str, Any]) -> None:
    with pytest.raises(UnwrapFailed):
        records.open_record(seal(), **(context() | change))


def test_record_moved_to_another_tenant_does_not_open(acme: UUID) -> None:
    sealed = seal()
    with tenant_scope(OTHER), pytest.raises(UnwrapFailed):
        records.open_record(sealed, **context())


def test_record_with_any_byte_changed_does_not_open_and_others_still_do(acme: UUID) -> None:
    sealed, beside = seal(), seal(version=4)
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 0x01
        with pytest.raises(UnwrapFailed):
            records.open_record(bytes(changed), **context())
    assert records.open_record(beside, **(context() | {"version": 4})) == PLAIN


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300))
def test_record_of_any_other_bytes_does_not_open(acme: UUID, data: bytes) -> None:
    for octets in (data, b"\x01\x00\x00\x00\x01" + data):
        with pytest.raises(UnwrapFailed):
            records.open_record(octets, **context())


@pytest.mark.parametrize("cut", [0, 1, 5, 92, -1])
def test_record_cut_short_or_lengthened_does_not_open(acme: UUID, cut: int) -> None:
    sealed = seal()
    for octets in (sealed[:cut], sealed + b"\0"):
        with pytest.raises(UnwrapFailed):
            records.open_record(octets, **context())


def refused_with_an_alarm(caplog: pytest.LogCaptureFixture, act: Callable[[], object]) -> None:
    caplog.clear()
    with pytest.raises(HsmKeyMismatch, match="not bound"):
        act()
    assert "somebody changed the row" in caplog.text


def test_master_key_of_another_tenant_is_used_for_nothing(acme: UUID, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever writes the database would have records sealed under a key that another tenant's leaver, say, can ask for.

    This process has both keys open already: a handle is of one tenant, too.
    """
    sealed = seal()
    with tenant_scope(OTHER):
        seal()
    row = TenantMasterKey.objects.get()
    foreign = TenantMasterKey.unscoped.get(tenant_id=OTHER)
    whole = {name: getattr(foreign, name) for name in ("wrapped", "key_check_value", "master_version", "mac")}
    for taken in (whole, {**whole, "mac": row.mac}, {**whole, "mac": None}):
        TenantMasterKey.objects.filter(pk=row.pk).update(**taken)
        refused_with_an_alarm(caplog, seal)
        refused_with_an_alarm(caplog, lambda: records.open_record(sealed, **context()))


def test_older_master_key_of_the_same_tenant_is_used_for_nothing(
    acme: UUID, root_token: RootToken, caplog: pytest.LogCaptureFixture
) -> None:
    first = TenantMasterKey.objects.get()
    born = root_token.generate_tenant_key(tenant_id=ACME, version=2)
    TenantMasterKey.objects.filter(pk=first.pk).update(state=KeyState.DEACTIVATED)
    TenantMasterKey.objects.create(
        version=2, wrapped=born.blob, key_check_value=born.kcv, master_version=born.master_version, mac=born.mac
    )
    seal()
    TenantMasterKey.objects.filter(version=2).update(
        wrapped=first.wrapped, key_check_value=first.key_check_value, mac=first.mac
    )
    refused_with_an_alarm(caplog, seal)


def test_master_key_that_nobody_bound_is_refused_until_a_ceremony_binds_it(
    acme: UUID, caplog: pytest.LogCaptureFixture
) -> None:
    sealed = seal()
    TenantMasterKey.objects.update(mac=None)
    refused_with_an_alarm(caplog, lambda: records.open_record(sealed, **context()))
    records.bind_tenant_keys(actor=system_actor(ACME, "ceremony"))
    assert records.open_record(sealed, **context()) == PLAIN
    records.bind_tenant_keys(actor=system_actor(ACME, "ceremony"))
    assert AuditEntry.objects.filter(tag="keys:tenant-key:bind").count() == 1


def test_seal_is_refused_for_a_tenant_without_a_master_key(db: None, root_token: RootToken) -> None:
    with tenant_scope(uuid.uuid4()), pytest.raises(NoTenantKey):
        seal()


def test_seal_is_refused_outside_a_tenant(db: None, root_token: RootToken) -> None:
    with pytest.raises(UnscopedQuery):
        seal()


def test_seal_and_open_are_unavailable_while_the_token_is_away(acme: UUID, root_token: RootToken) -> None:
    sealed = seal()
    registry.install(dict)
    try:
        with pytest.raises(HsmUnavailable):
            seal()
        with pytest.raises(HsmUnavailable):
            records.open_record(sealed, **context())
    finally:
        registry.install(lambda: {"root": root_token})
    assert records.open_record(sealed, **context()) == PLAIN


@pytest.mark.parametrize(
    "row", ["its own", "another tenant's", "another tenant's, and records that name no key", "its own, and no record"]
)
def test_restored_key_is_bound_by_what_it_opens(acme: UUID, row: str) -> None:
    """Whoever writes the database waits for a backup to be put back, and puts another tenant's key into the row."""
    stored = [records.StoredRecord(seal(), **context())]
    foreign = TenantMasterKey.unscoped.get(tenant_id=OTHER)
    taken = {"mac": None}
    if "name no key" in row:
        # Whoever writes the database writes into records as well under which version they are.
        stored = [replace(stored[0], sealed=b"\x01\0\0\0\x07" + stored[0].sealed[5:])]
    if row.startswith("another tenant's"):
        taken |= {name: getattr(foreign, name) for name in ("wrapped", "key_check_value", "master_version")}
    TenantMasterKey.objects.update(**taken)
    restored = stored if row != "its own, and no record" else []
    if row.startswith("another tenant's"):
        with pytest.raises(HsmKeyMismatch, match="opens none of the 1 newest"):
            records.bind_tenant_keys(actor=system_actor(ACME, "ceremony"), restored=restored)
        assert TenantMasterKey.objects.get().mac is None
        assert not AuditEntry.objects.filter(tag="keys:tenant-key:bind").exists()
        return
    assert records.bind_tenant_keys(actor=system_actor(ACME, "ceremony"), restored=restored) == {1: bool(restored)}
    assert records.open_record(stored[0].sealed, **context()) == PLAIN
