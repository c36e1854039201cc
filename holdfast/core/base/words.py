# SPDX-License-Identifier: Apache-2.0
"""The BIP-39 word lists, and eight words that two people can read to each other in place of a hash.

Implements the fingerprints of PROTOCOL section 2 on the English list.
Does not make recovery phrases: eight words carry 88 bits and no checksum. `phrase` makes them.
Word lists: https://github.com/bitcoin/bips/blob/master/bip-0039/bip-0039-wordlists.md.
"""

import functools
from collections.abc import Iterable
from typing import Final

from mnemonic import Mnemonic

from holdfast.core.base import typed

# 88 bits: a key of one's own with the words of a key that exists is a second preimage, some 2^88 tries. A collision
# takes 2^44, and gives two keys of one maker.
WORDS: Final = 8
_BITS_PER_WORD: Final = 11  # BIP-39 "Generating the mnemonic": 2,048 words


@functools.cache
def word_list(language: str) -> tuple[str, ...]:
    """Return the 2,048 words of a BIP-39 list, by the name that it has in `mnemonic`."""
    return tuple(Mnemonic(language).wordlist)


def eight_words(digest: bytes) -> tuple[str, ...]:
    """Return the words of the first 88 bits of `digest`, eleven bits a word, most significant first.

    digest: 32 bytes of SHA-256. Raises ValueError below 11 bytes (a caller's mistake).
    """
    if len(digest) < WORDS * _BITS_PER_WORD // 8:
        raise ValueError("a fingerprint needs 88 bits")
    bits = int.from_bytes(digest[:11], "big")
    english = word_list("english")
    return tuple(english[bits >> _BITS_PER_WORD * i & 2047] for i in reversed(range(WORDS)))


def as_typed(words: Iterable[str]) -> tuple[str, ...]:
    """Return words as `eight_words` has them from what a person typed, in one text or several. Raises Mistyped."""
    return tuple(word.casefold() for text in words for word in typed.words(text, "the words"))
