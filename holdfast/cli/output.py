# SPDX-License-Identifier: Apache-2.0
"""Standard output and standard error: what is written there has left this process, or the command says that it has not.

Implements the rule that nothing is done away with before it was shown whole, or written and flushed.
Does not choose the words: `shell` does.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import stat
import sys
from typing import Final, TextIO

from holdfast.client.errors import MachineError
from holdfast.core.base.text import encodable, is_encodable

_HANDLER: Final = "holdfast.written-out"
# Answers of fsync for what has no disk behind it: a pipe, a terminal, a socket.
_NOT_ON_A_DISK: Final = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EROFS})


class NotShown(MachineError):
    """What a command has to say could not be written."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"What this command says could not be written: {reason}.",
            way_out="What it did stays done. What is handed out once is kept, and comes again with the next command.",
        )


def prepare_streams() -> None:
    """Have both streams write <U+0645> for a character that their encoding has not, also in help and prompts.

    Where it matters whether all of a text is seen, `can_show` tells.
    """
    codecs.register_error(_HANDLER, _written_out)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not stream.closed:
            stream.reconfigure(errors=_HANDLER)


def _written_out(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return encodable(error.object[error.start : error.end], "ascii"), error.end


def encoding_of(stream: TextIO | None) -> str:
    """Return a stream's encoding; that of a stream which has none, as in memory, is UTF-8."""
    return getattr(stream, "encoding", None) or "utf-8"


def is_terminal(*streams: TextIO | None) -> bool:
    """Tell whether each of these streams is a terminal; one that the command was started without is none."""
    return all(stream is not None and not stream.closed and stream.isatty() for stream in streams)


def can_show(text: str) -> bool:
    """Tell whether standard output has every character of a text, so that whoever reads it there has all of it."""
    return is_encodable(text, encoding_of(sys.stdout))


def put(text: str, *, is_error: bool = False) -> None:
    """Write text to standard output, or to standard error, and see that it has left: flushed, a file to its disk.

    Raises NotShown when it has not, in whole or in part. A stream that has failed takes nothing more.
    """
    stream = sys.stderr if is_error else sys.stdout
    # So it is where a shell started the command with the stream closed; writing would then be silent.
    if stream is None:
        raise NotShown("it is closed")
    try:
        stream.write(text)
        stream.flush()
        _sync(stream)
    except (OSError, ValueError) as error:
        _discard(stream)
        # ValueError: the stream was closed by this process.
        raise NotShown((error.strerror if isinstance(error, OSError) else None) or str(error)) from None


def _sync(stream: TextIO) -> None:
    """Bring a file to the disk: a full one may say so here and nowhere else (write(2), "Notes")."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):
        return  # in memory
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_ON_A_DISK:
            raise


def _discard(stream: TextIO) -> None:
    """Lead a stream that failed to nowhere: what it still holds would fail again, over our exit code, at the end."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)
