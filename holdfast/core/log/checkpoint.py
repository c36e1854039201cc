# SPDX-License-Identifier: Apache-2.0
"""Signed log heads: C2SP tlog-checkpoint bodies in signed-note form.

Implements C2SP tlog-checkpoint and signed-note, with Ed25519 (type 0x01) and, where an HSM lacks it, ECDSA P-256.
Holds no private key: signing takes a callable, because the log's key is in an HSM.
Specification: https://c2sp.org/tlog-checkpoint ("Note text"), https://c2sp.org/signed-note ("Format").
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from holdfast.core.base.errors import InvalidSignature, Malformed
from holdfast.core.base.writing import read_back
from holdfast.core.crypto.keys import KeyKind, PublicKey, verify
from holdfast.core.log.merkle import HASH_SIZE, MAX_SIZE

MAX_NOTE: Final = 16 * 1024  # bytes: a note is read whole before a signature is checked, and comes from strangers
KEY_ID_SIZE: Final = 4  # bytes: signed-note, "Signatures". It picks the key to try and proves nothing
SIGNATURE_SIZE: Final = 64  # bytes: Ed25519 (RFC 8032 section 5.1.6), and raw r and s of P-256

# signed-note gives ECDSA no number of its own with raw keys, so P-256 takes 0xff and a name of ours, as the page
# advises for types without an assigned number.
_TYPE_OF: Final = {KeyKind.ED25519: b"\x01", KeyKind.P256_SIGNING: b"\xffholdfast/v1/p256"}
_SIGNATURE_MARK: Final = "— "  # signed-note, "Format": em dash (U+2014) and a space, which no base64 holds


@dataclass(frozen=True)
class Checkpoint:
    """One head of a log. root: 32 bytes. time: Unix seconds of signing, from the extension line `time <n>`."""

    origin: str
    size: int
    root: bytes
    time: int | None = None

    @read_back("from_text")
    def to_text(self) -> str:
        """Return the body: origin, size, root in base64, and the time line. tlog-checkpoint, "Note text"."""
        lines = [self.origin, str(self.size), base64.b64encode(self.root).decode()]
        if self.time is not None:
            lines.append(f"time {self.time}")
        return "\n".join(lines) + "\n"

    @classmethod
    def from_text(cls, text: str) -> Checkpoint:
        """Read a body; raises Malformed. Extension lines other than `time` are left alone."""
        lines = _utf8(text).decode().split("\n")
        # tlog-checkpoint, "Note text": three lines at least, each of them ended and none empty.
        if len(lines) < 4 or lines[-1] or not all(lines[:-1]):
            raise Malformed("checkpoint: not three lines or more, each ended")
        return cls(
            origin=lines[0],
            size=_decimal(lines[1], "size"),
            root=_octets(lines[2], HASH_SIZE, "root"),
            time=next((_decimal(line[5:], "time") for line in lines[3:-1] if line.startswith("time ")), None),
        )


@dataclass(frozen=True)
class NoteVerifier:
    """The public half of a log's key, under the log's name."""

    name: str
    key: PublicKey

    @property
    def key_id(self) -> bytes:
        """The first 4 bytes of SHA-256(name || 0x0A || type || key). signed-note, "Signatures"."""
        return hashlib.sha256(self.name.encode() + b"\n" + self._typed).digest()[:KEY_ID_SIZE]

    @property
    def _typed(self) -> bytes:
        return _TYPE_OF[self.key.kind] + self.key.raw

    @read_back("from_text")
    def to_text(self) -> str:
        """Return the verifier key `name+key id in hex+base64(type || key)`, for people to carry."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(self._typed).decode()}"

    @classmethod
    def from_text(cls, text: str) -> NoteVerifier:
        """Read a verifier key; raises Malformed, also when its id is not that of its key."""
        name, _, rest = text.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        typed = _octets(encoded, None, "verifier key")
        # The id repeats what name and key say: people carry this text by hand, and a slip shows here.
        for kind, prefix in _TYPE_OF.items():
            if typed.startswith(prefix):
                verifier = cls(_name(name), PublicKey(kind, typed[len(prefix) :]))
                if verifier.key_id.hex() == key_id:
                    return verifier
        raise Malformed("verifier key: neither Ed25519 nor P-256, or its id is not its key's")

    def open(self, note: str) -> str:
        """Return the text of a note that this key signed.

        Raises Malformed for what is no note, and InvalidSignature when no line is of this key or one does not
        hold. Lines of other keys (witnesses) are left alone. signed-note, "Verification".
        """
        text, lines = _split(note)
        # Name and id both: 4 bytes can be hit by chance or on purpose, so another
        # key's line is skipped and not an error.
        mine = [line for line in lines if line[0] == self.name and line[1][:KEY_ID_SIZE] == self.key_id]
        if not mine:
            raise InvalidSignature("the note is not signed by this key")
        # Every line of this key must hold, not one of them: a bad line beside a good one is nobody's honest work.
        for _, signed in mine:
            if len(signed) != KEY_ID_SIZE + SIGNATURE_SIZE:
                raise InvalidSignature("the note's signature has another length")
            verify(self.key, signed[KEY_ID_SIZE:], text.encode())
        return text

    def open_checkpoint(self, note: str) -> Checkpoint:
        """Return the checkpoint in a note that this key signed, whose origin is this key's name."""
        checkpoint = Checkpoint.from_text(self.open(note))
        # One key signs both logs of a tenant. Without this, a head of `audit` would pass for one of `keys`.
        if checkpoint.origin != self.name:
            raise InvalidSignature("the checkpoint is of another log")
        return checkpoint


@dataclass(frozen=True)
class LogVerifier:
    """A log's name, and the keys any of which may sign a head of it: while one replaces another, both do."""

    name: str
    keys: tuple[PublicKey, ...]

    def open_checkpoint(self, note: str) -> Checkpoint:
        """Return the checkpoint in a note that one of the keys signed, under this log's name.

        Raises Malformed for what is no note, and InvalidSignature when no key has signed it.
        """
        for key in self.keys:
            try:
                return NoteVerifier(self.name, key).open_checkpoint(note)
            except InvalidSignature:
                continue
        raise InvalidSignature("no key of this log has signed the head")


def sign_note(text: str, *, verifier: NoteVerifier, sign: Callable[[bytes], bytes]) -> str:
    """Return the note: text, empty line, one signature line. `sign` gives 64 raw bytes over the text in UTF-8.

    The result is verified before it is returned: a head that nobody can verify must not be published.
    """
    signed = base64.b64encode(verifier.key_id + sign(text.encode())).decode()
    note = f"{text}\n{_SIGNATURE_MARK}{verifier.name} {signed}\n"
    verifier.open(note)
    return note


def _split(note: str) -> tuple[str, list[tuple[str, bytes]]]:
    if len(_utf8(note)) > MAX_NOTE:
        raise Malformed("note: longer than 16 KiB")
    # The last empty line parts them: text may hold empty lines, signatures may not. signed-note, "Format".
    text, mark, signatures = note.rpartition("\n\n")
    if not mark or not signatures.endswith("\n") or any(ord(char) < 0x20 and char != "\n" for char in note):
        raise Malformed("note: no signatures, or control characters")
    lines = []
    for line in signatures[:-1].split("\n"):
        name, _, encoded = line.removeprefix(_SIGNATURE_MARK).partition(" ")
        # One bad line makes the whole note bad: skipping it would let two readers see two different notes.
        if not line.startswith(_SIGNATURE_MARK):
            raise Malformed("note: a signature line of another form")
        signed = _octets(encoded, None, "signature")
        if len(signed) <= KEY_ID_SIZE:
            raise Malformed("note: a signature line without a signature")
        lines.append((_name(name), signed))
    return text + "\n", lines


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can carry and UTF-8 cannot
        raise Malformed("note: not UTF-8") from None


def _name(name: str) -> str:
    _utf8(name)
    if not name or any(char.isspace() or char == "+" for char in name):
        raise Malformed("note: a key name is not empty and has no space and no plus")
    return name


def _decimal(text: str, what: str) -> int:
    # No sign, no leading zero, no digits of other scripts (which int() reads): a number has one spelling.
    if not text.isascii() or not text.isdigit() or (text != "0" and text[0] == "0") or len(text) > 16:
        raise Malformed(f"checkpoint: {what} is not a decimal number")
    if (number := int(text)) > MAX_SIZE:
        raise Malformed(f"checkpoint: {what} is too large")
    return number


def _octets(text: str, size: int | None, what: str) -> bytes:
    try:
        octets = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Malformed(f"{what}: not base64") from None
    # One value has one spelling: stray bits in the last character would give it several.
    if base64.b64encode(octets).decode() != text or (size is not None and len(octets) != size):
        raise Malformed(f"{what}: not canonical, or of another length")
    return octets
