# SPDX-License-Identifier: Apache-2.0
"""The verbs of the mailbox: sealed messages between devices, kept until they are fetched, each delivered once.

Implements PROTOCOL section 4 (fan-out) on the server and FAULTS D3, X3, X7. It opens nothing and asks no HSM; and it
writes no audit entry, which would keep for ever who wrote to whom (docs/decisions.md).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Count, Exists, OuterRef
from django.utils import timezone

from holdfast.core.base.encoding import b64u
from kernel import statements
from kernel.actors import Actor
from kernel.clock import SKEW, database_now
from kernel.errors import NotFound
from kernel.scope import at_work, current_tenant
from kernel.sweeps import delete_in_batches
from keys import access
from keys import mailbox_sizes as sizes
from keys.errors import ChainStale, EnvelopesMismatch, MailboxFull, MessageLimit
from keys.models import ClaimBudget, Device, Message, MessageContent, MessageKind, MessageSort
from tenants.permissions import PermissionName

LIFE: Final = timedelta(days=30)
HOUR: Final = 3600
MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Room:
    """How much of one sort may wait in one mailbox: of all senders together, and of one of them."""

    messages: int
    octets: int
    messages_of_one: int
    octets_of_one: int


# Each sort has room of its own, so that none keeps another out: five hundred junk letters are in the way of no message
# and of nothing that the owner's own devices say to each other, and one sender leaves three quarters to the others. A
# device that is off for a month, the longest that anything waits, is written 2,000 messages by people who each send
# it sixteen a day.
MESSAGES: Final = Room(2_000, 64 * MIB, 500, 16 * MIB)
# A letter carries a share or one step of a pairing: a person sends another a handful in a year.
LETTERS: Final = Room(500, 16 * MIB, 50, 4 * MIB)
# Of the owner's own devices, each of them one sender: also one that only holds an enrolment code.
OWN: Final = Room(1_000, 32 * MIB, 500, 16 * MIB)
# Of one event, the newest notices stay. At most ten requests to contacts a day, and five open at once, can be vetoed:
# no notice that still asks for an answer is ever the hundred-and-first.
MAX_NOTICES: Final = 100
# By as much may a sender's clock be behind, and take a pre-key for valid that is not any more.
CLOCK_LEEWAY_SECONDS: Final = 300
_SWEEP_BATCH: Final = 500
# What is read of a message that goes: its place, its content, and what its mailbox's sizes change by.
_GOING: Final = ("seq", "content_id", *sizes.FIELDS)


@dataclass(frozen=True, slots=True)
class Envelope:
    """One device's ciphertext of a message."""

    device_id: UUID
    message: bytes


@dataclass(frozen=True, slots=True)
class Delivered:
    """A message that waits now, and in whose mailbox."""

    id: UUID
    device_id: UUID


def send(
    *, user_id: UUID, chain_head: bytes, envelopes: Sequence[Envelope], content: bytes | None, actor: Actor
) -> list[Delivered]:
    """Deliver one message to every device of a user that can be written to; of one's own, to every other.

    In the caller's transaction. chain_head: the 32-byte head that the sender encrypted for. Raises ChainStale with the
    newer one, EnvelopesMismatch for too few or too many devices, MailboxFull, MessageLimit; NotFound for a user
    without a chain.
    """
    # The chain's own lock comes first, as it does in an append: until this transaction ends, no device of the recipient
    # is added or revoked. Whatever is delivered before a revocation is there for it to move; what comes later is
    # refused (FAULTS X3). One message locks one chain, and nothing else is waited for before it, so two cannot
    # deadlock. It is an exclusive lock: waiters of a shared one never come to their turn under a stream of messages.
    head = access.chain_head_for_update(user_id)
    if head is None:
        raise NotFound
    if bytes(head.head) != chain_head:
        raise ChainStale(
            "Read the newer entries, then encrypt for the devices that they list.",
            head=b64u(bytes(head.head)),
            seq=head.seq,
        )
    return _deliver(MessageKind.MESSAGE, user_id, envelopes, content, actor, to_all=True)


def send_letter(*, device_id: UUID, kind: str, message: bytes, content: bytes | None, actor: Actor) -> Delivered:
    """Deliver one sealed letter, or one message of a session, to one device. In the caller's transaction.

    Letters between the devices of one user: pending ones may write and be written to. All others must be active, and
    both ends of a session are. Raises NotFound, MailboxFull, MessageLimit.
    """
    access.lock_chain_of_device(device_id)
    is_message = kind == MessageKind.MESSAGE
    target = access.device_for_letter(
        device_id,
        own_user=None if is_message else actor.person_id,
        to_anyone=actor.can(PermissionName.MESSAGE_SEND),
    )
    return _deliver(MessageKind(kind), target.user_id, [Envelope(target.id, message)], content, actor)[0]


def notify(*, device_ids: Collection[UUID], event: Mapping[str, str]) -> None:
    """Put a notice of the server's own into mailboxes, in the transaction of the act that it tells of.

    event: JSON text of ids and fixed words, `event` first. A full mailbox takes it as well: a notice that a flood of
    messages could keep away would be worth nothing. The same notice is not put beside itself within an hour, and of
    one event the oldest make room for the newest.
    """
    name, text, now = event["event"], json.dumps(event, separators=(",", ":")).encode(), timezone.now()
    held: dict[UUID, list[int]] = {device_id: [] for device_id in device_ids}
    of_this_event = Message.objects.filter(device_id__in=held, kind=MessageKind.NOTICE, event=name).order_by("seq")
    told: set[UUID] = set()
    for seq, device_id, received_at, body in of_this_event.values_list("seq", "device_id", "received_at", "body"):
        held[device_id].append(seq)
        # What a clock that was ahead has dated keeps no notice away for longer than any other.
        if bytes(body) == text and now - timedelta(seconds=HOUR) < received_at <= now + SKEW:
            told.add(device_id)
    due = [device_id for device_id in held if device_id not in told]
    if oldest := [
        seq for device_id in due for seq in held[device_id][: max(0, len(held[device_id]) + 1 - MAX_NOTICES)]
    ]:
        Message.objects.filter(seq__in=oldest).delete()
    Message.objects.bulk_create(
        Message(
            tenant_id=current_tenant(),
            device_id=device_id,
            addressed_to=device_id,
            kind=MessageKind.NOTICE,
            sort=MessageSort.NOTICE,
            event=name,
            body=text,
            size=len(text),
            received_at=now,
        )
        for device_id in due
    )


def acknowledge(*, message_ids: Sequence[UUID], actor: Actor) -> int:
    """Delete messages that the actor's device has, and return how many were there: the same again deletes none."""
    with transaction.atomic():
        mine = Message.objects.filter(device_id=actor.id, id__in=message_ids)
        return _delete(mine.select_for_update().order_by("seq").values_list(*_GOING))


def leave(*, device_id: UUID, successor_id: UUID | None) -> dict[UUID, int]:
    """Give a revoked device's undelivered messages to its successor, or delete them. In the chain's transaction.

    Returns of which user how many messages were deleted, those of who lost most first: their recipient is to hear.
    """
    # Rows are locked in one order here and in `acknowledge`, so that the two cannot wait for each other.
    held = Message.objects.filter(device_id=device_id).select_for_update().order_by("seq")
    found = list(held.values_list(*_GOING))
    if successor_id is not None:
        Message.objects.filter(seq__in=[row[0] for row in found]).update(device_id=successor_id)
        moved = [sizes.Held(*row[2:]) for row in found]
        there = [one._replace(device_id=successor_id) for one in moved]
        sizes.change(sizes.changes(moved, -1) | sizes.changes(there))
        return {}
    senders = Message.objects.filter(device_id=device_id, kind=MessageKind.MESSAGE).values_list("sender_user")
    lost = dict(senders.annotate(number=Count("seq")).order_by("-number", "sender_user"))
    _delete(found)
    return lost


def destroy_waiting(user_id: UUID) -> int:
    """Delete what waits for any device that a person ever had, and return how many messages. In its own transaction."""
    with transaction.atomic():
        theirs = Device.objects.filter(user_id=user_id).values("id")
        held = Message.objects.filter(device_id__in=theirs).select_for_update().order_by("seq")
        return _delete(held.values_list(*_GOING))


def sweep_expired() -> int:
    """Delete, of every tenant, the messages that nobody fetched in 30 days, and the contents that are as old."""
    count, before = 0, database_now() - LIFE
    while True:
        with transaction.atomic():
            due = at_work(Message.unscoped.filter(received_at__lt=before)).order_by("seq").select_for_update()
            gone = list(due.values_list(*_GOING)[:_SWEEP_BATCH])
            Message.unscoped.filter(seq__in=[row[0] for row in gone]).delete()
            sizes.change(sizes.changes((sizes.Held(*row[2:]) for row in gone), -1))
        count += len(gone)
        if len(gone) < _SWEEP_BATCH:
            break
    # Two devices that acknowledge at the same moment each see the other's row still there: what they leave goes here,
    # when no message can be as old. Looking for it sooner would look at every content that waits.
    delete_in_batches(MessageContent.unscoped.filter(created_at__lt=before))
    return count


def _deliver(
    kind: MessageKind,
    owner_id: UUID,
    envelopes: Sequence[Envelope],
    content: bytes | None,
    actor: Actor,
    *,
    to_all: bool = False,
) -> list[Delivered]:
    """Put envelopes into mailboxes, and hold what came of it to the limits: what it raises undoes it.

    to_all: they are for every device of their user that can be written to.
    """
    now, content_id = timezone.now(), uuid4() if content is not None else None
    if content_id is not None:
        MessageContent.objects.create(id=content_id, ciphertext=content, created_at=now)
    is_own = owner_id == actor.person_id
    sort = MessageSort.OWN if is_own else MessageSort.MESSAGE if kind == MessageKind.MESSAGE else MessageSort.LETTER
    rows = [
        Message(
            tenant_id=current_tenant(),
            device_id=envelope.device_id,
            addressed_to=envelope.device_id,
            kind=kind,
            sort=sort,
            sender_user=actor.person_id,
            sender_device=actor.id,
            body=envelope.message,
            content_id=content_id,
            size=len(envelope.message) + len(content or b""),
            received_at=now,
        )
        for envelope in envelopes
    ]
    put = _put(rows, owner_id if to_all else None, actor, int(now.timestamp()))
    if put.reachable is not None:
        _require_all(put.reachable, envelopes, actor)
    _require_room(rows, put.sizes)
    if put.taken > settings.HOLDFAST_MESSAGES_PER_SENDER:
        raise MessageLimit(retry_after=HOUR - int(now.timestamp()) % HOUR)
    return [Delivered(row.id, row.device_id) for row in rows]


@dataclass(frozen=True, slots=True)
class _Put:
    """What stands when messages were put: whom they had to reach, each mailbox's sizes, the sender's count."""

    reachable: dict[UUID, int] | None
    sizes: dict[tuple[UUID, UUID], sizes.Size]
    taken: int


_COLUMNS: Final = (
    "id",
    "tenant_id",
    "device_id",
    "addressed_to",
    "kind",
    "sort",
    "sender_user",
    "sender_device",
    "event",
    "body",
    "content_id",
    "size",
    "received_at",
)
_INSERT: Final = f"INSERT INTO {Message._meta.db_table} ({', '.join(_COLUMNS)}) VALUES "  # noqa: S608 — as below
_SPEND: Final = f"""
INSERT INTO {ClaimBudget._meta.db_table} (id, tenant_id, side, subject_id, hour, taken) VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (tenant_id, side, subject_id, hour)
DO UPDATE SET taken = {ClaimBudget._meta.db_table}.taken + excluded.taken RETURNING taken
"""  # noqa: S608 — our own table's name
# PostgreSQL's one statement. It begins when the chain is locked, so that the devices that it sees are those of then.
_TOGETHER: Final = (
    "WITH sizes AS ({sizes}), budget AS ({budget}), put AS ({insert})"
    " SELECT device_id, sender, messages, octets FROM sizes"
    " UNION ALL SELECT NULL, NULL, taken, NULL FROM budget{reachable}"
)
_REACHABLE: Final = f" UNION ALL SELECT device_id, NULL, NULL, expires_at FROM ({access.REACHABLE}) AS published"  # noqa: S608 — as above


def _put(rows: Sequence[Message], owner_id: UUID | None, actor: Actor, now: int) -> _Put:
    """Put messages, count them for their mailboxes and their sender, and look whom they had to reach.

    owner_id: whose devices, if all of them were to be reached. No check stands between, so that PostgreSQL does it in
    one statement; SQLite's WITH holds no INSERT.
    """
    assert actor.person_id is not None
    held = [sizes.Held(*(getattr(row, name) for name in sizes.FIELDS)) for row in rows]
    sizes_sql, sizes_values = sizes.statement(sizes.changes(held))
    # A count of nobody else's: whoever waits for it holds no other sender's.
    budget: list[Any] = [uuid4(), current_tenant(), "sender", actor.person_id, now // HOUR, len(rows)]
    insert_sql = _INSERT + ", ".join([f"({', '.join(['%s'] * len(_COLUMNS))})"] * len(rows))
    insert_values = statements.plain([getattr(row, name) for row in rows for name in _COLUMNS])
    to_reach = [current_tenant(), owner_id]
    if connection.vendor == "postgresql":
        reachable_sql = _REACHABLE if owner_id else ""
        sql = _TOGETHER.format(sizes=sizes_sql, budget=_SPEND, insert=insert_sql, reachable=reachable_sql)
        found = statements.run(sql, [*sizes_values, *budget, *insert_values, *(to_reach if owner_id else ())])
        # Of a size all four are there; of the budget the third; of a device the first and the last.
        return _Put(
            {row[0]: row[3] for row in found if row[2] is None} if owner_id else None,
            {(row[0], row[1]): sizes.Size(row[2], row[3]) for row in found if row[1] is not None},
            next(row[2] for row in found if row[0] is None),
        )
    reachable = access.reachable_devices(owner_id) if owner_id else None
    after = {
        (access.as_uuid(device), access.as_uuid(sender)): sizes.Size(messages, octets)
        for _, device, sender, messages, octets in statements.run(sizes_sql, sizes_values)
    }
    ((taken,),) = statements.run(_SPEND, statements.plain(budget))
    statements.run(insert_sql, insert_values)
    return _Put(reachable, after, taken)


def _require_all(reachable: Mapping[UUID, int], envelopes: Sequence[Envelope], actor: Actor) -> None:
    """Raise EnvelopesMismatch for too few or too many devices. The one that sends is none of them."""
    sent = {envelope.device_id for envelope in envelopes}
    others = {device_id: end for device_id, end in reachable.items() if device_id != actor.id}
    # With a device that was off until its pre-key expired nobody can begin a session: it must not keep its owner from
    # being written to. Whoever has a session with it goes on using it.
    soon = int(timezone.now().timestamp()) + CLOCK_LEEWAY_SECONDS
    required = {device_id for device_id, end in others.items() if not end or end > soon}
    if len(sent) != len(envelopes) or not required <= sent <= others.keys():
        raise EnvelopesMismatch(
            "Send one envelope for each active device of the user that has published its pre-keys, and none for the "
            "device that sends. Claim again, then encrypt for those that are answered.",
            field="envelopes",
        )


def _require_room(rows: Sequence[Message], after: Mapping[tuple[UUID, UUID], sizes.Size]) -> None:
    """Raise MailboxFull for the first mailbox that has no room of this sort left, of all senders or of this one.

    rows: as they were put. after: what each of their mailboxes holds with them.
    """
    for row in rows:
        sender = sizes.sender_of(row.sort, row.sender_user, row.sender_device)
        assert sender is not None
        place = (row.device_id, sender), (row.device_id, sizes.ALL)
        full = _full(row, *(after[one] for one in place))
        if full is not None:
            # Nobody is refused by a size that is wrong: it is counted, and stays as counted unless this is undone.
            counted = sizes.count_again(row.device_id, row.sort)
            full = _full(row, *(counted[whose] for _, whose in place))
        if full is not None:
            raise full


def _full(row: Message, of_one: sizes.Size, of_all: sizes.Size) -> MailboxFull | None:
    room = {MessageSort.MESSAGE: MESSAGES, MessageSort.LETTER: LETTERS, MessageSort.OWN: OWN}[MessageSort(row.sort)]
    if of_one.messages > room.messages_of_one or of_one.octets > room.octets_of_one:
        return MailboxFull(
            "A device of the recipient has not fetched what you sent it, and holds as much of yours as it may. "
            "Try again when it has.",
            device_id=str(row.device_id),
            full="of-one-sender",
        )
    if of_all.messages > room.messages or of_all.octets > room.octets:
        return MailboxFull(device_id=str(row.device_id), full="of-all-senders")
    return None


def _delete(rows: Iterable[tuple[Any, ...]]) -> int:
    """Delete messages, of one tenant, and what nothing names then. rows: their `_GOING`, locked."""
    found = list(rows)
    if not found:
        return 0
    Message.objects.filter(seq__in=[row[0] for row in found]).delete()
    sizes.change(sizes.changes((sizes.Held(*row[2:]) for row in found), -1))
    if contents := {row[1] for row in found if row[1]}:
        named = Message.objects.filter(content_id=OuterRef("id"))
        MessageContent.objects.filter(~Exists(named), id__in=contents).delete()
    return len(found)
