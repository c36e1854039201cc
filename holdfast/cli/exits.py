# SPDX-License-Identifier: Apache-2.0
"""Exit codes: one for each reaction that a script can have.

Implements the table in the top-level help; the numbers are API and never change their meaning.
Does not print.
"""

import errno
from enum import IntEnum
from typing import Final

from holdfast.cli.later import later
from holdfast.client import errors
from holdfast.core.base.errors import HoldfastError, Mistyped, Unusable

with later():
    from holdfast import files


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

# A name was given that leads to nothing, or to something else; whatever else is refused is the machine's matter.
_OF_A_NAME: Final = frozenset(
    {
        errno.ENOENT,
        errno.EEXIST,
        errno.EISDIR,
        errno.ENOTDIR,
        errno.ENAMETOOLONG,
        errno.ELOOP,
        errno.EILSEQ,
        errno.EBADF,
    }
)

# First match wins, so that the narrow classes stand before the wide ones.
_BY_ERROR: Final[tuple[tuple[type[Exception], Exit], ...]] = (
    (errors.WrongInput, Exit.INPUT),
    (errors.MachineError, Exit.MACHINE),
    (errors.RaceLost, Exit.AGAIN),
    (errors.ServerReadOnly, Exit.NOT_YET),
    (errors.Problem, Exit.REFUSED),
    (errors.Unreachable, Exit.UNREACHABLE),
    (errors.ProfileBusy, Exit.AGAIN),
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
    (Unusable, Exit.INPUT),
    (HoldfastError, Exit.UNTRUSTED),
    (OSError, Exit.MACHINE),
)


def said_of(error: Exception) -> tuple[str, str]:
    """Return an error's sentence and its way out. What the operating system refuses is put into words."""
    if isinstance(error, errors.ClientError):
        return str(error), error.way_out
    if isinstance(error, OSError) and error.errno is not None:
        found = files.in_words(error)
        return str(found), found.way_out
    return str(error) or type(error).__name__, ""


def exit_for(error: Exception) -> Exit:
    """Return the exit code of an error that a person should read; re-raises one that is a bug of ours."""
    if isinstance(error, errors.Problem) and error.is_race_lost:
        return Exit.AGAIN
    if isinstance(error, OSError) and error.errno in _OF_A_NAME:
        return Exit.INPUT
    for kind, code in _BY_ERROR:
        if isinstance(error, kind):
            return code
    raise error
