# SPDX-License-Identifier: Apache-2.0
"""What getting a key out refuses: one class for each reaction a caller can have. Codes are API.

Implements ESCROW "Case". It knows no HTTP status: `kernel.problems` does.
"""

from __future__ import annotations

from kernel.errors import Conflict, Denied, Invalid, NotFound


class CaseRefused(Invalid):
    """The case statement does not fit the deposits, the policy or the device that signed it."""

    code = "case-refused"


class TooFewOfficers(Conflict):
    """Fewer officers are eligible than the policy asks for, so this case could never be released."""

    code = "too-few-officers"


class CaseExists(Conflict):
    """This case is open already."""

    code = "case-exists"
    default_detail = "Make a fresh case: a case id and its keys serve once."


class CaseMoved(Conflict):
    """The case is no longer in a state that allows this."""

    code = "case-moved"


class NotEligible(Denied):
    """This person may not decide this case."""

    code = "not-eligible"


class ApprovalRefused(Invalid):
    """The approval does not fit the case, the officer or the shares that came with it."""

    code = "approval-refused"


class NotReleased(Conflict):
    """The case is not released, so there is nothing to collect."""

    code = "not-released"


class VetoNotLoggedYet(NotFound):
    """No signed head of the audit log covers this device's veto yet."""

    code = "veto-not-logged-yet"
    default_detail = "The log's next signed head will cover it, within a minute. Retry then."


class BlameRefused(Invalid):
    """The shares said to be wrong are not ones that were released, or enough others are left."""

    code = "blame-refused"


class AttestationRefused(Invalid):
    """The attestation does not fit the case or the officer who signed it."""

    code = "attestation-refused"


class RegenesisTooEarly(Conflict):
    """The policy's delay before an account chain begins anew is not over."""

    code = "re-genesis-too-early"
    default_detail = "Your officers have attested your new key; the policy's delay still runs. Retry then."


class OfficerInOffice(Conflict):
    """The person is an officer of the escrow policy, and has to be taken out of it before they go."""

    code = "officer-in-office"


class ContactsRefused(Invalid):
    """The manifest of trusted contacts, or the request to them, does not fit the account or the device."""

    code = "contacts-refused"


class ContactsStale(Conflict):
    """The trusted contacts were changed meanwhile; read them again."""

    code = "contacts-stale"


class ContactRequestMoved(Conflict):
    """The request to the trusted contacts is in a state that does not allow this."""

    code = "contact-request-moved"


class TooManyContactRequests(Conflict):
    """Several devices of this user ask the trusted contacts already."""

    code = "too-many-contact-requests"
    default_detail = "Veto or cancel the requests that are open, from a device of yours."
