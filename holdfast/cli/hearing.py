# SPDX-License-Identifier: Apache-2.0
"""Asking an officer for three words as a person reads them: from options, or one by one at the keyboard.

Implements ESCROW "Case" and "Policy and officers" at the keyboard. Shows no word, and compares none: the client does.
"""

from __future__ import annotations

from collections.abc import Sequence

import typer

from holdfast.cli.later import later
from holdfast.cli.shell import Shell

with later():
    from holdfast.client.officers import hearing
    from holdfast.core.base import words


def parse_word(text: str) -> tuple[int, str]:
    """Read a place and a word, as 3=apple. Raises BadParameter."""
    place, sign, word = text.partition("=")
    if not (sign and place.isascii() and place.isdigit()):
        raise typer.BadParameter("a place and a word, as 3=apple", param_hint="--word")
    return int(place), "".join(words.as_typed([word]))


def ask_words(shell: Shell, places: Sequence[int], *, whom: str = "the person") -> dict[int, str]:
    """Ask for the words at these places. Raises WordsNeeded when there is nobody to ask."""
    if not shell.has_person():
        raise hearing.needed(tuple(places))
    shell.note(f"Call {whom}, and have words {hearing.listed(tuple(places))} of the eight read to you.")
    return {place: _ask_word(shell, place) for place in places}


def _ask_word(shell: Shell, place: int) -> str:
    while True:
        heard = shell.ask(f"Word {place}, as the person reads it to you", option="--word")
        word = "".join(words.as_typed([heard]))
        if word in words.word_list("english"):
            return word
        shell.note("[yellow]That word is in no list. Have it read once more.[/]")
