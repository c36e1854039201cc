# SPDX-License-Identifier: Apache-2.0
"""Dataclasses as rows of CBOR, by the names of their fields: each field says once how it is written and read.

Implements the layouts of docs/formats/profile.md. A field annotated with a column is part of the row, in the order of
the class; a field without one is not, and is handed to the reader by name:

    @dataclass(frozen=True)
    class Letter:
        key: bytes  # of the row
        sender: Annotated[bytes, octets(16)]
        received_at: Annotated[int, uint()]

    encode_row(letter)  # [sender, received_at]
    decode_row(Letter, value, "letter", key=key)

A row's columns stand in an array (`encode_row`), or in a map under the numbers that `at` gives them (`encode_map`).
It keeps no version: a row whose columns change takes another kind of row, or a number that says so.

What is written is read in the same step, by the same columns: a value that would not be read again is a ValueError
before it is kept. A sealed row has at most 1 MiB, or what its class says in ROW_SIZE, on both sides.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from enum import Enum, Flag
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from holdfast.core.base.encoding import MAX_UINT, MAX_VAULT, Encodable, Fields, Value, decode, encode
from holdfast.core.base.secret import SecretBytes
from holdfast.core.base.writing import require_readable

R = TypeVar("R")


class RowTooLong(ValueError):
    """A row is longer than its reader takes; nothing of it was kept."""


@dataclass(frozen=True)
class Column:
    """How one field lies in its row.

    write: from the field's value to the items it takes, `width` of them. read: from the row and the place or number
    of the first. number: in a map. is_optional: None is left out of the map, and read for what is not there.
    """

    write: Callable[[Any], list[Encodable]]
    read: Callable[[Fields, int], Any]
    width: int = 1
    number: int = 0
    is_optional: bool = False

    def at(self, number: int, *, is_optional: bool = False) -> Column:
        """Return this column under a number of a map."""
        return dataclasses.replace(self, number=number, is_optional=is_optional)


def uint(*, minimum: int = 0, maximum: int = MAX_UINT) -> Column:
    """An unsigned integer within bounds."""
    return Column(lambda value: [value], lambda row, at: row.uint(at, minimum=minimum, maximum=maximum))


def flag() -> Column:
    """A truth value, as 0 or 1."""
    return Column(lambda value: [int(value)], lambda row, at: bool(row.uint(at, maximum=1)))


def choice(kind: type[Enum]) -> Column:
    """A member of an enumeration, by its value; of a Flag, any union of its members but none at all."""

    def read(row: Fields, at: int) -> Any:
        value = row.value(at)
        if issubclass(kind, Flag):
            # Python takes unknown bits for a flag; a row that has them was written by something else.
            value = row.uint(at, minimum=1, maximum=sum(int(member.value) for member in kind))
        try:
            return kind(value)
        except ValueError:
            raise row.refuse(at, f"is no {kind.__name__}") from None

    return Column(lambda value: [value.value], read)


def octets(*sizes: int, maximum: int = MAX_VAULT) -> Column:
    """A byte string of one of several sizes, or of at most `maximum`."""
    return Column(lambda value: [value], lambda row, at: row.octets(at, sizes or None, maximum=maximum))


def secret(*sizes: int) -> Column:
    """Secret bytes of one of several sizes."""
    return Column(lambda value: [value.reveal()], lambda row, at: SecretBytes(row.octets(at, sizes or None)))


def text(*, maximum: int = 1024) -> Column:
    """Text of at most `maximum` characters."""
    return Column(lambda value: [value], lambda row, at: row.text(at, maximum=maximum))


def several(
    item: Column, *, of: Callable[[Iterable[Any]], Any] = list, minimum: int = 0, maximum: int = MAX_VAULT
) -> Column:
    """`minimum` to `maximum` items, each as `item` is; of: what they are gathered in."""

    def read(row: Fields, at: int) -> Any:
        row.array(at, minimum=minimum, maximum=maximum)
        items = row.row(at)
        return of(item.read(items, place) for place in range(len(items)))

    return Column(lambda value: [[written for element in value for written in item.write(element)]], read)


def in_order(item: Column) -> Column:
    """A set of items, written in their order."""
    items = several(item, of=frozenset)
    return Column(lambda kept: items.write(sorted(kept)), items.read)


def pair(first: Column, second: Column) -> Column:
    """Two values in an array of their own."""

    def read(row: Fields, at: int) -> Any:
        items = row.row(at, 2)
        return first.read(items, 0), second.read(items, 1)

    return Column(lambda value: [[*first.write(value[0]), *second.write(value[1])]], read)


def mapping(key: Column, value: Column) -> Column:
    """A dict, as pairs in the order of their keys."""
    pairs = several(pair(key, value), of=dict)
    return Column(lambda kept: pairs.write(sorted(kept.items())), pairs.read)


def nested(kind: type[Any], what: str) -> Column:
    """Another class's row, in an array of its own."""
    return Column(lambda value: [_items(value)], lambda row, at: decode_row(kind, row.value(at), what))


def nested_map(kind: type[Any], what: str) -> Column:
    """Another class's map."""
    return Column(lambda value: [_numbered(value)], lambda row, at: decode_map(kind, row.value(at), what))


def nested_or_none(kind: type[Any], what: str) -> Column:
    """Another class's row in an array of its own; an empty one for None."""
    return Column(
        lambda value: [_items(value) if value is not None else []],
        lambda row, at: decode_row(kind, row.value(at), what) if row.array(at) else None,
    )


def spread(kind: type[Any]) -> Column:
    """Another class's columns, among those of this row."""
    columns = _columns(kind)

    def read(row: Fields, at: int) -> Any:
        found = {}
        for name, column in columns:
            found[name] = column.read(row, at)
            at += column.width
        return kind(**found)

    return Column(_items, read, width=sum(column.width for _, column in columns))


def encode_row(row: Any) -> list[Encodable]:
    """Return a row's columns as an array, in the order of its class.

    Raises ValueError for a value that `decode_row` would refuse (the caller's mistake).
    """
    return require_readable(lambda items: _read_items(type(row), items, _name(row)), _items(row))


def decode_row(kind: type[R], value: Value, what: str, **beside: Any) -> R:
    """Read an array that `encode_row` gave. beside: the fields that are no columns. Raises Malformed, naming `what`."""
    return kind(**beside, **_read_items(kind, value, what))


def encode_map(row: Any) -> dict[int, Encodable]:
    """Return a row's columns as a map, each under its number. Raises ValueError as `encode_row` does."""
    return require_readable(lambda found: _read_numbered(type(row), found, _name(row)), _numbered(row))


def decode_map(kind: type[R], value: Value, what: str, **beside: Any) -> R:
    """Read a map that `encode_map` gave. beside: the fields that are no columns. Raises Malformed, naming `what`."""
    return kind(**beside, **_read_numbered(kind, value, what))


def seal_row(row: Any) -> SecretBytes:
    """Return the bytes of a row as they lie in a store. Raises ValueError as `encode_row` does; RowTooLong."""
    return _sealed(row, encode_row(row))


def open_row(kind: type[R], kept: SecretBytes, what: str, **beside: Any) -> R:
    """Read what `seal_row` gave. Raises Malformed."""
    return decode_row(kind, decode(kept.reveal(), max_size=_most(kind)), what, **beside)


def seal_map(row: Any) -> SecretBytes:
    """Return the bytes of a map as they lie in a store. Raises ValueError as `seal_row` does."""
    return _sealed(row, encode_map(row))


def open_map(kind: type[R], kept: SecretBytes, what: str, **beside: Any) -> R:
    """Read what `seal_map` gave. Raises Malformed."""
    return decode_map(kind, decode(kept.reveal(), max_size=_most(kind)), what, **beside)


def _most(kind: type[Any]) -> int:
    return int(getattr(kind, "ROW_SIZE", MAX_VAULT))


def _sealed(row: Any, written: Encodable) -> SecretBytes:
    octets = encode(written)
    if len(octets) > _most(type(row)):
        raise RowTooLong(f"{_name(row)}: {len(octets)} bytes, of which nobody could read more than {_most(type(row))}")
    return SecretBytes(octets)


def _name(row: Any) -> str:
    return type(row).__name__


def _items(row: Any) -> list[Encodable]:
    return [item for name, column in _columns(type(row)) for item in column.write(getattr(row, name))]


def _read_items(kind: type[Any], value: Any, what: str) -> dict[str, Any]:
    columns = _columns(kind)
    row = Fields.of_row(value, what, sum(column.width for _, column in columns))
    found, at = {}, 0
    for name, column in columns:
        found[name] = column.read(row, at)
        at += column.width
    return found


def _numbered(row: Any) -> dict[int, Encodable]:
    found: dict[int, Encodable] = {}
    for name, column in _columns(type(row)):
        value = getattr(row, name)
        if value is not None or not column.is_optional:
            (found[column.number],) = column.write(value)
    return found


def _read_numbered(kind: type[Any], value: Any, what: str) -> dict[str, Any]:
    columns = _columns(kind)
    required = [column.number for _, column in columns if not column.is_optional]
    read = Fields(value, what, required, [column.number for _, column in columns if column.is_optional])
    return {name: column.read(read, column.number) if column.number in read else None for name, column in columns}


# Read once for each class: looking through annotations takes longer than reading a row.
_KNOWN: dict[type[Any], tuple[tuple[str, Column], ...]] = {}


def _columns(kind: type[Any]) -> tuple[tuple[str, Column], ...]:
    if kind not in _KNOWN:
        hints = get_type_hints(kind, include_extras=True)
        found = [
            (field.name, column)
            for field in fields(kind)
            if get_origin(hints[field.name]) is Annotated
            for column in get_args(hints[field.name])[1:]
            if isinstance(column, Column)
        ]
        if not found:
            raise TypeError(f"{kind.__name__} has no columns")
        _KNOWN[kind] = tuple(found)
    return _KNOWN[kind]
