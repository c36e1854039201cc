# SPDX-License-Identifier: Apache-2.0
"""Three of a key's eight words, typed as heard from the person, at places that the officer's own profile picks.

Implements ESCROW "Case": what can be copied is not heard. So nothing here returns a word, and nobody chooses a place.
Does not ask anybody; whoever does asks `places` first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from holdfast.client.errors import WordsNeeded, WrongWords
from holdfast.client.officers import officer_keys
from holdfast.client.profile.account import Account
from holdfast.core.base.encoding import label
from holdfast.core.base.rows import open_row, seal_row, uint
from holdfast.core.base.words import WORDS, as_typed, word_list
from holdfast.core.crypto import wrapping

WORDS_TO_HEAR: Final = 3  # of eight: a guess is right once in 2^33, and a call stays short
# A word misheard, and misheard again. Whoever is wrong three times has another key before them than the person has.
TRIES: Final = 3
_KIND: Final = "words-heard"
_BYTES_A_PLACE: Final = 4  # two places that draw the same number stand in their order: once in 2^27 keys


@dataclass(frozen=True)
class About:
    """Whose words are heard: what a refusal calls them, and the way out when they are wrong, or the tries are spent."""

    what: str
    wrong: str
    spent: str


CASE: Final = About(
    what="the key in this case",
    wrong="Stop. Either the person read another screen, or the key in the case is not that person's.",
    spent="Deny the case unless you know why. Another officer can call the person; a new case has new words.",
)


@dataclass(frozen=True)
class _Wrong:
    """How often wrong words were typed for one key, and until when that is kept. Under SHA-256 of the words."""

    count: Annotated[int, uint()] = 0
    until: Annotated[int, uint()] = 0


def places(account: Account, words: tuple[str, ...]) -> tuple[int, ...]:
    """Return at which three places (1 to 8, ascending) this officer is asked for a key's words.

    They follow from the officer's own secret and the key: nobody else knows them before the officer asks, and asking
    again asks for the same ones. Raises ProfileError for a profile without officer's keys.
    """
    drawn = wrapping.hkdf(
        salt=_name(words),
        ikm=officer_keys.secret_of(account),
        info=label("words-heard"),
        length=_BYTES_A_PLACE * WORDS,
    ).reveal()
    by_chance = sorted(range(WORDS), key=lambda place: drawn[_BYTES_A_PLACE * place : _BYTES_A_PLACE * (place + 1)])
    return tuple(sorted(place + 1 for place in by_chance[:WORDS_TO_HEAR]))


def tries_left(account: Account, words: tuple[str, ...]) -> int:
    """Return how many more times wrong words may be typed for this key in this profile."""
    return TRIES - _wrong(account, _name(words)).count


def asked(account: Account, words: tuple[str, ...], *, about: About = CASE) -> tuple[int, ...]:
    """Return the places as `places` does. Raises WrongWords when this profile's tries for the key are spent."""
    if tries_left(account, words) <= 0:
        raise WrongWords(
            f"Wrong words were typed {TRIES} times for this key. This profile takes no more for it.",
            way_out=about.spent,
        )
    return places(account, words)


def needed(at: tuple[int, ...], *, row: int = 0) -> WordsNeeded:
    """Return the refusal that names the places, for whoever cannot be asked for the words one by one.

    row: the number of the person's row, where several people are asked.
    """
    whom, prefix = (f"the person of row {row}", f"{row}:") if row else ("the person", "")
    return WordsNeeded(
        f"Words {listed(at)} of the eight are needed, as heard from {whom}.",
        places=at,
        way_out=f"Call {whom}, and give what you hear: {' '.join(f'--word {prefix}{place}=…' for place in at)}",
    )


def require_heard(
    account: Account, words: tuple[str, ...], heard: Mapping[int, str], *, until: int, about: About = CASE
) -> None:
    """Raise WrongWords unless `heard` has exactly the words at this profile's places, as typed, by place.

    until: UTC seconds when the case is over, and with it the count of wrong tries. A wrong word costs a try; a missing
    one, and one that is in no list, cost none, since they could not be anybody's.
    """
    at = asked(account, words, about=about)
    if set(heard) != set(at):
        raise needed(at)
    heard = {place: "".join(as_typed([word])) for place, word in heard.items()}
    unknown = sorted(place for place, word in heard.items() if word not in word_list("english"))
    if unknown:
        raise WrongWords(
            f"Not a word of the list, at place {listed(unknown)}.", way_out="Have the person read it once more."
        )
    if any(words[place - 1] != word for place, word in heard.items()):
        _count(account, words, until)
        raise WrongWords(
            f"These are not the words of {about.what}. Nothing was signed; tries left: {tries_left(account, words)}.",
            way_out=about.wrong,
        )


def _count(account: Account, words: tuple[str, ...], until: int) -> None:
    with account.store.transaction():
        wrong = _Wrong(_wrong(account, _name(words)).count + 1, until)
        account.store.put(_KIND, _name(words), seal_row(wrong))


def prune(account: Account) -> None:
    """Forget the tries at words whose time is over: by a confirmed time, or a clock set ahead would give new ones."""
    now = account.clock.confirmed()
    if now is None:
        return
    for key in account.store.keys(_KIND):
        if _wrong(account, key).until <= now:
            account.store.delete(_KIND, key)


def _wrong(account: Account, key: bytes) -> _Wrong:
    row = account.store.get(_KIND, key)
    return _Wrong() if row is None else open_row(_Wrong, row, "count of wrong words")


def _name(words: tuple[str, ...]) -> bytes:
    return hashlib.sha256(" ".join(words).encode()).digest()


def listed(places: tuple[int, ...] | list[int]) -> str:
    """Write places as people say them: 2, 5 and 7."""
    *first, last = map(str, places)
    return f"{', '.join(first)} and {last}" if first else last
