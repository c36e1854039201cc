# SPDX-License-Identifier: Apache-2.0
"""The enrolment code: the one line of text by which a person's new device meets its tenant.

Implements the code of ORGANISATION "Devices" (single use) and "Founding", and carries the root pin of ESCROW "Keys".
Does not decide who may enrol: the server keeps only the code's hash, and its time and use.
"""

import hashlib
import secrets
from dataclasses import dataclass
from typing import Final

from holdfast.core.base import typed
from holdfast.core.base.encoding import Encodable, Fields, b64u, decode, encode, label, unb64u
from holdfast.core.base.errors import Malformed, Mistyped
from holdfast.core.base.secret import SecretBytes
from holdfast.core.base.writing import require_readable
from holdfast.core.crypto.keys import PublicKey

# Tells a code from whatever else is pasted, and carries the version where no reader has to decode first.
PREFIX: Final = "hf2."
# Codes without a checksum: one wrong letter in a pin or a log key spent the code and stayed in the profile.
_EARLIER: Final = "hf1."
# bytes: a slip passes once in 2^32. Behind the fields, so that it is looked at before anything is read of them.
CHECKSUM_SIZE: Final = 4
SECRET_SIZE: Final = 16  # bytes: 128 bits, never guessed in the 30 days that a code can live
PIN_SIZE: Final = 32  # bytes: SHA-256, ESCROW "Keys"; of a founding code, the root key's hash
_VERSION: Final = 1  # of the fields; PREFIX is of the line as a whole
_MAX_SIZE: Final = 512  # bytes: the fields with the longest verifier key are some 300, and the checksum
_WHAT: Final = "enrolment code"


def code_hash(*, tenant: bytes, person: bytes, secret: SecretBytes) -> bytes:
    """Return the 32 bytes by which the server knows a code: SHA-256 over tenant, person (16 bytes each) and secret.

    The secret has 128 random bits, so a stolen hash tells nothing and needs no slow hashing.
    """
    # Tenant and person are in the hash: moved to another person's row, it fits no code.
    return hashlib.sha256(label("enrolment-code", tenant, person, secret.reveal())).digest()


def founding_root(tenant: bytes, root_key: PublicKey) -> bytes:
    """Return the 32 bytes by which a founding code names the tenant's root: SHA-256 over tenant and root key."""
    # Another label than the pin's, which names the founding policy as well: neither is ever taken for the other.
    return hashlib.sha256(label("founding-root", tenant, root_key.encoded)).digest()


@dataclass(frozen=True)
class EnrolmentCode:
    """What a code says. tenant, person: 16 bytes. secret: 16 bytes. root_pin: 32 bytes, or b"" when not known.

    log_vkey is the verifier key of the tenant's log (C2SP signed-note), or "". founding_root: 32 bytes in place of the
    pin, in a code of a tenant that is being founded and has no policy yet to pin; else b"". A code without either
    leaves the client to trust what it meets first, which it shows and logs (ESCROW "Keys").
    """

    tenant: bytes
    person: bytes
    secret: SecretBytes
    root_pin: bytes = b""
    log_vkey: str = ""
    founding_root: bytes = b""

    @classmethod
    def new(
        cls, *, tenant: bytes, person: bytes, root_pin: bytes = b"", log_vkey: str = "", founding_root: bytes = b""
    ) -> "EnrolmentCode":
        """Make a code with a fresh secret. Raises ValueError for one with a pin and a founding root."""
        if root_pin and founding_root:
            raise ValueError("a code pins the root with its policy, or before there is one, and not both")
        return cls(tenant, person, SecretBytes(secrets.token_bytes(SECRET_SIZE)), root_pin, log_vkey, founding_root)

    @property
    def hash(self) -> bytes:
        """The 32 bytes that go to the server when the code is issued."""
        return code_hash(tenant=self.tenant, person=self.person, secret=self.secret)

    def text(self) -> str:
        """Return the line a person copies: "hf2." and base64url of fields and checksum. It is a secret until used.

        Raises ValueError for fields that `parse` would refuse (the caller's mistake).
        """
        fields: dict[int, Encodable] = {1: _VERSION, 2: self.tenant, 3: self.person, 4: self.secret.reveal()}
        if self.root_pin:
            fields[5] = self.root_pin
        if self.log_vkey:
            fields[6] = self.log_vkey
        if self.founding_root:
            fields[7] = self.founding_root
        octets = encode(fields)
        return require_readable(EnrolmentCode.parse, PREFIX + b64u(octets + _checksum(octets)))

    @classmethod
    def is_one(cls, text: str) -> bool:
        """Tell whether a text is a whole code."""
        try:
            cls.parse(text)
        except Malformed:
            return False
        return True

    @classmethod
    def parse(cls, text: str) -> "EnrolmentCode":
        """Read a code as it was copied, by `typed.code`: wrapped, indented, quoted, in a file of any encoding's mark.

        Raises Mistyped for a slip and for what is no code, of which nothing is sent to anybody; Malformed for a whole
        one whose fields are none.
        """
        try:
            signs = typed.code(text, PREFIX, _WHAT)
        except Mistyped:
            if _EARLIER in typed.visible(text).lower():
                raise Mistyped("this enrolment code is of an earlier version: ask for a new one") from None
            raise
        try:
            whole = unb64u(signs, max_size=_MAX_SIZE)
        except Malformed:
            raise Mistyped(_SLIP) from None
        octets, checksum = whole[:-CHECKSUM_SIZE], whole[-CHECKSUM_SIZE:]
        if checksum != _checksum(octets):
            raise Mistyped(_SLIP)
        fields = Fields(decode(octets, max_size=_MAX_SIZE), _WHAT, range(1, 5), (5, 6, 7))
        fields.uint(1, minimum=_VERSION, maximum=_VERSION)
        code = cls(
            tenant=fields.octets(2, 16),
            person=fields.octets(3, 16),
            secret=SecretBytes(fields.octets(4, SECRET_SIZE)),
            root_pin=fields.octets(5, PIN_SIZE) if 5 in fields else b"",
            log_vkey=fields.text(6, maximum=200) if 6 in fields else "",
            founding_root=fields.octets(7, PIN_SIZE) if 7 in fields else b"",
        )
        # An absent field says "not known"; an empty one would be a second way to say it.
        if 6 in fields and not code.log_vkey:
            raise fields.refuse(6, "is empty")
        if 5 in fields and 7 in fields:
            raise fields.refuse(7, "stands beside a pin")
        return code


_SLIP: Final = "enrolment code: not whole, or a letter of it is another one; copy it once more, from hf2. to its end"


def _checksum(octets: bytes) -> bytes:
    return hashlib.sha256(label("enrolment-checksum", octets)).digest()[:CHECKSUM_SIZE]
