# SPDX-License-Identifier: Apache-2.0
"""The bytes of a message between two devices: its prefix, and the initial part that begins a session.

Implements the framing of PROTOCOL section 4.
Opens nothing: what is read here is a claim until a session has authenticated it.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import Final

from holdfast.core.base.encoding import MAX_BLOB, Fields, Value, decode, encode
from holdfast.core.base.errors import Malformed
from holdfast.core.base.writing import require_readable
from holdfast.core.crypto.keys import ML_KEM_CIPHERTEXT_SIZE, PublicKey
from holdfast.core.crypto.suites import Suite
from holdfast.core.signed.cose import Sign1
from holdfast.core.signed.payloads import HASH_SIZE, MAX_U32, read_key

# The first byte, so that a later version can change all that follows it. No version is negotiated (FAULTS S8).
VERSION: Final = 0x01
# The type is in both aads: an initial part can be neither stripped off nor put on.
INITIAL: Final = 0x01
MESSAGE: Final = 0x02  # from the first answer on
PREFIX_SIZE: Final = 4  # bytes: version, type, suite, flags
MAX_MESSAGE: Final = MAX_BLOB  # bytes: 48 KiB of plaintext, padded, and an initial part are below 56 KB
_LENGTH_SIZE: Final = 2  # bytes, u16: an initial part is 2.8 KB at most
_REQUIRED: Final = frozenset((1, 2, 3, 6, 7))  # 4: only with a one-time key; 5: exactly in the suites with a KEM


def prefix(kind: int, suite: Suite) -> bytes:
    """Return the 4 bytes version | type | suite | flags that lead every message."""
    return bytes((VERSION, kind, suite, 0))


@dataclass(frozen=True)
class InitialPart:
    """What the responder needs in order to derive the session's first secret, as the initiator claims it.

    device_statement: of the initiator. initiator_head, responder_head: 32-byte heads of the two account chains as the
    initiator saw them. ciphertext: 1,088 bytes in suites 2 and 4.
    """

    suite: Suite
    device_statement: Sign1
    ephemeral: PublicKey
    signed_pre_key_id: int
    one_time_pre_key_id: int | None
    ciphertext: bytes | None
    initiator_head: bytes
    responder_head: bytes

    def encode(self) -> bytes:
        """Return prefix | u16 length | dCBOR: every byte of an initial message before enc_header.

        Raises ValueError for what no reader takes (the caller's mistake).
        """
        values = self._values()
        # Held to the reader's rules before they are bytes, not after: that the codec gives back what it was given is
        # its own property, and reading 2.7 KB again would cost as much as a DH.
        require_readable(functools.partial(self._from_value, suite=self.suite), values)
        return self._framed(values)

    def _values(self) -> dict[int, Value]:
        values: dict[int, Value] = {
            # The statement itself and not its hash: the responder may never have met this device.
            1: self.device_statement.encode(),
            2: self.ephemeral.encoded,
            3: self.signed_pre_key_id,
            6: self.initiator_head,
            7: self.responder_head,
        }
        if self.one_time_pre_key_id is not None:
            values[4] = self.one_time_pre_key_id
        if self.ciphertext is not None:
            values[5] = self.ciphertext
        return values

    def _framed(self, values: dict[int, Value]) -> bytes:
        body = encode(values)
        return prefix(INITIAL, self.suite) + len(body).to_bytes(_LENGTH_SIZE, "big") + body

    @classmethod
    def from_body(cls, body: bytes, suite: Suite) -> InitialPart:
        """Read the dCBOR; raises Malformed, also for a key or ciphertext that is not of the suite."""
        return cls._from_value(decode(body, max_size=MAX_BLOB), suite)

    @classmethod
    def _from_value(cls, value: Value, suite: Suite) -> InitialPart:
        fields = Fields(value, "initial part", _REQUIRED, (4, 5))
        # A hybrid suite without its ciphertext would be the classical one under another name: a downgrade (FAULTS S8).
        if (5 in fields) is not suite.has_kem:
            raise fields.refuse(5, "does not fit the suite")
        return cls(
            suite=suite,
            # Only parsed. Whose device it is, the caller learns from the account chain at the head in field 6.
            device_statement=Sign1.parse(fields.octets(1)),
            ephemeral=read_key(fields, 2, suite.agreement_kind),
            signed_pre_key_id=fields.uint(3, maximum=MAX_U32),
            one_time_pre_key_id=fields.uint(4, maximum=MAX_U32) if 4 in fields else None,
            ciphertext=fields.octets(5, ML_KEM_CIPHERTEXT_SIZE) if suite.has_kem else None,
            initiator_head=fields.octets(6, HASH_SIZE),
            responder_head=fields.octets(7, HASH_SIZE),
        )


class Incoming:
    """A message taken apart: a claim, all of it, until a session has opened it.

    initial_bytes: everything before enc_header of an initial message, else b"". initial_hash: its SHA-256, which routes
    a repeated initial part to its session before any key is looked up; None without one. sealed: enc_header || body.
    """

    __slots__ = ("_initial", "initial_bytes", "initial_hash", "prefix", "sealed", "suite")

    def __init__(self, suite: Suite, prefix: bytes, initial_bytes: bytes, sealed: bytes) -> None:
        self.suite = suite
        self.prefix = prefix
        self.initial_bytes = initial_bytes
        # Over the bytes as received, prefix and length included. It routes and proves nothing: an ECDSA statement's
        # twin signature changes it while TH stays the same, hence the seen-set holds TH.
        self.initial_hash = hashlib.sha256(initial_bytes).digest() if initial_bytes else None
        self.sealed = sealed
        self._initial: InitialPart | None = None

    @property
    def is_initial(self) -> bool:
        """Whether it carries what begins a session: the first message, and each until the initiator was answered."""
        return bool(self.initial_bytes)

    @property
    def initial(self) -> InitialPart | None:
        """The initial part, read when first asked for: one that repeats is known by its hash. Raises Malformed."""
        if self._initial is None and self.initial_bytes:
            self._initial = InitialPart.from_body(self.initial_bytes[PREFIX_SIZE + _LENGTH_SIZE :], self.suite)
        return self._initial

    @property
    def device_statement(self) -> Sign1 | None:
        """The initiator's device statement, unverified. Raises Malformed as `initial` does."""
        return self.initial.device_statement if self.initial else None


def read_message(data: bytes) -> Incoming:
    """Take a message of at most 64 KiB apart.

    Raises Malformed for another version, type, suite or flag, and one that ends early. The initial part is checked
    when it is read; what is sealed, when a session opens it.
    """
    if not PREFIX_SIZE < len(data) <= MAX_MESSAGE:
        raise Malformed("message: shorter than its prefix, or above 64 KiB")
    version, kind, suite_byte, flags = data[:PREFIX_SIZE]
    # An unknown flag is refused, not ignored: a later version may change by it what the rest means.
    if version != VERSION or flags != 0 or kind not in (INITIAL, MESSAGE):
        raise Malformed("message: of another version or type")
    try:
        suite = Suite(suite_byte)
    except ValueError:
        raise Malformed("message: not a known suite") from None
    end = PREFIX_SIZE
    if kind == INITIAL:
        end += _LENGTH_SIZE + int.from_bytes(data[PREFIX_SIZE : PREFIX_SIZE + _LENGTH_SIZE], "big")
        # The stated length is the sender's: it is held to what there is, and something sealed must follow.
        if end >= len(data):
            raise Malformed("message: ends inside its initial part")
    return Incoming(suite, data[:PREFIX_SIZE], data[:end] if kind == INITIAL else b"", data[end:])
