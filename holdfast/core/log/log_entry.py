# SPDX-License-Identifier: Apache-2.0
"""One entry of the audit log, to bytes and back: what the server appends and an auditor's laptop reads.

Implements docs/formats/audit-log.md and PROTOCOL section 8 (leaf version 2: signed by the role that appends it).
Decides neither which tags exist nor who may write them: `writers` does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from holdfast.core.base.encoding import MAX_STATEMENT, Encodable, Fields, Value, decode, encode, label
from holdfast.core.base.errors import InvalidSignature, Malformed
from holdfast.core.base.writing import read_back
from holdfast.core.crypto.keys import KID_SIZE, SIGNATURE_SIZE, PublicKey, SigningKey, verify

# The bounds below keep an entry small: a log is kept for ever, and each follower reads all of it.
# First field, so that a reader stops at a leaf it does not know. 1 bears no signature: older than role keys.
UNSIGNED, SIGNED = 1, 2
MAX_TAG: Final = 80  # characters, of a tag, an actor or a field's name: `<kind>:<uuid>` has about 50
MAX_SUBJECT: Final = 200  # characters: a kind with an id or a name; content has no place in a log
MAX_FIELDS: Final = 32  # which names a tag may carry is the server's list, and far shorter
MAX_TEXT: Final = 512  # characters of one value: what was done, never what was written
MAX_OCTETS: Final = 64  # an id, a hash, a public key: nothing that wraps or holds a secret is as short
_ROOM: Final = bytes(SIGNATURE_SIZE)  # where a signature will stand

BodyValue = str | int | bytes


@dataclass(frozen=True)
class LogEntry:
    """What happened. entry_id and person: 16 bytes (person b"" when unknown); time: Unix seconds, informative.

    kid and signature: of the role key that vouches for it, 16 and 64 bytes; both b"" in a leaf of version 1.
    """

    entry_id: bytes
    tag: str
    actor: str
    person: bytes
    subject: str
    time: int
    body: Mapping[str, BodyValue] = field(default_factory=dict)
    kid: bytes = b""
    signature: bytes = b""

    def to_signed_leaf(self, *, origin: str, key: SigningKey) -> bytes:
        """Return the leaf bytes as the holder of a role key vouches for them, in the log of this origin.

        PROTOCOL section 8. What this entry says of a signature counts for nothing. Raises ValueError as `to_leaf` does.
        """
        # Encoded once, with room for the signature: it is the leaf's last field, and what is signed stands before it.
        room = self._leaf(key.public.kid, _ROOM)
        return room[:-SIGNATURE_SIZE] + key.sign(_to_be_signed(origin, _without_signature(room)))

    def signed(self, *, origin: str, key: SigningKey) -> LogEntry:
        """Return the entry with the signature that `to_signed_leaf` makes."""
        return LogEntry.from_leaf(self.to_signed_leaf(origin=origin, key=key))

    def to_leaf(self) -> bytes:
        """Return the leaf bytes; equal entries give equal bytes. docs/formats/audit-log.md.

        Raises ValueError, naming the field and never its value, for what `from_leaf` would not read back: the
        caller's mistake. A leaf is for ever, so it is refused before it is written.
        """
        return self._leaf(self.kid, self.signature)

    def _leaf(self, kid: bytes, signature: bytes) -> bytes:
        if kid and (len(kid), len(signature)) != (KID_SIZE, SIGNATURE_SIZE):
            raise ValueError("log entry: a key's name has 16 bytes and its signature 64")
        self._check()
        value: dict[int, Encodable] = {
            1: SIGNED if kid else UNSIGNED,
            2: self.entry_id,
            3: self.tag,
            4: self.actor,
            6: self.subject,
            7: self.time,
            # Pairs in order and not a map: the CBOR profile has numbers as keys only,
            # and one entry must have one encoding.
            8: [[name, self.body[name]] for name in sorted(self.body)],
        }
        # Absent and not empty: "nobody known" then has one form.
        if self.person:
            value[5] = self.person
        if kid:
            value[9], value[10] = kid, signature
        leaf = encode(value)
        if len(leaf) > MAX_STATEMENT:
            # Each field within its bounds, and all of them together beyond the reader's.
            raise ValueError("log entry: the fields together are too long")
        return leaf

    def _check(self) -> None:
        if len(self.entry_id) != 16 or len(self.person) not in (0, 16):
            raise ValueError("log entry: an id has 16 bytes")
        if self.time < 0:
            raise ValueError("log entry: a time before 1970")
        if len(self.tag) > MAX_TAG or len(self.actor) > MAX_TAG or len(self.subject) > MAX_SUBJECT:
            raise ValueError("log entry: tag, actor or subject is too long")
        if len(self.body) > MAX_FIELDS or any(len(name) > MAX_TAG for name in self.body):
            raise ValueError("log entry: too many body fields, or a name too long")
        for name, value in self.body.items():
            # Exact types: a bool, a list or a type that hides a secret has no form in an entry.
            if type(value) not in (str, int, bytes):
                raise ValueError(f"log entry: body field {name} is neither text, number nor bytes")
            if isinstance(value, (str, bytes)) and len(value) > (MAX_TEXT if isinstance(value, str) else MAX_OCTETS):
                raise ValueError(f"log entry: body field {name} is too long")

    @classmethod
    def from_leaf(cls, leaf: bytes) -> LogEntry:
        """Read a leaf; raises Malformed for anything `to_leaf` does not write. It checks no signature."""
        return _plain(leaf) or cls._from_any(leaf)

    @classmethod
    def _from_any(cls, leaf: bytes) -> LogEntry:
        value = decode(leaf)
        # A signature is no option: which version a leaf has says whether it bears one.
        is_signed = isinstance(value, dict) and value.get(1) == SIGNED
        fields = Fields(value, "log entry", (1, 2, 3, 4, 6, 7, 8, *((9, 10) if is_signed else ())), (5,))
        fields.uint(1, minimum=UNSIGNED, maximum=SIGNED)
        rows = [_row(row) for row in fields.array(8, maximum=MAX_FIELDS)]
        names = [name for name, _ in rows]
        # A second spelling of one entry would be a second leaf hash for it.
        if names != sorted(set(names)):
            raise fields.refuse(8, "is not in ascending order of names without repeats")
        return cls(
            entry_id=fields.octets(2, 16),
            tag=fields.text(3, maximum=MAX_TAG),
            actor=fields.text(4, maximum=MAX_TAG),
            person=fields.octets(5, 16) if 5 in fields else b"",
            subject=fields.text(6, maximum=MAX_SUBJECT),
            time=fields.uint(7),
            body=dict(rows),
            kid=fields.octets(9, KID_SIZE) if is_signed else b"",
            signature=fields.octets(10, SIGNATURE_SIZE) if is_signed else b"",
        )


# Heads of dCBOR: maps of nine and ten pairs, an array of two, and where bytes, texts and arrays begin.
_WITHOUT_PERSON, _WITH_PERSON, _PAIR = 0xA9, 0xAA, b"\x82"
_BYTES, _TEXT, _ARRAY = 0x40, 0x60, 0x80


def _plain(leaf: bytes) -> LogEntry | None:
    """Read a leaf of version 2 as nearly all are, in a quarter of the time; None of one that takes the general reader.

    It refuses nothing, and what it reads the general reader reads alike: a log has millions of leaves, and each is read
    by whoever exports, verifies or follows it.
    """
    if len(leaf) > MAX_STATEMENT:
        return None
    try:
        has_person = leaf[0] == _WITH_PERSON
        _need(leaf, 0, bytes((_WITH_PERSON if has_person else _WITHOUT_PERSON, 1, SIGNED, 2, 0x50)))
        tag, at = _plain_text(leaf, _need(leaf, 21, b"\x03"), MAX_TAG)
        actor, at = _plain_text(leaf, _need(leaf, at, b"\x04"), MAX_TAG)
        person = b""
        if has_person:
            at = _need(leaf, at, b"\x05\x50") + 16
            person = leaf[at - 16 : at]
        subject, at = _plain_text(leaf, _need(leaf, at, b"\x06"), MAX_SUBJECT)
        at = _need(leaf, at, b"\x07\x1a") + 4
        time = int.from_bytes(leaf[at - 4 : at], "big")
        body, at = _plain_body(leaf, _need(leaf, at, b"\x08"))
        kid = _need(leaf, at, b"\x09\x50")
        signature = _need(leaf, kid + KID_SIZE, _SIGNATURE_HEAD)
    except (IndexError, ValueError):
        return None
    # What follows has one size: a field that ended beyond the leaf is found by it as well. And a smaller number in so
    # long a head would be a second encoding of the same time.
    if len(leaf) != signature + SIGNATURE_SIZE or time < 1 << 16:
        return None
    kid_end = kid + KID_SIZE
    return LogEntry(leaf[5:21], tag, actor, person, subject, time, body, leaf[kid:kid_end], leaf[signature:])


def _need(leaf: bytes, at: int, head: bytes) -> int:
    """Return where what follows a head begins; ValueError where the head does not stand."""
    if not leaf.startswith(head, at):
        raise ValueError("another head")
    return at + len(head)


def _plain_body(leaf: bytes, at: int) -> tuple[dict[str, BodyValue], int]:
    rows = leaf[at] - _ARRAY
    if not 0 <= rows < 24:
        raise ValueError("no short array")
    at += 1
    body: dict[str, BodyValue] = {}
    last = ""
    for place in range(rows):
        name, at = _plain_text(leaf, _need(leaf, at, _PAIR), MAX_TAG)
        if place and name <= last:
            raise ValueError("not in order")
        last, head = name, leaf[at]
        if head < 24:
            body[name], at = head, at + 1
        elif head < _TEXT:
            start, at = _plain_span(leaf, at, _BYTES, MAX_OCTETS)
            body[name] = leaf[start:at]
        else:
            body[name], at = _plain_text(leaf, at, MAX_TEXT)
    return body, at


def _plain_text(leaf: bytes, at: int, most: int) -> tuple[str, int]:
    start, end = _plain_span(leaf, at, _TEXT, most)
    return leaf[start:end].decode(), end


def _plain_span(leaf: bytes, at: int, kind: int, most: int) -> tuple[int, int]:
    """Return where a string of up to `most` and 255 bytes begins and ends; ValueError of anything else."""
    size = leaf[at] - kind
    start = at + 1
    if size == 24:
        size, start = leaf[start], start + 1
        if size < 24:
            raise ValueError("a second encoding")
    elif not 0 <= size < 24:
        raise ValueError("another head")
    if size > most:
        raise ValueError("too long, or of letters that take several bytes")
    return start, start + size


# Field 10 is the last of a leaf, and its key and length are always these: what stands before them is fields 1 to 9.
_SIGNATURE_HEAD: Final = bytes((10, 0x58, SIGNATURE_SIZE))


def _without_signature(leaf: bytes) -> bytes:
    """Return dCBOR(fields 1..9) of a leaf of version 2: one entry fewer in the map's head, and no last one."""
    # Cut from the bytes and not encoded anew: what is verified is what was received (PROTOCOL section 3).
    return bytes((leaf[0] - 1,)) + leaf[1 : -SIGNATURE_SIZE - len(_SIGNATURE_HEAD)]


def _to_be_signed(origin: str, fields: bytes) -> bytes:
    # The origin: an entry of one tenant's log, or of another log, is none of this one. The label of these three parts,
    # of which the first two are the same for each entry of a log.
    return _label_of(origin) + encode(fields)


@lru_cache(maxsize=16)
def _label_of(origin: str) -> bytes:
    return label("log-entry", origin, b"")[:-1]  # without its last part, which is empty here and one byte


def verify_leaf(leaf: bytes, entry: LogEntry, *, origin: str, key: PublicKey) -> None:
    """Check that `key` vouches for a leaf of version 2 in the log of this origin. Raises InvalidSignature.

    entry: what `from_leaf` read from these very bytes.
    """
    if not entry.kid or entry.kid != key.kid:
        raise InvalidSignature("the entry is not signed by this key")
    verify(key, entry.signature, _to_be_signed(origin, _without_signature(leaf)))


def _row(value: Value) -> tuple[str, BodyValue]:
    row = Fields.of_row(value, "log entry field", 2)
    # The same bounds as in writing: a leaf that only the writer's side refuses could be put there by somebody else.
    inner = row.value(1)
    if isinstance(inner, list | dict):
        raise Malformed("log entry field: neither text, number nor bytes")
    if isinstance(inner, (str, bytes)) and len(inner) > (MAX_TEXT if isinstance(inner, str) else MAX_OCTETS):
        raise Malformed("log entry field: too long")
    return row.text(0, maximum=MAX_TAG), inner


@dataclass(frozen=True)
class KeyLogEntry:
    """One leaf of the `keys` log. type: 1 chain, 2 escrow key, 3 policy, 4 officer, 5 offline key, 6 client build."""

    type: int
    subject_hash: bytes
    seq: int
    statement_hash: bytes
    time: int

    @read_back("from_leaf")
    def to_leaf(self) -> bytes:
        """Return the leaf bytes. PROTOCOL section 8."""
        return encode({1: self.type, 2: self.subject_hash, 3: self.seq, 4: self.statement_hash, 5: self.time})

    @classmethod
    def from_leaf(cls, leaf: bytes) -> KeyLogEntry:
        """Read a leaf; raises Malformed."""
        fields = Fields(decode(leaf), "key log leaf", range(1, 6))
        return cls(
            # A leaf of an unknown type is refused: a client that skipped it could be shown anything under that number.
            type=fields.uint(1, minimum=1, maximum=6),
            subject_hash=fields.octets(2, 32),
            seq=fields.uint(3),
            statement_hash=fields.octets(4, 32),
            time=fields.uint(5),
        )


def key_log_subject(tenant: bytes, user: bytes = b"") -> bytes:
    """Return the 32 bytes that name a user's leaves, or the tenant's own. PROTOCOL section 8."""
    # A hash and not the ids: tiles and leaves may be served widely, and who has an account is nobody else's business.
    # Plain joining is safe here, since tenant has 16 bytes and user has 16 or none.
    return hashlib.sha256(b"holdfast/v1/kt" + tenant + user).digest()


def log_origin(tenant: str, log: str) -> str:
    """Return the name of a tenant's log: `holdfast/<tenant uuid>/<audit|keys>`."""
    return f"holdfast/{tenant}/{log}"
