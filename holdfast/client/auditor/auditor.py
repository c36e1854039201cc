# SPDX-License-Identifier: Apache-2.0
"""Verification of an exported log on the auditor's own machine: no server, no database, no network.

Implements PLATFORM "Audit" (`holdfast audit verify FILE`) and PROTOCOL section 8 on `holdfast.core.log.log_export`.
Proves that the log is whole and signed, and each entry written by a part of the server that may; whether it was right
to make is for people to judge.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import BinaryIO, Final

from holdfast.client.auditor import parts
from holdfast.client.auditor.entries import BadEntry, Broken, Proofs, bad_entry, put_back_by, require_written
from holdfast.core.base.errors import HoldfastError, InvalidSignature, Malformed, Untrusted
from holdfast.core.identity.roles import Roles, SignedRoles, WrongLeaf, verify_roles
from holdfast.core.log.checkpoint import Checkpoint, LogVerifier, NoteVerifier
from holdfast.core.log.log_export import (
    MAX_LINE,
    ExportedEntry,
    Header,
    checkpoint_line,
    read_checkpoint_line,
)
from holdfast.core.log.merkle import HASH_SIZE, CompactRange
from holdfast.core.log.writers import Role
from holdfast.core.signed.cose import Sign1


class Verdict(IntEnum):
    """What a verification ended with; the number is the exit code of `holdfast audit verify`."""

    VERIFIED = 0
    BROKEN = 1
    NOT_ANCHORED = 3
    # Not VERIFIED: a server could withhold anything from anybody, and a script must not take that for the whole log.
    WITHHELD = 9


class Writers(StrEnum):
    """How far it is known whose keys wrote the entries of an audit log."""

    ANCHORED = "anchored"  # the tenant root, which was given to trust, names them
    CLAIMED = "claimed"  # a statement in the file names them, and nothing says that it is the root's
    UNKNOWN = "unknown"  # an export of an older form, or of the log of keys, whose entries bear no signature


@dataclass(frozen=True)
class VerificationReport:
    """The result. `reason` is a sentence for a person; `entry` is None when no single entry is at fault.

    size: entries proven, or claimed when broken. withheld: how many of them show their hash only. time: Unix seconds at
    which the head was signed, 0 if unknown. unsigned: entries from 0 on that are older than signatures by role.
    restored: for each backup that was put back, the index of the entry that says so, and how many entries it had.
    """

    verdict: Verdict
    reason: str
    origin: str = ""
    size: int = 0
    time: int = 0
    vkey: str = ""
    entry: BadEntry | None = None
    withheld: int = 0
    writers: Writers = Writers.UNKNOWN
    unsigned: int = 0
    restored: tuple[tuple[int, int], ...] = ()

    @property
    def exit_code(self) -> int:
        """0 verified and anchored, 9 the same with entries withheld, 3 self-consistent but not anchored, 1 broken."""
        return int(self.verdict)


_NOT_ANCHORED: Final = (
    "the log is self-consistent, but nothing says whose it is: give the tenant root's key with --trust"
)
_NO_ROLES: Final = (
    "the log is self-consistent, but the file names no keys that the tenant root vouches for, as one from an older "
    "server: give the log's key with --trust"
)

_WITHHELD: Final = (
    "show only their hash, withheld from whoever exported this until a date that a signed case fixes: "
    "have somebody else export the log, or export it again later"
)


# What each word of `WrongLeaf` says to a person: docs/formats/audit-log.md. "again" is ours, who see all entries.
_WHY: Final = {
    "form": "it is not in the one form of an entry",
    "unsigned": "no part of the server has signed it",
    "key": "it is signed by a key that the tenant root never named",
    "role": "the part of the server that signed it may not write such an entry",
    "key-ended": "the key that signed it had ended before",
    "signature": "its signature does not hold",
    "again": "its id stands in an earlier entry already",
}


@dataclass(frozen=True)
class _Trust:
    """What the auditor brings: the tenant root or the log's own key, and the newest `roles` they have seen, if any."""

    root: NoteVerifier | None = None
    log: NoteVerifier | None = None
    seen: SignedRoles | None = None

    @classmethod
    def of(cls, text: str | None, seen: SignedRoles | None) -> _Trust:
        key = NoteVerifier.from_text(text) if text is not None else None
        is_root = key is not None and key.name.endswith("/root")
        return cls(root=key if is_root else None, log=None if is_root else key, seen=seen)


def verify_export(
    path: Path,
    trust: str | None = None,
    *,
    saved: Sequence[str] = (),
    seen: SignedRoles | None = None,
    past: tuple[int, bytes] | None = None,
) -> VerificationReport:
    """Check every byte of an exported log against its signed head, and name the first entry that is wrong.

    trust: the verifier key of the tenant root, or of the log alone, as carried from elsewhere; without it the result is
    at best NOT_ANCHORED. saved: checkpoints kept from earlier, signed notes of the same log, which this one must extend
    (FAULTS L5, L6). seen: the newest `roles` known, below which the file must not fall; only with the root.
    past: a size and the root (32 bytes) that this log had then, as officers accepted it.
    Reads the file once from front to back, a line at a time, and remembers the id of each entry: about 100 bytes.
    Raises Malformed for a `trust` that is no key (the caller's mistake) and OSError when the file cannot be read; all
    that is wrong in the file is in the report.
    """
    given = _Trust.of(trust, seen)
    header: Header | None = None
    try:
        with path.open("rb") as file:
            header = _header(file)
            note = _last_line(file)
            file.seek(len(header.to_line()))
            return _verify(file, header, note, given, saved, past=past)
    except Broken as found:
        origin, size = (header.origin, header.size) if header else ("", 0)
        return VerificationReport(Verdict.BROKEN, found.reason, origin, size, entry=found.entry)


def _verify(
    file: BinaryIO,
    header: Header,
    note: str | None,
    trust: _Trust,
    saved: Sequence[str],
    *,
    past: tuple[int, bytes] | None,
) -> VerificationReport:
    # To believe an export we must, in this order:
    #
    # (0) know whose keys write and sign this log: by the root's word where we trust the root;
    # (1) have a head signed by the log's key: one that the root names, the one we trust, or the one the file claims;
    # (2) find every entry, each in its one form, at its own index, proven into that head and written by who may;
    # (3) find the end where the head says it is, and every head saved earlier to be one of this log's past.

    # (0)
    roles = _roles(header, trust)
    # (1)
    checkpoint, fault, verifier = None, "", trust.log
    try:
        verifier = _verifier(header, roles, trust)
        checkpoint = _head(note, verifier)
    except HoldfastError as error:
        fault = str(error)
    if checkpoint is not None and (checkpoint.origin, checkpoint.size) != (header.origin, header.size):
        raise Broken("the first line speaks of another log or size than the signed head")
    # (2) Without a head the entries are read all the same: a file cut short is named by where it was cut.
    pasts = _pasts(saved, _signers(header, verifier, roles), header.size)
    if past is not None:
        _add_past(pasts, *past, header.size)
    written = roles if roles is not None and header.origin == roles.origin else None
    if written is not None and written.unsigned is not None:
        _add_past(pasts, *written.unsigned, header.size)
    put_back = _entries(file, header, checkpoint.root if checkpoint else None, pasts, written)
    if checkpoint is None or verifier is None or note is None:
        raise Broken(f"the signed head does not hold: {fault}")
    # (3)
    if file.readline(MAX_LINE + 1) != checkpoint_line(note) or file.read(1):
        raise Broken("the file does not end with its signed head")
    verdict, reason = _verdict(header, roles, trust)
    writers = Writers.UNKNOWN if written is None else Writers.ANCHORED if trust.root else Writers.CLAIMED
    return VerificationReport(
        verdict,
        "; ".join((reason, *_notes(header, written, writers), *map(_put_back, put_back))),
        header.origin,
        header.size,
        checkpoint.time or 0,
        verifier.to_text(),
        withheld=header.withheld,
        writers=writers,
        unsigned=written.unsigned[0] if written is not None and written.unsigned else 0,
        restored=tuple(put_back),
    )


def _verdict(header: Header, roles: Roles | None, trust: _Trust) -> tuple[Verdict, str]:
    if trust.root is not None and roles is None:
        return Verdict.NOT_ANCHORED, _NO_ROLES
    if trust.root is None and trust.log is None:
        return Verdict.NOT_ANCHORED, _NOT_ANCHORED
    whole = f"{header.size} entries, every one as it was signed"
    return (Verdict.WITHHELD if header.withheld else Verdict.VERIFIED), whole


def _notes(header: Header, written: Roles | None, writers: Writers) -> Iterator[str]:
    """Say, each in a clause, what a person must know of a log that holds."""
    if header.withheld:
        yield f"{header.withheld} of {header.size} {_WITHHELD}"
    if writers is Writers.ANCHORED:
        yield "each written by a part of the server that may, under a key that the tenant root names"
    elif writers is Writers.CLAIMED:
        yield (
            "who wrote each entry is held to keys that the file itself claims: "
            "give the tenant root's key with --trust to have them vouched for"
        )
    elif header.origin.endswith("/audit"):
        why = "the file names no keys that write this log" if header.has_tiles else "this export is of an older form"
        yield f"who wrote each entry is not checked, since {why}"
    if written is not None and written.unsigned is not None:
        by = "the tenant root" if writers is Writers.ANCHORED else "the statement in the file"
        yield (
            f"entries 0 … {written.unsigned[0] - 1} are older than signatures by role and bear none: "
            f"what they are together is pinned by {by}"
        )


def _put_back(accepted: tuple[int, int]) -> str:
    index, size = accepted
    return (
        f"entry {index} says that a backup of {size} entries was put back and that officers accepted it: what a head "
        "saved before that covers beyond them is lost"
    )


def _header(file: BinaryIO) -> Header:
    try:
        return Header.from_line(file.readline(MAX_LINE + 1))
    except Malformed as error:
        raise Broken(f"this is not an exported log: {error}") from error


def _last_line(file: BinaryIO) -> str | None:
    file.seek(0, 2)
    file.seek(max(0, file.tell() - MAX_LINE))
    last = file.read(MAX_LINE).rstrip(b"\n").rpartition(b"\n")[2] + b"\n"
    try:
        return read_checkpoint_line(last)
    except Malformed:
        return None


def _roles(header: Header, trust: _Trust) -> Roles | None:
    """Read the statement in the first line; hold it to the root where there is one to trust."""
    if not header.roles:
        if trust.seen is not None:
            raise Broken("the file leaves out whose keys write this log, which the tenant root has said")
        return None
    try:
        statement = Sign1.parse(header.roles)
        roles = Roles.from_payload(statement.payload)
        if header.origin not in (roles.origin, roles.origin_of("keys")):
            raise Untrusted("it is another tenant's")
        if trust.root is not None:
            if trust.root.name != roles.origin_of("root"):
                raise Untrusted("the root that you trust is another tenant's")
            verify_roles(statement, tenant=roles.header.tenant, root_key=trust.root.key, seen=trust.seen)
    except HoldfastError as error:
        raise Broken(f"the statement of whose keys write this log does not hold: {error}") from error
    return roles


def _verifier(header: Header, roles: Roles | None, trust: _Trust) -> NoteVerifier:
    claimed = NoteVerifier.from_text(header.vkey)
    if trust.log is not None and header.vkey != trust.log.to_text():
        raise Broken("the file names another key than the one you trust")
    # Without the root a statement that names no such key is no more than the file's word against itself.
    if trust.root is not None and roles is not None and not roles.may_sign(claimed, size=header.size):
        raise Broken("the tenant root does not name the key that signs this log")
    return claimed


def _signers(header: Header, verifier: NoteVerifier | None, roles: Roles | None) -> LogVerifier:
    """Return whose signature a head saved earlier may bear: the key of today, or one before it."""
    before = roles.all_of(Role.LOG) if roles is not None else ()
    return LogVerifier(header.origin, (*([verifier.key] if verifier else ()), *before))


def _head(note: str | None, verifier: NoteVerifier) -> Checkpoint:
    if note is None:
        raise Malformed("the last line is no checkpoint")
    return verifier.open_checkpoint(note)


def _pasts(saved: Sequence[str], signers: LogVerifier, size: int) -> dict[int, bytes]:
    """Return the roots that this log must have had, by size."""
    roots: dict[int, bytes] = {}
    for note in saved if signers.keys else ():
        try:
            past = signers.open_checkpoint(note)
        except (Malformed, InvalidSignature) as error:
            raise Broken(f"a checkpoint saved earlier is not of this log: {error}") from error
        _add_past(roots, past.size, past.root, size)
    return roots


def _add_past(roots: dict[int, bytes], past: int, root: bytes, size: int) -> None:
    if past > size:
        cut = BadEntry(size, "", "", "missing: a head signed earlier covers it")
        raise Broken(f"the log was cut: it once had {past} entries, now {size}", cut)
    if roots.setdefault(past, root) != root:
        raise Broken(f"two heads from earlier differ at {past} entries: the log was forked")


# Below it the processes take longer to start than they spare.
LONG: Final = 20_000


def _entries(
    file: BinaryIO, header: Header, root: bytes | None, pasts: Mapping[int, bytes], written: Roles | None
) -> list[tuple[int, int]]:
    """Read every entry to its end; return those that say that a backup was put back, each with its size.

    Raises Broken.
    """
    if header.has_tiles and root is not None and header.size >= LONG:
        start = file.tell()
        found = _side_by_side(file, header, root, pasts, written)
        if found is not None:
            return found
        # Something is wrong with it: what, and where first, is found one by one.
        file.seek(start)
    put_back: list[tuple[int, int]] = []
    size, past = header.size, _Pasts(pasts)
    proofs = Proofs(file, header, root)
    ids: set[bytes] = set()
    for index in range(size):
        entry, line = proofs.next_entry(index)
        try:
            if written is not None and isinstance(entry, ExportedEntry):
                said = require_written(entry, written, ids)
                put_back += put_back_by(said, index)
        except WrongLeaf as error:
            why = _WHY[error.why]
            raise Broken(f"entry {index} was written by nobody who may: {why}", bad_entry(index, line, why)) from error
        past.grow(entry.leaf_hash)
    if proofs.withheld != header.withheld:
        raise Broken(f"the first line speaks of {header.withheld} withheld entries, and there are {proofs.withheld}")
    return put_back


class _Pasts:
    """Holds the first entries of a log to the roots that it must have had, by size."""

    def __init__(self, roots: Mapping[int, bytes]) -> None:
        self._roots, self._newest = roots, max(roots, default=0)
        self._grown = CompactRange()

    def grow(self, hashed: bytes) -> None:
        """Take the next leaf's hash. Raises Broken where the log was another."""
        if self._grown.size >= self._newest:
            return
        self._grown = grown = self._grown.append(hashed)
        if grown.size in self._roots and not hmac.compare_digest(grown.root(), self._roots[grown.size]):
            raise Broken(f"the log was rewritten: its first {grown.size} entries are not those signed earlier")


def _side_by_side(
    file: BinaryIO, header: Header, root: bytes, pasts: Mapping[int, bytes], written: Roles | None
) -> list[tuple[int, int]] | None:
    """Do what `_entries` does with a process for each core; None where anything is wrong, or there are no processes."""
    put_back: list[tuple[int, int]] = []
    past, ids, withheld, known = _Pasts(pasts), set[bytes](), 0, 0
    for part in parts.checked(file, header, root, has_writers=written is not None):
        if part is None:
            return None
        for at in range(0, len(part.hashes), HASH_SIZE):
            past.grow(part.hashes[at : at + HASH_SIZE])
        ids.update(part.ids)
        known += len(part.ids)
        # An id that stands in two parts.
        if len(ids) != known:
            return None
        put_back += part.put_back
        withheld += part.withheld
    return put_back if withheld == header.withheld else None
