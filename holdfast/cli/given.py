# SPDX-License-Identifier: Apache-2.0
"""Files of text that a person names on the line: read whole, under a bound, and refused in words when they are none.

Implements FAULTS D6 for files. Secrets are read by `asking`, never here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from holdfast.client.errors import WrongInput

MOST: Final = 2 * 1024 * 1024  # bytes: the longest that any command takes, a file of people


def text_file(path: Path, *, most: int = MOST, too_large: str = "", other_encoding: str = "") -> str:
    """Return a file's text, which is UTF-8, without a byte order mark.

    too_large, other_encoding: the ways out where there is a better one. Raises WrongInput for more than `most`
    bytes or another encoding, OSError for a file that cannot be read.
    """
    with path.open("rb") as opened:
        octets = opened.read(most + 1)
    if len(octets) > most:
        raise WrongInput(f"{path} is too large: at most {most:,} bytes.", way_out=too_large or "Name another file.")
    try:
        return octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = octets.count(b"\n", 0, error.start) + 1
        way_out = other_encoding or "Save it as UTF-8, or name another file."
        raise WrongInput(f"{path} is not UTF-8, as line {number} shows.", way_out=way_out) from None
