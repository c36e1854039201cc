# SPDX-License-Identifier: Apache-2.0
"""Reading a tenant's logs: entries, tiles, checkpoints and proofs, always of the tenant whose scope is open.

PROTOCOL section 8. Nothing beyond the newest signed head is proven or served as a tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django.db import connection
from django.db.models import Exists, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce

from audit.errors import LogBroken, NoCheckpoint, OutsideTheLog
from audit.models import (
    AcceptedLog,
    Checkpoint,
    Entry,
    LogHead,
    Numbered,
    Restored,
    RolesStatement,
    ShownHead,
    Tile,
    Transcript,
    Waiting,
)
from holdfast.core.base.encoding import b64u
from holdfast.core.base.errors import Malformed
from holdfast.core.identity.acts import Resolution, accepted_log
from holdfast.core.log import accepted, merkle, tiles
from holdfast.core.signed.cose import parse_many
from kernel import statements
from kernel.actors import Actor
from kernel.errors import NotFound
from kernel.scope import current_tenant, in_their_tenants

BATCH = 512  # of leaves that a follower's reader holds at a time

# What an app above knows and this one cannot: which audit entries a reader may not see yet. Each rule returns their
# condition, or None for a reader from whom it withholds nothing.
Withholding = Callable[[Actor], Q | None]
_withholdings: list[Withholding] = []


def withhold_by(rule: Withholding) -> None:
    """Say once, at start, which entries are kept from which reader. It holds for every reading of the audit log."""
    _withholdings.append(rule)


def withheld_from(reader: Actor) -> Q | None:
    """Return the condition of the audit entries that a reader may not see yet; None when they may see all."""
    withheld: Q | None = None
    for rule in _withholdings:
        found = rule(reader)
        if found is not None:
            withheld = found if withheld is None else withheld | found
    return withheld


# What an app above knows and this one cannot: of which tenants the heads are to be signed again though nothing is new.
# Whoever releases, and whoever waits for a release, wants to know that nothing is being hidden.
Wanting = Callable[[], set[UUID]]
_wantings: list[Wanting] = []


def keep_fresh_by(rule: Wanting) -> None:
    """Say once, at start, which tenants' heads have to be fresh at all times: one query, whatever their number."""
    _wantings.append(rule)


def wanted_fresh() -> set[UUID]:
    """Return the tenants whose heads have to be fresh, by every rule that was said."""
    return set().union(*(rule() for rule in _wantings))


# Who asks the time of a log wants a head that is signed now, and only then: once it is signed nobody waits for another.
_askings: list[Wanting] = []


def sign_when_asked_by(rule: Wanting) -> None:
    """Say once, at start, of which tenants somebody asks: their heads are signed anew, as long as they do."""
    _askings.append(rule)


def asked_for() -> set[UUID]:
    """Return the tenants of whom somebody asks, by every rule that was said."""
    return set().union(*(rule() for rule in _askings))


def latest_checkpoint(log: str) -> Checkpoint:
    """Return the newest signed head. Raises NoCheckpoint."""
    found: Checkpoint | None = Checkpoint.objects.filter(log=log).order_by("-size").first()
    if found is None:
        raise NoCheckpoint
    return found


def checkpoint_of(log: str, size: int) -> Checkpoint:
    """Return the signed head of a size. Raises NoCheckpoint."""
    found: Checkpoint | None = Checkpoint.objects.filter(log=log, size=size).first()
    if found is None:
        raise NoCheckpoint
    return found


def newest_roles() -> RolesStatement | None:
    """Return the newest `roles` statement as it is stored, if there is one. Nothing holds it to the root here."""
    row: RolesStatement | None = RolesStatement.objects.order_by("-version").first()
    return row


def newest_transcripts(limit: int) -> list[Transcript]:
    """List the newest signed transcripts of ceremonies, newest first, without their text and signatures."""
    return list(Transcript.objects.order_by("-number").defer("text", "statement")[:limit])


def transcript(number: int) -> Transcript:
    """Return the signed transcript of a number. Raises NotFound."""
    found: Transcript | None = Transcript.objects.filter(number=number).first()
    if found is None:
        raise NotFound
    return found


RESTORED_TABLE: Final = Restored._meta.db_table  # for the look-up of a signed request, which reads the mark with it


def is_restored() -> bool:
    """Tell whether the open tenant is read-only, as a backup was put back that its officers have not accepted."""
    return bool(Restored.objects.exists())


def is_tenant_restored(tenant_id: Any) -> Exists:
    """Return the same of another query's tenant: a condition for that query, so that it takes none of its own."""
    return Exists(Restored.unscoped.filter(tenant_id=tenant_id))


def restored_mark() -> Restored | None:
    """Return the mark of the open tenant, if it is read-only."""
    found: Restored | None = Restored.objects.first()
    return found


def restored_tenants() -> QuerySet[Any, Any]:
    """Return the ids of the tenants that are read-only: for system loops, which leave them alone."""
    return Restored.unscoped.values_list("tenant_id", flat=True)


def restored_marks() -> list[Restored]:
    """List the marks of all tenants, the oldest first: for the operator."""
    return list(Restored.unscoped.order_by("since", "tenant_id"))


def shown_heads() -> list[ShownHead]:
    """List the heads that clients showed and the open tenant's stored logs do not lead to: one of a log at most."""
    return list(ShownHead.objects.order_by("log"))


def accepted_logs() -> list[AcceptedLog]:
    """List the restored logs of the open tenant that officers accepted and a ceremony acted on, newest first."""
    return list(AcceptedLog.objects.order_by("-at", "-audit_size"))


def accepted_at() -> datetime | None:
    """Return when a ceremony last went on from a restored log of the open tenant, if it ever did."""
    return AcceptedLog.objects.order_by("-at").values_list("at", flat=True).first()


def accepted_in(log: str) -> list[accepted.AcceptedLog]:
    """List what was accepted of one log, newest first, for whoever holds a head against it."""
    found = []
    for row in accepted_logs():
        statement = parse_many(bytes(row.statement))[0]
        one = accepted_log(Resolution.from_payload(statement.payload), statement.payload_hash, log)
        if one is not None:
            found.append(one)
    return found


def is_accepted(resolution_hash: bytes) -> bool:
    """Tell whether the open tenant's log says that it goes on by this resolution, after a backup was put back."""
    rows = Entry.objects.filter(log="audit", tag="audit:log:accept", body__hash=b64u(resolution_hash), refused="")
    return bool(rows.exists())


# Entries are numbered within a second or two; one that waits for longer than this is kept from it
# (ESCROW "What it believes of the log").
_WAITS_SECONDS = 120


_STANDING: Final = (
    f"SELECT (SELECT note FROM {Checkpoint._meta.db_table}"  # noqa: S608 — our own tables' names
    " WHERE tenant_id = %s AND log = %s ORDER BY size DESC LIMIT 1),"
    f" (SELECT statement FROM {RolesStatement._meta.db_table} WHERE tenant_id = %s ORDER BY version DESC LIMIT 1),"
    f" EXISTS (SELECT 1 FROM {Waiting._meta.db_table}"
    " WHERE tenant_id = %s AND log = %s AND refused = '' AND time < {since})"
)
_STANDINGS: Final = {
    "postgresql": _STANDING.format(since=f"statement_timestamp() - interval '{_WAITS_SECONDS} seconds'"),
    "sqlite": _STANDING.format(since=f"strftime('%%Y-%%m-%%d %%H:%%M:%%f', 'now', '-{_WAITS_SECONDS} seconds')"),
}


@dataclass(frozen=True)
class Standing:
    """How a log of the open tenant stands: its newest signed head, the newest `roles`, as they are stored.

    has_waited: whether an entry has waited for its index for over two minutes, by the database's own clock.
    """

    note: str
    roles: bytes | None
    has_waited: bool


def standing(log: str) -> Standing:
    """Return how a log stands. One query. Raises NoCheckpoint."""
    tenant = statements.parameter(current_tenant())
    ((note, roles, has_waited),) = statements.run(_STANDINGS[connection.vendor], [tenant, log, tenant, tenant, log])
    if note is None:
        raise NoCheckpoint
    return Standing(note, None if roles is None else bytes(roles), bool(has_waited))


def numbered(log: str) -> int:
    """Return how many entries of the open tenant's log have an index, signed for or not."""
    head = LogHead.objects.filter(log=log).first()
    return head.size if head else 0


def pending(log: str) -> int:
    """Count the entries that no signed head covers yet."""
    newest = Checkpoint.objects.filter(log=log).order_by("-size").first()
    unsigned = numbered(log) - (newest.size if newest else 0)
    return unsigned + Waiting.objects.filter(log=log, refused="").count()


def refused(*, limit: int) -> list[Waiting]:
    """List rows of the audit log that never get an index, in no order: nobody entitled wrote them, and nothing that
    they say is to be believed or shown.
    """
    return list(Waiting.objects.filter(log="audit").exclude(refused="")[:limit])


def tile_reader(log: str) -> tiles.TileReader:
    """Return a reader of this tenant's tiles; of a tile that is not there, it gives no hashes."""

    def read(level: int, index: int) -> bytes:
        row = Tile.objects.filter(log=log, level=level, index=index).first()
        return bytes(row.hashes) if row else b""

    return read


def tile(log: str, level: int, index: int) -> bytes:
    """Return the hashes of a tile that the newest signed head covers. Raises NotFound when it covers none."""
    covered = latest_checkpoint(log).size >> (tiles.HEIGHT * level)
    width = min(tiles.WIDTH, covered - index * tiles.WIDTH)
    hashes = tile_reader(log)(level, index)[: max(width, 0) * merkle.HASH_SIZE]
    if not hashes:
        raise NotFound
    return hashes


def inclusion(log: str, *, index: int, size: int) -> list[bytes]:
    """Prove that the leaf at `index` is in the tree of `size`. Raises OutsideTheLog, LogBroken."""
    if not 0 <= index < size <= latest_checkpoint(log).size:
        raise OutsideTheLog("There is no such entry in a signed log of this size.", field="index")
    try:
        return tiles.inclusion_proof(tile_reader(log), index=index, size=size)
    except Malformed as error:
        raise LogBroken from error


def consistency(log: str, *, old_size: int, size: int) -> list[bytes]:
    """Prove that the tree of `old_size` is a prefix of the tree of `size`. Raises OutsideTheLog, LogBroken."""
    if not 1 <= old_size <= size <= latest_checkpoint(log).size:
        raise OutsideTheLog("Sizes run from 1 to the size of the signed log.", field="from")
    try:
        return tiles.consistency_proof(tile_reader(log), old_size=old_size, size=size)
    except Malformed as error:
        raise LogBroken from error


def leaves(log: str, start: int, stop: int) -> list[bytes]:
    """Return the leaves with indices start … stop−1, all of them. Raises LogBroken when one is missing."""
    rows = _between(log, start, stop).values_list("leaf_index", "leaf")
    found = [(index, bytes(leaf)) for index, leaf in rows]
    if [index for index, _ in found] != list(range(start, stop)):
        raise LogBroken
    return [leaf for _, leaf in found]


def places_withheld(withheld: Q | None, *, size: int, start: int = 0) -> list[int]:
    """List the places of the audit entries that a condition withholds, from one index and below another, in order.

    They are few: what is withheld are the entries about open cases of which one person is not to learn yet.
    """
    if withheld is None:
        return []
    rows = Numbered.objects.filter(withheld, log="audit", leaf_index__gte=start, leaf_index__lt=size)
    return list(rows.order_by("leaf_index").values_list("leaf_index", flat=True))


def lowest_tiles(log: str, start: int, stop: int) -> dict[int, bytes]:
    """Return the lowest tiles start … stop−1 by their index, those that there are. One query."""
    rows = Tile.objects.filter(log=log, level=0, index__gte=start, index__lt=stop)
    return {index: bytes(hashes) for index, hashes in rows.values_list("index", "hashes")}


def leaves_there(log: str, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
    """Give the leaves with indices start … stop−1 that there are, each with its index. One query."""
    for index, leaf in _between(log, start, stop).values_list("leaf_index", "leaf"):
        yield index, bytes(leaf)


def key_leaf(*, type: int, user: UUID, seq: int) -> Entry | None:  # noqa: A002
    """Return the row of one statement of a user in the `keys` log, numbered or not, if there is one."""
    rows = Entry.objects.filter(log="keys", tag=f"keys-log:{type}", subject=str(user), body__seq=seq)
    found: Entry | None = rows.order_by("seq").first()
    return found


def _between(log: str, start: int, stop: int) -> QuerySet[Any]:
    return Numbered.objects.filter(log=log, leaf_index__gte=start, leaf_index__lt=stop).order_by("leaf_index")


def about(subject: str, *, limit: int) -> list[Numbered]:
    """List the newest audit entries about one thing, newest first, for an app whose reader may see that thing."""
    return list(Numbered.objects.filter(log="audit", subject=subject).order_by("-leaf_index")[:limit])


def was_logged_after(subject: str, *, tag: str, act: tuple[str, str]) -> bool:
    """Tell whether there is an audit entry of one tag about one thing behind that of an act, numbered or not.

    act: its subject and tag. Behind in the log, as its readers see it: entries are dated by the clocks of whoever
    writes them. Of an act that has no entry, whatever there is stands behind it.
    """
    rows = Entry.objects.filter(log="audit", refused="")
    first = rows.filter(subject=act[0], tag=act[1]).order_by("seq").values("seq")[:1]
    return bool(rows.filter(subject=subject, tag=tag, seq__gt=Coalesce(Subquery(first), 0)).exists())


def logged_after(named: Iterable[tuple[UUID, str, str]], *, tag: str, act: str) -> set[tuple[UUID, str, str]]:
    """Return those of whom `was_logged_after` is true, for a loop over all tenants. Two queries for thousands.

    named: (tenant, subject, subject of the act). tag and act: the tags of what is asked for, and of the act.
    """
    wanted = list(named)
    rows = Entry.unscoped.filter(log="audit", refused="")
    last: dict[tuple[UUID, str], int] = {}
    for those in in_their_tenants("subject", ((tenant_id, subject) for tenant_id, subject, _ in wanted)):
        found = rows.filter(those, tag=tag).order_by("seq")
        last |= {(tenant_id, one): seq for tenant_id, one, seq in found.values_list("tenant_id", "subject", "seq")}
    wanted = [one for one in wanted if one[:2] in last]
    first: dict[tuple[UUID, str], int] = {}
    for those in in_their_tenants("subject", ((tenant_id, subject) for tenant_id, _, subject in wanted)):
        found = rows.filter(those, tag=act).order_by("-seq")
        first |= {(tenant_id, one): seq for tenant_id, one, seq in found.values_list("tenant_id", "subject", "seq")}
    return {one for one in wanted if last[one[:2]] > first.get((one[0], one[2]), 0)}


def last_entry(subject: str, *, tag: str) -> Entry | None:
    """Return the newest audit entry of one tag about one thing, numbered or not, if any."""
    rows = Entry.objects.filter(log="audit", subject=subject, tag=tag, refused="")
    found: Entry | None = rows.order_by("-seq").first()
    return found


def entry_about(subject: str, *, tag: str, device: str) -> Entry | None:
    """Return the audit entry of one tag in which a device did something to one thing, numbered or not, if any."""
    rows = Entry.objects.filter(log="audit", subject=subject, tag=tag, body__device=device, refused="")
    found: Entry | None = rows.order_by("seq").first()
    return found


def leaves_naming(statement_hash: bytes, *, tag: str, field: str) -> list[bytes]:
    """Return the leaves of audit entries of one tag whose body names a signed statement (32 bytes) in a field.

    Numbered or not, without those that the sequencer refused.
    """
    rows = Entry.objects.filter(log="audit", tag=tag, refused="", **{f"body__{field}": b64u(statement_hash)})
    return [bytes(leaf) for leaf in rows.order_by("seq").values_list("leaf", flat=True)]


def search(
    *,
    reader: Actor,
    tag: str = "",
    actor: str = "",
    subject: str = "",
    person: UUID | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    before: int | None = None,
    after: int | None = None,
    is_oldest_first: bool = False,
    limit: int = 50,
) -> list[Numbered]:
    """List the audit entries that the reader may see, newest first unless told otherwise.

    before, after: the cursor, an index. One query.
    """
    wanted: dict[str, Any] = {
        name: value
        for name, value in {
            "tag__startswith": tag,
            "actor": actor,
            "subject": subject,
            "person_id": person,
            "time__gte": since,
            "time__lt": until,
            "leaf_index__lt": before,
            "leaf_index__gt": after,
        }.items()
        if value not in ("", None)
    }
    order = "leaf_index" if is_oldest_first else "-leaf_index"
    found = _readable(Numbered, reader).filter(**wanted).order_by(order).values("leaf_index")[:limit]
    # Of the many entries of a long time only these are read: a date alone is answered by its index.
    return list(Numbered.objects.filter(log="audit", leaf_index__in=found).order_by(order))


def count_entries(*tags: str, reader: Actor, since: datetime) -> int:
    """Count the audit entries of these tags that the reader may see, numbered or not, since a time. One query."""
    return _readable(Entry, reader).filter(tag__in=tags, refused="", time__gte=since).count()


def entry_at(index: int, *, reader: Actor) -> Numbered:
    """Return the audit entry at an index. Raises NotFound, also for one that the reader may not see yet."""
    found: Numbered | None = _readable(Numbered, reader).filter(leaf_index=index).first()
    if found is None:
        raise NotFound
    return found


def _readable(model: type[Entry | Numbered], reader: Actor) -> QuerySet[Any]:
    rows: QuerySet[Any] = model.objects.filter(log="audit")
    withheld = withheld_from(reader)
    return rows if withheld is None else rows.exclude(withheld)
