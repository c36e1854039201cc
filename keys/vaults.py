# SPDX-License-Identifier: Apache-2.0
"""The verbs of the vault and its doors: verified, encrypted at rest, stored by compare-and-set, each read logged.

Implements PROTOCOL section 6 on the server and FAULTS C1 to C5. Sealing and opening ask the HSM, so they stand outside
the transaction that stores. What is inside a vault or a door only clients can judge.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

from django.db import IntegrityError, transaction
from django.utils import timezone

from audit import services as audit
from holdfast.core.base.encoding import MAX_BLOB, MAX_VAULT, Fields, decode, encode
from holdfast.core.base.errors import UnwrapFailed
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.statements import Sync, SyncKind
from holdfast.core.vault import blob as vault_format
from kernel.actors import Actor
from kernel.errors import NotFound
from kernel.scope import current_tenant
from keys import access, chains, notices
from keys.errors import DeviceMismatch, VaultStale
from keys.models import Vault, VaultDoor
from keys.records import open_record, seal_record
from keys.states import DeviceState
from tenants.limits import count_against

log = logging.getLogger("holdfast.keys")

# The device door is a letter from one device to another, and stands nowhere.
DOOR_KINDS: Final = frozenset({"password", "phrase", "contacts"})
# How many doors a device that is not listed yet may read in an hour: each read tells the owner.
READS_BY_PENDING: Final = 20


@dataclass(frozen=True)
class SealedForStoring:
    """A client's ciphertext, verified and encrypted at rest, for one version of one row."""

    row_id: UUID
    version: int
    sealed: bytes
    blob_hash: bytes


def seal_vault(*, user_id: UUID, statement: bytes, blob: bytes, expected_version: int) -> SealedForStoring:
    """Verify a vault upload and encrypt it at rest.

    Its `sync` statement must be signed by the user's current AIK over exactly this blob at the next version. Raises
    VaultStale when the version is not the next, and what the verification raises.
    """
    existing, digest = access.vault(user_id), hashlib.sha256(blob).digest()
    version = _next_version(existing, expected_version, digest)
    signed = Sign1.parse(statement)
    signed.verify(chains.chain_state(user_id).aik, purpose=Purpose.SYNC)
    sync = Sync.from_payload(signed.payload)
    header = vault_format.read_header(blob)
    whose = (current_tenant().bytes, user_id.bytes)
    said = (sync.header.tenant, sync.header.user, sync.kind, sync.blob_hash, sync.version)
    if said != (*whose, SyncKind.VAULT, digest, version) or (header.tenant, header.user) != whose:
        raise DeviceMismatch("The statement is not about this vault.", field="statement")
    row_id = existing.pk if existing else uuid4()
    plain = encode([statement, blob])
    return SealedForStoring(row_id, version, _seal(plain, user_id, row_id, "vault", version), digest)


def store_vault(*, user_id: UUID, sealed: SealedForStoring, actor: Actor) -> int:
    """Store a sealed vault at its version, unless it was written meanwhile (VaultStale)."""
    with transaction.atomic():
        if _put(Vault, sealed, user_id=user_id):
            audit.append(
                tag="keys:vault:store",
                actor=actor,
                subject=str(user_id),
                body={"version": sealed.version, "blob": sealed.blob_hash},
            )
    return sealed.version


def open_vault(*, user_id: UUID, actor: Actor) -> tuple[bytes, bytes, int]:
    """Return (statement, blob, version) of the actor's vault. Raises NotFound.

    The first read of a version by one actor within an hour is an entry, further ones are counted (FAULTS L10).
    """
    row = access.vault(user_id)
    if row is None:
        raise NotFound
    plain = _open(row, "vault", actor)
    fields = Fields.of_row(decode(plain, max_size=MAX_VAULT + MAX_BLOB), "stored vault", 2)
    with transaction.atomic():
        audit.append_first(
            tag="keys:vault:read",
            actor=actor,
            subject=str(user_id),
            apart=str(row.version),
            body={"version": row.version},
        )
    return fields.octets(0), fields.octets(1), row.version


def seal_door(*, user_id: UUID, kind: str, blob: bytes, expected_version: int) -> SealedForStoring:
    """Encrypt a door at rest; what is in it only the client can judge. Raises VaultStale, Malformed."""
    existing, digest = access.door(user_id, kind), hashlib.sha256(blob).digest()
    version = _next_version(existing, expected_version, digest)
    if not isinstance(decode(blob, max_size=MAX_BLOB), dict):
        raise DeviceMismatch("A door is a dCBOR map.", field="blob")
    row_id = existing.pk if existing else uuid4()
    return SealedForStoring(row_id, version, _seal(blob, user_id, row_id, f"door-{kind}", version), digest)


def store_door(*, user_id: UUID, kind: str, sealed: SealedForStoring, actor: Actor) -> int:
    """Store a sealed door at its version, unless it was written meanwhile (VaultStale)."""
    with transaction.atomic():
        if _put(VaultDoor, sealed, user_id=user_id, kind=kind):
            audit.append(
                tag="keys:door:store",
                actor=actor,
                subject=str(user_id),
                body={"kind": kind, "version": sealed.version, "blob": sealed.blob_hash},
            )
    return sealed.version


def open_door(*, user_id: UUID, kind: str, actor: Actor) -> tuple[bytes, int]:
    """Return (blob, version) of one door; the read is an entry as that of a vault is (FAULTS L10).

    When a device reads it that is not in the owner's chain, the owner is told with the entry: at all devices, and by
    mail. Raises NotFound, and Throttled for such a device that reads on and on.
    """
    row = access.door(user_id, kind)
    if row is None:
        raise NotFound
    is_pending = actor.credential_state == DeviceState.PENDING
    if is_pending:
        count_against(f"door:{actor.tenant_id}:{actor.id}", limit=READS_BY_PENDING, seconds=3600)
    blob = _open(row, f"door-{kind}", actor)
    with transaction.atomic():
        entry = audit.append_first(
            tag="keys:door:read",
            actor=actor,
            subject=str(user_id),
            apart=f"{kind} {row.version} {actor.credential_state}",
            body={"kind": kind, "version": row.version, "device_state": actor.credential_state},
        )
        if is_pending and entry is not None:
            notices.owe(
                person_ids=[user_id], with_mail=[user_id], event="door-read", kind=kind, device_id=str(actor.id)
            )
    return blob, row.version


def delete_door(*, user_id: UUID, kind: str, actor: Actor) -> None:
    """Close one door. Raises NotFound when there is none."""
    with transaction.atomic():
        gone, _ = VaultDoor.objects.filter(user_id=user_id, kind=kind).delete()
        if not gone:
            raise NotFound
        audit.append(tag="keys:door:delete", actor=actor, subject=str(user_id), body={"kind": kind})


def _next_version(row: Vault | VaultDoor | None, expected: int, blob_hash: bytes) -> int:
    """Return the version that this upload makes; the stored one, when its answer was lost and it is sent again."""
    stored = row.version if row else 0
    if row and stored == expected + 1 and bytes(row.blob_hash) == blob_hash:
        return stored
    if stored != expected:
        raise VaultStale("Read it again, merge, then write.", version=stored)
    return stored + 1


def _put(model: type[Vault] | type[VaultDoor], sealed: SealedForStoring, **names: Any) -> bool:
    """Write one version by compare-and-set; return False when exactly this is stored already."""
    values = {"version": sealed.version, "sealed": sealed.sealed, "blob_hash": sealed.blob_hash}
    if model.objects.filter(pk=sealed.row_id, version=sealed.version, blob_hash=sealed.blob_hash).exists():
        return False
    if sealed.version > 1:
        moved = model.objects.filter(pk=sealed.row_id, version=sealed.version - 1).update(
            updated_at=timezone.now(), **values
        )
        if moved != 1:
            raise VaultStale("Read it again, merge, then write.")
        return True
    try:
        with transaction.atomic():
            model.objects.create(id=sealed.row_id, **names, **values)
    except IntegrityError as error:
        raise VaultStale("Read it again, merge, then write.") from error
    return True


def _seal(plain: bytes, user_id: UUID, row_id: UUID, kind: str, version: int) -> bytes:
    return seal_record(plain, user_id=user_id, object_id=row_id, kind=kind, version=version)


def _open(row: Vault | VaultDoor, kind: str, actor: Actor) -> bytes:
    """Open one row, or say in the log which one does not open: an operator must look (FAULTS C3, C4)."""
    try:
        return open_record(bytes(row.sealed), user_id=row.user_id, object_id=row.pk, kind=kind, version=row.version)
    except UnwrapFailed:
        # Without the traceback: it says nothing, and every cause must look alike.
        log.error("record %s (%s) of tenant %s does not open", row.pk, kind, row.tenant_id)  # noqa: TRY400
        with transaction.atomic():
            audit.append_first(
                tag="keys:record:unreadable",
                actor=actor,
                subject=str(row.user_id),
                apart=str(row.pk),
                body={"record": str(row.pk), "kind": kind, "version": row.version},
            )
        raise
