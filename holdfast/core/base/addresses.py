# SPDX-License-Identifier: Apache-2.0
"""E-mail addresses: the one form under which they are compared, and letters in them that look like others.

Implements FAULTS T12 and I6a for addresses (Unicode TR36: normalise, fold, show what is mixed).
Does not know whose an address is; the directory of the tenant does.
"""

import re
import unicodedata
from typing import Final

from holdfast.core.base.errors import Malformed
from holdfast.core.base.text import is_hidden

MAX_ADDRESS: Final = 254  # RFC 5321 section 4.5.3.1.3, without the brackets
_TYPED: Final = (
    4 * MAX_ADDRESS
)  # one character is typed as four at most; normalising takes the square of marks in a row
_ADDRESS: Final = re.compile(r"[^\s@\"<>(),:;\[\]\\]{1,64}@(?:[^\s@.]{1,63}\.)*[^\s@.]{1,63}")


def address_key(text: str) -> str:
    """Return the form under which e-mail addresses are compared: NFKC and case-folded, both sides of the @.

    Raises Malformed for what is not one plain address of at most 254 characters.
    """
    folded = unicodedata.normalize("NFKC", text).strip().casefold() if len(text) <= _TYPED else ""
    # What is hidden belongs in no address, and can make one look like another.
    if len(folded) > MAX_ADDRESS or not _ADDRESS.fullmatch(folded) or any(map(is_hidden, folded)):
        raise Malformed("not one e-mail address")
    return folded


def mixed_letters(text: str) -> list[tuple[str, str]]:
    """Return the letters of other scripts that stand among Latin ones, each once with its Unicode name, in order.

    Such a letter can be one that nobody tells from a Latin one. Nothing for a text in Latin letters alone, or in none:
    whoever writes a whole address in their own script mixes nothing.
    """
    names = {sign: unicodedata.name(sign, "UNNAMED") for sign in text if unicodedata.category(sign)[0] == "L"}
    others = [(sign, name) for sign, name in names.items() if not name.startswith("LATIN ")]
    return others if len(others) < len(names) else []
