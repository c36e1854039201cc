# SPDX-License-Identifier: Apache-2.0
"""Recovery phrases: 32 bytes as 24 words, in any of the BIP-39 languages.

Implements BIP-39 ("Generating the mnemonic" and its word lists) and PROTOCOL section 6 "Phrase door".
Does not make BIP-39 seeds: the entropy itself is what opens a door.
Specification: https://github.com/bitcoin/bips/blob/master/bip-0039.mediawiki ("Generating the mnemonic").
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import re
import secrets
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from holdfast.core.base import typed
from holdfast.core.base.errors import Mistyped
from holdfast.core.base.secret import SecretBytes
from holdfast.core.base.words import word_list

# BIP-39's longest phrase. It opens the vault and signs rotations, and whoever copies the door guesses at it for ever:
# 256 bits stay out of reach also where 128 might not (Grover).
WORDS: Final = 24
ENTROPY_SIZE: Final = 32  # bytes, BIP-39's ENT = 256 bits
_BITS_PER_WORD: Final = 11  # 2,048 words
_CHECKSUM_BITS: Final = 8  # BIP-39: ENT / 32. One wrong phrase in 256 passes, and then does not open
# Four letters tell the words of most BIP-39 lists apart, and steel plates have room for no more. Where they do not
# (Korean, Turkish, two words of Russian), only the whole word is taken.
_ABBREVIATED: Final = 4
_WHAT: Final = "recovery phrase"
_HAN: Final = re.compile("[\u4e00-\u9fff]+")


class Language(StrEnum):
    """The word lists, by the names that they have in `mnemonic`; a door stores one of them."""

    ENGLISH = "english"
    CHINESE_SIMPLIFIED = "chinese_simplified"
    CHINESE_TRADITIONAL = "chinese_traditional"
    CZECH = "czech"
    FRENCH = "french"
    ITALIAN = "italian"
    JAPANESE = "japanese"
    KOREAN = "korean"
    PORTUGUESE = "portuguese"
    RUSSIAN = "russian"
    SPANISH = "spanish"
    TURKISH = "turkish"


class PhraseError(Mistyped):
    """The words are no recovery phrase. Messages never contain a word: they end up in logs."""


class UnknownWord(PhraseError):
    """A word of no list. position: 1..24; language: the list that fits the other words best.

    nearest: the word of that list which looks most like it, or None. It is for the person's own screen: nearly
    a word of their phrase, it is as secret as that.
    """

    def __init__(self, position: int, language: Language, nearest: str | None) -> None:
        super().__init__(f"word {position} is not in the {language.replace('_', ' ')} word list")
        self.position = position
        self.language = language
        self.nearest = nearest


class WrongWordCount(PhraseError):
    """Not 24 words. count: how many there are. unknown: the first that is in no list, where there is one."""

    def __init__(self, count: int, unknown: UnknownWord | None = None) -> None:
        place = f"; {unknown}" if unknown else ""
        super().__init__(f"a recovery phrase has {WORDS} words, and this has {count}{place}")
        self.count = count
        self.unknown = unknown


class WrongChecksum(PhraseError):
    """All words exist, yet not in this order: one was taken for another, or two changed places."""

    def __init__(self) -> None:
        super().__init__("the words do not belong together: one is another word of the list, or their order is wrong")


class AmbiguousLanguage(PhraseError):
    """The words are a phrase in several languages, with different meanings: ask which, and say so in `parse`."""

    def __init__(self, languages: tuple[Language, ...]) -> None:
        super().__init__(f"the words are a phrase in more than one language: {', '.join(languages)}")
        self.languages = languages


class NotConfirmed(PhraseError):
    """Words asked back were not the phrase's. positions: which of them, ascending."""

    def __init__(self, positions: tuple[int, ...]) -> None:
        super().__init__(f"not the words of this phrase: {', '.join(map(str, positions))}")
        self.positions = positions


@dataclass(frozen=True, slots=True)
class Phrase:
    """A recovery phrase. entropy: its 32 bytes, which alone matter to a door; language: how they are written."""

    entropy: SecretBytes
    language: Language = Language.ENGLISH

    def __post_init__(self) -> None:
        if len(self.entropy) != ENTROPY_SIZE:
            # 12 words are 128 bits, for which a phrase that opens everything is no place.
            raise ValueError("the entropy of a phrase is 32 bytes")

    @classmethod
    def generate(cls, language: Language = Language.ENGLISH) -> Phrase:
        """Make a phrase from the system's randomness."""
        return cls(SecretBytes(secrets.token_bytes(ENTROPY_SIZE)), language)

    @classmethod
    def parse(cls, text: SecretBytes, *, language: Language | None = None) -> Phrase:
        """Read 24 words as a person writes them, by `typed.words`: numbered or not, any capitals, no accents.

        A word may be cut to its first four letters where they tell it apart. Without `language` every list is
        tried, and the checksum decides between those that have all the words. Raises WrongWordCount,
        UnknownWord, WrongChecksum or AmbiguousLanguage, each a PhraseError; Mistyped for what is no such text.
        """
        tokens = [_fold(word) for word in words_in(typed.text_of(text.reveal(), _WHAT))]
        asked = tuple(Language) if language is None else (language,)
        # The count comes first: of a phrase cut short it would otherwise be said that a word is wrong.
        if len(tokens) != WORDS:
            raise WrongWordCount(len(tokens), _unknown_word(tokens, asked))
        readings = {candidate: read for candidate in asked if (read := _indices(tokens, candidate)) is not None}
        unknown = _unknown_word(tokens, asked) if not readings else None
        if unknown is not None:
            raise unknown
        found = [
            cls(entropy, candidate) for candidate, read in readings.items() if (entropy := _entropy(read)) is not None
        ]
        if not found:
            raise WrongChecksum
        # English and French share 100 words: never guess which phrase is meant. The Chinese lists share more than half,
        # under the same numbers; one entropy in two languages is no doubt, since the entropy alone opens the door.
        if any(phrase.entropy != found[0].entropy for phrase in found):
            raise AmbiguousLanguage(tuple(phrase.language for phrase in found))
        return found[0]

    def words(self) -> tuple[str, ...]:
        """Return the 24 words, for the person's own screen."""
        entropy = self.entropy.reveal()
        bits = int.from_bytes(entropy + hashlib.sha256(entropy).digest()[:1], "big")
        listed = word_list(self.language)
        return tuple(listed[bits >> _BITS_PER_WORD * i & 2047] for i in reversed(range(WORDS)))

    def text(self) -> SecretBytes:
        """Return the words in UTF-8 on one line, parted as the language does it."""
        space = "\u3000" if self.language is Language.JAPANESE else " "
        return SecretBytes(space.join(self.words()).encode())

    def confirm(self, answers: Mapping[int, str]) -> None:
        """Check words that a person was asked back, by position 1..24, before a phrase counts.

        Raises NotConfirmed naming the positions that were wrong; ValueError when nothing was asked, or a
        position is not of the phrase (the caller's mistakes).
        """
        if not answers or not all(1 <= position <= WORDS for position in answers):
            raise ValueError("ask for words 1 to 24, and for one at least")
        words = self.words()
        wrong = [at for at, answer in answers.items() if self._index(answer) != self._index(words[at - 1])]
        if wrong:
            raise NotConfirmed(tuple(sorted(wrong)))

    def _index(self, word: str) -> int | None:
        found = typed.words(word, "a word of a recovery phrase")
        return _index_of(self.language).get(_fold(found[0])) if len(found) == 1 else None


def words_in(text: str) -> list[str]:
    """Return the words of a part of a phrase as a person writes it; none of them need be in a list. Raises Mistyped."""
    words = typed.words(text, _WHAT)
    # Chinese is written without spaces, and each word of its lists is one sign.
    return list("".join(words)) if all(_HAN.fullmatch(word) for word in words) else words


@functools.cache
def _index_of(language: Language) -> dict[str, int]:
    """Return what a person may type for each word of a list, folded: the word, or its first four letters."""
    full = {_fold(word): index for index, word in enumerate(word_list(language))}
    short: dict[str, list[int]] = {}
    for word, index in full.items():
        short.setdefault(word[:_ABBREVIATED], []).append(index)
    # A whole word wins over an abbreviation: Turkish has words of four letters that begin others.
    return {start: found[0] for start, found in short.items() if len(found) == 1} | full


def _fold(word: str) -> str:
    """Return what tells a word apart from the others of its list: no capitals, no marks, no dots on the i.

    Every list stays one of 2,048 different words; the French and the Spanish one are made for it, and Turkish
    capitals (I, İ) would otherwise depend on the keyboard that typed them.
    """
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", word).casefold())
    return "".join(sign for sign in plain if unicodedata.category(sign) != "Mn").replace("ı", "i")


def _indices(tokens: Iterable[str], language: Language) -> list[int] | None:
    index_of = _index_of(language)
    found = [index_of.get(token) for token in tokens]
    return [index for index in found if index is not None] if None not in found else None


def _entropy(indices: Iterable[int]) -> SecretBytes | None:
    bits = 0
    for index in indices:
        bits = bits << _BITS_PER_WORD | index
    # Not compared in constant time: eight bits that the person's own device makes of what was typed into it.
    entropy = (bits >> _CHECKSUM_BITS).to_bytes(ENTROPY_SIZE, "big")
    return SecretBytes(entropy) if hashlib.sha256(entropy).digest()[0] == bits & 0xFF else None


def _unknown_word(tokens: Sequence[str], languages: Iterable[Language]) -> UnknownWord | None:
    """Name the first word that is not in the list that has most of them; None when all are."""
    language = max(languages, key=lambda candidate: sum(token in _index_of(candidate) for token in tokens))
    index_of = _index_of(language)
    found = next(((at, token) for at, token in enumerate(tokens, 1) if token not in index_of), None)
    if found is None:
        return None
    at, token = found
    # Slips of hand and ear leave a word's beginning or its end alone, and every word would be slow to go through.
    alike = [word for word in index_of if word[:1] == token[:1] or word[-1:] == token[-1:]]
    near = difflib.get_close_matches(token[:64], alike, n=1)
    return UnknownWord(at, language, word_list(language)[index_of[near[0]]] if near else None)
