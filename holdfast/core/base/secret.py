# SPDX-License-Identifier: Apache-2.0
"""The type of every secret byte string.

Implements FAULTS Z1: a secret prints its length only, and `.reveal()` is the single way out.
Does not wipe memory: CPython copies freely, so what must never be in memory belongs in the HSM.
"""

import hmac
from typing import NoReturn


class SecretBytes:
    """Holds a secret of any length; compares in constant time; refuses to be printed, hashed or stored.

    Raises TypeError when made from anything but bytes, and for every implicit way out (a caller's mistake).
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        if not isinstance(value, bytes):
            # bytes(5) would be five zero bytes: a key nobody chose.
            raise TypeError("a secret is made from bytes")
        self._value = value

    def reveal(self) -> bytes:
        """Return the secret itself. Every caller of this is on the security review list."""
        return self._value

    def __len__(self) -> int:
        return len(self._value)

    def __eq__(self, other: object) -> bool:
        """Compare with another secret in time that depends on the lengths only."""
        if not isinstance(other, SecretBytes):
            # Comparing with plain bytes would invite plain bytes to be kept around for it.
            return NotImplemented
        return hmac.compare_digest(self._value, other._value)

    def __repr__(self) -> str:
        return f"<SecretBytes of {len(self._value)} bytes>"

    __str__ = __repr__

    def __format__(self, spec: str) -> NoReturn:
        raise TypeError("a secret is not formatted")

    def __hash__(self) -> NoReturn:
        # A hash would put the secret into dictionaries, where look-ups are not constant in time.
        raise TypeError("a secret is not hashable")

    def __bytes__(self) -> NoReturn:
        raise TypeError("a secret leaves through reveal() only")

    def __iter__(self) -> NoReturn:
        raise TypeError("a secret is not iterated")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        # Answers pickle, copy and deepcopy alike.
        raise TypeError("a secret is not pickled or copied")


class HoldsSecrets:
    """An object with secrets in plain bytes: refuses each implicit way out, as SecretBytes does for one value."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    __str__ = __repr__

    def __format__(self, spec: str) -> NoReturn:
        raise TypeError("what holds secrets is not formatted")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        # Answers pickle, copy and deepcopy alike. A copied ratchet would use each of its keys twice.
        raise TypeError("what holds secrets is not pickled or copied")
