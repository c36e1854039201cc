# SPDX-License-Identifier: Apache-2.0
"""Shamir secret sharing of a short secret, byte by byte over GF(2^8).

Implements ESCROW "Deposit": field polynomial 0x11B, one random polynomial per byte, secret at x = 0, x_i = i
(`slip39` shares the arithmetic, with its points elsewhere).
Does not authenticate: a wrong share yields a wrong secret, so each is checked against its commitment first.
Specification: Shamir, "How to Share a Secret", https://doi.org/10.1145/359168.359176 section 2.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping

from holdfast.core.base.secret import SecretBytes

MAX_SHARES = 16  # 16 officers or contacts; SLIP-0039 has 4 bits for it
MIN_QUORUM = 2  # a quorum of one is no sharing: each share would be the secret itself
MAX_X = 255  # GF(2^8) has no more points; SLIP-0039 puts its secret at 255

# A byte string is handled as one integer, a byte to a lane, and only ever multiplied by a public number
# (an officer's index, or a Lagrange coefficient made of indices). Secrets therefore decide neither a branch
# nor a table index, and no multiplication table is needed.


def split(
    secret: SecretBytes, *, m: int, n: int, random: Callable[[int], bytes] = secrets.token_bytes
) -> dict[int, SecretBytes]:
    """Split `secret` into shares for indices 1..n, any m of which give it back and m-1 say nothing.

    secret: 1 byte or more; each share has its length. random(k): k uniform bytes, of which m-1 times the
    secret's length are taken. Raises ValueError unless 2 <= m <= n <= 16 (the caller's mistake).
    """
    if not MIN_QUORUM <= m <= n <= MAX_SHARES:
        raise ValueError("a secret is split with 2 <= m <= n <= 16")
    if not len(secret):
        raise ValueError("there is nothing to split")
    width = len(secret)
    coefficients = [int.from_bytes(secret.reveal(), "big")]
    coefficients += [int.from_bytes(_exactly(random(width), width), "big") for _ in range(m - 1)]
    # Index 0 is never given out: there stands the secret.
    shares: dict[int, SecretBytes] = {}
    for index in range(1, n + 1):
        value = 0
        # Horner's rule. XOR is both plus and minus in this field.
        for coefficient in reversed(coefficients):
            value = _times(value, index, width) ^ coefficient
        shares[index] = SecretBytes(value.to_bytes(width, "big"))
    return shares


def combine(shares: Mapping[int, SecretBytes]) -> SecretBytes:
    """Return the secret that exactly these shares interpolate to at x = 0.

    shares: 2 to 16 of them, by index 1..16, all of one length. With fewer than m, or a wrong one among them,
    the result is another value and nothing here notices: the caller compares a commitment.
    Raises ValueError on other numbers, indices or lengths (the caller's mistake: a parser has refused them).
    """
    if not MIN_QUORUM <= len(shares) <= MAX_SHARES or any(not 1 <= i <= MAX_SHARES for i in shares):
        raise ValueError("shares are 2 to 16, with indices 1..16")
    return interpolate(shares, at=0)


def interpolate(points: Mapping[int, SecretBytes], *, at: int) -> SecretBytes:
    """Return the value at `at` of the polynomial of least degree through `points`, byte by byte.

    points: values of one length, by x in 0..255; at: 0..255, which gives the point itself where it is one.
    Raises ValueError for other numbers or lengths (the caller's mistake).
    """
    if not all(0 <= x <= MAX_X for x in (at, *points)):
        raise ValueError("x is a byte")
    widths = {len(share) for share in points.values()}
    if len(widths) != 1 or 0 in widths:
        raise ValueError("shares of one secret have one length")
    if at in points:
        return points[at]
    width = widths.pop()
    value = 0
    for x, share in points.items():
        value ^= _times(int.from_bytes(share.reveal(), "big"), _weight(x, points, at), width)
    return SecretBytes(value.to_bytes(width, "big"))


def _weight(x: int, points: Mapping[int, SecretBytes], at: int) -> int:
    """The Lagrange coefficient of the point at x: the product of (at - other) / (x - other), where minus is XOR."""
    above, below = 1, 1
    for other in points:
        if other != x:
            above = _times(above, other ^ at, 1)
            below = _times(below, other ^ x, 1)
    return _times(above, _inverse(below), 1)


def _inverse(element: int) -> int:
    """The inverse of a public non-zero field element, as its 254th power (the group has order 255)."""
    result, square = 1, element
    for bit in range(8):
        # A branch on a public number: which bits 254 has is no secret.
        if 254 >> bit & 1:
            result = _times(result, square, 1)
        square = _times(square, square, 1)
    return result


def _times(lanes: int, public: int, width: int) -> int:
    """Multiply each of the `width` bytes of `lanes` by the public field element `public`, modulo 0x11B."""
    low_bits = int.from_bytes(b"\x01" * width, "big")
    result = 0
    while public:
        if public & 1:
            result ^= lanes
        # The top bit of every lane, shifted out and folded back as x^8 = x^4 + x^3 + x + 1 (0x1B): a product of lanes
        # and not a table look-up, whose place in the cache would tell the secret's bytes.
        carried = lanes >> 7 & low_bits
        lanes = (lanes ^ carried << 7) << 1 ^ carried * 0x1B
        public >>= 1
    return result


def _exactly(octets: bytes, width: int) -> bytes:
    if len(octets) != width:
        # Short coefficients would leave bytes of the secret in every share.
        raise ValueError("the source of randomness returned another length")
    return octets
