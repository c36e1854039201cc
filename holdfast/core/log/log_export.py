# SPDX-License-Identifier: Apache-2.0
"""The lines of an exported log: what the server writes, and what an auditor's laptop writes again to compare.

Implements docs/formats/audit-log.md ("Export"). One text for one value, so that any changed byte shows.
Reads no file and checks no proof: `holdfast.client.auditor.auditor` does.
"""

from __future__ import annotations

import binascii
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final

from holdfast.core.base.encoding import MAX_STATEMENT, b64u, unb64u
from holdfast.core.base.errors import Malformed, Untrusted
from holdfast.core.log import merkle, tiles
from holdfast.core.log.log_entry import KeyLogEntry, LogEntry
from holdfast.core.log.merkle import HASH_SIZE, MAX_PROOF, MAX_SIZE, leaf_hash, verify_inclusion

# The first value of the file: a reader of another version stops here instead of calling the log forged.
FORMAT: Final = "holdfast-log-export/1"
# With entries withheld it is another format: what knows only whole logs must not take such a file for one.
FORMAT_WITHHELD: Final = "holdfast-log-export/2"
# With the tenant root's `roles`, against which each entry's writer is checked: in this format also of a whole log it is
# said that nothing is withheld.
FORMAT_ROLES: Final = "holdfast-log-export/3"
# With a line before each 256 entries that has their hashes and what leads from them to the head: what each entry's own
# proof was made of, once.
FORMAT_TILES: Final = "holdfast-log-export/4"
MAX_LINE: Final = 128 * 1024  # a leaf of 16 KiB as text twice over, its escapes and its proof
MAX_TIME: Final = 253402300799  # the last second that RFC 3339 can name

# Bytes and not JSON, printable ASCII without a quote or backslash, at most MAX_TAG of them: safe to print as they are.
_CLAIMS: Final = {name: re.compile(rb'"%b":"([ !#-~]{1,80})"' % name.encode()) for name in ("id", "tag")}

# Greedy: the last name of the line is `leaf`, whatever stands in the others.
_PLAIN: Final = re.compile(rb'\{"index":([0-9]{1,16}),.*"leaf":"([A-Za-z0-9_-]*)"\}\n')

_TO_BASE64: Final = bytes.maketrans(b"-_", b"+/")

# An entry's next name is `id`, `type` or `leaf`: no leaf, whatever it says, puts this name there.
_WITHHELD: Final = re.compile(rb'\{"index":[0-9]+,"withheld":')

# Words for field 1 of a leaf, for people to read: docs/formats/audit-log.md. A type never changes its number.
KEY_LEAF_TYPES: Final = {1: "chain", 2: "escrow-key", 3: "policy", 4: "officer", 5: "offline-key", 6: "client-build"}


@dataclass(frozen=True)
class Header:
    """The first line. vkey: the verifier key the server claims; it anchors nothing by itself.

    withheld: how many entries are shown as their hashes alone; 0 for a whole log. roles: the newest statement of the
    tenant root as signed, b"" where there is none; it anchors nothing either, until it is held to the root. has_tiles:
    entries are proven by the line before each 256 of them; otherwise each by itself, as in exports of before.
    """

    origin: str
    vkey: str
    size: int
    withheld: int = 0
    roles: bytes = b""
    has_tiles: bool = False

    def to_line(self) -> bytes:
        """Return the line, ended."""
        shown = {"origin": self.origin, "vkey": self.vkey, "size": self.size}
        if self.has_tiles:
            return _line({"format": FORMAT_TILES, **shown, "withheld": self.withheld, "roles": b64u(self.roles)})
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
        has_tiles = value.get("format") == FORMAT_TILES
        header = cls(_text(value, "origin"), _text(value, "vkey"), _number(value, "size"), withheld, roles, has_tiles)
        # Written again and compared: JSON lets one value have many spellings, and a changed space would pass unseen.
        if header.to_line() != line:
            raise Malformed("export: the header is not in the one form it has")
        return header


@dataclass(frozen=True)
class ExportedTile:
    """The hashes of up to 256 leaves from 256 × index on, and the proof of their root in the tree of the header's size.

    hashes: 32 bytes each, one after another. proof: from that root's sibling upwards (RFC 6962 section 2.1.1).
    """

    index: int
    hashes: bytes
    proof: tuple[bytes, ...]

    def rows(self) -> list[bytes]:
        """Return the hashes one by one."""
        return [self.hashes[at : at + HASH_SIZE] for at in range(0, len(self.hashes), HASH_SIZE)]

    def to_line(self) -> bytes:
        """Return the line, ended."""
        return _line({"tile": self.index, "hashes": b64u(self.hashes), "proof": b64u(b"".join(self.proof))})

    @classmethod
    def from_line(cls, line: bytes) -> ExportedTile:
        """Read what `to_line` writes, and nothing else; raises Malformed."""
        value = _object(line)
        hashes = unb64u(_text(value, "hashes"), max_size=tiles.WIDTH * HASH_SIZE)
        tile = cls(_number(value, "tile"), hashes, _proof(value))
        if tile.to_line() != line:
            raise Malformed("export: a line of hashes is not in the one form it has")
        return tile


@dataclass(frozen=True)
class ExportedEntry:
    """One leaf at its index, with its inclusion proof in the tree of the header's size.

    proof: None in a file with tiles, whose lines have the hash.
    """

    index: int
    leaf: bytes
    proof: tuple[bytes, ...] | None

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
        proven = {} if self.proof is None else {"proof": b64u(b"".join(self.proof))}
        return _line({"index": self.index, **_readable(self.said), "leaf": b64u(self.leaf), **proven})

    @classmethod
    def from_line(cls, line: bytes) -> ExportedEntry:
        """Read what `to_line` writes, and nothing else; raises Malformed."""
        if (found := cls._plain(line)) is not None:
            return found
        value = _object(line)
        proof = _proof(value) if "proof" in value else None
        entry = cls(_number(value, "index"), unb64u(_text(value, "leaf")), proof)
        # People read the words, proofs cover the leaf: this line ties the two. An edited
        # `tag` beside a true leaf is found here.
        if entry.to_line() != line:
            raise Malformed("export: what people read in this line is not what its leaf says")
        return entry

    @classmethod
    def _plain(cls, line: bytes) -> ExportedEntry | None:
        """Read a line without a proof as nearly all are, without reading its JSON; None of any other.

        A line is what its index and its leaf make of it: what comes out as the same line was read rightly.
        """
        found = _PLAIN.fullmatch(line)
        if found is None or len(line) > MAX_LINE:
            return None
        text = found[2].translate(_TO_BASE64)
        if len(text) % 4 == 1:
            return None
        entry = cls(int(found[1]), binascii.a2b_base64(text + b"=" * (-len(text) % 4)), None)
        return entry if entry.to_line() == line else None

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
    proof: tuple[bytes, ...] | None

    def to_line(self) -> bytes:
        """Return the line, ended."""
        proven = {} if self.proof is None else {"proof": b64u(b"".join(self.proof))}
        return _line({"index": self.index, "withheld": b64u(self.leaf_hash), **proven})

    @classmethod
    def from_line(cls, line: bytes) -> WithheldEntry:
        """Read what `to_line` writes, and nothing else; raises Malformed."""
        value = _object(line)
        octets = unb64u(_text(value, "withheld"), max_size=HASH_SIZE)
        if len(octets) != HASH_SIZE:
            raise Malformed("export: a withheld entry is a hash of 32 bytes")
        entry = cls(_number(value, "index"), octets, _proof(value) if "proof" in value else None)
        if entry.to_line() != line:
            raise Malformed("export: a withheld entry is not in the one form it has")
        return entry


def check_tile(tile: ExportedTile, *, index: int, size: int, root: bytes | None) -> None:
    """Check that a line of hashes is that of the leaves from 256 × index on, in the tree of `size` under `root`.

    root: None where it is not known: only that the hashes are as many as they have to be. Raises Untrusted.
    """
    first = index * tiles.WIDTH
    count = min(tiles.WIDTH, size - first)
    if tile.index != index or len(tile.hashes) != count * HASH_SIZE:
        raise Untrusted("in place of its line of hashes stands another")
    if root is not None:
        # A tile is one subtree of the tree, also at its ragged edge, and in the tree of tiles it is a leaf.
        verify_inclusion(
            merkle.root(tile.rows()), index=index, size=-(-size // tiles.WIDTH), proof=tile.proof, expected_root=root
        )


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
        "id": _uuid(entry.entry_id),
        "time": _rfc3339(entry.time),
        "tag": entry.tag,
        "actor": entry.actor,
        "person": _uuid(entry.person) if entry.person else None,
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
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19] + "Z"


def _uuid(octets: bytes) -> str:
    # As UUID writes 16 bytes, without making one: there are two to each of millions of lines.
    digits = octets.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


_JSON: Final = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"))


def _line(value: dict[str, Any]) -> bytes:
    # ASCII only: line ends, bidirectional marks and every other character that could forge what a person
    # sees in a terminal stand as escapes.
    return _JSON.encode(value).encode() + b"\n"


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
