# SPDX-License-Identifier: Apache-2.0
"""The client's refusals: one class for each reaction that a caller, or the person at the screen, can have.

Whose matter it is decides the class, and with it the advice and the exit code of the command:

    WrongInput            what was typed or given: correct it
    NotPossible           what was asked does not go with how things stand: ask for something else
    ProfileError          the profile: none, not enrolled, damaged, without the key that is needed
    MachineError          this machine: its disk, the rights of a file, its keyring
    Unreachable           the network: no answer came
    Problem               the server: it refused and said why
    AnswerRefused         the server, or what stands before it: an answer outside the protocol
    RaceLost              another device or command of the same person was first: run it again
    ServerReadOnly NotYet time, or a person's yes
    ConsentNeeded
    WrongWords
    TrustRefused          what other people signed, or the server claims of it: an attack, or to be looked into

A slip of one's own is never announced as an attack, and no attack as a slip: where the bytes cannot tell, the sentence
names both.

Implements RFC 9457 on the receiving side. Refusals of signed bytes stay those of `holdfast.core.base.errors`.
Does not print: every error carries a sentence for people and, where there is one, the way out.
"""

from collections.abc import Sequence
from typing import Final

from holdfast.core.base.errors import Expired

# What a person can do about a problem code. A code without a line here has its detail only.
_WAYS_OUT: Final = {
    "unauthenticated": "Check this machine's clock, and that the address is your server's: `holdfast doctor`.",
    "device-revoked": "If it was not you, tell your officers, and look on another device of yours: holdfast devices "
    "list. To go on here, begin in another --profile, with a fresh code: holdfast enrol.",
    "access-suspended": "Ask your officers or the owner of your organisation. Your keys stay on this device.",
    "enrolment-refused": "Ask an officer for a fresh enrolment code: a code works once and expires.",
    "idempotency-key-reused": "Run the command again.",
    "escrow-paused": "Keep your devices: they deposit by themselves once officers are back. What is in escrow stays.",
    "hsm-unavailable": "Nothing was done. Try again in a minute; your operator sees the alarm.",
    "too-few-officers": "Too few officers may approve this case. Ask your tenant's owner to appoint officers.",
    "escrow-off": "Your organisation's escrow is not set up yet: ask its officers.",
    "escrow-ended": "Nothing is lost: what is deposited stays. Tell your officers to sign a new policy.",
    "tenant-locked": "An owner of your organisation has locked it, and ends that: ask them.",
    "mailbox-full": "Wait until the other device has fetched its messages, and run the command again.",
    "words-changed": "Read anew what would be done: run the command again.",
    "one-time-code-refused": "Wait for your authenticator's next code, and give that one.",
    "step-up-refused": "Wait for your authenticator's next code, and give that one.",
    "audit-unavailable": "Nothing was done. Try again in a minute; if this goes on, tell your operator.",
    "unavailable": "Nothing was done. Try again in a minute; if this goes on, tell your operator.",
    "internal": "Try again in a minute; if this goes on, tell your operator when it happened.",
    "record-unreadable": "Tell your operator: a stored record has to be looked at.",
    "log-broken": "Tell your operator, your officers and your auditor.",
    "log-restored": "Nothing is lost. Your officers accept what was put back (holdfast officer resolve accept-log), "
    "your operator goes on, and everything goes out by itself.",
    "denied": "Your role does not allow this. Ask the owner of your tenant.",
    "not-found": "Check the id: what belongs to others is not shown as existing.",
}

_AGAIN: Final = "Another of your devices, or another person, was first. Run the command again."
_CLOCK: Final = "First look whether this machine's date and time are right: holdfast doctor."
_DISTRUST: Final = "Nothing of it was believed or kept. Try again later; if this goes on, tell your officers."


class ClientError(Exception):
    """Root of the client's refusals."""

    def __init__(self, message: str, *, way_out: str = "") -> None:
        super().__init__(message)
        self._way_out = way_out

    @property
    def way_out(self) -> str:
        """What a person can do, or nothing."""
        return self._way_out


# Another device of the same person, or another officer, wrote first: the same command reads that and goes on.
_RACES: Final = frozenset(
    {
        "chain-stale",
        "conflict",
        "contacts-stale",
        "officer-keys-stale",
        "policy-stale",
        "pre-key-stale",
        "successor-stale",
        "vault-stale",
    }
)


class Problem(ClientError):
    """The server refused a request and said why (RFC 9457).

    status: the HTTP status. code: stable, listed in docs/problems.md. errors: (field, detail) pairs. retry_after: the
    seconds that the server asks to wait, 0 when it asks for none.
    """

    def __init__(
        self,
        *,
        status: int,
        code: str,
        detail: str,
        errors: Sequence[tuple[str, str]] = (),
        way_out: str = "",
        retry_after: float = 0,
    ) -> None:
        super().__init__(detail, way_out=way_out or _WAYS_OUT.get(code, _AGAIN if code in _RACES else ""))
        self.status = status
        self.code = code
        self.errors = tuple(errors)
        self.retry_after = retry_after

    @property
    def field(self) -> str:
        """The first field at fault, or "" when the problem is not about one."""
        return self.errors[0][0] if self.errors else ""

    @property
    def is_race_lost(self) -> bool:
        """Whether somebody was only faster: the same act, run again, may pass."""
        return self.code in _RACES


class ServerReadOnly(Problem):
    """The server found that a backup was put back, and changes nothing until officers have accepted that.

    Nothing was done, and what waits to be sent goes on waiting. Asking again at once changes nothing.
    """


class WrongInput(ClientError):
    """What was typed or given cannot be used: a name, an id, a date, a file of another kind. Correcting it helps."""


class WrongSecret(WrongInput):
    """A password or a phrase does not open what it was typed for."""


class NotPossible(ClientError):
    """What was asked does not go with how things stand: there is no such thing, or it has ended, or it is not theirs.

    Nothing is broken, and asking again changes nothing.
    """


class MachineError(ClientError):
    """This machine does not do its part: its disk is full, a file is open to others, its keyring is locked."""


class Unreachable(ClientError):
    """No answer came: the address is wrong, the server is down, or the network is. Retrying is safe."""


class NotTheServer(Unreachable):
    """Whoever answers at the address does not prove to be the server: its certificate does not hold here."""


class RaceLost(ClientError):
    """Another device or another command of the same person was first. Run again, it goes on from what that one did."""

    def __init__(self, message: str, *, way_out: str = "") -> None:
        super().__init__(message, way_out=way_out or "Run the command again.")


class AnswerRefused(ClientError):
    """The server, or what stands before it, answered with something outside the protocol. Nothing of it was kept."""

    def __init__(self, message: str, *, way_out: str = "") -> None:
        super().__init__(message, way_out=way_out or "Update this program; if this goes on, tell your operator.")


class ProfileError(ClientError):
    """The profile on this machine cannot be used: none, damaged, not enrolled, or without the key that is needed."""


class ProfileBusy(ProfileError):
    """Another program holds the profile, and has not let go of it in the time that was waited. Trying again is safe."""


class WrongPassphrase(ProfileError):
    """The passphrase does not open this profile."""


class UpdateNeeded(ProfileError):
    """A newer version of this program wrote what is to be read. It is whole: this program is to be updated."""

    def __init__(self, what: str = "this profile") -> None:
        super().__init__(
            f"A newer version of Holdfast wrote {what}. Nothing is damaged.",
            way_out="Update Holdfast on this machine, and run the command again.",
        )


class TrustRefused(ClientError):
    """Signed things that should follow from what is pinned do not. An attack, or a mistake to be looked into."""

    def __init__(self, message: str, *, way_out: str = "") -> None:
        super().__init__(message, way_out=way_out or _DISTRUST)

    @property
    def way_out(self) -> str:
        """What a person can do. Of what is outside its time, their own clock is the likeliest cause."""
        return f"{_CLOCK} {self._way_out}" if isinstance(self.__cause__, Expired) else self._way_out


RESTORED: Final = (
    "If a backup was put back, nothing is lost: your officers accept that (holdfast officer resolve accept-log), your "
    "operator goes on, and your devices give back what the server lacks. If nobody put one back, somebody is shown "
    "another log than you: show this to your officers and your auditor, and go on with nothing of it."
)


class ServerRestored(TrustRefused):
    """The server's log is not the one it has shown before: a backup was put back, or it shows two histories.

    Which of both, only the officers can say. Both signed heads are kept as evidence, and the server was shown what it
    lacks, by which it stops.
    """


class PeerChanged(TrustRefused):
    """A contact's account was begun again: to this client they are another person until a human confirms."""


class AddressChanged(TrustRefused):
    """An e-mail address names another person than the one it was pinned to, or nobody: a human has to say who."""


class ConsentNeeded(ClientError):
    """The act needs the person's own yes, which only they can give."""


class WrongWords(ClientError):
    """The words typed are not those of the recipient's key: stop, and speak to the person again."""


class WordsNeeded(WrongWords):
    """Words were not typed, or those of other places than asked for. places: 1 to 8, where they are asked for."""

    def __init__(self, message: str, *, places: Sequence[int], way_out: str) -> None:
        super().__init__(message, way_out=way_out)
        self.places = tuple(places)


class NotYet(ClientError):
    """The thing is under way and not due: officers are still to answer, or the delay runs."""


def damaged(error: object) -> ProfileError:
    """Return the refusal of a profile file that does not read or open."""
    return ProfileError(
        f"The profile is damaged ({error}).", way_out="Restore it from a backup, or recover the account."
    )
