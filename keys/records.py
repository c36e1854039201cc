# SPDX-License-Identifier: Apache-2.0
"""Tenant master keys and the encryption of stored records under them.

Implements HSM section 1 (key hierarchy) and docs/formats/records.md. The layer adds nothing to end-to-end
secrecy: what is sealed here is a client's ciphertext already. It calls the HSM, so call it outside transactions.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID
from weakref import WeakKeyDictionary

from django.db import IntegrityError, transaction

from audit import services as audit
from holdfast.core.base.errors import UnwrapFailed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto import wrapping
from hsm import registry
from hsm.backend import WRAPPED_RECORD_KEY_BYTES, RootToken, TenantKey, WrappedTenantKey
from hsm.errors import HsmKeyMismatch, HsmRefused
from kernel.actors import Actor, system_actor
from kernel.rows import Rows
from kernel.scope import current_tenant, tenant_scope
from keys.errors import NoTenantKey
from keys.models import TenantMasterKey
from keys.states import KeyState

log = logging.getLogger("holdfast.keys")

FORMAT: Final = 1
HEADER_SIZE: Final = 5  # format u8 | tenant key version u32
_NONCE_AT: Final = HEADER_SIZE + WRAPPED_RECORD_KEY_BYTES
_CIPHERTEXT_AT: Final = _NONCE_AT + wrapping.NONCE_SIZE
OVERHEAD: Final = _CIPHERTEXT_AT + wrapping.TAG_SIZE

# Handles of session objects: one unwrap of a tenant key per process and version, not per record.
# They hang on their token, so that none outlives the token that it was opened on.
_handles: WeakKeyDictionary[RootToken, dict[WrappedTenantKey, TenantKey]] = WeakKeyDictionary()
_lock = threading.Lock()


def has_tenant_master_key() -> bool:
    """Tell whether the open scope's tenant has the key under which its records are stored."""
    return bool(TenantMasterKey.objects.filter(state=KeyState.ACTIVE).exists())


_IN_USE: Final = Rows(TenantMasterKey, f"state = '{KeyState.ACTIVE.value}'")
_OF_VERSION: Final = Rows(TenantMasterKey, "version = %s")


def tenant_key() -> TenantMasterKey | None:
    """Return the row of the tenant's key in use, if it has one: for `seal_record` and `open_record`."""
    return _IN_USE.first()


def create_tenant_master_key(tenant_id: UUID) -> int:
    """Have the HSM make the tenant's first master key and keep it wrapped; return its version.

    A tenant that has one keeps it: a second call returns the version in use. Raises HsmUnavailable.
    """
    with tenant_scope(tenant_id):
        found = TenantMasterKey.objects.filter(state=KeyState.ACTIVE).values_list("version", flat=True).first()
        if found is not None:
            return int(found)
        born = registry.root().generate_tenant_key(tenant_id=tenant_id, version=1)
        try:
            with transaction.atomic():
                row = TenantMasterKey.objects.create(
                    version=born.version,
                    wrapped=born.blob,
                    key_check_value=born.kcv,
                    master_version=born.master_version,
                    mac=born.mac,
                )
                audit.append(
                    tag="keys:tenant-key:create",
                    actor=system_actor(tenant_id, "keys"),
                    subject=str(tenant_id),
                    body={"version": 1, "master_version": born.master_version, "key_check_value": born.kcv},
                )
        except IntegrityError:
            # Another process made it first; the key just born was never stored and opens nothing.
            return int(TenantMasterKey.objects.get(state=KeyState.ACTIVE).version)
        return int(row.version)


@dataclass(frozen=True)
class StoredRecord:
    """A record as it lies at rest, and all that it opens by."""

    sealed: bytes
    user_id: UUID
    object_id: UUID
    kind: str
    version: int


def unbound_tenant_keys() -> list[TenantMasterKey]:
    """Return the open tenant's master keys that the HSM of today did not bind: without a bond, or by another's key.

    Raises HsmRefused for one that it bound and that does not open, HsmUnavailable.
    """
    return [row for row in TenantMasterKey.objects.order_by("version") if not _is_bound(row)]


def _is_bound(row: TenantMasterKey) -> bool:
    if row.mac is None:
        return False
    try:
        registry.root().load_tenant_key(_wrapped(row))
    except HsmKeyMismatch:
        return False
    return True


def bind_tenant_keys(*, actor: Actor, restored: Sequence[StoredRecord] | None = None) -> dict[int, bool]:
    """Have the HSM bind the open tenant's older master keys to their tenant and version, and log each.

    A ceremony's act: whatever stands in a row then is believed from then on. restored: newest records of the tenant,
    where database or HSM came back from a backup of before. Then keys that another HSM bound are bound as well, and
    each only if it opens one of those records, where there are any. Returns {version: whether a record showed whose it
    is}. Raises HsmRefused or HsmKeyMismatch for a key that does not open, or opens none of them; HsmUnavailable. A key
    refused leaves its row as it was.
    """
    done = {}
    rows = TenantMasterKey.objects.filter(mac=None).order_by("version") if restored is None else unbound_tenant_keys()
    for row in rows:
        before, bound = row.mac, registry.root().bind_tenant_key(_wrapped(row))
        row.mac = bound.mac
        # Records are sealed with their tenant in the context: under another tenant's key they cannot be made. All are
        # tried, whatever version they say: whoever writes the database writes that as well.
        if restored and not any(_opens(record, row) for record in restored):
            raise HsmKeyMismatch(
                f"tenant {row.tenant_id}: the master key in row {row.version} opens none of the {len(restored)} "
                "newest records. It was not bound: put the row back from another backup"
            )
        with transaction.atomic():
            TenantMasterKey.objects.filter(pk=row.pk, mac=before).update(mac=bound.mac)
            audit.append(
                tag="keys:tenant-key:bind",
                actor=actor,
                subject=str(row.tenant_id),
                body={"version": row.version, "key_check_value": bound.kcv},
            )
        done[row.version] = bool(restored)
    return done


def _opens(record: StoredRecord, row: TenantMasterKey) -> bool:
    try:
        _open(record.sealed, row, _context(record.user_id, record.object_id, record.kind, record.version))
    except UnwrapFailed:
        return False
    return True


def seal_record(
    plaintext: bytes, *, user_id: UUID, object_id: UUID, kind: str, version: int, key: TenantMasterKey | None = None
) -> bytes:
    """Encrypt one record of the open tenant under a fresh record key; return it `OVERHEAD` (93) bytes longer.

    The record opens only as this tenant's, user's, object's, kind's and version's. key: the tenant's key in use, from
    whoever has just read it; it is read otherwise. Raises HsmUnavailable,
    HsmKeyMismatch for a tenant key that is not bound to this tenant, and NoTenantKey when the tenant was never
    finished. HSM section 1; AES-256-GCM, NIST SP 800-38D.
    """
    row = key or tenant_key()
    if row is None:
        raise NoTenantKey
    context = _context(user_id, object_id, kind, version)
    record_key = _handle(row).new_record_key(aad=context)
    nonce = os.urandom(wrapping.NONCE_SIZE)
    ciphertext = wrapping.encrypt(SecretBytes(plaintext), key=record_key.key, nonce=nonce, aad=context)
    header = bytes((FORMAT,)) + int(row.version).to_bytes(4, "big")
    return header + record_key.wrapped + nonce + ciphertext


def open_record(
    sealed: bytes, *, user_id: UUID, object_id: UUID, kind: str, version: int, key: TenantMasterKey | None = None
) -> bytes:
    """Undo `seal_record`.

    key: the tenant's key in use, from whoever has just read it: the record's may be an older one. Raises UnwrapFailed
    for a record that was changed, cut, moved to another row or written for another tenant, alike, HsmUnavailable, and
    HsmKeyMismatch for a tenant key that is not bound to this tenant. Other records are not affected by one that does
    not open (FAULTS C3).
    """
    sealed = bytes(sealed)
    _require_form(sealed)
    key_version = int.from_bytes(sealed[1:HEADER_SIZE], "big")
    row = key if key and key.version == key_version else _OF_VERSION.first(key_version)
    if row is None:
        raise UnwrapFailed("stored record does not open")
    return _open(sealed, row, _context(user_id, object_id, kind, version))


def _require_form(sealed: bytes) -> None:
    if len(sealed) < OVERHEAD or sealed[0] != FORMAT:
        # Never given to the HSM: what is not of the form cannot be a record (FAULTS C1).
        raise UnwrapFailed("stored record does not open")


def _open(sealed: bytes, row: TenantMasterKey, context: bytes) -> bytes:
    _require_form(sealed)
    try:
        record_key = _handle(row).unwrap_record_key(sealed[HEADER_SIZE:_NONCE_AT], aad=context)
    except HsmRefused:
        raise UnwrapFailed("stored record does not open") from None
    nonce = sealed[_NONCE_AT:_CIPHERTEXT_AT]
    return wrapping.decrypt(sealed[_CIPHERTEXT_AT:], key=record_key, nonce=nonce, aad=context).reveal()


def _context(user_id: UUID, object_id: UUID, kind: str, version: int) -> bytes:
    return wrapping.record_context(
        tenant=current_tenant().bytes,
        user=user_id.bytes,
        object_id=object_id.bytes,
        kind=kind,
        version=version,
    )


def _wrapped(row: TenantMasterKey) -> WrappedTenantKey:
    # Of the scope, and not of the row: a row that was moved to this tenant is bound to another.
    return WrappedTenantKey(
        current_tenant(),
        row.version,
        bytes(row.wrapped),
        bytes(row.key_check_value),
        row.master_version,
        bytes(row.mac or b""),
    )


def _handle(row: TenantMasterKey) -> TenantKey:
    """Return the key inside the HSM, opened on first use in this process."""
    root = registry.root()
    wrapped = _wrapped(row)
    with _lock:
        known = _handles.setdefault(root, {})
    # Named by all that is bound: a row that was changed or restored is never served by the handle of another, nor
    # another tenant's row by this one's.
    if wrapped not in known:
        # Two threads may both unwrap it on first use; they get the same key, and one handle stays.
        try:
            known[wrapped] = root.load_tenant_key(wrapped)
        except HsmKeyMismatch as error:
            log.critical("tenant %s: %s; somebody changed the row", current_tenant(), error)
            raise
    return known[wrapped]
