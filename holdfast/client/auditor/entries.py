# SPDX-License-Identifier: Apache-2.0
"""The entries of an exported log, one by one: each held to the head, and to whoever may have written it.

Implements docs/formats/audit-log.md "Export" under `auditor`, which holds the file as a whole to what is trusted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO, Final

from holdfast.core.base.errors import HoldfastError, Malformed, Untrusted
from holdfast.core.identity.roles import Roles, WrongLeaf, check_entry
from holdfast.core.log.log_entry import LogEntry
from holdfast.core.log.log_export import (
    MAX_LINE,
    ExportedEntry,
    ExportedTile,
    Header,
    WithheldEntry,
    check_tile,
    read_entry_line,
)
from holdfast.core.log.merkle import InclusionChecker
from holdfast.core.log.tiles import WIDTH


@dataclass(frozen=True)
class BadEntry:
    """The first place at which the log is not what was signed. id and tag: as the file says, "" when unreadable."""

    index: int
    id: str
    tag: str
    reason: str


class Broken(Exception):
    """Ends a verification with what it found."""

    def __init__(self, reason: str, entry: BadEntry | None = None) -> None:
        super().__init__(reason)
        self.reason, self.entry = reason, entry


_OTHER_LEAF: Final = "it is not the leaf whose hash is proven"


class Proofs:
    """Reads entries in their order and holds each to the head: by its own proof, or by the line before its tile."""

    def __init__(self, file: BinaryIO, header: Header, root: bytes | None) -> None:
        self._file, self._header, self._root = file, header, root
        self._checker = InclusionChecker(size=header.size, root=root) if root is not None else None
        self._hashes: list[bytes] = []
        self.withheld = 0

    def next_entry(self, index: int) -> tuple[ExportedEntry | WithheldEntry, bytes]:
        """Return the entry of an index, the next in the file, and its line. Raises Broken."""
        if self._header.has_tiles and index % WIDTH == 0:
            self._hashes = self._tile(index)
        line = self._file.readline(MAX_LINE + 1)
        try:
            entry = read_entry_line(line)
            self.withheld += isinstance(entry, WithheldEntry)
            # The first line says how many: nobody turns an entry into a withheld one further down.
            if self.withheld > self._header.withheld:
                raise Untrusted("it is withheld, and the first line does not count it")
            if entry.index != index:
                raise Untrusted(f"in its place stands the entry of index {entry.index}")
            self._check(entry)
        except HoldfastError as error:
            bad = bad_entry(index, line, str(error))
            raise Broken(f"entry {index} is not what was signed: {error}", bad) from error
        return entry, line

    def _check(self, entry: ExportedEntry | WithheldEntry) -> None:
        if (entry.proof is None) != self._header.has_tiles:
            raise Malformed("export: a line of another format")
        if entry.proof is None:
            if entry.leaf_hash != self._hashes[entry.index % WIDTH]:
                raise Untrusted(_OTHER_LEAF)
        elif self._checker is not None:
            self._checker.check(entry.leaf_hash, index=entry.index, proof=entry.proof)

    def _tile(self, first: int) -> list[bytes]:
        line = self._file.readline(MAX_LINE + 1)
        try:
            tile = ExportedTile.from_line(line)
        except HoldfastError as error:
            raise Broken(
                f"entry {first} is not what was signed: {error}", bad_entry(first, line, str(error))
            ) from error
        try:
            check_tile(tile, index=first // WIDTH, size=self._header.size, root=self._root)
        except HoldfastError as error:
            raise self._wrong(tile, first, str(error)) from error
        return tile.rows()

    def _wrong(self, tile: ExportedTile, first: int, error: str) -> Broken:
        """Say which entry is wrong below hashes that do not hold: the first that is not that of its hash."""
        last = min(first + WIDTH, self._header.size) - 1
        for at, hashed in enumerate(tile.rows()[: last + 1 - first], first):
            line = self._file.readline(MAX_LINE + 1)
            try:
                if read_entry_line(line).leaf_hash == hashed:
                    continue
            except HoldfastError:
                pass
            return Broken(f"entry {at} is not what was signed: {_OTHER_LEAF}", bad_entry(at, line, _OTHER_LEAF))
        bad = BadEntry(first, "", "", f"one of the entries {first} … {last} is another, or their hashes are: {error}")
        return Broken(f"entries {first} … {last} are not what was signed: {error}", bad)


def require_written(exported: ExportedEntry, roles: Roles, ids: set[bytes]) -> LogEntry:
    """Return an entry that somebody entitled wrote, and wrote once; remember its id. Raises WrongLeaf for any other."""
    entry = exported.said
    if not isinstance(entry, LogEntry):
        raise WrongLeaf("form")
    check_entry(entry, exported.leaf, index=exported.index, roles=roles)
    # Whoever may number entries but not sign them could show one act twice, with a signature that holds each time.
    if entry.entry_id in ids:
        raise WrongLeaf("again")
    ids.add(entry.entry_id)
    return entry


_ACCEPTED: Final = "audit:log:accept"  # the ceremony's entry: ESCROW "What it believes of the log"


def put_back_by(said: LogEntry, index: int) -> list[tuple[int, int]]:
    """Return whether an entry says that a backup was put back: its index, and the size that was accepted."""
    size = said.body.get("size")
    return [(index, size)] if said.tag == _ACCEPTED and isinstance(size, int) else []


def bad_entry(index: int, line: bytes, reason: str) -> BadEntry:
    """Name an entry by what its line says, which is all there is to name it by."""
    if not line or line.startswith((b'{"checkpoint":', b'{"tile":')):
        return BadEntry(index, "", "", "missing: the file ends before it")
    named = ExportedEntry.claimed(line)
    return BadEntry(index, named.get("id", ""), named.get("tag", ""), reason)
