# SPDX-License-Identifier: Apache-2.0
"""How full mailboxes are: kept beside the messages and moved with them, so that nobody sums a mailbox for a message.

Implements FAULTS X7. Whoever adds or deletes messages changes the sizes in the same transaction, that of all senders
before that of any one: so they are exact under every interleaving, and no two wait for each other. It knows no limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Case, Count, F, Sum, When

from kernel import statements
from kernel.queue import apart
from kernel.scope import at_work, current_tenant
from keys.access import as_uuid
from keys.models import MailboxSize, Message, MessageSort

# Stands for all senders together. It comes before every id of one, which makes the order of the locks.
ALL: Final = UUID(int=0)
# Rows of one statement, of six values each: far fewer than a statement takes.
_AT_ONCE: Final = 500
_SIZE, _MESSAGE = (model._meta.db_table for model in (MailboxSize, Message))
# Of the owner's own devices each is a sender, of other people the person.
_SENDER: Final = f"CASE WHEN sort = {MessageSort.OWN:d} THEN sender_device ELSE sender_user END"
_WRONG: Final = f"""
SELECT DISTINCT device_id, sort FROM (
  SELECT device_id, sort, sender, messages, octets FROM {_SIZE} WHERE tenant_id = %s
  UNION ALL SELECT device_id, sort, {_SENDER}, -1, -size FROM {_MESSAGE} WHERE tenant_id = %s AND sort <> 0
  UNION ALL SELECT device_id, sort, {{all}}, -1, -size FROM {_MESSAGE} WHERE tenant_id = %s AND sort <> 0
) AS counted GROUP BY device_id, sort, sender HAVING SUM(messages) <> 0 OR SUM(octets) <> 0
"""  # noqa: S608 — our own tables' names


class Place(NamedTuple):
    """What one size is of: a mailbox of a tenant, a sort, and a sender or `ALL`."""

    tenant_id: UUID
    device_id: UUID
    sort: int
    sender: UUID


@dataclass(slots=True)
class Size:
    """Messages, and their octets with those of their contents."""

    messages: int = 0
    octets: int = 0


class Held(NamedTuple):
    """What a size is changed by of one message: `of` reads them from the table."""

    tenant_id: UUID
    device_id: UUID
    sort: int
    sender_user: UUID | None
    sender_device: UUID | None
    size: int


FIELDS: Final = Held._fields


def sender_of(sort: int, user_id: UUID | None, device_id: UUID | None) -> UUID | None:
    """Return which sender a message counts for, or None for a notice, which counts for nobody."""
    return None if sort == MessageSort.NOTICE else device_id if sort == MessageSort.OWN else user_id


def changes(rows: Iterable[Held], sign: Literal[1, -1] = 1) -> dict[Place, Size]:
    """Return by how much sizes change when these messages come (sign 1) or go (-1)."""
    found: dict[Place, Size] = {}
    for row in rows:
        sender = sender_of(row.sort, row.sender_user, row.sender_device)
        if sender is None:
            continue
        for whose in (ALL, sender):
            size = found.setdefault(Place(row.tenant_id, row.device_id, row.sort, whose), Size())
            size.messages += sign
            size.octets += sign * row.size
    return found


def statement(by: Mapping[Place, Size]) -> tuple[str, list[Any]]:
    """Return the one statement that changes these sizes, with its values; it returns each row as it is then.

    The rows stand in one order in every such statement, which is the order of their locks.
    """
    values: list[Any] = []
    for place in sorted(by):
        values += [*statements.plain(place), by[place].messages, by[place].octets]
    rows = ", ".join(["(%s, %s, %s, %s, %s, %s)"] * len(by))
    sql = (
        f"INSERT INTO {_SIZE} AS s (tenant_id, device_id, sort, sender, messages, octets) VALUES {rows}"  # noqa: S608 — our own table's name
        " ON CONFLICT (tenant_id, device_id, sort, sender) DO UPDATE"
        " SET messages = s.messages + excluded.messages, octets = s.octets + excluded.octets"
        " RETURNING id, device_id, sender, messages, octets"
    )
    return sql, values


def change(by: Mapping[Place, Size]) -> None:
    """Change sizes, in the transaction in which the messages come or go, and delete the rows that say nothing now."""
    places = sorted(by)
    for start in range(0, len(places), _AT_ONCE):
        some = {place: by[place] for place in places[start : start + _AT_ONCE]}
        with connection.cursor() as cursor:
            cursor.execute(*statement(some))
            empty = [row[0] for row in cursor.fetchall() if row[3] <= 0]
        if empty:
            # Of every tenant: the sweep that calls this is of all of them.
            MailboxSize.unscoped.filter(id__in=empty, messages__lte=0).delete()


def count_again(device_id: UUID, sort: int) -> dict[UUID, Size]:
    """Count one mailbox's messages of one sort, and write what there is; return it by sender and for `ALL`.

    In the caller's transaction, which holds the row of `ALL` from then on: what is being delivered or fetched
    meanwhile changes what is written here when it is done.
    """
    place = Place(current_tenant(), device_id, sort, ALL)
    with connection.cursor() as cursor:
        cursor.execute(*statement({place: Size()}))
    # A statement after the lock: it sees whatever was done by those who had it before.
    sender = Case(When(sort=MessageSort.OWN, then=F("sender_device")), default=F("sender_user"))
    held = Message.objects.filter(device_id=device_id, sort=sort).order_by().annotate(sender=sender)
    sums = held.values("sender").annotate(messages=Count("seq"), octets=Sum("size"))
    found = {row["sender"]: Size(row["messages"], row["octets"]) for row in sums}
    if found:
        of_all = (sum(size.messages for size in found.values()), sum(size.octets for size in found.values()))
        found[ALL] = Size(*of_all)
    MailboxSize.objects.filter(device_id=device_id, sort=sort).delete()
    MailboxSize.objects.bulk_create(
        MailboxSize(
            tenant_id=current_tenant(),
            device_id=device_id,
            sort=sort,
            sender=sender,
            messages=size.messages,
            octets=size.octets,
        )
        for sender, size in found.items()
    )
    return found


def mend() -> int:
    """Find, in every tenant, the sizes that are not what a count says, count those mailboxes again; return how many.

    None is ever wrong but by whoever writes the database past this program.
    """
    count, rows = 0, at_work(Message.unscoped.all()).order_by().values_list("tenant_id", flat=True).distinct()
    left = at_work(MailboxSize.unscoped.all()).order_by().values_list("tenant_id", flat=True).distinct()
    for tenant_id in sorted({*rows, *left}):
        with apart(tenant_id, "sizes of mailboxes"):
            for device_id, sort in _wrong(tenant_id):
                with transaction.atomic():
                    count_again(device_id, sort)
                count += 1
    return count


def _wrong(tenant_id: UUID) -> list[tuple[UUID, int]]:
    zero = f"'{ALL}'::uuid" if connection.features.has_native_uuid_field else f"'{ALL.hex}'"
    with connection.cursor() as cursor:
        cursor.execute(_WRONG.format(all=zero), [statements.parameter(tenant_id)] * 3)
        return [(as_uuid(device_id), sort) for device_id, sort in cursor.fetchall()]
