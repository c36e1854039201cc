# SPDX-License-Identifier: Apache-2.0
"""Slow hashing of what a person remembers: Argon2id, its cost and the bounds that a client keeps to.

Implements PROTOCOL section 6 "Password door" (RFC 9106, version 0x13).
Does not count attempts: a door that has been copied is guessed at offline, and the cost is what there is.
Specification: https://www.rfc-editor.org/rfc/rfc9106 sections 3.1 and 4.
"""

from __future__ import annotations

import secrets
import unicodedata
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from holdfast.core.base import typed
from holdfast.core.base.encoding import Encodable, Fields, Value
from holdfast.core.base.errors import Malformed, OutOfBounds, Unusable
from holdfast.core.base.secret import SecretBytes

# The only one: a field that names the algorithm is an offer to choose a weaker one, so every other value is refused.
ALGORITHM: Final = "argon2id"
ARGON2_VERSION: Final = 0x13  # RFC 9106 section 3.1: the only version that it defines
SALT_SIZE: Final = 16  # bytes: RFC 9106 section 3.1 recommends 16 for passwords
STRETCHED_SIZE: Final = 32  # bytes: the ikm of HKDF, as long as what it derives
# Bounds the work of normalising what was pasted by mistake; no password that a person remembers is longer.
MAX_PASSWORD: Final = 1024  # characters


@dataclass(frozen=True, slots=True)
class Argon2Cost:
    """Memory in KiB, passes and lanes. Made outside the bounds it raises OutOfBounds, before any hashing."""

    memory_kib: int = 64 * 1024
    passes: int = 3
    lanes: int = 4

    def __post_init__(self) -> None:
        # The server stores these numbers: too low gives it the password, too high stops the device.
        # 19 MiB with two passes is on the list of OWASP's password storage cheat sheet; the upper bounds are the most
        # that one unlocking may cost a device.
        within = 19 * 1024 <= self.memory_kib <= 1024 * 1024 and 2 <= self.passes <= 10 and 1 <= self.lanes <= 8
        if not within:
            raise OutOfBounds("Argon2id outside 19 MiB..1 GiB, 2..10 passes, 1..8 lanes")


DEFAULT_COST: Final = Argon2Cost()  # RFC 9106 section 4, second recommended option
# Four times the memory of the default, for whoever waits that long: each guess needs four times the memory as well.
HIGH_COST: Final = Argon2Cost(memory_kib=256 * 1024)


@dataclass(frozen=True, slots=True)
class Stretching:
    """How one password is stretched: the cost and a salt of 16 bytes."""

    cost: Argon2Cost
    salt: bytes

    @classmethod
    def fresh(cls, cost: Argon2Cost = DEFAULT_COST) -> Stretching:
        """Choose a new salt."""
        return cls(cost, secrets.token_bytes(SALT_SIZE))

    def to_map(self) -> dict[int, Encodable]:
        """Return {1: "argon2id", 2: 0x13, 3: memory in KiB, 4: passes, 5: lanes, 6: salt}."""
        kdf: dict[int, Encodable] = {1: ALGORITHM, 2: ARGON2_VERSION, 3: self.cost.memory_kib, 4: self.cost.passes}
        return {**kdf, 5: self.cost.lanes, 6: self.salt}

    @classmethod
    def from_map(cls, value: Value, what: str) -> Stretching:
        """Read the map; raises Malformed, and OutOfBounds for a cost outside the bounds."""
        kdf = Fields(value, what, range(1, 7))
        if kdf.text(1) != ALGORITHM or kdf.uint(2) != ARGON2_VERSION:
            raise Malformed(f"{what}: not Argon2id version 0x13")
        # Argon2Cost refuses here, while reading: no number of the server's reaches the hash function (FAULTS S7).
        return cls(Argon2Cost(kdf.uint(3), kdf.uint(4), kdf.uint(5)), kdf.octets(6, SALT_SIZE))

    def stretch(self, reading: SecretBytes) -> SecretBytes:
        """Return 32 bytes of Argon2id over one of a password's `readings`."""
        cost = self.cost
        argon2id = Argon2id(
            salt=self.salt,
            length=STRETCHED_SIZE,
            iterations=cost.passes,
            lanes=cost.lanes,
            memory_cost=cost.memory_kib,
        )
        return SecretBytes(argon2id.derive(reading.reveal()))


def canonical(password: SecretBytes) -> SecretBytes:
    """Return the form under which a password is stretched from now on, in UTF-8. Raises Unusable as `readings` does."""
    return readings(password)[0]


def readings(password: SecretBytes) -> tuple[SecretBytes, ...]:
    """Return the forms under which a password may have been stretched, in UTF-8: the canonical one, then the earlier.

    Canonical is `typed.password`. Before there was one, NFKC alone was taken: what such a password holds beside it,
    a byte order mark or a space at the end, is part of a door that exists. So a door is made for the first, and tried
    with each. For most there is one. Raises Unusable unless it is UTF-8 text of at most 1,024 characters.
    """
    try:
        text = password.reveal().decode()
    except UnicodeDecodeError:
        raise Unusable("a password is UTF-8 text") from None
    # Bounded before it is normalised too: that takes the square of how many combining marks stand in a row. One
    # character is typed as four at most.
    if len(text) > typed.MAX_TYPED:
        raise Unusable(_TOO_LONG)
    forms = dict.fromkeys((typed.password(text), unicodedata.normalize("NFKC", text)))
    if any(len(form) > MAX_PASSWORD for form in forms):
        raise Unusable(_TOO_LONG)
    return tuple(SecretBytes(form.encode()) for form in forms)


_TOO_LONG: Final = "a password has at most 1,024 characters"
