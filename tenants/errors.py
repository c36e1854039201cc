# SPDX-License-Identifier: Apache-2.0
"""What this app refuses. Titles are the first lines of the docstrings (docs/problems.md)."""

from __future__ import annotations

from kernel.errors import Conflict, Denied, Invalid, Unauthenticated, Unavailable


class EnrolmentRefused(Unauthenticated):
    """The enrolment code is unknown, used or expired."""

    # One text for every cause: which of them it was would help only someone who guesses.
    code = "enrolment-refused"
    default_detail = "The enrolment code is unknown, used or expired. Ask one of your officers for a new one."


class DeviceRevoked(Unauthenticated):
    """The request is signed by the key of a device that was revoked, for ever."""

    # Told to nobody but who holds its key: a look at the clock, as `unauthenticated` asks for, would be in vain.
    code = "device-revoked"
    default_detail = "This device was revoked: nothing it signs is taken any more."


class AccessSuspended(Unauthenticated):
    """The request is signed by a registered key, whose device, person or organisation is suspended or has ended."""

    code = "access-suspended"
    default_detail = "This device or program is suspended."


class InvitationRefused(Unauthenticated):
    """The invitation is unknown, used or expired."""

    # One text for every cause, as for codes.
    code = "invitation-refused"
    default_detail = "The invitation is unknown, used or expired. Ask whoever invited you for a new one."


class ResetRefused(Unauthenticated):
    """The link to a new password is unknown, used or expired."""

    # One text for every cause, as for invitations.
    code = "password-reset-refused"
    default_detail = "The link is unknown, used or expired. Ask for a new one at the sign-in."


class FactorsAway(Unavailable):
    """The keys of authenticators cannot be opened or sealed; nothing was done."""

    code = "second-factor-unavailable"
    default_detail = "Codes of authenticators cannot be checked at this moment. Nothing was used up; retry in a moment."


class NameRefused(Invalid):
    """A name, address or slug cannot be used."""

    code = "name-refused"


class NameTaken(Conflict):
    """A name or address is in use already, or reads like one that is."""

    code = "name-taken"


class ImportRefused(Invalid):
    """The file of people cannot be read; `line` names where."""

    code = "import-refused"


class PasswordRefused(Invalid):
    """The password is too short or too common."""

    code = "password-refused"


class CodeRefused(Invalid):
    """The one-time code does not belong to this key and this time."""

    code = "one-time-code-refused"


class TooManyCodes(Conflict):
    """This person has too many unused enrolment codes of one issuer."""

    code = "too-many-codes"


class ConfirmationRefused(Denied):
    """This person may not be the second behind an enrolment code."""

    code = "confirmation-refused"


class RootPinned(Conflict):
    """The tenant's root is pinned already and changes only by its own succession."""

    code = "root-pinned"


class LastOfficer(Conflict):
    """This is the tenant's last active owner or officer."""

    code = "last-officer"


class StepUpRefused(Invalid):
    """The one-time code does not confirm this act."""

    code = "step-up-refused"
    default_detail = (
        "This code did not match, or was used before, also to sign in. "
        "Wait for the authenticator's next one, and type that."
    )


class WordsChanged(Conflict):
    """What was shown is not what would be done now, or was shown elsewhere or too long ago."""

    code = "words-changed"
    default_detail = "This is not what was shown here, or something changed meanwhile. Read it again, then confirm it."


class NotASecondPerson(Denied):
    """This person may not be the second behind an act."""

    code = "not-a-second-person"


class TenantLocked(Conflict):
    """The organisation is locked: nothing is released, no case is opened and nobody is let in."""

    code = "tenant-locked"
    default_detail = (
        "An owner has locked the organisation. No case is opened, nothing is released and nobody is let in until two "
        "owners have unlocked it. Vetoes, denials, revocations and suspensions go on."
    )


class TenantEnds(Conflict):
    """The organisation ends: nobody new is let in."""

    code = "tenant-ends"
    default_detail = "The organisation ends, and lets nobody in any more. An owner or officer can stop its end before."
