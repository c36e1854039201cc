# SPDX-License-Identifier: Apache-2.0
"""The one reader of what people type or paste: secrets, codes, words and digits, in whatever spelling they arrive.

Implements docs/formats/typed.md: Unicode normal forms, what is invisible, list numbers, commas, line ends and quotes.
Does not know any secret's form: each says what it takes, and its checksum whether it is that.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from typing import Final

from holdfast.core.base.errors import Mistyped

# Bounds the work of normalising what was pasted by mistake: it takes the square of how many combining marks stand in a
# row. The longest that is typed, a password of 1,024 characters, is typed as four of them each at most.
MAX_TYPED: Final = 4096  # characters

# Default_Ignorable_Code_Point (Unicode 15.1, DerivedCoreProperties.txt): no shape on any screen, so that nobody means
# them by what they type. Byte order marks, zero-width spaces, soft hyphens and marks of direction come from files,
# PDFs and chats; variation selectors and joiners differ from one keyboard to the next.
_IGNORABLE: Final = (
    "\u00ad\u034f\u061c\u115f-\u1160\u17b4-\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_INVISIBLE: Final = re.compile(f"[{_IGNORABLE}]")
# A word that was parted at the end of a line, where only the soft hyphen says that it goes on.
_PARTED: Final = re.compile(r"\u00ad[ \t]*\r?\n[ \t]*")
# What word processors and chats make of the signs on a keyboard.
_TYPOGRAPHIC: Final = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201a\u201b\u2032", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f\u2033", '"')
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2212", "-")
    | {"\u2014": "--"}
)
# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def text_of(octets: bytes, what: str) -> str:
    """Return the text of a file or a prompt: UTF-8, or what its byte order mark names (Windows writes UTF-16).

    Raises Mistyped, naming `what`, for anything else. A mark of UTF-8 stays: it is in passwords that exist.
    """
    encoding = next((name for mark, name in _MARKS if octets.startswith(mark)), "utf-8")
    try:
        return octets.decode(encoding)
    except UnicodeDecodeError:
        raise Mistyped(f"{what}: not text in UTF-8; save the file in that encoding") from None


def first_line(octets: bytes, what: str) -> bytes:
    """Return the first line that shows anything, in UTF-8 and without its end; b"" for none. Raises as `text_of`."""
    lines = text_of(octets, what).split("\n")
    return next((line for line in lines if visible(line).strip()), "").rstrip("\r").encode()


def secret_text(octets: bytes, what: str) -> str:
    """Return a secret of one line from a file's bytes, without what nobody sees at its ends. Raises as `text_of`."""
    return trimmed(text_of(first_line(octets, what), what))


def visible(text: str) -> str:
    """Return `text` without what has no shape on a screen."""
    return _INVISIBLE.sub("", _PARTED.sub("", text))


def trimmed(text: str) -> str:
    """Return `text` without white space and what nobody sees at its ends, where a copy leaves it; inside all stays."""
    start, end = 0, len(text)
    while start < end and _is_nothing(text[start]):
        start += 1
    while start < end and _is_nothing(text[end - 1]):
        end -= 1
    return text[start:end]


def password(text: str) -> str:
    """Return the one form of a password for all its spellings: NFKC, nothing invisible, no white space at its ends.

    Quotes and hyphens are those of a keyboard. Raises Mistyped above 4,096 characters.
    """
    _require_short(text, "a password")
    plain = unicodedata.normalize("NFKC", visible(text).translate(_TYPOGRAPHIC))
    return plain.strip()


def words(text: str, what: str) -> list[str]:
    """Return the words of a list as people write them: numbered, with commas, bullets or a full stop, on any lines.

    In NFKD, and with the capitals that they have. Raises Mistyped, naming `what`, above 4,096 characters.
    """
    _require_short(text, what)
    # NFKD turns the ideographic space into a plain one, so that one split serves Japanese as well (FAULTS R11).
    # A zero-width space is where a word may end (UAX 14), and the only thing between some words on web pages.
    plain = unicodedata.normalize("NFKD", visible(text.replace("\u200b", " ")))
    parted = "".join(sign if _is_of_word(sign) else " " for sign in plain)
    # A number stands before its word, with or without a sign between them; within a word a digit is a slip.
    return [word for token in parted.split() if (word := token.lstrip("0123456789"))]


def ungrouped(text: str) -> str:
    """Return a number or a short code without what groups it: its digits, of any script, in ASCII, and its letters.

    The letters stay as they are, so that none is taken for nothing. Of at most the first 4,096 characters.
    """
    compatible = unicodedata.normalize("NFKC", text[:MAX_TYPED])
    plain = (str(unicodedata.decimal(sign)) if sign.isdecimal() else sign for sign in compatible)
    return "".join(sign for sign in plain if sign.isalnum())


def code(text: str, prefix: str, what: str) -> str:
    """Return the signs after `prefix` of a code that was copied: without line ends, indents, quotes and full stops.

    prefix: ASCII, in any capitals. What stands before it is not looked at. Only A-Z, a-z, 0-9, - and _ are kept, so a
    code needs a checksum over them. Raises Mistyped, naming `what`, without the prefix and above 4,096 characters.
    """
    _require_short(text, what)
    plain = unicodedata.normalize("NFKC", visible(text).translate(_TYPOGRAPHIC))
    # Not in small letters first: those of İ, for one, are two signs, and every place after it is another.
    found = re.search(re.escape(prefix), plain, re.IGNORECASE | re.ASCII)
    if found is None:
        raise Mistyped(f'{what}: does not begin with "{prefix}"')
    return re.sub(r"[^A-Za-z0-9_-]", "", plain[found.end() :])


def _is_nothing(sign: str) -> bool:
    return sign.isspace() or _INVISIBLE.match(sign) is not None


def _is_of_word(sign: str) -> bool:
    # U+FFFD stands in one word of the Russian list as `mnemonic` has it, and so in the phrases of its users.
    return unicodedata.category(sign)[0] in "LM" or sign in "0123456789\ufffd"


def _require_short(text: str, what: str) -> None:
    if len(text) > MAX_TYPED:
        raise Mistyped(f"{what}: far longer than one is")
