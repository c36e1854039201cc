# SPDX-License-Identifier: Apache-2.0
"""The export of a long log, made by the server in the background: fetched piece by piece, and gone on with later.

Implements docs/formats/audit-log.md "Export". Its pieces lie beside the file that they become, under that file's name
with the export's id and `.part`: a later call with the same file goes on where this one ended, however it ended.
It verifies nothing: `log` does, once the file is whole.
"""

from __future__ import annotations

import contextlib
import glob
import gzip
import io
import os
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, cast
from uuid import UUID

from holdfast.client.errors import AnswerRefused, NotYet, Problem, Unreachable
from holdfast.client.profile.account import Account
from holdfast.client.server.answers import Answer
from holdfast.files import explained, whole_file

MAX_PIECE: Final = 64 * 1024 * 1024  # bytes: thousands of entries of 16 KiB; of common ones a piece has 1.5 MiB
MAX_PIECES: Final = 10_000  # forty million entries
_READ: Final = 1024 * 1024
_POLL_SECONDS: Final = 1.0
# The server says at each look how far it is. One that has not moved for so long has no worker, and tells its operator.
_PATIENCE_SECONDS: Final = 300
_TRIES: Final = 5  # of one piece, at a line that breaks

_AGAIN: Final = "Run the same command again: it goes on where this one stopped, for a day."

Tell = Callable[[int, int], object]


def fetch(account: Account, target: Path, *, log: str, maximum: int, tell: Tell) -> None:
    """Write the export of a log to a new file, of at most `maximum` bytes; tell how many entries of how many are there.

    Goes on with what an earlier call has left beside the file, while the server keeps it. Raises NotYet when the
    server makes no headway, and Unreachable when the line broke: what was fetched stays for the next call.
    """
    document, part = _begun(account, target, log)
    path = f"audit/exports/{UUID(bytes=document.identifier('id'))}"
    with _opened(part) as file:
        have, moved, done = _whole_pieces(file, document.numbers("ends", maximum=MAX_PIECES)), time.monotonic(), -1
        while True:
            ends, size = [0, *document.numbers("ends", maximum=MAX_PIECES)], document.number("size")
            if document.number("done") != done:
                done, moved = document.number("done"), time.monotonic()
            for number in range(have, len(ends) - 1):
                file.write(_piece(account, f"{path}/pieces/{number}", ends[number + 1] - ends[number]))
                tell(done * (number + 1) // (len(ends) - 1), size)
            have = len(ends) - 1
            if document.flag("ready"):
                break
            if time.monotonic() - moved > _PATIENCE_SECONDS:
                raise NotYet(
                    f"The server has made {done} of the export's {size} entries, and does not go on.",
                    way_out=f"{_AGAIN} Tell your operator if it stays so.",
                )
            time.sleep(_POLL_SECONDS)
            document = account.api.get(path)
    _unpack(part, target, maximum)
    part.unlink(missing_ok=True)


def _begun(account: Account, target: Path, log: str) -> tuple[Answer, Path]:
    """Return the export that an earlier call left pieces of beside the file, or another, and where its pieces lie."""
    for part in sorted(target.parent.glob(f"{glob.escape(target.name)}.*.part")):
        with contextlib.suppress(ValueError):
            export_id = UUID(part.name.removeprefix(f"{target.name}.").removesuffix(".part"))
            try:
                document = account.api.get(f"audit/exports/{export_id}")
            except Problem as problem:
                if problem.status != 404:
                    raise
            else:
                if document.text("log") == log and UUID(bytes=document.identifier("id")) == export_id:
                    return document, part
            # The server keeps it no longer, or it is of another log: nothing adds to these pieces any more.
            part.unlink(missing_ok=True)
    document = account.api.post("audit/exports", {"log": log})
    return document, target.with_name(f"{target.name}.{UUID(bytes=document.identifier('id'))}.part")


@contextlib.contextmanager
def _opened(part: Path) -> Iterator[BinaryIO]:
    """Open the pieces to add to them, for their owner alone; without a buffer, so that a kill loses none."""
    with explained(part):
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with io.FileIO(descriptor, "r+") as file:
            yield cast("BinaryIO", file)


def _whole_pieces(file: BinaryIO, ends: list[int]) -> int:
    """Cut off what is of a piece that did not come whole, and return how many there are."""
    length = file.seek(0, os.SEEK_END)
    whole = [end for end in ends if end <= length]
    file.truncate(whole[-1] if whole else 0)
    file.seek(0, os.SEEK_END)
    return len(whole)


def _piece(account: Account, path: str, size: int) -> bytes:
    """Fetch one piece whole, trying again where the line breaks."""
    if not 0 < size <= MAX_PIECE:
        raise AnswerRefused("The server's answer is wrong: ends of pieces that cannot be.")
    for attempt in range(_TRIES):
        try:
            octets = b"".join(account.api.download(path, maximum=size))
        except Unreachable as error:
            if attempt == _TRIES - 1:
                raise Unreachable(str(error), way_out=_AGAIN) from error
            time.sleep(_POLL_SECONDS)
        else:
            break
    if len(octets) != size:
        raise AnswerRefused("The server's answer is wrong: a piece of the export is shorter than it said.")
    return octets


def _unpack(part: Path, target: Path, maximum: int) -> None:
    """Write what the pieces are together, at most `maximum` bytes: packed, little can be very much."""
    written = 0
    try:
        # What is no gzip is an OSError of Python's own, and nothing of the system's to explain.
        with gzip.open(part) as packed, whole_file(target) as out:
            while octets := packed.read(_READ):
                written += len(octets)
                if written > maximum:
                    raise AnswerRefused("The server's answer is wrong: the export is longer than a log may be.")
                out.write(octets)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        part.unlink(missing_ok=True)
        raise AnswerRefused(f"The server's answer is wrong: the pieces are no file ({error}).") from error
