# SPDX-License-Identifier: Apache-2.0
"""Verification of an exported log on the auditor's own machine: no server, no database, no network.

Implements PLATFORM "Audit" (`holdfast audit verify FILE`) and PROTOCOL section 8 on `holdfast.core.log.log_export`.
Proves that the log is whole and signed; whether its entries were right to make is for people to judge.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO, Final

from holdfast.core.base.errors import HoldfastError, InvalidSignature, Malformed, Untrusted
from holdfast.core.log.checkpoint import Checkpoint, NoteVerifier
from holdfast.core.log.log_export import (
    MAX_LINE,
    ExportedEntry,
    Header,
    WithheldEntry,
    checkpoint_line,
    read_checkpoint_line,
    read_entry_line,
)
from holdfast.core.log.merkle import CompactRange, verify_inclusion


class Verdict(IntEnum):
    """What a verification ended with; the number is the exit code of `holdfast audit verify`."""

    VERIFIED = 0
    BROKEN = 1
    NOT_ANCHORED = 3
    # Not VERIFIED: a server could withhold anything from anybody, and a script must not take that for the whole log.
    WITHHELD = 9


@dataclass(frozen=True)
class BadEntry:
    """The first place at which the log is not what was signed. id and tag: as the file says, "" when unreadable."""

    index: int
    id: str
    tag: str
    reason: str


@dataclass(frozen=True)
class VerificationReport:
    """The result. `reason` is a sentence for a person; `entry` is None when no single entry is at fault.

    size: entries proven, or claimed when broken. withheld: how many of them show their hash only. time: Unix seconds at
    which the head was signed, 0 if unknown.
    """

    verdict: Verdict
    reason: str
    origin: str = ""
    size: int = 0
    time: int = 0
    vkey: str = ""
    entry: BadEntry | None = None
    withheld: int = 0

    @property
    def exit_code(self) -> int:
        """0 verified and anchored, 9 the same with entries withheld, 3 self-consistent but not anchored, 1 broken."""
        return int(self.verdict)


_NOT_ANCHORED: Final = "the log is self-consistent, but nothing says whose it is: give the log's key with --trust"

_WITHHELD: Final = (
    "show only their hash, withheld from whoever exported this until a date that a signed case fixes: "
    "have somebody else export the log, or export it again later"
)


class _Broken(Exception):
    """Ends a verification with what it found."""

    def __init__(self, reason: str, entry: BadEntry | None = None) -> None:
        super().__init__(reason)
        self.reason, self.entry = reason, entry


def verify_export(path: Path, trust_vkey: str | None = None, *, saved: Sequence[str] = ()) -> VerificationReport:
    """Check every byte of an exported log against its signed head, and name the first entry that is wrong.

    trust_vkey: the log's verifier key as carried from elsewhere; without it the result is at best NOT_ANCHORED.
    saved: checkpoints kept from earlier, signed notes of the same log, which this one must extend (FAULTS L5, L6).
    Reads the file once from front to back, a line at a time. Raises Malformed for a `trust_vkey` that is none
    (the caller's mistake) and OSError when the file cannot be read; all that is wrong in the file is in the report.
    """
    trusted = NoteVerifier.from_text(trust_vkey) if trust_vkey is not None else None
    header: Header | None = None
    try:
        with path.open("rb") as file:
            header = _header(file)
            note = _last_line(file)
            file.seek(len(header.to_line()))
            return _verify(file, header, note, trusted, saved)
    except _Broken as found:
        origin, size = (header.origin, header.size) if header else ("", 0)
        return VerificationReport(Verdict.BROKEN, found.reason, origin, size, entry=found.entry)


def _verify(
    file: BinaryIO, header: Header, note: str | None, trusted: NoteVerifier | None, saved: Sequence[str]
) -> VerificationReport:
    # To believe an export we must, in this order:
    #
    # (0) have a head signed by the log's key: the one we trust, or else the one that the file claims;
    # (1) find every entry, each in its one form, at its own index and proven into that head;
    # (2) find the end where the head says it is, and every head saved earlier to be one of this log's past.

    # (0)
    checkpoint, fault, verifier = None, "", trusted
    try:
        verifier = _verifier(header, trusted)
        checkpoint = _head(note, verifier)
    except HoldfastError as error:
        fault = str(error)
    if checkpoint is not None and (checkpoint.origin, checkpoint.size) != (header.origin, header.size):
        raise _Broken("the first line speaks of another log or size than the signed head")
    # (1) Without a head the entries are read all the same: a file cut short is named by where it was cut.
    pasts = _pasts(saved, verifier, header.size)
    _entries(file, header, checkpoint.root if checkpoint else None, pasts)
    if checkpoint is None or verifier is None or note is None:
        raise _Broken(f"the signed head does not hold: {fault}")
    # (2)
    if file.readline(MAX_LINE + 1) != checkpoint_line(note) or file.read(1):
        raise _Broken("the file does not end with its signed head")
    vkey, time = verifier.to_text(), checkpoint.time or 0
    verdict, reason = Verdict.VERIFIED, f"{header.size} entries, every one as it was signed"
    if trusted is None:
        verdict, reason = Verdict.NOT_ANCHORED, _NOT_ANCHORED
    elif header.withheld:
        verdict = Verdict.WITHHELD
    if header.withheld:
        reason += f"; {header.withheld} of {header.size} {_WITHHELD}"
    return VerificationReport(verdict, reason, header.origin, header.size, time, vkey, withheld=header.withheld)


def _header(file: BinaryIO) -> Header:
    try:
        return Header.from_line(file.readline(MAX_LINE + 1))
    except Malformed as error:
        raise _Broken(f"this is not an exported log: {error}") from error


def _last_line(file: BinaryIO) -> str | None:
    file.seek(0, 2)
    file.seek(max(0, file.tell() - MAX_LINE))
    last = file.read(MAX_LINE).rstrip(b"\n").rpartition(b"\n")[2] + b"\n"
    try:
        return read_checkpoint_line(last)
    except Malformed:
        return None


def _verifier(header: Header, trusted: NoteVerifier | None) -> NoteVerifier:
    if trusted is None:
        return NoteVerifier.from_text(header.vkey)
    if header.vkey != trusted.to_text():
        raise _Broken("the file names another key than the one you trust")
    return trusted


def _head(note: str | None, verifier: NoteVerifier) -> Checkpoint:
    if note is None:
        raise Malformed("the last line is no checkpoint")
    return verifier.open_checkpoint(note)


def _pasts(saved: Sequence[str], verifier: NoteVerifier | None, size: int) -> dict[int, bytes]:
    """Return the roots that this log must have had, by size."""
    roots: dict[int, bytes] = {}
    for note in saved:
        if verifier is None:
            break
        try:
            past = verifier.open_checkpoint(note)
        except (Malformed, InvalidSignature) as error:
            raise _Broken(f"a checkpoint saved earlier is not of this log: {error}") from error
        if past.size > size:
            cut = BadEntry(size, "", "", "missing: a head signed earlier covers it")
            raise _Broken(f"the log was cut: it once had {past.size} entries, now {size}", cut)
        if roots.setdefault(past.size, past.root) != past.root:
            raise _Broken(f"two checkpoints saved earlier differ at {past.size} entries: the log was forked")
    return roots


def _entries(file: BinaryIO, header: Header, root: bytes | None, pasts: Mapping[int, bytes]) -> None:
    grown, size, withheld = CompactRange(), header.size, 0
    for index in range(size):
        line = file.readline(MAX_LINE + 1)
        try:
            entry = read_entry_line(line)
            withheld += isinstance(entry, WithheldEntry)
            # The first line says how many: nobody turns an entry into a withheld one further down.
            if withheld > header.withheld:
                raise Untrusted("it is withheld, and the first line does not count it")
            if entry.index != index:
                raise Untrusted(f"in its place stands the entry of index {entry.index}")
            if root is not None:
                verify_inclusion(entry.leaf_hash, index=index, size=size, proof=entry.proof, expected_root=root)
        except HoldfastError as error:
            bad = _bad(index, line, str(error))
            raise _Broken(f"entry {index} is not what was signed: {error}", bad) from error
        grown = grown.append(entry.leaf_hash)
        if grown.size in pasts and not hmac.compare_digest(grown.root(), pasts[grown.size]):
            raise _Broken(f"the log was rewritten: its first {grown.size} entries are not those signed earlier")
    if withheld != header.withheld:
        raise _Broken(f"the first line speaks of {header.withheld} withheld entries, and there are {withheld}")


def _bad(index: int, line: bytes, reason: str) -> BadEntry:
    """Name an entry by what its line says, which is all there is to name it by."""
    if not line or line.startswith(b'{"checkpoint":'):
        return BadEntry(index, "", "", "missing: the file ends before it")
    named = ExportedEntry.claimed(line)
    return BadEntry(index, named.get("id", ""), named.get("tag", ""), reason)
