# SPDX-License-Identifier: Apache-2.0
"""Exit codes: one for each reaction that a script can have.

Implements the table in the top-level help; the numbers are API and never change their meaning.
Does not print.
"""

import errno
from enum import IntEnum
from typing import Final

from holdfast.client import errors
from holdfast.core.base.errors import HoldfastError, Mistyped, Unusable
from holdfast.core.crypto.phrase import PhraseError


class Exit(IntEnum):
    """What a command ended with."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_ANCHORED = 3
    REFUSED = 4
    UNREACHABLE = 5
    PROFILE = 6
    UNTRUSTED = 7
    ASK_PERSON = 8
    NOT_YET = 9
    INPUT = 10
    MACHINE = 11
    SERVER = 12
    AGAIN = 13


MEANINGS: Final = {
    Exit.DONE: "done",
    Exit.FAILED: "it failed; for `audit verify` and `archive verify`: the evidence is broken, and the first bad entry "
    "is named",
    Exit.USAGE: "the command was not understood",
    Exit.NOT_ANCHORED: "`audit verify`, `archive verify`: self-consistent, but nothing was given that leads to it "
    "(--trust, --q)",
    Exit.REFUSED: "the server refused and said why",
    Exit.UNREACHABLE: "no answer came; trying again is safe",
    Exit.PROFILE: "the profile or its passphrase cannot be used",
    Exit.UNTRUSTED: "something signed does not follow from what is pinned: do not go on",
    Exit.ASK_PERSON: "a person must decide or confirm first",
    Exit.NOT_YET: "under way: ask again later",
    Exit.INPUT: "what was typed or given cannot be used: correct it",
    Exit.MACHINE: "this machine did not do its part: its disk, the rights of a file, its keyring",
    Exit.SERVER: "an answer outside the protocol, from the server or from what stands before it",
    Exit.AGAIN: "another device or command of yours was first: run it again",
}

# The same in a few words, for a list in which only some of them stand.
SHORT: Final = {
    Exit.DONE: "done",
    Exit.FAILED: "it failed",
    Exit.USAGE: "the command was not understood",
    Exit.NOT_ANCHORED: "self-consistent, not anchored",
    Exit.REFUSED: "the server refused",
    Exit.UNREACHABLE: "no answer",
    Exit.PROFILE: "the profile cannot be used",
    Exit.UNTRUSTED: "do not go on: something signed does not follow from what is pinned",
    Exit.ASK_PERSON: "a person must decide first",
    Exit.NOT_YET: "ask again later",
    Exit.INPUT: "what was given cannot be used",
    Exit.MACHINE: "this machine did not do its part",
    Exit.SERVER: "an answer outside the protocol",
    Exit.AGAIN: "another device or command of yours was first: run it again",
}

_NAME_ANOTHER: Final = "Look at the name, and run the command again."
_MAKE_ROOM: Final = "Make room there, and run the command again."
_NO_RIGHTS: Final = ("This user may not use {what} so.", "See its rights with ls -l, or name a place of your own.")

# What the operating system's commonest refusals are called by the person whose file it is.
_BY_NUMBER: Final[dict[int, tuple[str, str]]] = {
    errno.ENOENT: ("{what} is not there.", _NAME_ANOTHER),
    errno.ENOTDIR: ("{what} is not there: a part of the name is no directory.", _NAME_ANOTHER),
    errno.EISDIR: ("{what} is a directory.", "Name a file."),
    errno.EEXIST: ("{what} is there already.", "Name another: nothing is written over."),
    errno.ENAMETOOLONG: ("{what} is too long a name.", _NAME_ANOTHER),
    errno.EBADF: ("{what} is not an open descriptor.", "Open it for the command, as in: 3< FILE"),
    errno.ENOSPC: ("There is no room left on the disk for {what}.", _MAKE_ROOM),
    errno.EDQUOT: ("This user's share of the disk is used up: {what}.", _MAKE_ROOM),
    errno.EROFS: ("{what} is on a disk that cannot be written to.", "Name a place on another."),
    errno.EACCES: _NO_RIGHTS,
    errno.EPERM: _NO_RIGHTS,
}

# What was given is wrong, where Python has no class of its own for it.
_GIVEN_WRONG: Final = (errno.EBADF, errno.ENAMETOOLONG)

# First match wins, so that the narrow classes stand before the wide ones.
_BY_ERROR: Final[tuple[tuple[type[Exception], Exit], ...]] = (
    (errors.WrongInput, Exit.INPUT),
    (errors.MachineError, Exit.MACHINE),
    (errors.RaceLost, Exit.AGAIN),
    (errors.Problem, Exit.REFUSED),
    (errors.Unreachable, Exit.UNREACHABLE),
    (errors.ProfileError, Exit.PROFILE),
    (errors.PeerChanged, Exit.ASK_PERSON),
    (errors.AddressChanged, Exit.ASK_PERSON),
    (errors.ConsentNeeded, Exit.ASK_PERSON),
    (errors.WrongWords, Exit.ASK_PERSON),
    (errors.NotYet, Exit.NOT_YET),
    (errors.TrustRefused, Exit.UNTRUSTED),
    (errors.AnswerRefused, Exit.SERVER),
    (errors.ClientError, Exit.FAILED),
    (Mistyped, Exit.INPUT),
    (PhraseError, Exit.INPUT),
    (Unusable, Exit.INPUT),
    (HoldfastError, Exit.UNTRUSTED),
    # A name that leads to nothing, or to something else, was given; whatever else is refused is the machine's matter.
    (FileNotFoundError, Exit.INPUT),
    (FileExistsError, Exit.INPUT),
    (IsADirectoryError, Exit.INPUT),
    (NotADirectoryError, Exit.INPUT),
    (OSError, Exit.MACHINE),
)


def said_of(error: Exception) -> tuple[str, str]:
    """Return an error's sentence and its way out. What the operating system refuses is put into words."""
    if isinstance(error, errors.ClientError):
        return str(error), error.way_out
    if not isinstance(error, OSError) or error.errno is None:
        return str(error) or type(error).__name__, ""
    what = str(error.filename) if error.filename is not None else "What was asked for"
    sentence, way_out = _BY_NUMBER.get(error.errno, ("{what}: {why}.", ""))
    return sentence.format(what=what, why=error.strerror), way_out


def exit_for(error: Exception) -> Exit:
    """Return the exit code of an error that a person should read; re-raises one that is a bug of ours."""
    if isinstance(error, errors.Problem) and error.is_race_lost:
        return Exit.AGAIN
    if isinstance(error, OSError) and error.errno in _GIVEN_WRONG:
        return Exit.INPUT
    for kind, code in _BY_ERROR:
        if isinstance(error, kind):
            return code
    raise error
