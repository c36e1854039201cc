# SPDX-License-Identifier: Apache-2.0
"""Others' text: what hides, turns or breaks is written out, and what nobody can read says nothing."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from holdfast.core.base.text import (
    boxed,
    duration,
    encodable,
    is_dangerous,
    is_encodable,
    is_hidden,
    says_nothing,
    written_out,
)
from tests.cast.texts import ESCAPED, SHOWN_WHOLE


def test_dangerous_characters_are_written_out_and_all_others_stay() -> None:
    told = "a\x1b[2J\r\n\x9b\u202e\u2066\u2069\u2028z"
    assert written_out(told) == "a<U+001B>[2J<U+000D><U+000A><U+009B><U+202E><U+2066><U+2069><U+2028>z"
    for plain in ("Zoë Müller", "李小龍　様", "عبد الله", "נועה", "❤️ 👍🏽", "a\u0301", "“x” [bold] \\ <U+202E>",
                  "می\u200cروم", "👨\u200d👩", "10\u00a0000 €", "a\tb", "\ufeff\u200b\u3164\ue000\u200f"):  # fmt: skip
        assert written_out(plain) == plain
    assert [written_out(text) for text in SHOWN_WHOLE] == list(SHOWN_WHOLE)
    assert [written_out(text) for text in ESCAPED] == list(ESCAPED.values())
    assert written_out("a\tb\nc", keep="\n") == "a\tb\nc"


def test_dangerous_is_what_a_terminal_or_the_order_of_letters_obeys_and_nothing_else() -> None:
    turns = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    for number in range(sys.maxunicode + 1):
        sign = chr(number)
        obeyed = unicodedata.bidirectional(sign) in turns or unicodedata.category(sign) in {"Cc", "Zl", "Zp"}
        assert is_dangerous(sign) is (obeyed and sign != "\t"), hex(number)
        # No name has one either.
        assert is_hidden(sign) or not is_dangerous(sign), hex(number)


def test_character_that_an_encoding_has_not_is_written_out() -> None:
    assert encodable("10 € \ud800", "latin-1") == "10 <U+20AC> <U+D800>"
    assert encodable("10 € \ud800", "utf-8") == "10 € <U+D800>"
    assert encodable("é\x1b", "latin-1") == "é\x1b"
    assert is_encodable("é", "latin-1")
    assert not is_encodable("é", "ascii")


def test_text_in_a_box_begins_no_line_and_ends_no_box() -> None:
    told = "Good.└ \u202eEscrow of your archive keys" + " x" * 100 + "y" * 100 + "\n┌ Who: nobody\x1b[2J"
    lines = boxed(told, heading="They say:")
    assert (lines[0], lines[-1]) == ("┌ They say:", "└")
    assert all(line.startswith("│ ") and len(line) <= 62 for line in lines[1:-1])
    assert "".join(line[2:] for line in lines[1:-1]).replace(" ", "") == written_out(told).replace(" ", "")
    wide = boxed("李" * 100, heading="They say:")
    assert [len(line) for line in wide[1:-1]] == [32, 32, 32, 12]


@pytest.mark.parametrize(
    "text", ["", " ", "\t\n", "\u00a0\u2003", "\u200b\u2060\ufeff", "\u3164", "\u2800", "\u0301", "\u202e"]
)
def test_blank_and_hidden_text_says_nothing(text: str) -> None:
    assert says_nothing(text)


@pytest.mark.parametrize("text", ["x", " . ", "病", "❤️", "\u202ea", "ا", "7"])
def test_text_that_anybody_can_read_says_something(text: str) -> None:
    assert not says_nothing(text)


@pytest.mark.parametrize(
    ("seconds", "parts", "said"),
    [(0, 2, "none"), (1, 2, "1 second"), (5400, 2, "1 hour 30 minutes"), (5400, 1, "1 hour"), (1209600, 2, "14 days")],
)
def test_span_is_said_in_its_largest_units(seconds: int, parts: int, said: str) -> None:
    assert duration(seconds, parts) == said
