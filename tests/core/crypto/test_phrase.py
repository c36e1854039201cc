# SPDX-License-Identifier: Apache-2.0
"""Recovery phrases: the published vectors, `mnemonic` as oracle, and whatever a person may type."""

import itertools
import json
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Literal, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mnemonic import Mnemonic

from holdfast.core.base.errors import Malformed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto import phrase as phrases
from holdfast.core.crypto.phrase import (
    AmbiguousLanguage,
    Language,
    NotConfirmed,
    Phrase,
    PhraseError,
    UnknownWord,
    WrongChecksum,
    WrongWordCount,
)

VECTORS = Path(__file__).parents[2] / "vectors/bip39"
LANGUAGES = tuple(Language)
Form: TypeAlias = Literal["NFC", "NFD", "NFKC", "NFKD"]
FORMS: tuple[Form, ...] = ("NFC", "NFD", "NFKC", "NFKD")
SPACES = ["\t", "\n", "\r\n", " ", "\u00a0", "\u1680", "\u2003", "\u2009", "\u2028", "\u202f", "\u205f", "\u3000"]
entropies = st.binary(min_size=32, max_size=32).map(SecretBytes)


def parse(text: str, language: Language | None = None) -> Phrase:
    return Phrase.parse(SecretBytes(text.encode()), language=language)


def read(phrase: Phrase) -> str:
    return phrase.text().reveal().decode()


def trezor() -> list[tuple[Language, SecretBytes, str]]:
    cases = json.loads((VECTORS / "trezor-vectors.json").read_text())
    return [
        (Language(name), SecretBytes(bytes.fromhex(row[0])), row[1]) for name, rows in cases.items() for row in rows
    ]


def japanese() -> list[tuple[SecretBytes, str]]:
    cases = json.loads((VECTORS / "test_JP_BIP39.json").read_text())
    return [(SecretBytes(bytes.fromhex(case["entropy"])), case["mnemonic"]) for case in cases]


def test_languages_are_those_of_the_oracle() -> None:
    assert {language.value for language in Language} == set(Mnemonic.list_languages())


def test_words_agree_with_the_published_vectors_in_every_language() -> None:
    whole = 0
    for language, entropy, text in trezor():
        if len(entropy) == 32:
            phrase = Phrase(entropy, language)
            assert unicodedata.normalize("NFKD", read(phrase)) == unicodedata.normalize("NFKD", text)
            assert parse(text).entropy == entropy
            assert parse(text, language) == phrase
            whole += 1
        else:
            with pytest.raises(WrongWordCount, match=r"24 words, and this has 1[28]"):
                parse(text)
            with pytest.raises(ValueError, match="32 bytes"):
                Phrase(entropy, language)
    assert whole == 56


def test_japanese_phrases_are_read_in_every_normal_form_and_with_either_space() -> None:
    whole = 0
    for entropy, text in japanese():
        if len(entropy) != 32:
            continue
        assert "\u3000" in text
        for form, space in itertools.product(FORMS, (" ", "\u3000")):
            written = space.join(unicodedata.normalize(form, text).split())
            assert parse(written) == Phrase(entropy, Language.JAPANESE)
        assert read(Phrase(entropy, Language.JAPANESE)) == unicodedata.normalize("NFKD", text).replace(" ", "\u3000")
        whole += 1
    assert whole == 8


@settings(deadline=None)
@given(entropies, st.sampled_from(LANGUAGES))
def test_words_agree_with_the_oracle(entropy: SecretBytes, language: Language) -> None:
    text = Mnemonic(language.value).to_mnemonic(entropy.reveal())
    assert read(Phrase(entropy, language)) == text
    assert Phrase(entropy, language).words() == tuple(text.split())
    assert parse(text, language) == Phrase(entropy, language)


@settings(deadline=None)
@given(
    entropies,
    st.sampled_from(LANGUAGES),
    st.sampled_from(FORMS),
    st.sampled_from([str.upper, str.lower, str.title, str.swapcase]),
    st.lists(st.lists(st.sampled_from(SPACES), min_size=1, max_size=3).map("".join), min_size=26, max_size=26),
)
def test_parse_takes_any_normal_form_case_and_white_space(
    entropy: SecretBytes, language: Language, form: Form, case: object, spaces: list[str]
) -> None:
    assert callable(case)
    words = [case(unicodedata.normalize(form, word)) for word in Phrase(entropy, language).words()]
    text = spaces[0] + "".join(word + space for word, space in zip(words, spaces[1:], strict=False))
    assert parse(text, language) == Phrase(entropy, language)
    assert parse(text).entropy == entropy


@pytest.mark.parametrize("language", [Language.FRENCH, Language.SPANISH, Language.ENGLISH, Language.CZECH])
def test_parse_takes_words_without_accents_and_their_first_four_letters(language: Language) -> None:
    for _ in range(20):
        phrase = Phrase.generate(language)
        plain = [
            "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c))
            for word in phrase.words()
        ]
        assert parse(" ".join(plain), language) == phrase
        assert parse(" ".join(word[:4] for word in plain), language) == phrase


def test_parse_takes_turkish_capitals_of_either_keyboard() -> None:
    # The first word of a phrase is the first eleven bits of its entropy.
    index = Mnemonic("turkish").wordlist.index("akıl")
    phrase = Phrase(SecretBytes((index << 245).to_bytes(32, "big")), Language.TURKISH)
    assert phrase.words()[0] == "akıl"
    for capital in ("AKIL", "AKİL", "Akıl", "akil"):
        assert parse(" ".join((capital, *phrase.words()[1:])), Language.TURKISH) == phrase


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_list_stays_one_of_2048_words_when_folded(language: Language) -> None:
    words = Mnemonic(language.value).wordlist
    index_of = phrases._index_of(language)
    assert [index_of[phrases._fold(word)] for word in words] == list(range(2048))


def test_no_abbreviation_stands_for_another_word() -> None:
    for language in LANGUAGES:
        folded = [phrases._fold(word) for word in Mnemonic(language.value).wordlist]
        starts = Counter(word[:4] for word in folded)
        for typed, index in phrases._index_of(language).items():
            assert typed == folded[index] or (typed == folded[index][:4] and starts[typed] == 1)


# Each word of these stands in the English list and in the French one, in different places.
ENGLISH_ONLY = (
    "essence romance label effort cycle stable cycle machine notable brave position salon "
    "cycle essence dragon orange notable cruel intact bonus badge surprise essence phrase"
)
FRENCH_ONLY = (
    "surface phrase dragon dragon stable muscle concert impact romance relief unique fragile "
    "distance abandon vital source train usage phrase humble loyal public machine minute"
)
BOTH = (
    "caution rival piano muscle prison digital train bicycle stable amateur minute source "
    "globe spatial digital orange position position noble volume tunnel talent public cycle"
)


@pytest.mark.parametrize(
    ("text", "one", "other"),
    [(ENGLISH_ONLY, Language.ENGLISH, Language.FRENCH), (FRENCH_ONLY, Language.FRENCH, Language.ENGLISH)],
)
def test_checksum_decides_between_languages_that_share_all_the_words(text: str, one: Language, other: Language) -> None:
    assert Mnemonic(one.value).check(text)
    assert parse(text).language is one
    with pytest.raises(WrongChecksum):
        parse(text, other)


def test_a_phrase_of_two_languages_asks_which() -> None:
    pair = (Language.ENGLISH, Language.FRENCH)
    assert all(Mnemonic(language.value).check(BOTH) for language in pair)
    with pytest.raises(AmbiguousLanguage) as refused:
        parse(BOTH)
    assert refused.value.languages == pair
    assert parse(BOTH, pair[0]).entropy != parse(BOTH, pair[1]).entropy


def test_a_chinese_phrase_means_the_same_in_both_scripts() -> None:
    # Characters that the two lists share have one number in both: which list it was does not matter.
    simplified, traditional = (Mnemonic(f"chinese_{script}").wordlist for script in ("simplified", "traditional"))
    numbers = {character: number for number, character in enumerate(traditional)}
    shared = [(numbers[one], number) for number, one in enumerate(simplified) if one in numbers]
    assert len(shared) == 1275
    assert all(one == other for one, other in shared)
    text = read(Phrase(SecretBytes(bytes(32)), Language.CHINESE_TRADITIONAL))
    assert parse(text).entropy == parse(text, Language.CHINESE_TRADITIONAL).entropy


@pytest.mark.parametrize("count", [0, 1, 12, 15, 18, 21, 23, 25, 48])
def test_parse_refuses_another_number_of_words(count: int) -> None:
    with pytest.raises(WrongWordCount) as refused:
        parse(" ".join(["abandon"] * count))
    assert refused.value.count == count


@pytest.mark.parametrize(
    ("position", "typed", "nearest"), [(1, "abandom", "abandon"), (7, "zebbra", "zebra"), (24, "xq", None)]
)
def test_parse_names_the_unknown_word_by_its_place_and_hints_at_the_nearest(
    position: int, typed: str, nearest: str | None
) -> None:
    words = list(Phrase(SecretBytes(bytes(32))).words())
    words[position - 1] = typed
    with pytest.raises(UnknownWord) as refused:
        parse(" ".join(words))
    assert (refused.value.position, refused.value.language) == (position, Language.ENGLISH)
    assert refused.value.nearest == nearest
    # Errors are logged; what a person typed, and what they nearly typed, must not be.
    assert typed not in str(refused.value)
    assert nearest is None or nearest not in str(refused.value)
    assert f"word {position} " in str(refused.value)


@pytest.mark.parametrize("typed", ["\u0301", "\ua929", "\u3099\u0301"])
def test_parse_refuses_a_word_of_combining_marks_alone(typed: str) -> None:
    # Found by the fuzzer: folded, nothing is left of such a word.
    words = list(Phrase(SecretBytes(bytes(32))).words())
    words[20] = typed
    with pytest.raises(UnknownWord) as refused:
        parse(" ".join(words))
    assert (refused.value.position, refused.value.nearest) == (21, None)


def test_parse_refuses_two_words_in_each_others_place() -> None:
    words = list(Phrase.generate().words())
    for _ in range(50):
        words[3], words[17] = words[17], words[3]
        if words[3] != words[17] and not Mnemonic("english").check(" ".join(words)):
            break
        words = list(Phrase.generate().words())
    with pytest.raises(WrongChecksum):
        parse(" ".join(words))


@settings(deadline=None)
@given(st.text(max_size=300) | st.lists(st.sampled_from(Mnemonic("english").wordlist), max_size=30).map(" ".join))
def test_any_text_is_a_phrase_or_refused(text: str) -> None:
    try:
        phrase = parse(text)
    except PhraseError:
        return
    assert Mnemonic(phrase.language.value).check(read(phrase).replace("\u3000", " "))


def test_parse_refuses_what_is_not_text() -> None:
    with pytest.raises(Malformed, match="UTF-8"):
        Phrase.parse(SecretBytes(b"\xff" * 40))


def test_generated_phrases_are_never_the_same() -> None:
    assert len({Phrase.generate().entropy.reveal() for _ in range(100)}) == 100


def test_a_phrase_prints_nothing_of_itself() -> None:
    phrase = Phrase.generate()
    assert not set(phrase.words()) & set(repr(phrase).replace("(", " ").replace("=", " ").split())


def test_confirm_takes_the_words_asked_back_and_names_the_wrong_ones() -> None:
    phrase = Phrase.generate()
    words = phrase.words()
    phrase.confirm({1: words[0], 13: f" {words[12].upper()} ", 24: words[23][:4]})
    for wrong in ("", "zoom" if words[4] != "zoom" else "zoo", "no word"):
        with pytest.raises(NotConfirmed) as refused:
            phrase.confirm({20: wrong, 1: words[0], 5: wrong})
        assert set(refused.value.positions) <= {5, 20}
        assert 5 in refused.value.positions
        assert words[4] not in str(refused.value)


@pytest.mark.parametrize("answers", [{}, {0: "abandon"}, {25: "abandon"}, {-1: "abandon"}])
def test_confirm_refuses_to_ask_for_nothing_or_for_a_word_there_is_not(answers: dict[int, str]) -> None:
    with pytest.raises(ValueError, match="words 1 to 24"):
        Phrase.generate().confirm(answers)
