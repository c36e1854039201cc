# SPDX-License-Identifier: Apache-2.0
"""Shares of a master secret, any k of which give it back: as words to write down, and as bytes to send.

Implements SLIP-0039 for one group of k-of-n members and secrets of 16 or 32 bytes.
Does not do groups of groups, and does not authenticate: the digest inside finds errors, commitments find liars.
Specification: https://github.com/satoshilabs/slips/blob/master/slip-0039.md ("Shamir's secret sharing").
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from holdfast.core.base import typed
from holdfast.core.base.errors import Malformed, Mistyped, OutOfBounds, QuorumNotMet, UnwrapFailed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.base.writing import read_back
from holdfast.core.crypto.shares import MAX_SHARES, MIN_QUORUM, interpolate
from holdfast.core.crypto.slip39_words import WORD_LIST

# The passphrase is empty, so that there is nothing for more iterations to slow down.
EXPONENT: Final = 0
MAX_EXPONENT: Final = 4  # 160,000 iterations of PBKDF2, a fraction of a second
SIZES: Final = (16, 32)  # bytes: the 20 and 33 words of SLIP-0039; nothing here makes its other lengths
# SLIP-0039 "Shamir's secret sharing": members have x = 0..15, so neither point is ever anybody's share.
_SECRET_AT, _DIGEST_AT = 255, 254
_DIGEST_SIZE: Final = 4  # bytes: SLIP-0039, finds a wrong share in all but 1 of 2^32 cases
# SLIP-0039 "Encryption of the master secret": four Feistel rounds, 10,000 iterations in all at exponent 0.
_ROUNDS: Final = range(4)
_ITERATIONS_A_ROUND: Final = 2500  # doubled by each step of the exponent
_WORD_BITS: Final = 10  # 1,024 words
_HEAD_BITS: Final = 40  # identifier 15, extendable 1, exponent 4; then five numbers of 4 bits
_CHECKSUM_BITS: Final = 30  # three words of RS1024: finds any 3 wrong words, others but for 1 in 10^9
# A word count fixes the secret's size: 4 words of head, 13 or 26 of value (padded in front), 3 of checksum.
_WORDS_OF: Final = {16: 20, 32: 33}
# Other lengths are valid SLIP-0039 and made by nobody here: a word lost or doubled is told at once.
_SIZE_OF: Final = {words: size for size, words in _WORDS_OF.items()}
_ONE_GROUP: Final = 0  # group index 0, group threshold 1 and group count 1, the latter two less one


@dataclass(frozen=True, slots=True)
class Share:
    """One member's share.

    identifier: 15 bits, the same in a set; exponent: of the iterations; index: 0..15, the share's x;
    threshold: k; value: 16 or 32 bytes. extendable: shares may be added to the set, of which ours always say so.
    """

    identifier: int
    extendable: bool
    exponent: int
    index: int
    threshold: int
    value: SecretBytes

    def mnemonic(self) -> SecretBytes:
        """Return the share as 20 or 33 words, in UTF-8 on one line."""
        return SecretBytes(" ".join(WORD_LIST[number] for number in self._numbers()).encode())

    @read_back("from_bytes")
    def to_bytes(self) -> SecretBytes:
        """Return the share as the number that its words write, big-endian: 25 or 42 bytes, checksum included."""
        numbers = self._numbers()
        bits = functools.reduce(lambda above, number: above << _WORD_BITS | number, numbers, 0)
        return SecretBytes(bits.to_bytes(_octets(len(numbers)), "big"))

    @classmethod
    def parse(cls, mnemonic: SecretBytes) -> Share:
        """Read a share as a person writes it, by `typed.words`; letters after the fourth do not matter.

        Raises Mistyped for a word of no list; Malformed for another number of words, a wrong checksum, and several
        groups; OutOfBounds for an exponent above 4.
        """
        words = [word.casefold() for word in typed.words(typed.text_of(mnemonic.reveal(), "share"), "share")]
        numbers = [_number_of(word) for word in words]
        if None in numbers:
            raise Mistyped(f"share: word {numbers.index(None) + 1} is not in the word list")
        return cls._of([number for number in numbers if number is not None])

    @classmethod
    def from_bytes(cls, octets: SecretBytes) -> Share:
        """Undo to_bytes(). Raises Malformed and OutOfBounds as parse() does."""
        # 330 bits in 42 bytes leave six: if they were free, one share would have 64 encodings and as many commitments.
        count = len(octets) * 8 // _WORD_BITS
        bits = int.from_bytes(octets.reveal(), "big")
        if count not in _SIZE_OF or len(octets) != _octets(count) or bits >> _WORD_BITS * count:
            raise Malformed("share: not 25 or 42 bytes, or stray bits before it")
        return cls._of([bits >> _WORD_BITS * i & 1023 for i in reversed(range(count))])

    def _numbers(self) -> list[int]:
        head = self.identifier << 1 | self.extendable
        head = head << 4 | self.exponent
        for number in (_ONE_GROUP, _ONE_GROUP, _ONE_GROUP, self.index, self.threshold - 1):
            head = head << 4 | number
        words = _WORDS_OF[len(self.value)]
        bits = head << _WORD_BITS * words - _HEAD_BITS - _CHECKSUM_BITS | int.from_bytes(self.value.reveal(), "big")
        numbers = [bits >> _WORD_BITS * i & 1023 for i in reversed(range(words - 3))]
        # The checksum is what makes the polynomial of the whole share 1, hence the zeros and the XOR.
        checksum = _rs1024([*numbers, 0, 0, 0], extendable=self.extendable) ^ 1
        return [*numbers, checksum >> 20, checksum >> 10 & 1023, checksum & 1023]

    @classmethod
    def _of(cls, numbers: Sequence[int]) -> Share:
        if len(numbers) not in _SIZE_OF:
            raise Malformed(f"share: {len(numbers)} words, where a share has 20 or 33")
        bits = functools.reduce(lambda above, number: above << _WORD_BITS | number, numbers[:-3], 0)
        value_bits = _WORD_BITS * (len(numbers) - 3) - _HEAD_BITS
        head, value = bits >> value_bits, bits & (1 << value_bits) - 1
        extendable = bool(head >> 24 & 1)
        # Before any field: a slip of the pen must not be told as "of several groups", which sends people the wrong way.
        if _rs1024(numbers, extendable=extendable) != 1:
            raise Malformed("share: the checksum is wrong, so that a word is wrong or out of place")
        if head >> 8 & 0xFFF != _ONE_GROUP:
            raise Malformed("share: of several groups, which are not used here")
        size = _SIZE_OF[len(numbers)]
        if value >> 8 * size:
            raise Malformed("share: the padding is not zero")
        # The exponent is the giver's own number: at 15, one share would keep the device busy for over a minute.
        if head >> 20 & 15 > MAX_EXPONENT:
            raise OutOfBounds("share: asks for more iterations than this reads")
        return cls(
            identifier=head >> 25,
            extendable=extendable,
            exponent=head >> 20 & 15,
            index=head >> 4 & 15,
            threshold=(head & 15) + 1,
            value=SecretBytes(value.to_bytes(size, "big")),
        )


def split(
    secret: SecretBytes, *, k: int, n: int, random: Callable[[int], bytes] = secrets.token_bytes
) -> tuple[Share, ...]:
    """Split a master secret of 16 or 32 bytes into n shares, any k of which give it back.

    random(size): uniform bytes. Raises ValueError unless 2 <= k <= n <= 16, and for another size (the caller's
    mistakes). SLIP-0039 "Shamir's secret sharing" (Split) and "Encryption of the master secret".
    """
    if not MIN_QUORUM <= k <= n <= MAX_SHARES:
        raise ValueError("a secret is split with 2 <= k <= n <= 16")
    if len(secret) not in SIZES:
        raise ValueError("a master secret is 16 or 32 bytes")
    # Random, and in the open: it tells sets apart, so that shares of an old set are not mixed into a new one.
    identifier = int.from_bytes(random(2), "big") >> 1
    # Encrypted also without a passphrase: SLIP-0039 shares the encrypted master secret, and other tools expect it.
    encrypted = _feistel(secret, _ROUNDS, b"", EXPONENT, salt=_salt(identifier, extendable=True))
    # k points fix the polynomial: k - 2 random ones, which are the first shares, the digest and the secret.
    points = {x: SecretBytes(random(len(secret))) for x in range(k - 2)}
    points[_DIGEST_AT] = _digest_point(encrypted, random(len(secret) - _DIGEST_SIZE))
    points[_SECRET_AT] = encrypted
    return tuple(Share(identifier, True, EXPONENT, x, k, interpolate(points, at=x)) for x in range(n))


def combine(shares: Iterable[Share], *, passphrase: bytes = b"") -> SecretBytes:
    """Return the master secret of k shares or more, all of one set.

    passphrase: printable ASCII, of which ours have none; a wrong one gives another secret, unnoticed (SLIP-0039).
    Raises Malformed for shares of different sets and for one given twice; QuorumNotMet for fewer than k;
    UnwrapFailed when the digest inside is wrong, so that a share is.
    """
    shares = list(shares)
    sets = {(share.identifier, share.extendable, share.exponent, share.threshold, len(share.value)) for share in shares}
    points = {share.index: share.value for share in shares}
    # Before any arithmetic: points of two polynomials give a third, and the digest would blame the wrong cause.
    if len(sets) > 1:
        raise Malformed("shares of different sets do not go together")
    # Two values at one x: one of them is false, and taking the last would let a liar replace an honest share.
    if len(points) != len(shares):
        raise Malformed("one share is there twice, or two claim one place")
    if not shares or len(shares) < max(MIN_QUORUM, shares[0].threshold):
        raise QuorumNotMet(f"{len(shares)} shares are too few")
    encrypted = interpolate(points, at=_SECRET_AT)
    point = interpolate(points, at=_DIGEST_AT)
    # The digest's key stands beside it: the four bytes say that the shares belong together, and nothing more.
    # SecretBytes compares in constant time, as for all that a secret made (FAULTS Z6).
    if point != _digest_point(encrypted, point.reveal()[_DIGEST_SIZE:]):
        raise UnwrapFailed("the shares do not add up: one of them is wrong")
    first = shares[0]
    salt = _salt(first.identifier, extendable=first.extendable)
    return _feistel(encrypted, reversed(_ROUNDS), passphrase, first.exponent, salt=salt)


def _digest_point(secret: SecretBytes, key: bytes) -> SecretBytes:
    return SecretBytes(hmac.digest(key, secret.reveal(), "sha256")[:_DIGEST_SIZE] + key)


def _feistel(data: SecretBytes, rounds: Iterable[int], passphrase: bytes, exponent: int, *, salt: bytes) -> SecretBytes:
    """Encrypt (rounds ascending) or decrypt (descending) with the four rounds of PBKDF2-HMAC-SHA256."""
    half = len(data) // 2
    left, right = data.reveal()[:half], data.reveal()[half:]
    for number in rounds:
        # SLIP-0039: the round's number leads the passphrase, the other half ends the salt.
        mask = hashlib.pbkdf2_hmac(
            "sha256", bytes((number,)) + passphrase, salt + right, _ITERATIONS_A_ROUND << exponent, half
        )
        left, right = right, bytes(a ^ b for a, b in zip(left, mask, strict=True))
    return SecretBytes(right + left)


def _salt(identifier: int, *, extendable: bool) -> bytes:
    # A set that may be extended has the same secret under every identifier, which the salt must then not hold.
    return b"" if extendable else b"shamir" + identifier.to_bytes(2, "big")


def _octets(words: int) -> int:
    return -(-_WORD_BITS * words // 8)


@functools.cache
def _numbers_by_start() -> dict[str, int]:
    return {word[:4]: number for number, word in enumerate(WORD_LIST)}


def _number_of(word: str) -> int | None:
    number = _numbers_by_start().get(word[:4])
    return number if number is not None and WORD_LIST[number].startswith(word) else None


# SLIP-0039 "Checksum": GEN of its rs1024_polymod.
_GENERATOR: Final = (
    0xE0E040, 0x1C1C080, 0x3838100, 0x7070200, 0xE0E0009, 0x1C0C2412, 0x38086C24, 0x3090FC48, 0x21B1F890, 0x3F3F120,
)  # fmt: skip


def _rs1024(numbers: Iterable[int], *, extendable: bool) -> int:
    """The checksum polynomial of SLIP-0039 over GF(1024), by products instead of branches: the words are secret."""
    remainder = 1
    for number in (*(b"shamir_extendable" if extendable else b"shamir"), *numbers):
        top = remainder >> 20
        remainder = (remainder & 0xFFFFF) << 10 ^ number
        for bit, term in enumerate(_GENERATOR):
            remainder ^= term * (top >> bit & 1)
    return remainder
