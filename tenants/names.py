# SPDX-License-Identifier: Apache-2.0
"""Names as people write them, brought to the one form under which they are compared.

Implements FAULTS T12 and I6a (Unicode TR36: normalise, fold, refuse what reads alike). Touches no row.
A slug finds a tenant on the sign-in page; it authorizes nothing.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from tenants.errors import NameRefused

RESERVED_SLUGS: Final = frozenset(
    ("admin", "administrator", "api", "app", "assets", "console", "default", "docs", "example", "help", "holdfast",
     "localhost", "login", "mail", "me", "null", "root", "security", "sign-in", "static", "status", "support", "system",
     "tenant", "test", "undefined", "www")
)  # fmt: skip
_SLUG: Final = re.compile(r"[a-z](?:-?[a-z0-9]){2,39}", re.ASCII)
_EMAIL: Final = re.compile(r"[^\s@\"<>(),:;\[\]\\]{1,64}@(?:[^\s@.]{1,63}\.)*[^\s@.]{1,63}")
MAX_EMAIL: Final = 254
MAX_NAME: Final = 100
# Control, format (bidi overrides, zero-width joiners), surrogate, private and unassigned characters, and
# line and paragraph separators: none belongs in a name, and each can make one name look like another.
_FORBIDDEN_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
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
    folded = unicodedata.normalize("NFKC", text).strip().lower()
    if not _SLUG.fullmatch(folded) or len(folded) > 40 or folded in RESERVED_SLUGS:
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
    folded = unicodedata.normalize("NFKC", text).strip().casefold()
    if len(folded) > MAX_EMAIL or not _EMAIL.fullmatch(folded) or not _is_plain(folded):
        raise NameRefused("Must be one e-mail address.", field="email")
    return folded


def display_name(text: str) -> str:
    """Return a name fit to be shown: NFC, single spaces, 1 to 100 characters, none of them invisible.

    Raises NameRefused otherwise.
    """
    name = " ".join(unicodedata.normalize("NFC", text).split())
    if not 1 <= len(name) <= MAX_NAME or not _is_plain(name):
        raise NameRefused(f"Use 1 to {MAX_NAME} visible characters.", field="name")
    return name


def _is_plain(text: str) -> bool:
    return not any(unicodedata.category(char) in _FORBIDDEN_CATEGORIES for char in text)
