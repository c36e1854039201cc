# SPDX-License-Identifier: Apache-2.0
"""Fetch, authorize and lock rows of the key directory.

Implements ORGANISATION "Tenants": within the open tenant, what an actor may not see is not found. It writes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple, cast
from uuid import UUID, uuid4

from django.db.models import Count, Q, QuerySet, Subquery, Sum

from holdfast.core.identity.entries import ArchiveGeneration
from holdfast.core.vault.blob import Section
from kernel import statements
from kernel.actors import Actor
from kernel.errors import NotFound
from kernel.paging import PAGE, page_in_parts, page_of_octets
from kernel.rows import Rows
from kernel.scope import current_tenant, in_their_tenants
from keys.models import (
    ChainEntry,
    ChainHead,
    Device,
    Message,
    MessageContent,
    MessageKind,
    OneTimePreKey,
    SignedPreKey,
    TenantMasterKey,
    Vault,
    VaultDoor,
)
from keys.states import DeviceState, KeyState
from tenants import access as tenants
from tenants.states import PersonState

# Whom a message to a user has to reach: (device, when its signed pre-key expires), of a tenant and a user.
REACHABLE: Final = (
    f"SELECT p.device_id, p.expires_at FROM {Device._meta.db_table} d JOIN {SignedPreKey._meta.db_table} p"  # noqa: S608 — our own tables' names
    " ON p.tenant_id = d.tenant_id AND p.device_id = d.id AND p.is_current"
    f" WHERE d.tenant_id = %s AND d.user_id = %s AND d.state = '{DeviceState.ACTIVE.value}'"
)
# Of a chain's head, what only whoever asks what the chain says reads.
_WITH_STATE: Final = ("state", "state_mac")
# Entries of a chain in one answer, beside the bound on its octets: a chain at its end is some sixteen answers.
ENTRIES: Final = 256


_DEVICE: Final = Rows(Device, "id = %s")


def device(device_id: UUID) -> Device:
    """Return any device of the tenant. Raises NotFound."""
    row = _DEVICE.first(device_id)
    if row is None:
        raise NotFound
    return row


def revoked_devices() -> QuerySet[Device]:
    """Select the revoked devices of every tenant, as a part of another query: for the worker."""
    return cast("QuerySet[Device]", Device.unscoped.filter(state=DeviceState.REVOKED))


def listed_devices() -> QuerySet[Device]:
    """Select the devices of every tenant that their users' chains list, as a part of another query: for the worker."""
    return cast("QuerySet[Device]", Device.unscoped.filter(state=DeviceState.ACTIVE))


def entries_of_kind(kind: int) -> QuerySet[ChainEntry]:
    """Select the entries of a kind in every chain of every tenant, as a part of another query: for the worker."""
    return cast("QuerySet[ChainEntry]", ChainEntry.unscoped.filter(kind=kind))


def active_device(device_id: UUID) -> Device:
    """Return a device that its user's chain lists. Raises NotFound for one pending or revoked, too."""
    return cast(Device, _one(Device.objects.filter(id=device_id, state=DeviceState.ACTIVE)))


def device_by_statement_hash(statement_hash: bytes) -> Device:
    """Return the device enrolled by the statement with this hash (`payload_hash`). Raises NotFound."""
    return cast(Device, _one(Device.objects.filter(statement_hash=statement_hash)))


def devices_of(user_id: UUID, *, after: UUID | None = None, limit: int = PAGE) -> tuple[list[Device], bool]:
    """Return a page of a user's devices, and whether there are more.

    Those that are not revoked stand first, each part oldest first. Raises NotFound for an `after` that is not theirs.
    """
    rows, is_revoked = Device.objects.filter(user_id=user_id), Q(state=DeviceState.REVOKED)
    return page_in_parts(rows, (~is_revoked, is_revoked), ("created_at", "id"), after=after, limit=limit)


def active_devices(user_id: UUID) -> list[Device]:
    """Return the devices that a user's chain lists, oldest first."""
    return list(Device.objects.filter(user_id=user_id, state=DeviceState.ACTIVE).order_by("created_at", "id"))


def find_by_address(email_key: str) -> tuple[UUID, list[Device]]:
    """Return the active person with an address in this tenant, and the devices that their chain lists.

    Raises NotFound for everybody else, after the same two queries: how long the answer takes names nobody either.
    """
    person = tenants.reachable_by_address(email_key, (PersonState.ACTIVE,))
    devices = active_devices(person.pk if person else uuid4())
    if person is None:
        raise NotFound
    return person.pk, devices


def had_device_since(user_id: UUID, since: datetime, *, now: datetime) -> bool:
    """Tell whether a user had, at every moment since one, a device that their chain lists and that may act.

    One that is suspended now counts for no moment. Two queries.
    """
    rows = Device.objects.filter(user_id=user_id, activated_at__isnull=False)
    spans = list(
        rows.filter(Q(revoked_at=None) | Q(revoked_at__gt=since))
        .order_by("activated_at")
        .values_list("id", "activated_at", "revoked_at")
    )
    acting = tenants.acting_credentials([device_id for device_id, _, ended_at in spans if ended_at is None])
    return _covers(spans, acting, since=since, now=now)


def had_devices_since(
    named: Iterable[tuple[UUID, UUID, datetime]], *, now: datetime
) -> set[tuple[UUID, UUID, datetime]]:
    """Return those of whom `had_device_since` is true, for a loop over all tenants. Two queries for thousands.

    named: (tenant, user, since when).
    """
    wanted = set(named)
    rows = Device.unscoped.filter(activated_at__isnull=False).order_by("activated_at")
    spans: dict[tuple[UUID, UUID], list[tuple[UUID, datetime, datetime | None]]] = {}
    for those in in_their_tenants("user_id", ((tenant_id, user_id) for tenant_id, user_id, _ in wanted)):
        found = rows.filter(those).values_list("tenant_id", "user_id", "id", "activated_at", "revoked_at")
        for tenant_id, user_id, *span in found:
            spans.setdefault((tenant_id, user_id), []).append((span[0], span[1], span[2]))
    listed = ((whose[0], device_id) for whose, those in spans.items() for device_id, _, end in those if end is None)
    acting = tenants.acting_among(listed)
    return {
        one
        for one in wanted
        if _covers(
            spans.get(one[:2], []),
            {device_id for device_id, _, _ in spans.get(one[:2], []) if (one[0], device_id) in acting},
            since=one[2],
            now=now,
        )
    }


def _covers(
    spans: Iterable[tuple[UUID, datetime, datetime | None]], acting: Collection[UUID], *, since: datetime, now: datetime
) -> bool:
    """Tell whether spans, by their beginning, leave no gap between two moments. acting: devices that count today."""
    reached = since
    for device_id, listed_at, ended_at in spans:
        if listed_at <= reached and (ended_at is not None or device_id in acting):
            reached = max(reached, ended_at or now)
    return reached >= now


def pending_successors(device_id: UUID) -> list[Device]:
    """Return the devices that wait to take this one's place."""
    return list(Device.objects.filter(successor_of=device_id, state=DeviceState.PENDING).order_by("created_at", "id"))


def waiting_devices(user_id: UUID) -> list[Device]:
    """Return the devices that a user enrolled by a code and whose chain does not list them yet, oldest first.

    Successors are not among them: an active device has one at most, and it goes with that device.
    """
    rows = Device.objects.filter(user_id=user_id, state=DeviceState.PENDING, successor_of=None)
    return list(rows.order_by("created_at", "id"))


def let_in_by(device: Device) -> tuple[str, ...] | None:
    """Return who let in a device that its chain does not list, as text ids in order; None for one that it lists.

    What is kept or done in a person's name in a number is counted apart for each of these: whoever issues codes can
    have devices ask in another's name, and uses up what is theirs to use alone.
    """
    return None if device.state == DeviceState.ACTIVE else tuple(sorted(device.behind or []))


def count_by_whom(device_ids: Iterable[UUID]) -> Counter[tuple[str, ...] | None]:
    """Count devices, each as often as it is named, by `let_in_by`."""
    named = Counter(device_ids)
    counts: Counter[tuple[str, ...] | None] = Counter()
    for device in Device.objects.filter(id__in=named).only("id", "state", "behind"):
        counts[let_in_by(device)] += named[device.id]
    return counts


def active_successor(device_id: UUID) -> Device | None:
    """Return the device that the chain lists in this one's place, if it does."""
    rows = Device.objects.filter(successor_of=device_id, state=DeviceState.ACTIVE)
    return cast("Device | None", rows.order_by("-activated_at", "id").first())


def reachable_devices(user_id: UUID) -> dict[UUID, int]:
    """Return the devices that can be written to, with the time at which their signed pre-key expires (0: never).

    They are listed in the user's chain and have a signed pre-key published: the same that a claim answers with. A
    device that was just added and has published nothing keeps nobody waiting.
    """
    found = statements.run(REACHABLE, statements.plain((current_tenant(), user_id)))
    return {as_uuid(device_id): expires_at for device_id, expires_at in found}


def own_device_for_reading(actor: Actor, device_id: UUID) -> Device:
    """Return the actor's own device: the one whose key signed this request. Raises NotFound otherwise."""
    if actor.kind != "device" or actor.id != device_id:
        raise NotFound
    return device(device_id)


def own_device_for_update(actor: Actor, device_id: UUID) -> Device:
    """Return the actor's own device, active and locked against a revocation meanwhile. Raises NotFound."""
    if actor.kind != "device" or actor.id != device_id:
        raise NotFound
    return cast(Device, _one(Device.objects.select_for_update().filter(id=device_id, state=DeviceState.ACTIVE)))


def own_devices(actor: Actor, *, after: UUID | None = None) -> tuple[list[Device], bool]:
    """Return a page of the devices of the person who acts, and whether there are more; a program has none.

    Ordered as `devices_of` has them. Raises NotFound for an `after` that is not theirs.
    """
    return devices_of(actor.person_id, after=after) if actor.person_id is not None else ([], False)


def own_user(actor: Actor, user_id: UUID) -> UUID:
    """Return the user whose device the actor is. Raises NotFound for another's chain or vault."""
    if actor.kind != "device" or actor.person_id != user_id:
        raise NotFound
    return user_id


@dataclass(frozen=True)
class Own:
    """What a request about one's own vault or custody rests on, read at one moment.

    statement: of the device that asks. head: of the user's chain, if there is one. tenant_key: the
    one that records are stored under now. kept: the row of the section or door that was asked for.
    """

    user_id: UUID
    statement: bytes
    head: KeptHead | None
    tenant_key: TenantMasterKey | None
    kept: Vault | VaultDoor | None


_NEWEST: Final = (
    f"(SELECT e.entry_hash FROM {ChainEntry._meta.db_table} e WHERE e.tenant_id = h.tenant_id"  # noqa: S608 — our own tables' names
    " AND e.user_id = h.user_id ORDER BY e.seq DESC LIMIT 1)"
)
_OWN: Final = (
    "SELECT d.user_id, d.statement, h.seq, h.head, h.state, h.state_mac, " + _NEWEST + ","  # noqa: S608 — as above
    " k.version, k.wrapped, k.key_check_value, k.master_version, k.mac{columns}"
    f" FROM {Device._meta.db_table} d"
    f" LEFT JOIN {ChainHead._meta.db_table} h ON h.tenant_id = d.tenant_id AND h.user_id = d.user_id"
    f" LEFT JOIN {TenantMasterKey._meta.db_table} k"
    f" ON k.tenant_id = d.tenant_id AND k.state = '{KeyState.ACTIVE.value}'"
    "{kept} WHERE d.tenant_id = %s AND d.id = %s AND {state}"
)
_KEPT_ROW: Final = " LEFT JOIN {table} v ON v.tenant_id = d.tenant_id AND v.user_id = d.user_id AND v.{by} = %s"
_IS_ACTIVE, _IS_LIVE = f"d.state = '{DeviceState.ACTIVE.value}'", f"d.state <> '{DeviceState.REVOKED.value}'"
_VAULT_COLUMNS: Final = ("id", "epoch", "version", "blob_hash")


def own(actor: Actor) -> Own:
    """Return what the request of an active device rests on, without a vault. One query. Raises NotFound."""
    return _own(actor, _OWN.format(columns="", kept="", state=_IS_ACTIVE), ())


def own_vault(actor: Actor, section: Section, *, to_read: bool = False) -> Own:
    """Return what a request about one section of one's own vault rests on. One query. Raises NotFound.

    to_read: with what is sealed in it, and of a pending device as well: it was enrolled with a code, and becomes one of
    the user's through a door. Only an active one writes.
    """
    return _own(actor, _OF[Vault, to_read], (section.value,), Vault)


def own_door(actor: Actor, kind: str, *, to_read: bool = False) -> Own:
    """Return what a request about one of one's own doors rests on, as `own_vault` does."""
    return _own(actor, _OF[VaultDoor, to_read], (kind,), VaultDoor)


def _of(model: type[Vault] | type[VaultDoor], *, to_read: bool) -> str:
    columns = "".join(f", v.{name}" for name in (*_VAULT_COLUMNS, *(["sealed"] if to_read else [])))
    kept = _KEPT_ROW.format(table=model._meta.db_table, by=_NAMED_BY[model])
    return _OWN.format(columns=columns, kept=kept, state=_IS_LIVE if to_read else _IS_ACTIVE)


_NAMED_BY: Final[dict[type[Vault] | type[VaultDoor], str]] = {Vault: "section", VaultDoor: "kind"}
_OF: Final = {(model, to_read): _of(model, to_read=to_read) for model in _NAMED_BY for to_read in (True, False)}


def _own(actor: Actor, sql: str, named: tuple[str, ...], model: type[Vault] | type[VaultDoor] | None = None) -> Own:
    if actor.kind != "device" or actor.person_id is None or actor.id is None:
        raise NotFound
    found = statements.run(sql, statements.plain((*named, current_tenant(), actor.id)))
    if not found:
        raise NotFound
    row = found[0]
    user_id, statement = as_uuid(row[0]), bytes(row[1])
    chain = KeptHead.of_row(row[2:7]) if row[2] is not None else None
    names = ("version", "wrapped", "key_check_value", "master_version", "mac")
    key = TenantMasterKey(**dict(zip(names, row[7:12], strict=True))) if row[7] is not None else None
    kept = None
    if model is not None and row[12] is not None:
        kept = model(user_id=user_id, tenant_id=current_tenant())
        for name, value in zip((*_VAULT_COLUMNS, "sealed"), row[12:], strict=False):
            setattr(kept, name, as_uuid(value) if name == "id" else value)
        setattr(kept, _NAMED_BY[model], named[0])
    return Own(user_id, statement, chain, key, kept)


# The condition that an actor's device is one of its user's chain still, as a part of another statement: tenant and id.
ACTIVE_DEVICE: Final = (
    f"SELECT 1 FROM {Device._meta.db_table} d WHERE d.tenant_id = %s AND d.id = %s"  # noqa: S608 — our own table's name
    f" AND d.state = '{DeviceState.ACTIVE.value}'"
)


def vault_owner(actor: Actor) -> UUID:
    """Return whose vault the actor may read and write: the user of their active device. Raises NotFound."""
    if actor.kind != "device" or actor.person_id is None or actor.id is None:
        raise NotFound
    return active_device(actor.id).user_id


def vault_reader(actor: Actor) -> UUID:
    """Return whose vault the actor may read: the user of their live device. Raises NotFound.

    A pending device may read as well: it was enrolled with a code, and becomes one of the user's through a door.
    """
    if actor.kind != "device" or actor.person_id is None or actor.id is None:
        raise NotFound
    row = device(actor.id)
    if row.state == DeviceState.REVOKED:
        raise NotFound
    return row.user_id


def chain_head(user_id: UUID) -> ChainHead:
    """Return where a user's chain stands. Raises NotFound for a user without one."""
    return cast(ChainHead, _one(ChainHead.objects.filter(user_id=user_id).defer(*_WITH_STATE)))


def chain_head_for_update(user_id: UUID) -> ChainHead | None:
    """Lock where a user's chain stands, so that appends come one after another; None before the first."""
    return cast(
        "ChainHead | None", ChainHead.objects.select_for_update().defer(*_WITH_STATE).filter(user_id=user_id).first()
    )


def lock_chain_of_device(device_id: UUID) -> None:
    """Lock the head of a device's user's chain, if there is one: none of their devices changes state meanwhile."""
    owner = Device.objects.filter(id=device_id).values("user_id")
    ChainHead.objects.select_for_update().defer(*_WITH_STATE).filter(user_id__in=owner).first()


class KeptHead(NamedTuple):
    """Where a chain stands with what is kept of it. newest: the hash of the newest entry that is stored."""

    seq: int
    head: bytes
    state: bytes | None
    mac: bytes | None
    newest: bytes | None

    @classmethod
    def of_row(cls, row: Sequence[Any]) -> KeptHead:
        """Return it as the database gave it: octets come as other types of them."""
        seq, head, *others = row
        state, mac, newest = (None if value is None else bytes(value) for value in others)
        return cls(seq, bytes(head), state, mac, newest)


def chain_head_with_state(user_id: UUID) -> KeptHead | None:
    """Return where a user's chain stands with what is kept of it, if there is one. One query."""
    entries = ChainEntry.objects.filter(user_id=user_id).order_by("-seq").values("entry_hash")
    rows = ChainHead.objects.filter(user_id=user_id).annotate(newest=Subquery(entries[:1]))
    row = rows.values_list("seq", "head", "state", "state_mac", "newest").first()
    return KeptHead.of_row(row) if row else None


def chain_hashes(user_id: UUID, *, until: int) -> list[bytes]:
    """Return the hashes of a chain's accepted entries, up to the number `until`, in order."""
    rows = ChainEntry.objects.filter(user_id=user_id, seq__lte=until).order_by("seq")
    return [bytes(value) for value in rows.values_list("entry_hash", flat=True)]


def device_for_letter(device_id: UUID, *, own_user: UUID | None, to_anyone: bool) -> Device:
    """Return a device that may be written to: of one's own user, also pending; of another, active and `to_anyone`.

    Raises NotFound.
    """
    # Whoever has left is written to no more, though their chain lists the device for ever.
    here = Device.objects.filter(id=device_id).exclude(user_id__in=tenants.left_people_ids())
    row = cast(Device, _one(here))
    is_own = row.user_id == own_user
    if row.state != DeviceState.ACTIVE and not (is_own and row.state == DeviceState.PENDING):
        raise NotFound
    if not (is_own or to_anyone):
        raise NotFound
    return row


def messages_for(actor: Actor, *, limit: int) -> tuple[list[Message], bool]:
    """Return what waits for the actor's own device, oldest first, and whether more waits than `limit` and octets allow.

    Raises NotFound for whoever has no mailbox.
    """
    if actor.kind != "device":
        raise NotFound
    rows = Message.objects.filter(device_id=actor.id).order_by("seq")
    return page_of_octets(rows, lambda row: len(row.body), limit=limit)


@dataclass(frozen=True)
class FullestMailbox:
    """The most that one of some mailboxes holds: messages, their octets, and letters, each by itself."""

    messages: int = 0
    octets: int = 0
    letters: int = 0


def fullest_mailbox(device_ids: Collection[UUID]) -> FullestMailbox:
    """Return the most that waits in one of these devices' mailboxes."""
    is_message, is_notice = Q(kind=MessageKind.MESSAGE), Q(kind=MessageKind.NOTICE)
    held = Message.objects.filter(~is_notice, device_id__in=device_ids).values("device_id").order_by()
    rows = list(
        held.annotate(
            messages=Count("seq", filter=is_message),
            octets=Sum("size", filter=is_message),
            letters=Count("seq", filter=~is_message),
        )
    )
    return FullestMailbox(
        max((row["messages"] for row in rows), default=0),
        max((row["octets"] or 0 for row in rows), default=0),
        max((row["letters"] for row in rows), default=0),
    )


def most_signed_pre_keys(device_ids: Collection[UUID]) -> int:
    """Return the most signed pre-keys that are kept for one of these devices."""
    rows = SignedPreKey.objects.filter(device_id__in=device_ids).values("device_id").order_by()
    return max(rows.annotate(count=Count("pk")).values_list("count", flat=True), default=0)


def most_waiting_devices(user_id: UUID) -> int:
    """Count the devices of `waiting_devices` that the same people let in, of those who let in most."""
    return max(Counter(map(let_in_by, waiting_devices(user_id))).values(), default=0)


def message_content(actor: Actor, message_id: UUID) -> bytes:
    """Return the large content of a message that waits for the actor's own device. Raises NotFound."""
    mine = Message.objects.filter(id=message_id, device_id=actor.id).values("content_id")
    return bytes(_one(MessageContent.objects.filter(id__in=mine)).ciphertext)


def chain_entry(user_id: UUID, seq: int) -> ChainEntry:
    """Return the accepted entry with one number. Raises NotFound."""
    return cast(ChainEntry, _one(ChainEntry.objects.filter(user_id=user_id, seq=seq)))


def chain_entries(user_id: UUID) -> list[ChainEntry]:
    """Return all accepted entries of a chain, in order: for whoever verifies it here, and not for an answer."""
    return list(ChainEntry.objects.filter(user_id=user_id).order_by("seq"))


def kinds_appended(user_id: UUID, *, since: datetime, among: Collection[int]) -> set[int]:
    """Return which of some kinds of entries a chain got after a moment. It reads no entry."""
    rows = ChainEntry.objects.filter(user_id=user_id, kind__in=among, appended_at__gt=since)
    return set(rows.order_by().values_list("kind", flat=True).distinct())


def newest_of_kind(user_id: UUID, kind: int) -> ChainEntry:
    """Return the newest accepted entry of one kind. Raises NotFound when the chain has none."""
    return cast(ChainEntry, _one(ChainEntry.objects.filter(user_id=user_id, kind=kind).order_by("-seq")))


def announcers(*, after: UUID | None, limit: int) -> list[UUID]:
    """Return up to `limit` users who have announced an archive key, by id, those above `after`."""
    rows = ChainEntry.objects.filter(kind=ArchiveGeneration.TYPE)
    if after is not None:
        rows = rows.filter(user_id__gt=after)
    return list(rows.order_by("user_id").values_list("user_id", flat=True).distinct()[:limit])


def archive_entries(user_ids: Collection[UUID]) -> list[ChainEntry]:
    """Return the accepted entries in which these users announced an archive key, in order: of one page of users."""
    kind = ArchiveGeneration.TYPE
    return list(ChainEntry.objects.filter(user_id__in=user_ids, kind=kind).order_by("user_id", "seq"))


def newest_chain_entries(user_id: UUID, limit: int) -> list[ChainEntry]:
    """Return up to `limit` accepted entries of a chain, newest first."""
    return list(ChainEntry.objects.filter(user_id=user_id).order_by("-seq")[:limit])


def chain_page(user_id: UUID, *, after: int) -> tuple[list[ChainEntry], bool]:
    """Return accepted entries above the number `after`, in order, and whether more follow than one answer has."""
    rows = ChainEntry.objects.filter(user_id=user_id, seq__gt=after).order_by("seq")
    return page_of_octets(rows, lambda row: len(row.entry), limit=ENTRIES)


def current_signed_pre_key(device_id: UUID) -> SignedPreKey | None:
    """Return the signed pre-key that is handed out with claims, if the device has published one."""
    return cast("SignedPreKey | None", SignedPreKey.objects.filter(device_id=device_id, is_current=True).first())


def signed_pre_key(device_id: UUID, key_id: int) -> SignedPreKey | None:
    """Return the signed pre-key that this id was used for, current or not."""
    return cast("SignedPreKey | None", SignedPreKey.objects.filter(device_id=device_id, key_id=key_id).first())


def unissued(device: Device) -> QuerySet[OneTimePreKey]:
    """Select the one-time pre-keys of a device that can still be handed out."""
    return OneTimePreKey.objects.filter(device_id=device.id, epoch=device.pre_key_epoch)


def remaining_by_batch(device: Device) -> list[tuple[bytes, list[int]]]:
    """Return (batch id, remaining key ids in order) of each batch that has any, by batch id."""
    found: dict[bytes, list[int]] = {}
    for batch_id, key_id in unissued(device).order_by("key_id").values_list("batch__batch_id", "key_id"):
        found.setdefault(bytes(batch_id), []).append(key_id)
    return sorted(found.items())


def vault(user_id: UUID, section: Section = Section.VAULT) -> Vault | None:
    """Return the row of one section of a user's vault, sealed, if they have stored one."""
    return cast("Vault | None", Vault.objects.filter(user_id=user_id, section=section.value).first())


def lock_vault(user_id: UUID, section: Section) -> None:
    """Lock one section of a user's vault, if they have stored it, until the transaction ends."""
    Vault.objects.select_for_update().filter(user_id=user_id, section=section.value).first()


def door(user_id: UUID, kind: str) -> VaultDoor | None:
    """Return one door row, sealed, if the user has stored it."""
    return cast("VaultDoor | None", VaultDoor.objects.filter(user_id=user_id, kind=kind).first())


def doors(user_id: UUID, section: Section = Section.VAULT) -> list[VaultDoor]:
    """Return the door rows of one section of a user's vault, sealed, by kind."""
    rows = list(VaultDoor.objects.filter(user_id=user_id).order_by("kind"))
    return [row for row in rows if row.kind.startswith(f"{Section.OFFICERS.value}-") is (section is Section.OFFICERS)]


def proven_doors(user_id: UUID) -> list[str]:
    """Return the kinds of doors by which a person has shown that they open their officers' section. Two queries.

    A door of an earlier key of the section opens nothing that is there now, and does not count.
    """
    kept = vault(user_id, Section.OFFICERS)
    found = doors(user_id, Section.OFFICERS) if kept else []
    return [row.kind for row in found if row.proof is not None and kept is not None and row.epoch == kept.epoch]


def _one(rows: QuerySet[Any]) -> Any:
    row = rows.first()
    if row is None:
        raise NotFound
    return row


def as_uuid(value: Any) -> UUID:
    """Return an id as a statement of our own gave it."""
    return value if isinstance(value, UUID) else UUID(value)
