# SPDX-License-Identifier: Apache-2.0
"""Text for people: what of others' would be obeyed or turn what stands beside it, what says nothing, and spans.

Implements FAULTS P13 for every screen, log line and mail of the house (Unicode TR36, section 2). What is not dangerous
is shown as it was written: joiners, spaces of every width and marks are part of how people write.
Does not escape a terminal's markup or HTML: who writes there does, on top of this.
"""

import textwrap
import unicodedata
from typing import Final

# Dangerous, and no other: controls, which a terminal obeys (C0 but the tab, U+007F, C1); the marks that embed, override
# and isolate a direction (Unicode TR9, section 2), which turn what stands after them; separators of lines and
# paragraphs, which begin a line. A line's end is dangerous unless `keep` names it: only a body has lines.
_DANGEROUS: Final = frozenset(
    chr(number)
    for numbers in (range(0x09), range(0x0A, 0x20), range(0x7F, 0xA0), range(0x202A, 0x202F), range(0x2066, 0x206A),
                    range(0x2028, 0x202A))
    for number in numbers
)  # fmt: skip
# Control characters, marks of format and direction, halves of pairs, private and unassigned characters, and what breaks
# a line or a paragraph.
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# Letters and signs by their category that look like nothing: fillers of Hangul, and Braille without a dot.
_FILLERS: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0")
_JOINER: Final = "\u200d"
_COUNTRY_LETTERS: Final = "".join(map(chr, range(0x1F1E6, 0x1F200)))
_BOX_CELLS: Final = 60  # with its edge and an indent it fits a terminal of 80, where no line of it is parted
_UNITS: Final = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))


def is_hidden(sign: str) -> bool:
    """Tell whether one character has no shape of its own, so that it stands in no name or address.

    Where text is shown, it is not this that counts, but `is_dangerous`.
    """
    return sign in _FILLERS or unicodedata.category(sign) in _HIDDEN


def is_dangerous(sign: str) -> bool:
    """Tell whether one character would be obeyed where it is shown: it commands, turns what follows, or ends a line."""
    return sign in _DANGEROUS


def written_out(text: str, *, keep: str = "") -> str:
    """Return `text` with each dangerous character, but those of `keep`, written as <U+202E>: seen, and not obeyed.

    Every other character stays as it is. keep: "\\n" for a body, whose lines are its writer's.
    """
    return "".join(_escape(sign) if sign in _DANGEROUS and sign not in keep else sign for sign in text)


def encodable(text: str, encoding: str) -> str:
    """Return `text` with each character that an encoding has not, written as <U+0645>, so that all of it can be shown.

    encoding: by a name that Python knows. What was said is still told, but not as it was written.
    """
    if is_encodable(text, encoding):
        return text
    return "".join(sign if is_encodable(sign, encoding) else _escape(sign) for sign in text)


def is_encodable(text: str, encoding: str) -> bool:
    """Tell whether an encoding has every character of `text`. None has halves of pairs, as broken JSON brings them."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _escape(sign: str) -> str:
    return f"<U+{ord(sign):04X}>"


def boxed(text: str, *, heading: str) -> list[str]:
    """Return others' text as the lines of a box under a heading of ours, with what is dangerous in it written out.

    Each line begins with the box's edge, so that none can be taken for a line of ours, whatever the text says.
    """
    said = written_out(text)
    # A wide character takes two cells.
    is_wide = any(unicodedata.east_asian_width(sign) in "WF" for sign in said)
    inside = textwrap.wrap(said, _BOX_CELLS // 2 if is_wide else _BOX_CELLS)
    return [f"┌ {heading}", *(f"│ {line}" for line in inside), "└"]


def says_nothing(text: str) -> bool:
    """Tell whether nobody could read anything in `text`: empty, or blank, hidden and combining characters alone."""
    # A combining mark shows itself only on a letter or sign.
    return not any(unicodedata.category(sign)[0] in "LNPS" and sign not in _FILLERS for sign in text)


def fitted(text: str, most: int) -> str:
    """Return a name on one line of at most `most` characters, cut at the end of one that a reader sees as a whole.

    Bytes of another encoding, which the system hands over as halves of pairs, become U+FFFD.
    """
    name = " ".join("".join("\ufffd" if unicodedata.category(sign) == "Cs" else sign for sign in text).split())
    end = most
    # A letter and the marks on it, a family joined into one sign, a skin tone: parted, the rest would read otherwise.
    while 0 < end < len(name) and (_goes_on(name[end]) or name[end - 1] == _JOINER or _parts_a_flag(name, end)):
        end -= 1
    return name[: end or most].rstrip()


def _goes_on(sign: str) -> bool:
    return unicodedata.category(sign)[0] == "M" or sign == _JOINER or "\U0001f3fb" <= sign <= "\U0001f3ff"


def _parts_a_flag(text: str, at: int) -> bool:
    # Two letters of a country are one flag: an odd number of them before the cut leaves half of one.
    before = text[:at]
    letters = len(before) - len(before.rstrip(_COUNTRY_LETTERS))
    return text[at] in _COUNTRY_LETTERS and letters % 2 == 1


def duration(seconds: int, parts: int = 2) -> str:
    """Say a span of time in its largest one or two units: `14 days`, `1 hour 30 minutes`; `none` for no time."""
    words, left = [], seconds
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        if count:
            words.append(f"{count} {unit}{'' if count == 1 else 's'}")
    return " ".join(words[:parts]) or "none"
