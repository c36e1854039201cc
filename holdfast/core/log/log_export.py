# SPDX-License-Identifier: Apache-2.0
"""The lines of an exported log: what the server writes, and what an auditor's laptop writes again to compare.

Implements docs/formats/audit-log.md ("Export"). One text for one value, so that any changed byte shows.
Reads no file and checks no proof: `holdfast.client.auditor.auditor` does.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final
from uuid import UUID

from holdfast.core.base.encoding import MAX_STATEMENT, b64u, unb64u
from holdfast.core.base.errors import Malformed
from holdfast.core.log.log_entry import KeyLogEntry, LogEntry
from holdfast.core.log.merkle import HASH_SIZE, MAX_PROOF, MAX_SIZE, leaf_hash

# The first value of the file: a reader of another version stops here instead of calling the log forged.
FORMAT: Final = "holdfast-log-export/1"
# With entries withheld it is another format: what knows only whole logs must not take such a file for one.
FORMAT_WITHHELD: Final = "holdfast-log-export/2"
# With the tenant root's `roles`, against which each entry's writer is checked: in this format also of a whole log it is
# said that nothing is withheld.
FORMAT_ROLES: Final = "holdfast-log-export/3"
MAX_LINE: Final = 128 * 1024  # a leaf of 16 KiB as text twice over, its escapes and its proof
MAX_TIME: Final = 253402300799  # the last second that RFC 3339 can name

# Bytes and not JSON, printable ASCII without a quote or backslash, at most MAX_TAG of them: safe to print as they are.
_CLAIMS: Final = {name: re.compile(rb'"%b":"([ !#-~]{1,80})"' % name.encode()) for name in ("id", "tag")}

# An entry's next name is `id`, `type` or `leaf`: no leaf, whatever it says, puts this name there.
_WITHHELD: Final = re.compile(rb'\{"index":[0-9]+,"withheld":')

# Words for field 1 of a leaf, for people to read: docs/formats/audit-log.md. A type never changes its number.
KEY_LEAF_TYPES: Final = {1: "chain", 2: "escrow-key", 3: "policy", 4: "officer", 5: "offline-key", 6: "client-build"}


@dataclass(frozen=True)
class Header:
    """The first line. vkey: the verifier key the server claims; it anchors nothing by itself.

    withheld: how many entries are shown as their hashes alone; 0 for a whole log. roles: the newest statement of the
    tenant root as signed, b"" where there is none; it anchors nothing either, until it is held to the root.
    """

    origin: str
    vkey: str
    size: int
    withheld: int = 0
    roles: bytes = b""

    def to_line(self) -> bytes:
        """Return the line, ended."""
        shown = {"origin": self.origin, "vkey": self.vkey, "size": self.size}
        if self.roles:
            return _line({"format": FORMAT_ROLES, **shown, "withheld": self.withheld, "roles": b64u(self.roles)})
        if self.withheld:
            return _line({"format": FORMAT_WITHHELD, **shown, "withheld": self.withheld})
        return _line({"format": FORMAT, **shown})

    @classmethod
    def from_line(cls, line: bytes) -> Header:
        """Read what `to_line` writes, and nothing else; raises Malformed."""
        value = _object(line)
        withheld = _number(value, "withheld") if "withheld" in value else 0
        roles = unb64u(_text(value, "roles"), max_size=MAX_STATEMENT) if "roles" in value else b""
        header = cls(_text(value, "origin"), _text(value, "vkey"), _number(value, "size"), withheld, roles)
        # Written again and compared: JSON lets one value have many spellings, and a changed space would pass unseen.
        if header.to_line() != line:
            raise Malformed("export: the header is not in the one form it has")
        return header


@dataclass(frozen=True)
class ExportedEntry:
    """One leaf at its index, with its inclusion proof in the tree of the header's size."""

    index: int
    leaf: bytes
    proof: tuple[bytes, ...]

    @property
    def leaf_hash(self) -> bytes:
        """The 32 bytes that the log holds at this index."""
        return leaf_hash(self.leaf)

    @cached_property
    def said(self) -> LogEntry | KeyLogEntry | None:
        """What the leaf says, read once; None of bytes that are no leaf."""
        return _read(self.leaf)

    def to_line(self) -> bytes:
        """Return the line, ended; what people read in it is written from the leaf alone."""
        proof = b64u(b"".join(self.proof))
        return _line({"index": self.index, **_readable(self.said), "leaf": b64u(self.leaf), "proof": proof})

    @classmethod
    def from_line(cls, line: bytes) -> ExportedEntry:
        """Read what `to_line` writes, and nothing else; raises Malformed."""
        value = _object(line)
        entry = cls(_number(value, "index"), unb64u(_text(value, "leaf")), _proof(value))
        # People read the words, proofs cover the leaf: this line ties the two. An edited
        # `tag` beside a true leaf is found here.
        if entry.to_line() != line:
            raise Malformed("export: what people read in this line is not what its leaf says")
        return entry

    @staticmethod
    def claimed(line: bytes) -> dict[str, str]:
        """Return the id and tag that a line claims, of a line that `from_line` refused; unreadable ones are left out.

        Read without parsing, since one broken byte elsewhere should not hide them. At most 80 characters of each, and
        only printable ASCII: it will be shown, and it is the forger's text.
        """
        found = {name: pattern.search(line) for name, pattern in _CLAIMS.items()}
        return {name: match[1].decode("ascii") for name, match in found.items() if match}


@dataclass(frozen=True)
class WithheldEntry:
    """One place of the log whose leaf this reader may not see yet: its hash, 32 bytes, and the proof of it.

    What is withheld is proven to be there and to be one certain leaf: it cannot be put in, taken out or exchanged.
    """

    index: int
    leaf_hash: bytes
    proof: tuple[bytes, ...]

    def to_line(self) -> bytes:
        """Return the line, ended."""
        return _line({"index": self.index, "withheld": b64u(self.leaf_hash), "proof": b64u(b"".join(self.proof))})

    @classmethod
    def from_line(cls, line: bytes) -> WithheldEntry:
        """Read what `to_line` writes, and nothing else; raises Malformed."""
        value = _object(line)
        octets = unb64u(_text(value, "withheld"), max_size=HASH_SIZE)
        if len(octets) != HASH_SIZE:
            raise Malformed("export: a withheld entry is a hash of 32 bytes")
        entry = cls(_number(value, "index"), octets, _proof(value))
        if entry.to_line() != line:
            raise Malformed("export: a withheld entry is not in the one form it has")
        return entry


def read_entry_line(line: bytes) -> ExportedEntry | WithheldEntry:
    """Read an entry or a withheld one, in the one form it has; raises Malformed."""
    return WithheldEntry.from_line(line) if _WITHHELD.match(line) else ExportedEntry.from_line(line)


def checkpoint_line(note: str) -> bytes:
    """Return the last line: the signed head that everything above is proven against."""
    return _line({"checkpoint": note})


def read_checkpoint_line(line: bytes) -> str:
    """Read what `checkpoint_line` writes, and nothing else; raises Malformed."""
    note = _text(_object(line), "checkpoint")
    if checkpoint_line(note) != line:
        raise Malformed("export: the last line is not in the one form it has")
    return note


def readable(leaf: bytes) -> dict[str, Any]:
    """Return a leaf of either log as people read it; of bytes that are no leaf, nothing.

    A damaged leaf has to be exported as it is: the auditor is who must see it.
    """
    return _readable(_read(leaf))


def _read(leaf: bytes) -> LogEntry | KeyLogEntry | None:
    # The audit leaf is tried first, and a key leaf can never pass for one: their sets of fields differ.
    try:
        return LogEntry.from_leaf(leaf)
    except Malformed:
        pass
    try:
        return KeyLogEntry.from_leaf(leaf)
    except Malformed:
        return None


def _readable(said: LogEntry | KeyLogEntry | None) -> dict[str, Any]:
    match said:
        case LogEntry():
            return _readable_entry(said)
        case KeyLogEntry():
            return _readable_key_leaf(said)
    return {}


def _readable_entry(entry: LogEntry) -> dict[str, Any]:
    return {
        "id": str(UUID(bytes=entry.entry_id)),
        "time": _rfc3339(entry.time),
        "tag": entry.tag,
        "actor": entry.actor,
        "person": str(UUID(bytes=entry.person)) if entry.person else None,
        "subject": entry.subject,
        "body": {name: b64u(value) if isinstance(value, bytes) else value for name, value in entry.body.items()},
    }


def _readable_key_leaf(entry: KeyLogEntry) -> dict[str, Any]:
    return {
        "type": KEY_LEAF_TYPES[entry.type],
        "time": _rfc3339(entry.time),
        "of": b64u(entry.subject_hash),
        "seq": entry.seq,
        "statement": b64u(entry.statement_hash),
    }


def _rfc3339(seconds: int) -> str | int:
    if seconds > MAX_TIME:
        return seconds
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _line(value: dict[str, Any]) -> bytes:
    # ASCII only: line ends, bidirectional marks and every other character that could forge what a person
    # sees in a terminal stand as escapes.
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"


def _object(line: bytes) -> dict[str, Any]:
    if len(line) > MAX_LINE:
        raise Malformed("export: a line is too long")
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        raise Malformed("export: a line is not JSON") from None
    if not isinstance(value, dict):
        raise Malformed("export: a line is not an object")
    return value


def _proof(value: dict[str, Any]) -> tuple[bytes, ...]:
    # The bound is in hashes before anything is cut up: a line is up to 128 KiB of a stranger's text.
    octets = unb64u(_text(value, "proof"), max_size=MAX_PROOF * HASH_SIZE)
    if len(octets) % HASH_SIZE:
        raise Malformed("export: a proof is a row of hashes of 32 bytes")
    return tuple(octets[at : at + HASH_SIZE] for at in range(0, len(octets), HASH_SIZE))


def _text(value: dict[str, Any], name: str) -> str:
    found = value.get(name)
    if not isinstance(found, str):
        raise Malformed(f"export: {name} is not text")
    try:
        found.encode()
    except UnicodeEncodeError:
        raise Malformed(f"export: {name} holds half of a surrogate pair") from None
    return found


def _number(value: dict[str, Any], name: str) -> int:
    found = value.get(name)
    # `type` and not `isinstance`: True is an int in Python, and JSON has it.
    if type(found) is not int or not 0 <= found <= MAX_SIZE:
        raise Malformed(f"export: {name} is not a whole number")
    return found
