# SPDX-License-Identifier: Apache-2.0
"""Archive keys in use: this month's generation, and files encrypted and decrypted under them.

Implements PROTOCOL section 2 (archive keys) on the records of `holdfast.core.escrow.archive`.
Does not deposit a key; it refuses to use one that the policy wants deposited first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

from holdfast.client.errors import ConsentNeeded, ProfileError, RaceLost, TrustRefused, WrongInput
from holdfast.client.escrow import escrow
from holdfast.client.identity import chains
from holdfast.client.profile.account import Account
from holdfast.client.profile.state import Generation
from holdfast.core.base.errors import HoldfastError, Malformed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.escrow.archive import (
    SEGMENT_SIZE,
    TAG_SIZE,
    decrypt_segments,
    encrypt_segments,
    new_archive_key,
    prefix_size,
    read_prefix,
)
from holdfast.core.escrow.deposit import archive_key_commitment
from holdfast.core.identity import chain_author
from holdfast.core.identity.chain import ChainState
from holdfast.core.identity.entries import Entry
from holdfast.files import whole_file

_START: Final = 6  # the bytes of a record from which its prefix's length follows

Advance: TypeAlias = Callable[[int], None]


@dataclass(frozen=True)
class FileDone:
    """A file that was written: the generation it is under, its content's bytes, and how long that took."""

    generation: int
    size: int
    seconds: float


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.monotonic() - self._started


def current_generation(account: Account) -> Generation:
    """Return this month's archive key, announcing a fresh one in the account chain when there is none.

    The key is kept before it is announced. When another device announced one first, that one counts, and
    RaceLost says to fetch it from the vault.
    """
    state = chains.refresh(account)
    now = account.api.clock.earliest()
    if state and state.generations and _is_of_now(state.generations[-1].not_before, now):
        announced = state.generations[-1]
        newest = account.state.generation(announced.generation)
        # One of this device's own making that lost the race for its number is not the one that others hold.
        if newest is None or newest.commitment != announced.commitment:
            raise RaceLost(
                "Another device of yours made this month's archive key.",
                way_out="Run `holdfast maintain` there, then here.",
            )
        if not newest.is_exposed:
            return newest
    return new_generation(account)


def new_generation(account: Account) -> Generation:
    """Make and announce a fresh archive key: at the turn of a month, after a revocation, after a recovery."""
    made: list[Generation] = []

    def write(state: ChainState) -> list[Entry]:
        number = state.generations[-1].generation + 1 if state.generations else 1
        # A race for one number is won by the first accepted; the loser takes the next under another key.
        account.state.generations = [
            generation for generation in account.state.generations if generation.number < number
        ]
        key = new_archive_key()
        now = max([account.api.clock.earliest(), *(generation.not_before for generation in state.generations[-1:])])
        generation = Generation(number, key, now, archive_key_commitment(number, key))
        account.state.generations.append(generation)
        account.save()
        made.append(generation)
        entry = chain_author.archive_generation(
            state,
            by=account.author(state),
            generation=number,
            not_before=now,
            commitment=generation.commitment,
        )
        return [entry]

    chains.append(account, write)
    return made[-1]


def encrypt_file(account: Account, source: Path, target: Path, *, advance: Advance = lambda _done: None) -> FileDone:
    """Encrypt a file under this month's key. `advance` is told the bytes done so far.

    Raises ConsentNeeded when the policy wants the key in escrow first; NameTaken instead of overwriting, FileFailed.
    """
    watch = Stopwatch()
    generation = current_generation(account)
    if not generation.deposit_id and escrow.must_deposit_first(account):
        raise ConsentNeeded(
            "Your organisation's policy wants this month's archive key in escrow before it is used.",
            way_out="Read what that means and decide: holdfast escrow deposit",
        )
    size = 0

    def segments(file: BinaryIO) -> Iterator[bytes]:
        nonlocal size
        while segment := file.read(SEGMENT_SIZE):
            size += len(segment)
            advance(size)
            yield segment

    with source.open("rb") as file, whole_file(target) as out:
        pieces = encrypt_segments(
            segments(file),
            archive_key=generation.key,
            tenant=account.tenant,
            user=account.user,
            generation=generation.number,
        )
        for piece in pieces:
            out.write(piece)
    return FileDone(generation.number, size, watch.seconds)


def decrypt_file(account: Account, source: Path, target: Path, *, advance: Advance = lambda _done: None) -> FileDone:
    """Decrypt a file under the generation that it names. Nothing is left behind unless all of it was authentic.

    Raises ProfileError when this device does not hold that generation's key, TrustRefused for a changed file.
    """
    watch = Stopwatch()
    try:
        with source.open("rb") as file:
            prefix = read_start(file)
            header, _ = read_prefix(prefix)
            generation = account.state.generation(header.generation)
            if (header.tenant, header.user) != (account.tenant, account.user) or generation is None:
                raise ProfileError(
                    f"This device does not hold the archive key of generation {header.generation} of that account.",
                    way_out="Run `holdfast maintain`; or bring your keys to this device: holdfast recover --help",
                )
            size = decrypt_rest(prefix, pieces(file), target, archive_key=generation.key, advance=advance)
    except HoldfastError as error:
        raise not_decrypted(error) from error
    return FileDone(generation.number, size, watch.seconds)


def decrypt_rest(
    prefix: bytes, rest: Iterable[bytes], target: Path, *, archive_key: SecretBytes, advance: Advance
) -> int:
    """Decrypt the pieces that follow a record's prefix into a new file, and return how many bytes it has.

    Raises NameTaken and FileFailed, and what `decrypt_segments` and `rest` raise; nothing is left behind then.
    """
    size = 0
    with whole_file(target) as out:
        for segment in decrypt_segments(prefix, rest, archive_key=archive_key):
            out.write(segment)
            size += len(segment)
            advance(size)
    return size


def not_decrypted(error: HoldfastError) -> WrongInput | TrustRefused:
    """Return the refusal of a file that is no record, or is not as it was encrypted."""
    if isinstance(error, Malformed):
        return WrongInput(f"This is no file that Holdfast encrypted: {error}.", way_out="Look for another file.")
    return TrustRefused(
        f"The file is not as it was encrypted: {error}.",
        way_out="It was cut, or changed, on its way or on its disk: take another copy. Nothing of it was kept.",
    )


def read_start(file: BinaryIO) -> bytes:
    """Read a record's prefix from the beginning of its file. Raises Malformed when it is none."""
    start = file.read(_START)
    return start + file.read(prefix_size(start) - len(start))


def pieces(file: BinaryIO) -> Iterator[bytes]:
    """Read what follows the prefix, cut as the record was written."""
    while piece := file.read(SEGMENT_SIZE + TAG_SIZE):
        yield piece


def _is_of_now(then: int, now: int) -> bool:
    """Tell whether a generation that began at `then` is the one to write under: this month's, or one still to come.

    The second was made under a clock that was ahead. The next would begin no earlier, so one more is of no use.
    """
    first, second = datetime.fromtimestamp(then, UTC), datetime.fromtimestamp(now, UTC)
    return (first.year, first.month) >= (second.year, second.month)
