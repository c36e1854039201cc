# SPDX-License-Identifier: Apache-2.0
"""The verbs of the vault's sections and doors: verified, encrypted at rest, stored by compare-and-set, reads logged.

Implements PROTOCOL section 6 on the server and FAULTS C1 to C5. Sealing and opening ask the HSM, so they stand outside
the transaction that stores. What is inside a vault or a door only clients can judge.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

from django.db import IntegrityError, transaction
from django.utils import timezone

from audit import services as audit
from holdfast.core.base.encoding import MAX_BLOB, MAX_VAULT, Fields, decode, encode
from holdfast.core.base.errors import HoldfastError, UnwrapFailed
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.statements import Sync, SyncKind
from holdfast.core.vault import blob as vault_format
from holdfast.core.vault import passkey_door, password_door, phrase_door
from holdfast.core.vault.blob import Section
from holdfast.core.vault.door_blob import Door, DoorOwner
from holdfast.core.vault.door_proof import verify_door_proof
from kernel import statements
from kernel.actors import Actor
from kernel.errors import NotFound
from kernel.scope import current_tenant
from keys import access, chains, notices
from keys.access import Own
from keys.chains import ChainView
from keys.errors import DeviceMismatch, DoorNeeded, DoorUnproven, VaultStale
from keys.models import TenantMasterKey, Vault, VaultDoor
from keys.records import open_record, seal_record
from keys.states import DeviceState
from tenants.limits import count_against

log = logging.getLogger("holdfast.keys")

# The device door is a letter from one device to another, and stands nowhere.
DOOR_KINDS: Final = {
    Section.VAULT: frozenset({"password", "phrase", "contacts"}),
    # Never contacts: k of them together would be an officer.
    Section.OFFICERS: frozenset({password_door.KIND, phrase_door.KIND, passkey_door.KIND}),
}
# An officer in office who loses one still has another.
DOORS_KEPT: Final = 2
# How many doors a device that is not listed yet may read in an hour: each read tells the owner.
READS_BY_PENDING: Final = 20


@dataclass(frozen=True)
class SealedForStoring:
    """A client's ciphertext, verified and encrypted at rest, for one version of one row.

    also: what else the row says of this version.
    """

    row_id: UUID
    version: int
    sealed: bytes
    blob_hash: bytes
    also: Mapping[str, object]


_SYNC: Final = {Section.VAULT: SyncKind.VAULT, Section.OFFICERS: SyncKind.OFFICERS}


def seal_vault(
    *, own: Own, statement: bytes, blob: bytes, expected_version: int, section: Section = Section.VAULT
) -> SealedForStoring:
    """Verify an upload of one section of a vault and encrypt it at rest.

    own: of that section, as `access.own_vault` reads it. Its `sync` statement must be signed by the user's current AIK
    over exactly this blob at the next version. Raises VaultStale when the version is not the next, and what the
    verification raises.
    """
    user_id, digest = own.user_id, hashlib.sha256(blob).digest()
    version = _next_version(own.kept, expected_version, digest)
    signed = Sign1.parse(statement)
    signed.verify(chains.chain_state_at(user_id, own.head).aik, purpose=Purpose.SYNC)
    sync = Sync.from_payload(signed.payload)
    header = vault_format.read_header(blob, section)
    whose = (current_tenant().bytes, user_id.bytes)
    said = (sync.header.tenant, sync.header.user, sync.kind, sync.blob_hash, sync.version)
    if said != (*whose, _SYNC[section], digest, version) or (header.tenant, header.user) != whose:
        raise DeviceMismatch("The statement is not about this vault.", field="statement")
    at_rest = _seal(encode([statement, blob]), own, row_id := _row_of(own), section.value, version)
    return SealedForStoring(row_id, version, at_rest, digest, {"epoch": header.epoch})


def _row_of(own: Own) -> UUID:
    return own.kept.pk if own.kept else uuid4()


def store_vault(*, user_id: UUID, sealed: SealedForStoring, actor: Actor, section: Section = Section.VAULT) -> int:
    """Store a sealed section of a vault at its version, unless it was written meanwhile (VaultStale).

    In the caller's transaction. Raises NotFound when the actor's device was revoked while the HSM worked, and
    DoorNeeded for an officers' section under another key than the doors of an officer in office open.
    """
    if section is Section.OFFICERS:
        _require_same_key(user_id, sealed)
    if _put(Vault, sealed, actor, user_id=user_id, section=section.value):
        audit.append(
            tag="keys:vault:store",
            actor=actor,
            subject=str(user_id),
            body={"version": sealed.version, "blob": sealed.blob_hash, **_named(section)},
        )
    return sealed.version


def _named(section: Section) -> dict[str, str]:
    # Of the vault itself nothing is said, as in the entries of before there was another section.
    return {} if section is Section.VAULT else {"section": section.value}


def open_vault(*, actor: Actor, section: Section = Section.VAULT) -> tuple[bytes, bytes, int]:
    """Return (statement, blob, version) of one section of the actor's vault. Raises NotFound.

    The first read of a version by one actor within an hour is an entry, further ones are counted (FAULTS L10).
    """
    own = access.own_vault(actor, section, to_read=True)
    if own.kept is None:
        raise NotFound
    row, user_id = own.kept, own.user_id
    plain = _open(row, section.value, actor, own.tenant_key)
    fields = Fields.of_row(decode(plain, max_size=MAX_VAULT + MAX_BLOB), "stored vault", 2)
    with transaction.atomic():
        audit.append_first(
            tag="keys:vault:read",
            actor=actor,
            subject=str(user_id),
            apart=" ".join((str(row.version), *_named(section).values())),
            body={"version": row.version, **_named(section)},
        )
    return fields.octets(0), fields.octets(1), row.version


def exported(row: Vault, actor: Actor) -> bytes | None:
    """Return a section as its owner stored it, dCBOR[statement, blob], for an export; None for one that does not open.

    Call it outside transactions, since it asks the HSM. The export is the entry.
    """
    try:
        return _open(row, row.section, actor)
    except UnwrapFailed:
        return None


def door_kind(section: Section, name: str) -> str:
    """Return the kind under which a section's door is stored: field 2 of its blob."""
    return DoorOwner(b"", b"", 0, section).kind(name)


def seal_door(*, own: Own, kind: str, blob: bytes, expected_version: int) -> SealedForStoring:
    """Encrypt a door at rest; what is in it only the client can judge. Raises VaultStale, Malformed.

    own: of that door, as `access.own_door` reads it.
    """
    if not isinstance(decode(blob, max_size=MAX_BLOB), dict):
        raise DeviceMismatch("A door is a dCBOR map.", field="blob")
    return _seal_door(own, kind, blob, expected_version, {})


def seal_proven_door(*, own: Own, kind: str, blob: bytes, proof: bytes, expected_version: int) -> SealedForStoring:
    """Encrypt a door of the officers' section at rest, which its owner proves with the same upload.

    own: of that door, as `access.own_door` reads it. Raises VaultStale, Malformed for another kind of door, and
    DoorUnproven.
    """
    door = Door.parse(blob, kind)
    digest = hashlib.sha256(blob).digest()
    also = {"epoch": door.epoch, **_proven(chains.chain_state_at(own.user_id, own.head), kind, digest, proof)}
    return _seal_door(own, kind, blob, expected_version, also)


def _seal_door(own: Own, kind: str, blob: bytes, expected_version: int, also: Mapping[str, object]) -> SealedForStoring:
    digest = hashlib.sha256(blob).digest()
    version = _next_version(own.kept, expected_version, digest)
    at_rest = _seal(blob, own, row_id := _row_of(own), f"door-{kind}", version)
    return SealedForStoring(row_id, version, at_rest, digest, also)


def _proven(chain: ChainView, kind: str, blob_hash: bytes, proof: bytes) -> dict[str, object]:
    now = timezone.now()
    try:
        verify_door_proof(
            Sign1.parse(proof),
            aik=chain.aik,
            tenant=current_tenant().bytes,
            user=chain.user_id.bytes,
            kind=kind,
            blob_hash=blob_hash,
            at=int(now.timestamp()),
        )
    except HoldfastError as error:
        raise DoorUnproven(f"Not taken: {error}. Open the door, and prove it anew.", field="proof") from error
    return {"proof": proof, "proved_at": now}


def prove_door(*, user_id: UUID, kind: str, proof: bytes, actor: Actor) -> None:
    """Note that a door of the officers' section was opened once more. Raises NotFound, DoorUnproven.

    The same proof again changes nothing.
    """
    row = access.door(user_id, kind)
    if row is None:
        raise NotFound
    if row.proof is not None and bytes(row.proof) == proof:
        return
    proven = _proven(chains.chain_state(user_id), kind, bytes(row.blob_hash), proof)
    with transaction.atomic():
        # Of this very door: one that was set meanwhile has a proof of its own.
        moved = VaultDoor.objects.filter(pk=row.pk, blob_hash=bytes(row.blob_hash)).update(**proven)
        if moved != 1:
            raise VaultStale("Read it again, then prove it.")
        audit.append(
            tag="keys:door:prove",
            actor=actor,
            subject=str(user_id),
            body={"kind": kind, "version": row.version, "statement": Sign1.parse(proof).payload_hash},
        )


def store_door(*, user_id: UUID, kind: str, sealed: SealedForStoring, actor: Actor) -> int:
    """Store a sealed door at its version, unless it was written meanwhile (VaultStale).

    In the caller's transaction. Raises NotFound as `store_vault` does, and DoorNeeded for one to another key of the
    officers' section in place of one of an officer's last two.
    """
    if "epoch" in sealed.also:
        kept = access.vault(user_id, Section.OFFICERS)
        if kept is not None and kept.epoch != sealed.also["epoch"]:
            # It opens nothing that is there: what it replaces is as good as closed.
            _require_others(user_id, kind)
    if _put(VaultDoor, sealed, actor, user_id=user_id, kind=kind):
        audit.append(
            tag="keys:door:store",
            actor=actor,
            subject=str(user_id),
            body={"kind": kind, "version": sealed.version, "blob": sealed.blob_hash},
        )
    return sealed.version


def open_door(*, kind: str, actor: Actor) -> tuple[bytes, int]:
    """Return (blob, version) of one door; the read is an entry as that of a vault is (FAULTS L10).

    When a device reads it that is not in the owner's chain, the owner is told with the entry: at all devices, and by
    mail. Raises NotFound, and Throttled for such a device that reads on and on.
    """
    own = access.own_door(actor, kind, to_read=True)
    if own.kept is None:
        raise NotFound
    row, user_id = own.kept, own.user_id
    is_pending = actor.credential_state == DeviceState.PENDING
    if is_pending:
        count_against(f"door:{actor.tenant_id}:{actor.id}", limit=READS_BY_PENDING, seconds=3600)
    blob = _open(row, f"door-{kind}", actor, own.tenant_key)
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


# What an app above knows and this one cannot: who is an officer, of the policy in force or of one that waits.
_offices: list[Callable[[UUID], bool]] = []


def keeps_doors_of(is_officer: Callable[[UUID], bool]) -> None:
    """Say once, at start, whose doors of the officers' section are not closed below two that were proven."""
    _offices.append(is_officer)


def delete_door(*, user_id: UUID, kind: str, actor: Actor) -> None:
    """Close one door. Raises NotFound when there is none, DoorNeeded for one of an officer's last two."""
    with transaction.atomic():
        if kind in (door_kind(Section.OFFICERS, name) for name in DOOR_KINDS[Section.OFFICERS]):
            _require_others(user_id, kind)
        gone, _ = VaultDoor.objects.filter(user_id=user_id, kind=kind).delete()
        if not gone:
            raise NotFound
        audit.append(tag="keys:door:delete", actor=actor, subject=str(user_id), body={"kind": kind})


def _require_same_key(user_id: UUID, sealed: SealedForStoring) -> None:
    """Raise DoorNeeded when an officer in office would have a section that none of their proven doors opens."""
    if not any(is_officer(user_id) for is_officer in _offices):
        return
    access.lock_vault(user_id, Section.OFFICERS)
    kept = access.vault(user_id, Section.OFFICERS)
    # Where no door counts, it is the way back.
    if kept is not None and kept.epoch != sealed.also["epoch"] and access.proven_doors(user_id):
        raise DoorNeeded("Your doors would not open it: an officer in office writes under the key that they open.")


def _require_others(user_id: UUID, kind: str) -> None:
    """Raise DoorNeeded when an officer in office would keep fewer than two doors that they have proven."""
    if not any(is_officer(user_id) for is_officer in _offices):
        return
    # One at a time: two doors that are closed at once would each count on the other.
    access.lock_vault(user_id, Section.OFFICERS)
    if len(set(access.proven_doors(user_id)) - {kind}) < DOORS_KEPT:
        raise DoorNeeded


def _next_version(row: Vault | VaultDoor | None, expected: int, blob_hash: bytes) -> int:
    """Return the version that this upload makes; the stored one, when its answer was lost and it is sent again."""
    stored = row.version if row else 0
    if row and stored == expected + 1 and bytes(row.blob_hash) == blob_hash:
        return stored
    if stored != expected:
        raise VaultStale("Read it again, merge, then write.", version=stored)
    return stored + 1


def _put(model: type[Vault] | type[VaultDoor], sealed: SealedForStoring, actor: Actor, **names: Any) -> bool:
    """Write one version by compare-and-set; return False when exactly this is stored already.

    Of a device that the chain still lists: it may have been revoked while the HSM worked.
    """
    values = {"version": sealed.version, "sealed": sealed.sealed, "blob_hash": sealed.blob_hash, **sealed.also}
    if sealed.version > 1 and _replaced(model, sealed, values, actor):
        return True
    access.vault_owner(actor)
    if model.objects.filter(pk=sealed.row_id, version=sealed.version, blob_hash=sealed.blob_hash).exists():
        return False
    if sealed.version > 1:
        raise VaultStale("Read it again, merge, then write.")
    try:
        with transaction.atomic():
            model.objects.create(id=sealed.row_id, **names, **values)
    except IntegrityError as error:
        raise VaultStale("Read it again, merge, then write.") from error
    return True


def _replaced(
    model: type[Vault] | type[VaultDoor], sealed: SealedForStoring, values: Mapping[str, Any], actor: Actor
) -> bool:
    """Write a version in the place of the one before it, if that stands and the device may still write."""
    assert actor.id is not None
    tenant = current_tenant()
    given = {**values, "updated_at": timezone.now()}
    sql = (
        f"UPDATE {model._meta.db_table} SET {', '.join(f'{name} = %s' for name in given)}"  # noqa: S608 — our own names
        f" WHERE tenant_id = %s AND id = %s AND version = %s AND EXISTS ({access.ACTIVE_DEVICE}) RETURNING 1"
    )
    where = (tenant, sealed.row_id, sealed.version - 1, tenant, actor.id)
    return bool(statements.run(sql, statements.plain((*given.values(), *where))))


def _seal(plain: bytes, own: Own, row_id: UUID, kind: str, version: int) -> bytes:
    return seal_record(plain, user_id=own.user_id, object_id=row_id, kind=kind, version=version, key=own.tenant_key)


def _open(row: Vault | VaultDoor, kind: str, actor: Actor, key: TenantMasterKey | None = None) -> bytes:
    """Open one row, or say in the log which one does not open: an operator must look (FAULTS C3, C4)."""
    try:
        return open_record(
            bytes(row.sealed), user_id=row.user_id, object_id=row.pk, kind=kind, version=row.version, key=key
        )
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


def destroy_vault(user_id: UUID) -> tuple[int, int]:
    """Delete every section of a person's vault, and its doors, for good; return how many of each were there.

    With each row goes its record key: nobody opens it any more, but for a backup that still has the row. In the
    caller's transaction, which says why.
    """
    doors, _ = VaultDoor.objects.filter(user_id=user_id).delete()
    sections, _ = Vault.objects.filter(user_id=user_id).delete()
    return sections, doors
