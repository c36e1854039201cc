# SPDX-License-Identifier: Apache-2.0
"""Secrets, codes, words and digits in the spellings in which files, mails, PDFs, chats and keyboards deliver them."""

from __future__ import annotations

import itertools
import textwrap
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.base import typed
from holdfast.core.base.errors import Malformed, Mistyped, Unusable, UnwrapFailed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.base.words import as_typed, eight_words
from holdfast.core.crypto import slip39
from holdfast.core.crypto.phrase import Language, Phrase, UnknownWord, WrongWordCount
from holdfast.core.crypto.safety import six_groups
from holdfast.core.crypto.stretching import Stretching, canonical, readings
from holdfast.core.signed.enrolment import EnrolmentCode
from holdfast.core.vault import password_door
from holdfast.core.vault.door_blob import DoorHead, DoorOwner
from holdfast.core.vault.pairing import PairingRequest
from holdfast.core.vault.password_door import Argon2Cost, open_password_door, seal_password_door
from holdfast.core.vault.phrase_door import open_phrase_door, recovery_key, recovery_keys, seal_phrase_door
from tests.cast import statements as cast

PASSWORD = "Gr\u00f6\u00dfe n\u00e9e \ufb01anc\u00e9e 123456"
CODE = EnrolmentCode(b"t" * 16, b"p" * 16, SecretBytes(b"s" * 16), b"r" * 32, "acme+12345678+AAAA")
PAIRING = PairingRequest.new(cast.device_statement())
PHRASES = {language: Phrase(SecretBytes(bytes(range(32))), language) for language in Language}
SHARE = slip39.split(SecretBytes(bytes(range(32))), k=2, n=3)[0]
WORDS = eight_words(bytes(range(7, 39)))
GROUPS = six_groups(bytes(range(32)))
QUICK = Argon2Cost(19 * 1024, 2, 1)
OWNER = DoorOwner(b"t" * 16, b"u" * 16, 1)
KEY = SecretBytes(bytes(32))


def line_of(octets: bytes) -> str:
    return typed.text_of(typed.first_line(octets, "secret"), "secret")


# Each kind of secret: how it is written, and what is read of a file that holds it.
KINDS: dict[str, tuple[str, Callable[[bytes], object]]] = {
    "password": (PASSWORD, lambda octets: canonical(SecretBytes(line_of(octets).encode())).reveal()),
    "enrolment code": (CODE.text(), lambda octets: EnrolmentCode.parse(typed.text_of(octets, "code"))),
    "pairing code": (PAIRING.text(), lambda octets: PairingRequest.parse(typed.text_of(octets, "code"))),
    "phrase": (" ".join(PHRASES[Language.ENGLISH].words()), lambda octets: Phrase.parse(SecretBytes(octets)).entropy),
    "share": (SHARE.mnemonic().reveal().decode(), lambda octets: slip39.Share.parse(SecretBytes(octets))),
    "eight words": (" ".join(WORDS), lambda octets: as_typed([typed.text_of(octets, "words")])),
    "eight digits": ("12345678", lambda octets: typed.ungrouped(line_of(octets))),
    "safety number": (" ".join(GROUPS), lambda octets: typed.ungrouped(typed.text_of(octets, "number"))),
}

# What happens to any text on its way.
ON_THE_WAY: dict[str, Callable[[str], bytes]] = {
    "as it is": str.encode,
    "a line end": lambda text: f"{text}\n".encode(),
    "CRLF": lambda text: f"{text}\r\n".encode(),
    "CR": lambda text: f"{text}\r".encode(),
    "a blank line in front": lambda text: f"\n{text}\n".encode(),
    "blank lines around, CRLF": lambda text: f"\r\n \r\n{text}\r\n\r\n".encode(),
    "indented": lambda text: f"    {text}".encode(),
    "a tab in front": lambda text: f"\t{text}".encode(),
    "spaces at the end": lambda text: f"{text}  \n".encode(),
    "a byte order mark": lambda text: f"\ufeff{text}".encode(),
    "a byte order mark and CRLF": lambda text: f"\ufeff{text}\r\n".encode(),
    "UTF-16 as Windows writes it": lambda text: f"\ufeff{text}\r\n".encode("utf-16-le"),
    "UTF-16, big-endian": lambda text: f"\ufeff{text}\n".encode("utf-16-be"),
    "UTF-32": lambda text: f"\ufeff{text}\n".encode("utf-32-le"),
    "a zero-width space at the end": lambda text: f"{text}\u200b".encode(),
    "a zero-width space in front": lambda text: f"\u200b{text}".encode(),
    "a left-to-right mark in front": lambda text: f"\u200e{text}".encode(),
    "right-to-left marks around": lambda text: f"\u200f{text}\u200f".encode(),
    "isolated by a chat": lambda text: f"\u2068{text}\u2069".encode(),
    "an embedding around": lambda text: f"\u202a{text}\u202c".encode(),
    "a word joiner inside": lambda text: f"{text[:3]}\u2060{text[3:]}".encode(),
    "a soft hyphen inside": lambda text: f"{text[:3]}\u00ad{text[3:]}".encode(),
    "a soft hyphen at the end of a line": lambda text: f"{text[:3]}\u00ad\n{text[3:]}".encode(),
    "a variation selector at the end": lambda text: f"{text}\ufe0f".encode(),
    "a no-break space at the end": lambda text: f"{text}\u00a0".encode(),
    "no-break spaces": lambda text: text.replace(" ", "\u00a0").encode(),
    "an ideographic space in front": lambda text: f"\u3000{text}".encode(),
    "NFD": lambda text: unicodedata.normalize("NFD", text).encode(),
    "NFKC": lambda text: unicodedata.normalize("NFKC", text).encode(),
    "full-width signs": lambda text: "".join(
        chr(ord(sign) + 0xFEE0) if "!" <= sign <= "~" else sign for sign in text
    ).encode(),
}
# A password is one line, and the second part of one that was broken is not looked for.
OF_ONE_LINE = {"password", "eight digits"}
BROKEN = {"a soft hyphen at the end of a line"}


@pytest.mark.parametrize(
    ("kind", "spelling"),
    [(kind, way) for kind in KINDS for way in ON_THE_WAY if not (kind in OF_ONE_LINE and way in BROKEN)],
)
def test_every_secret_reads_the_same_in_every_spelling(kind: str, spelling: str) -> None:
    text, read = KINDS[kind]
    assert read(ON_THE_WAY[spelling](text)) == read(text.encode())


def quoted(text: str) -> str:
    return "".join(f"> {line}\n" for line in textwrap.wrap(text, 60, break_on_hyphens=False))


COPIED: dict[str, Callable[[str], str]] = {
    "wrapped at 76 columns": lambda text: "\n".join(textwrap.wrap(text, 76, break_on_hyphens=False)),
    "wrapped at 76 columns, CRLF": lambda text: "\r\n".join(textwrap.wrap(text, 76, break_on_hyphens=False)),
    "wrapped at 20 columns": lambda text: "\n".join(text[at : at + 20] for at in range(0, len(text), 20)),
    "wrapped and indented": lambda text: textwrap.indent("\n".join(textwrap.wrap(text, 60)), "        "),
    "quoted in an answer": quoted,
    "quoted-printable": lambda text: "=\r\n".join(text[at : at + 75] for at in range(0, len(text), 75)),
    "in quotes": lambda text: f"“{text}”",
    "in straight quotes": lambda text: f'"{text}"',
    "in angle brackets": lambda text: f"<{text}>",
    "in backticks": lambda text: f"`{text}`",
    "a full stop after it": lambda text: f"{text}.",
    "a comma after it": lambda text: f"{text},",
    "its name before it": lambda text: f"Your code: {text}",
    "its name on the line before": lambda text: f"The code\nof your device\n\n{text}\n",
    "Turkish capitals before it": lambda text: f"İYİ GÜNLER, İŞTE KODUNUZ: {text}",
    "signs that grow in small or capital letters before it": lambda text: f"ẞ ŉ ǰ ΐ ﬀ Ω İ̇: {text}",
    "a capital in front, as phones put it": lambda text: text[0].upper() + text[1:],
    "no-break hyphens": lambda text: text.replace("-", "\u2011"),
    "minus signs": lambda text: text.replace("-", "\u2212"),
    "two hyphens drawn together": lambda text: text.replace("--", "\u2014"),
    "zero-width spaces every ten signs": lambda text: "\u200b".join(
        text[at : at + 10] for at in range(0, len(text), 10)
    ),
    "in groups of five": lambda text: text[:4] + " ".join(text[at : at + 5] for at in range(4, len(text), 5)),
}


@pytest.mark.parametrize("copied", COPIED)
@pytest.mark.parametrize("kind", ["enrolment code", "pairing code"])
def test_code_reads_the_same_however_a_mail_program_left_it(kind: str, copied: str) -> None:
    text, read = KINDS[kind]
    assert read(COPIED[copied](text).encode()) == read(text.encode())


def test_enrolment_code_with_hyphens_reads_the_same_however_they_are_drawn() -> None:
    code = EnrolmentCode(b"\xfb\xef" * 8, b"\xfb\xef\xbe" * 5 + b"\xfb", SecretBytes(b"\xfb\xef\xbe" * 5 + b"\xff"))
    assert "--" in code.text()
    for spell in COPIED.values():
        assert EnrolmentCode.parse(spell(code.text())) == code


def is_slip(text: str) -> bool:
    """Tell whether a text is refused as a slip, before any of its fields is read."""
    try:
        EnrolmentCode.parse(text)
    except Mistyped:
        return True
    except Malformed:
        return False
    return False


@pytest.mark.parametrize("at", range(len(CODE.text())))
def test_enrolment_code_with_one_other_letter_is_a_slip_and_no_code(at: int) -> None:
    text = CODE.text()
    for other in ("A", "z", "7"):
        if text[at] == other or (at < 4 and text[at].lower() == other.lower()):
            continue
        assert is_slip(text[:at] + other + text[at + 1 :])


def test_enrolment_code_that_is_not_whole_or_has_more_is_a_slip() -> None:
    text = CODE.text()
    for cut in (text[:-1], text[:-2], text[:40], text[:4], text + "A", text + text, text[:50] + text[51:], ""):
        with pytest.raises(Mistyped):
            EnrolmentCode.parse(cut)
    swapped = text[:60] + text[61] + text[60] + text[62:]
    assert swapped != text
    with pytest.raises(Mistyped, match="copy it once more"):
        EnrolmentCode.parse(swapped)


def test_enrolment_code_of_an_earlier_version_asks_for_a_new_one_in_one_sentence() -> None:
    for text in ("hf1.AbCd", "\ufeffHF1.AbCd\r\n", "Your code: hf1.AbCd"):
        with pytest.raises(Mistyped) as caught:
            EnrolmentCode.parse(text)
        assert str(caught.value) == "this enrolment code is of an earlier version: ask for a new one"


LISTED: dict[str, Callable[[list[str]], str]] = {
    "1. word 2. word": lambda words: " ".join(f"{at}. {word}" for at, word in enumerate(words, 1)),
    "1.word": lambda words: " ".join(f"{at}.{word}" for at, word in enumerate(words, 1)),
    "1word": lambda words: " ".join(f"{at}{word}" for at, word in enumerate(words, 1)),
    "1) word on lines": lambda words: "\n".join(f"{at}) {word}" for at, word in enumerate(words, 1)),
    "(1) word": lambda words: "\r\n".join(f"({at}) {word}" for at, word in enumerate(words, 1)),
    "#1 word": lambda words: "\n".join(f"#{at}\t{word}" for at, word in enumerate(words, 1)),
    "1: word": lambda words: "; ".join(f"{at}: {word}" for at, word in enumerate(words, 1)),
    "1 - word": lambda words: "\n".join(f"{at} – {word}" for at, word in enumerate(words, 1)),
    "number and word on lines of their own": lambda words: "\n".join(f"{at}\n{word}" for at, word in enumerate(words)),
    "circled numbers": lambda words: " ".join(f"{chr(0x2460 + at % 20)} {word}" for at, word in enumerate(words)),
    "commas": ", ".join,
    "commas without spaces": ",".join,
    "ideographic commas": "、".join,
    "semicolons": "; ".join,
    "bullets": lambda words: "\n".join(f"• {word}" for word in words),
    "dashes in front": lambda words: "\n".join(f"- {word}" for word in words),
    "a full stop at the end": lambda words: " ".join(words) + ".",
    "in quotes": lambda words: f"„{' '.join(words)}“",
    "each in quotes": lambda words: " ".join(f'"{word}"' for word in words),
    "a table": lambda words: "\n".join(f"| {at} | {word} |" for at, word in enumerate(words, 1)),
    "zero-width spaces between": "\u200b".join,
    "zero-width spaces beside spaces": "\u200b ".join,
    "soft hyphens inside": lambda words: " ".join(word[:1] + "\u00ad" + word[1:] for word in words),
    "parted at the end of a line": lambda words: " ".join(word[:1] + "\u00ad\n  " + word[1:] for word in words),
    "a mark in front": lambda words: "\u200e" + " ".join(words),
    "one a line": "\n".join,
    "one a line, CRLF": "\r\n".join,
    "four to a line": lambda words: "\n".join(" ".join(words[at : at + 4]) for at in range(0, len(words), 4)),
    "capitals": lambda words: " ".join(words).upper(),
    "a capital to each": lambda words: " ".join(word.capitalize() for word in words),
}


@pytest.mark.parametrize("listed", LISTED)
@pytest.mark.parametrize("language", Language)
def test_phrase_of_every_language_reads_the_same_in_every_kind_of_list(language: Language, listed: str) -> None:
    phrase = PHRASES[language]
    written = LISTED[listed](list(phrase.words()))
    assert Phrase.parse(SecretBytes(written.encode()), language=language) == phrase


@pytest.mark.parametrize("listed", LISTED)
def test_words_of_a_share_and_words_that_are_heard_read_the_same_in_every_kind_of_list(listed: str) -> None:
    spell = LISTED[listed]
    assert as_typed([spell(list(WORDS))]) == WORDS
    words = SHARE.mnemonic().reveal().decode().split()
    assert slip39.Share.parse(SecretBytes(spell(words).encode())) == SHARE


@pytest.mark.parametrize("language", [Language.CHINESE_SIMPLIFIED, Language.CHINESE_TRADITIONAL])
def test_chinese_phrase_is_read_without_spaces(language: Language) -> None:
    phrase = PHRASES[language]
    assert Phrase.parse(SecretBytes("".join(phrase.words()).encode()), language=language) == phrase


def test_wrong_word_is_named_by_its_place_and_the_nearest_word_in_every_list() -> None:
    words = list(PHRASES[Language.ENGLISH].words())
    for place, listed in itertools.product((1, 7, 24), ("1. word 2. word", "commas", "one a line", "a table")):
        wrong = [*words]
        wrong[place - 1] = words[place - 1] + words[place - 1][-1]
        with pytest.raises(UnknownWord) as caught:
            Phrase.parse(SecretBytes(LISTED[listed](wrong).encode()))
        assert (caught.value.position, caught.value.nearest) == (place, words[place - 1])
        assert f"word {place}" in str(caught.value)


def test_word_in_two_parts_is_named_beside_the_count() -> None:
    words = list(PHRASES[Language.ENGLISH].words())
    broken = [*words[:2], words[2][:2], words[2][2:], *words[3:]]
    with pytest.raises(WrongWordCount, match="has 25; word 3 is not in the english") as caught:
        Phrase.parse(SecretBytes(" ".join(broken).encode()))
    assert caught.value.unknown is not None
    with pytest.raises(WrongWordCount, match=r"has 23$"):
        Phrase.parse(SecretBytes(" ".join(words[:23]).encode()))


NUMBERS: dict[str, Callable[[str], str]] = {
    "together": str,
    "in two groups": lambda text: f"{text[:4]} {text[4:]}",
    "with a hyphen": lambda text: f"{text[:4]}-{text[4:]}",
    "with a dash": lambda text: f"{text[:4]}–{text[4:]}",
    "with a dot": lambda text: f"{text[:4]}.{text[4:]}",
    "with a no-break space": lambda text: f"{text[:4]}\u00a0{text[4:]}",
    "with a thin space": lambda text: f"{text[:4]}\u2009{text[4:]}",
    "with a comma": lambda text: f"{text[:4]}, {text[4:]}",
    "with bars": lambda text: f"| {text[:4]} | {text[4:]} |",
    "single": " ".join,
    "full-width": lambda text: "".join(chr(ord(sign) + 0xFEE0) for sign in text),
    "Arabic": lambda text: "".join(chr(0x660 + int(sign)) for sign in text),
    "Persian": lambda text: "".join(chr(0x6F0 + int(sign)) for sign in text),
    "Devanagari": lambda text: "".join(chr(0x966 + int(sign)) for sign in text),
    "a full stop after it": lambda text: f"{text}.",
    "in parentheses": lambda text: f"({text})",
    "on lines": lambda text: f"{text[:4]}\n{text[4:]}\n",
    "zero-width spaces inside": "\u200b".join,
    "a mark in front": lambda text: f"\u200e{text}",
    "a byte order mark in front": lambda text: f"\ufeff{text}",
}


@pytest.mark.parametrize("spelling", NUMBERS)
def test_digits_read_the_same_in_every_grouping_and_script(spelling: str) -> None:
    assert typed.ungrouped(NUMBERS[spelling]("12345678")) == "12345678"


def test_letter_among_digits_is_not_taken_for_nothing() -> None:
    assert not typed.ungrouped("1234l678").isdigit()
    assert not typed.ungrouped("O2345678").isdigit()


# Passwords that exist


def with_form(form: bytes) -> bytes:
    """Return a door as the client made it that took NFKC alone."""
    stretching = Stretching.fresh(QUICK)
    head = DoorHead("password", stretching.to_map(), OWNER)
    return head.seal(KEY, password_door._key(head, stretching, SecretBytes(form)))


def opens(door: bytes, text: str) -> bool:
    try:
        return open_password_door(door, password=SecretBytes(text.encode()), owner=OWNER) == KEY
    except UnwrapFailed:
        return False


EXISTING = {
    "a byte order mark in it": "\ufeffcorrect horse battery",
    "a space at the end": "correct horse battery ",
    "a zero-width space at the end": "correct horse battery\u200b",
    "a soft hyphen inside": "correct hor\u00adse battery",
    "typographic quotes": "\u201ccorrect horse battery\u201d",
    "a dash": "correct \u2013 horse \u2013 battery",
    "a joined family": "correct horse \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "a Persian joiner": "\u0645\u06cc\u200c\u0631\u0648\u0645 correct horse",
}


@pytest.mark.parametrize("case", EXISTING)
def test_door_of_a_password_that_exists_opens_as_it_was_typed_then(case: str) -> None:
    text = EXISTING[case]
    door = with_form(unicodedata.normalize("NFKC", text).encode())
    assert opens(door, text)
    assert not opens(door, "another correct horse")


@pytest.mark.parametrize("case", EXISTING)
def test_door_that_is_made_today_opens_without_what_nobody_sees(case: str) -> None:
    text = EXISTING[case]
    door = seal_password_door(KEY, password=SecretBytes(text.encode()), owner=OWNER, cost=QUICK)
    for again in (text, typed.password(text), f"\ufeff{text}", f"{text}\u200b\r"):
        assert open_password_door(door, password=SecretBytes(again.encode()), owner=OWNER) == KEY


def test_passphrase_beside_a_phrase_is_read_in_every_spelling_and_signs_as_it_did() -> None:
    phrase = PHRASES[Language.ENGLISH]
    said = SecretBytes("\ufeffcorrect horse ".encode())
    door = seal_phrase_door(KEY, phrase=phrase, owner=OWNER, passphrase=said, cost=QUICK)
    for again in (b"correct horse", b" correct horse\n", "correct\u00a0horse".encode()):
        assert open_phrase_door(door, phrase=phrase, owner=OWNER, passphrase=SecretBytes(again)) == KEY
    whose: dict[str, Any] = {"tenant": b"t" * 16, "user": b"u" * 16, "kind": cast.AIK.public.kind}
    now, before = recovery_keys(phrase, passphrase=said, **whose)
    assert now.public == recovery_key(phrase, passphrase=SecretBytes(b"correct horse"), **whose).public
    assert before.public != now.public


def test_password_without_anything_unseen_is_stretched_once() -> None:
    for text in ("correct horse battery", PASSWORD, "пароль из четырнадцати", "パスワードは十四文字以上です。"):
        assert len(readings(SecretBytes(text.encode()))) == 1


def test_what_nobody_sees_does_not_count_towards_a_passwords_length() -> None:
    with pytest.raises(Unusable, match="14 characters"):
        seal_password_door(KEY, password=SecretBytes(("a" + "\u200b" * 20).encode()), owner=OWNER, cost=QUICK)


# What is no text


@pytest.mark.parametrize("octets", [b"Gr\xf6\xdfe", b"\xff", b"\x80abc", b"abc\xc3", b"\xff\xfea", b"\xed\xa0\x80"])
def test_bytes_of_another_encoding_are_a_slip(octets: bytes) -> None:
    with pytest.raises(Mistyped, match="UTF-8"):
        typed.text_of(octets, "the password file")
    with pytest.raises((Mistyped, Unusable)):
        readings(SecretBytes(octets))


def test_text_that_is_far_too_long_is_refused_before_it_is_normalised() -> None:
    long = "a\u0301" * 3000
    readers = (typed.password, lambda text: typed.words(text, "words"), lambda text: typed.code(text, "hf2.", "code"))
    for read in readers:
        with pytest.raises(Mistyped):
            read(long)
    assert len(typed.ungrouped("1" * (10 * typed.MAX_TYPED))) == typed.MAX_TYPED


@given(st.text(max_size=200))
def test_password_has_one_form_and_that_form_is_its_own(text: str) -> None:
    once = typed.password(text)
    assert typed.password(once) == once
    assert typed.password(f"\ufeff {text}\u200b\n") == once


@given(st.text(max_size=300), st.sampled_from(["enrolment code", "pairing code", "phrase", "share"]))
def test_any_text_is_read_or_refused(text: str, kind: str) -> None:
    try:
        KINDS[kind][1](text.encode("utf-8", "surrogatepass"))
    except Malformed:
        return
