# SPDX-License-Identifier: Apache-2.0
"""Texts as people write them, which every screen, page, log and mail shows so; and texts that would be obeyed."""

from __future__ import annotations

from typing import Final

# What people write, as a terminal has to show it: equal to the text.
SHOWN_WHOLE: Final = (
    "می‌روم",  # ZWNJ
    "👨‍👩‍👧 ok",  # ZWJ
    "10\u00a0000 €",
    "a\tb\tc",
    "क‍ष",
    "❤️",
    "1\u202f234,50 €",  # narrow no-break space
    "شش‌هزار و پانصد",
    "නිර්‍මාණය",
    "മലയാള്‍",
    "עברית \u200eABC\u200f עברית",  # marks of direction that embed nothing
    "\u061cعربي",
    "soft\u00adhyphen",
    "zero\u200bwidth",
    "word\u2060joiner",
    "\ufeffbegins with a mark",
    "ขอบคุณ",
    "ไทย\u200bไม่มีช่องว่าง",
    "日本語　全角",
    "漢\U000e0101字",  # a variant of a sign
    "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",  # a flag of tags
    "👍🏽 ✊🏿",
    "1️⃣",
    "e\u0301 and é",
    "Å \u212b",
    "ﬁancée",
    "\uf8ff and \ue000",  # private: an icon of some font
    "\u3164",
    "⠀⠁⠂",
    "x\u2009=\u20091",
    "“He said: ‘no’.”",
    "“one” and ”two”",
    "[bold]not ours[/] [link=http://x]a[/link] \\[ :skull:",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 \U00020000",
    "<U+202E> in letters",
    "   indented, and with room at the end   ",
    "mongolian\u180e vowel",
    "ligature\u034fjoiner",
    "\ufff9base\ufffaabove\ufffb",
    "�",
)
# What a terminal would obey, and what it shows in its place.
ESCAPED: Final = {
    "red \x1b[31m text": "red <U+001B>[31m text",
    "title \x1b]0;x\x07": "title <U+001B>]0;x<U+0007>",
    "over \u202e dlrow": "over <U+202E> dlrow",
    "bell\x07": "bell<U+0007>",
    "nul\x00": "nul<U+0000>",
    "back\x08\x08": "back<U+0008><U+0008>",
    "vertical\x0btab\x0c": "vertical<U+000B>tab<U+000C>",
    "again\rAGAIN": "again<U+000D>AGAIN",
    "file\x1cgroup\x1drecord\x1eunit\x1f": "file<U+001C>group<U+001D>record<U+001E>unit<U+001F>",
    "\x0e[bold]\x0f": "<U+000E>[bold]<U+000F>",
    "del\x7f": "del<U+007F>",
    "next\x85line": "next<U+0085>line",
    "one byte \x9b1m": "one byte <U+009B>1m",
    "application \x9f\x90": "application <U+009F><U+0090>",
    "\u202aa\u202bb\u202cc\u202dd": "<U+202A>a<U+202B>b<U+202C>c<U+202D>d",
    "\u2066a\u2067b\u2068c\u2069": "<U+2066>a<U+2067>b<U+2068>c<U+2069>",
    "line\u2028paragraph\u2029": "line<U+2028>paragraph<U+2029>",
}
