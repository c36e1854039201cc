# SPDX-License-Identifier: Apache-2.0
"""Names as people write them, brought to the one form under which they are compared.

Implements FAULTS T12 and I6a (Unicode TR36: normalise, fold, refuse what reads alike). Touches no row.
A slug finds a tenant on the sign-in page; it authorizes nothing.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final, Literal

from holdfast.core.base.addresses import address_key, mixed_letters
from holdfast.core.base.errors import Malformed
from holdfast.core.base.text import is_hidden, written_out
from tenants.errors import NameRefused

RESERVED_SLUGS: Final = frozenset(
    ("admin", "administrator", "api", "app", "assets", "console", "default", "docs", "example", "help", "holdfast",
     "localhost", "login", "mail", "me", "null", "root", "security", "sign-in", "static", "status", "support", "system",
     "tenant", "test", "undefined", "www")
)  # fmt: skip
_SLUG: Final = re.compile(r"[a-z](?:-?[a-z0-9]){2,39}", re.ASCII)
MAX_SLUG: Final = 40  # fits a host name's label of 63 with room for a prefix
MAX_NAME: Final = 100  # of a person or tenant: longer ones are cut on a page anyway
_LOOKALIKES: Final = (
    ("rn", "m"),
    ("vv", "w"),
    ("cl", "d"),
    ("0", "o"),
    ("1", "l"),
    ("i", "l"),
    ("5", "s"),
    ("-", ""),
)


def slug(text: str) -> str:
    """Return a tenant's slug in its one form: 3 to 40 of a-z, 0-9 and single hyphens, starting with a letter.

    Raises NameRefused for any other character after NFKC and lower-casing, and for reserved words.
    """
    folded = _normal("NFKC", text, MAX_SLUG).strip().lower()
    if not _SLUG.fullmatch(folded) or len(folded) > MAX_SLUG or folded in RESERVED_SLUGS:
        raise NameRefused("Use 3 to 40 of a-z, 0-9 and single hyphens, not a reserved word.", field="slug")
    return folded


def skeleton(folded: str) -> str:
    """Return what a slug looks like at a glance: two slugs of one skeleton are refused side by side."""
    for seen, meant in _LOOKALIKES:
        folded = folded.replace(seen, meant)
    return folded


def email_key(text: str) -> str:
    """Return the form under which e-mail addresses are compared: NFKC and case-folded, both sides of the @.

    Raises NameRefused for what is not one plain address of at most 254 characters.
    """
    try:
        return address_key(text)
    except Malformed as error:
        raise NameRefused("Must be one e-mail address.", field="email") from error


def display_name(text: str) -> str:
    """Return a name fit to be shown: NFC, single spaces, 1 to 100 characters, none of them invisible.

    Raises NameRefused otherwise.
    """
    name = " ".join(_normal("NFC", text, MAX_NAME).split())
    if not 1 <= len(name) <= MAX_NAME or not _is_plain(name):
        raise NameRefused(f"Use 1 to {MAX_NAME} visible characters.", field="name")
    return name


def marked(text: str) -> str:
    """Return an address with each letter of another script among Latin ones followed by its script.

    For whoever decides about it: nobody can tell such a letter by its look. A plain address comes back as it is.
    """
    shown = written_out(text.strip())
    for sign, name in mixed_letters(shown):
        shown = shown.replace(sign, f"{sign}[{name.split()[0].capitalize()}]")
    return shown


def search_key(*texts: str) -> str:
    """Return the form in which people are searched for: texts folded alike for every database, one below the other.

    Without case, accents and compatibility forms (FAULTS T12): é is e, ß is ss, İ and ı are i. What is typed is folded
    by the same rule, so that both find each other. What is no name any more, such as an accent alone, is nothing.
    """
    return "\n".join(_folded(text) for text in texts)


def _folded(text: str) -> str:
    # Folding twice: folding a character may give one that decomposes further (İ), and the other way round.
    for _ in range(2):
        text = unicodedata.normalize("NFKD", text).casefold()
    marks = frozenset(("Mn", "Me"))
    plain = "".join(sign for sign in text if unicodedata.category(sign) not in marks)
    # The dotless i has no other case but I, which every other language reads as i.
    return " ".join(unicodedata.normalize("NFKC", plain).replace("ı", "i").split())


def _normal(form: Literal["NFC", "NFKC"], text: str, most: int) -> str:
    """Return a text's normal form, or nothing when it is too long to be a name of at most `most` characters.

    Normalising takes the square of how many combining marks stand in a row. One character is typed as four at most.
    """
    return unicodedata.normalize(form, text) if len(text) <= 4 * most else ""


def _is_plain(text: str) -> bool:
    # What is hidden belongs in no name, and can make one name look like another.
    return not any(map(is_hidden, text))
