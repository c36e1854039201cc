# SPDX-License-Identifier: Apache-2.0
"""The facts of one tenant's log as a file: what the release process goes on from when it starts again.

Implements docs/formats/release-facts.md. A frame is believed when its MAC fits, by a key of this directory, and only
where its head stands among the heads that the directory keeps. Nothing in it is anybody's word: it can be lost, and
whoever reads the log anew comes to the same. It reads and writes frames; `log` says when.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Final

import holdfast.core
from holdfast.core.base.encoding import MAX_VAULT, Encodable, Fields, Value, decode, encode, label
from holdfast.core.base.errors import HoldfastError, Malformed, Untrusted
from holdfast.core.base.secret import SecretBytes
from holdfast.core.identity.acts import Resolution
from holdfast.core.log.follower import LogFollower
from holdfast.core.log.merkle import CompactRange
from recovery.release.clock import Moment
from recovery.release.directory import SeenHead, Trust
from recovery.release.facts import CaseFacts, Facts, LoggedDecision, Place, WrongEntry

_MAC_BYTES: Final = 32  # HMAC-SHA256
_LENGTH: Final = struct.Struct(">I")
_MOMENT: Final = struct.Struct(">qq")  # tick, wall clock; before 1970 by a clock that stood at its beginning
_PLACE: Final = struct.Struct(">Qqq")
_NUMBER: Final = struct.Struct(">q")
_ID: Final = 16
# Of one frame, which is held whole. Far below MAX_VAULT, the most that is read of one.
_ROWS_BYTES: Final = 256 * 1024
_CASES: Final = 64  # in one frame: a case with sixteen approvals given anew a few times has some 10 KiB
# Frames, by their first number.
_HEAD_FRAME, _TABLE_FRAME, _CASES_FRAME, _REST_FRAME, _END_FRAME = range(5)


@dataclass(frozen=True)
class Binding:
    """What facts were made by, beside the log. Those of another binding do not fit, and the log is read anew.

    first_reading: the head up to which entries keep their own times. roles: hash of the statement by which the entries
    were judged.
    """

    tenant: bytes
    trust: Trust
    roles: bytes
    first_reading: SeenHead | None

    def mac(self, key: SecretBytes) -> bytes:
        """Return where the chain of MACs begins, by a key of 32 bytes."""
        first = self.first_reading
        said: list[Encodable] = [self.trust.root_key.encoded, self.trust.pin, int(self.trust.is_development)]
        until: list[Encodable] = [first.size, first.root, _MOMENT.pack(*_of(first.moment))] if first else []
        return _mac(key, b"", label("release-facts", self.tenant, rules(), said, self.roles, until))


@dataclass(frozen=True)
class Kept:
    """Facts up to one head. heads: how many of the directory's heads it is the last of."""

    heads: int
    head: SeenHead
    follower: LogFollower
    facts: Facts


@cache
def rules() -> bytes:
    """Return what names the program's own rules: 32 bytes, other ones after each update that could change a fact.

    Of the text of every module that has a part in it: a number to count up by hand would be forgotten once.
    """
    parts = (Path(__file__).parent, Path(str(holdfast.core.__file__)).parent)
    files = sorted(chain.from_iterable(part.rglob("*.py") for part in parts))
    return sha256(b"".join(sha256(path.read_bytes()).digest() for path in files)).digest()


def write(file: BinaryIO, kept: Kept, *, key: SecretBytes, binding: Binding) -> None:
    """Write facts frame by frame; more than one is never held."""
    mac = binding.mac(key)
    for frame in _frames(kept):
        body = encode(frame)
        mac = _mac(key, mac, body)
        file.write(_LENGTH.pack(len(body)) + body + mac)


def read(file: BinaryIO, into: Facts, *, key: SecretBytes, binding: Binding) -> Kept:
    """Read facts into empty ones, each frame after its MAC. Policies and keys are followed by their signatures as well.

    Raises Untrusted for a file that is cut off, damaged, or another's: what was filled so far is to be thrown away.
    """
    head: tuple[int, SeenHead, LogFollower] | None = None
    try:
        for value in _verified(file, key, binding.mac(key)):
            kind = value[0] if value else None
            if head is None:
                head = _head(value)
            elif kind == _TABLE_FRAME:
                _take_table(value, into)
            elif kind == _CASES_FRAME:
                _take_cases(value, into)
            elif kind == _REST_FRAME:
                _take_rest(value, into)
            elif kind == _END_FRAME:
                return Kept(*head, into)
            else:
                raise Malformed("release facts: no such frame")
    except (HoldfastError, struct.error, ValueError) as error:
        raise Untrusted(f"the kept facts are not what they have to be: {error}") from error
    raise Untrusted("the kept facts are cut off")


def _mac(key: SecretBytes, before: bytes, body: bytes) -> bytes:
    return hmac.digest(key.reveal(), before + body, "sha256")


def _verified(file: BinaryIO, key: SecretBytes, mac: bytes) -> Iterator[list[Value]]:
    while prefix := file.read(_LENGTH.size):
        length = _LENGTH.unpack(prefix)[0]
        if length > MAX_VAULT:
            raise Malformed("release facts: a frame is too long")
        body, said = file.read(length), file.read(_MAC_BYTES)
        mac = _mac(key, mac, body)
        # Of the one before as well: none can be left out, put elsewhere, or taken from another file.
        if not hmac.compare_digest(mac, said):
            raise Untrusted("a MAC does not fit")
        value = decode(body, max_size=MAX_VAULT)
        if not isinstance(value, list):
            raise Malformed("release facts: a frame is a row")
        yield value


# Frames.


def _frames(kept: Kept) -> Iterator[list[Encodable]]:
    facts, head = kept.facts, kept.head
    place = _MOMENT.pack(*_of(head.moment))
    yield [_HEAD_FRAME, kept.heads, head.size, head.root, place, kept.follower.range.to_bytes()]
    for name, table in _TABLES.items():
        yield from _table_frames(name, table.rows(facts))
    cases: list[Encodable] = []
    for case_id, case in facts.cases.items():
        cases.append(_case_row(case_id, case))
        if len(cases) == _CASES:
            yield [_CASES_FRAME, cases]
            cases = []
    yield [_CASES_FRAME, cases]
    yield [_REST_FRAME, _rest_row(facts)]
    yield [_END_FRAME]


def _head(value: list[Value]) -> tuple[int, SeenHead, LogFollower]:
    row = Fields.of_row(value, "release facts: head", 6)
    if row.uint(0) != _HEAD_FRAME:
        raise Malformed("release facts: the first frame is the head's")
    head = SeenHead(row.uint(2), row.octets(3, 32), Moment(*_MOMENT.unpack(row.octets(4, _MOMENT.size))))
    follower = LogFollower(CompactRange.from_bytes(row.octets(5)))
    if (follower.size, follower.root) != (head.size, head.root):
        raise Malformed("release facts: they stand at another head than they say")
    return row.uint(1, minimum=1), head, follower


# Tables: rows of one key and one value, side by side as long as they have the lengths of the row before.

Rows = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True)
class _Table:
    rows: Callable[[Facts], Rows]
    take: Callable[[Facts, list[bytes], list[bytes]], None]


def _table_frames(name: str, rows: Rows) -> Iterator[list[Encodable]]:
    lengths, held, size = (0, 0), list[bytes](), 0
    for key, value in rows:
        if held and ((len(key), len(value)) != lengths or size >= _ROWS_BYTES):
            yield [_TABLE_FRAME, name, *lengths, b"".join(held)]
            held, size = [], 0
        lengths = len(key), len(value)
        held += (key, value)
        size += len(key) + len(value)
    if held:
        yield [_TABLE_FRAME, name, *lengths, b"".join(held)]


def _take_table(value: list[Value], into: Facts) -> None:
    row = Fields.of_row(value, "release facts: table", 5)
    name, wide, high, octets = row.text(1), row.uint(2), row.uint(3), row.octets(4)
    if name not in _TABLES or not wide + high or len(octets) % (wide + high):
        raise Malformed("release facts: no such table, or not of such rows")
    starts = range(0, len(octets), wide + high)
    keys = [octets[at : at + wide] for at in starts]
    values = [octets[at + wide : at + wide + high] for at in starts]
    _TABLES[name].take(into, keys, values)


def _own(facts: Facts) -> object:
    return facts


def _presence(facts: Facts) -> object:
    return facts.presence


def _dictionary(name: str, of: Callable[[Facts], object] = _own) -> _Table:
    def rows(facts: Facts) -> Rows:
        found: Mapping[bytes, bytes] = getattr(of(facts), name)
        return found.items()

    def take(facts: Facts, keys: list[bytes], values: list[bytes]) -> None:
        getattr(of(facts), name).update(zip(keys, values, strict=True))

    return _Table(rows, take)


def _set(name: str, of: Callable[[Facts], object] = _own) -> _Table:
    def rows(facts: Facts) -> Rows:
        found: Collection[bytes] = getattr(of(facts), name)
        return ((one, b"") for one in found)

    def take(facts: Facts, keys: list[bytes], values: list[bytes]) -> None:
        getattr(of(facts), name).update(keys)

    return _Table(rows, take)


def _numbers(name: str, of: Callable[[Facts], object] = _own) -> _Table:
    def rows(facts: Facts) -> Rows:
        found: Mapping[bytes, int] = getattr(of(facts), name)
        return ((key, _NUMBER.pack(number)) for key, number in found.items())

    def take(facts: Facts, keys: list[bytes], values: list[bytes]) -> None:
        numbers = (number for (number,) in _NUMBER.iter_unpack(b"".join(values)))
        getattr(of(facts), name).update(zip(keys, numbers, strict=True))

    return _Table(rows, take)


def _ids(name: str, kind: type[set[bytes] | frozenset[bytes]], of: Callable[[Facts], object] = _own) -> _Table:
    def rows(facts: Facts) -> Rows:
        found: Mapping[bytes, Collection[bytes]] = getattr(of(facts), name)
        return ((key, b"".join(sorted(ids))) for key, ids in found.items())

    def take(facts: Facts, keys: list[bytes], values: list[bytes]) -> None:
        found = getattr(of(facts), name)
        for key, value in zip(keys, values, strict=True):
            found[key] = kind(_cut(value, _ID))

    return _Table(rows, take)


def _cut(octets: bytes, width: int) -> list[bytes]:
    if len(octets) % width:
        raise Malformed("release facts: a row is not of whole parts")
    return [octets[at : at + width] for at in range(0, len(octets), width)]


def _vetoes(facts: Facts) -> Rows:
    return ((subject, b"".join(map(_NUMBER.pack, ticks))) for subject, ticks in facts.vetoes.items())


def _take_vetoes(facts: Facts, keys: list[bytes], values: list[bytes]) -> None:
    for key, value in zip(keys, values, strict=True):
        facts.vetoes[key] = [tick for (tick,) in _NUMBER.iter_unpack(value)]


def _sponsors(facts: Facts) -> Rows:
    for person, those in facts.sponsors.items():
        yield person, b"".join(one + _NUMBER.pack(tick) for one, tick in those.items())


def _take_sponsors(facts: Facts, keys: list[bytes], values: list[bytes]) -> None:
    for key, value in zip(keys, values, strict=True):
        rows = _cut(value, _ID + _NUMBER.size)
        facts.sponsors[key] = {row[:_ID]: _NUMBER.unpack(row[_ID:])[0] for row in rows}


def _unreceipted(facts: Facts) -> Rows:
    return ((deposit, _NUMBER.pack(index) + policy) for deposit, (index, policy) in facts.unreceipted.items())


def _take_unreceipted(facts: Facts, keys: list[bytes], values: list[bytes]) -> None:
    for key, value in zip(keys, values, strict=True):
        facts.unreceipted[key] = (_NUMBER.unpack(value[: _NUMBER.size])[0], value[_NUMBER.size :])


def _silenced(facts: Facts) -> Rows:
    return facts.silenced


def _take_silenced(facts: Facts, keys: list[bytes], values: list[bytes]) -> None:
    facts.silenced.update(zip(keys, values, strict=True))


_TABLES: Final[dict[str, _Table]] = {
    "officers": _set("officers"),
    "active": _set("active"),
    "owners": _set("owners"),
    "removed": _set("removed"),
    "away": _set("away"),
    "suspended": _numbers("suspended"),
    "stopped": _numbers("stopped"),
    "deposits": _dictionary("deposits"),
    "made-under": _dictionary("made_under"),
    "halves": _dictionary("halves"),
    "half-owners": _dictionary("half_owners"),
    "unreceipted": _Table(_unreceipted, _take_unreceipted),
    "vetoes": _Table(_vetoes, _take_vetoes),
    "enrolled-by": _ids("enrolled_by", frozenset),
    "sponsors": _Table(_sponsors, _take_sponsors),
    "present": _set("active", _presence),
    "device-owners": _dictionary("owners", _presence),
    "acting": _ids("acting", set, _presence),
    "objecting-since": _numbers("objecting_since", _presence),
    "silenced": _Table(_silenced, _take_silenced),
    "seen": _set("seen"),
    "used": _set("used"),
}


# Cases, and what is little.


def _of(moment: Moment) -> tuple[int, int]:
    return moment.tick, moment.wall


def _moment(moment: Moment | None) -> bytes:
    return _MOMENT.pack(*_of(moment)) if moment else b""


def _moment_or_none(octets: bytes) -> Moment | None:
    return Moment(*_MOMENT.unpack(octets)) if octets else None


def _place(place: Place) -> bytes:
    return _PLACE.pack(place.index, *_of(place.moment))


def _place_from(octets: bytes) -> Place:
    index, tick, wall = _PLACE.unpack(octets)
    return Place(index, Moment(tick, wall))


def _case_row(case_id: bytes, case: CaseFacts) -> list[Encodable]:
    given: list[Encodable] = [[who, one.statement_hash, _place(one.place)] for who, one in case.approvals.items()]
    used: list[Encodable] = [[who, one] for who, one in sorted(case.used)]
    return [
        *(case_id, case.q, case.policy_hash, case.subject, case.requester, case.recipient, case.recipient_device),
        *(_place(case.place), sorted(case.behind), given, used),
        *(_moment(case.told), _moment(case.not_told), _moment(case.objected)),
        *(case.stage, case.extra_officers, int(case.is_forbidden), int(case.is_veto_counted)),
    ]


def _take_cases(value: list[Value], into: Facts) -> None:
    for one in Fields.of_row(value, "release facts: cases", 2).array(1):
        row = Fields.of_row(one, "release facts: case", 18)
        given = [Fields.of_row(row_, "release facts: approval", 3) for row_ in row.array(9)]
        used = [Fields.of_row(row_, "release facts: approval used", 2) for row_ in row.array(10)]
        into.cases[row.octets(0, _ID)] = CaseFacts(
            q=row.octets(1),
            policy_hash=row.octets(2),
            subject=row.octets(3),
            requester=row.octets(4),
            recipient=row.octets(5),
            recipient_device=row.octets(6),
            place=_place_from(row.octets(7)),
            behind=frozenset(_octets(row.array(8))),
            approvals={one.octets(0): LoggedDecision(one.octets(1), _place_from(one.octets(2))) for one in given},
            used={(one.octets(0), one.octets(1)) for one in used},
            told=_moment_or_none(row.octets(11)),
            not_told=_moment_or_none(row.octets(12)),
            objected=_moment_or_none(row.octets(13)),
            stage=row.text(14),
            extra_officers=row.uint(15),
            is_forbidden=bool(row.uint(16, maximum=1)),
            is_veto_counted=bool(row.uint(17, maximum=1)),
        )


def _octets(values: Iterable[Value]) -> list[bytes]:
    found = list(values)
    if not all(isinstance(one, bytes) for one in found):
        raise Malformed("release facts: not a row of byte strings")
    return [one for one in found if isinstance(one, bytes)]


def _rest_row(facts: Facts) -> list[Encodable]:
    placed = zip(facts.policy_statements, facts.policies, strict=True)
    locks = facts.locks
    return [
        facts.unsigned,
        [[statement, _place(logged.place)] for statement, logged in placed],
        list(facts.key_statements),
        [[policy_hash, _moment(moment)] for policy_hash, moment in facts.withdrawn.items()],
        [[person, sorted(keys)] for person, keys in facts.lost_keys.items()],
        [[index, one.why, one.leaf_hash] for index, one in facts.wrong.items()],
        [[resolution.to_payload(), _place(place)] for resolution, place in facts.pending],
        [int(facts.is_shut), _place(facts.opened_again) if facts.opened_again else b""],
        [
            b"".join(_MOMENT.pack(*one) for one in locks.over),
            *(b"" if at is None else _NUMBER.pack(at) for at in (locks.since, locks.asked, locks.until)),
        ],
    ]


def _take_rest(value: list[Value], into: Facts) -> None:
    row = Fields.of_row(Fields.of_row(value, "release facts: rest", 2).array(1), "release facts: rest", 9)
    into.unsigned = row.uint(0)
    # By their signatures from the pin on: no file makes a policy or an escrow key.
    for policy in (Fields.of_row(one, "release facts: policy", 2) for one in row.array(1)):
        into.take_policy_again(policy.octets(0), _place_from(policy.octets(1)))
    *into.key_statements, newest = _octets(row.array(2)) or [b""]
    if newest:
        into.take_escrow_key(newest)
    for one in (Fields.of_row(one, "release facts: withdrawn", 2) for one in row.array(3)):
        into.withdrawn[one.octets(0)] = Moment(*_MOMENT.unpack(one.octets(1)))
    for one in (Fields.of_row(one, "release facts: lost keys", 2) for one in row.array(4)):
        into.lost_keys[one.octets(0)] = frozenset(_octets(one.array(1)))
    for one in (Fields.of_row(one, "release facts: wrong entry", 3) for one in row.array(5)):
        into.wrong[one.uint(0)] = WrongEntry(one.text(1), one.octets(2))
    for one in (Fields.of_row(one, "release facts: pending", 2) for one in row.array(6)):
        into.pending.append((Resolution.from_payload(one.octets(0)), _place_from(one.octets(1))))
    shut, locks = row.row(7, 2), row.row(8, 4)
    into.is_shut = bool(shut.uint(0, maximum=1))
    into.opened_again = _place_from(shut.octets(1)) if shut.octets(1) else None
    into.locks.over.extend((since, until) for since, until in _MOMENT.iter_unpack(locks.octets(0)))
    into.locks.since, into.locks.asked, into.locks.until = (
        _NUMBER.unpack(octets)[0] if octets else None for octets in (locks.octets(at) for at in (1, 2, 3))
    )
