# SPDX-License-Identifier: Apache-2.0
"""What custody refuses: one class for each reaction a caller can have. Codes are API (docs/problems.md).

Implements ESCROW "Policy and officers" and "Deposit". It knows no HTTP status: `kernel.problems` does.
"""

from __future__ import annotations

from kernel.errors import Conflict, Denied, Invalid, Unavailable


class EscrowOff(Conflict):
    """This tenant has no escrow policy or no escrow key yet."""

    code = "escrow-off"
    default_detail = (
        "Escrow is not set up: the tenant needs a policy of three officers and an escrow key. An owner or officer "
        "proposes the policy: holdfast officer policy propose. The operator's ceremony makes the key."
    )


class PolicyRefused(Invalid):
    """The policy statement does not follow from the one in force."""

    code = "policy-refused"


class ProposalRefused(Invalid):
    """The signature is not one on this proposal by one of those who are asked."""

    code = "proposal-refused"


class ProposalOver(Conflict):
    """The proposal is not open any more, or what it builds on has changed."""

    code = "proposal-over"


class PolicyInForce(Conflict):
    """The version to be withdrawn is in force, or was."""

    code = "policy-in-force"
    default_detail = "This version is in force already. Publish a further one that says what is to hold instead."


class EscrowPaused(Conflict):
    """Fewer than three officers are active: what is sealed now might never be opened."""

    code = "escrow-paused"
    default_detail = (
        "Nothing is taken into escrow now: fewer than three of your organisation's officers are active. What is in "
        "escrow stays. Officers have to come back, or to publish a policy with further ones. Then deposit again."
    )


class EscrowKeyRefused(Invalid):
    """The escrow-key statement does not follow from the one in force."""

    code = "escrow-key-refused"


class EscrowEnded(Conflict):
    """The escrow policy or the escrow key ran out, and its month of grace with it."""

    code = "escrow-ended"


class PolicyStale(Conflict):
    """The statement names a policy or an escrow key that is no longer in force."""

    code = "policy-stale"
    default_detail = "Fetch escrow/policy and escrow/key again, ask for consent, then retry."


class DepositRefused(Invalid):
    """The record does not fit the statement, the account chain or what is in force."""

    code = "deposit-refused"


class DepositRepeated(Conflict):
    """This deposit, or the half sealed in it, is in custody already."""

    code = "deposit-repeated"
    default_detail = "Make a fresh deposit: a half is sealed once and never again."


class GenerationSealed(Conflict):
    """A case has opened this generation when no device was left to replace its key: it takes no deposit any more."""

    code = "generation-sealed"
    default_detail = "Make a new archive key and deposit that: holdfast maintain. What is in escrow stays."


class OfficerNeeded(Conflict):
    """Fewer officers than the policy asks for would remain."""

    code = "officer-needed"


class OfficerStateRefused(Invalid):
    """The officer's statement about their own standing or another's does not hold."""

    code = "officer-state-refused"


class OfficerKeysRefused(Invalid):
    """The account's statement about its person's keys as an officer does not hold."""

    code = "officer-keys-refused"


class OfficerKeysStale(Conflict):
    """The person has stated other keys meanwhile."""

    code = "officer-keys-stale"
    default_detail = "Read your newest statement (escrow/officer-statements), and name it as the one before."


class DoorsUnproven(Conflict):
    """The person has not shown that two doors open their officers' section."""

    code = "doors-unproven"
    default_detail = "First set two doors of your officers' section and prove them: holdfast officer init."


class OfficerMoved(Conflict):
    """The officer's standing does not allow this change."""

    code = "officer-moved"


class ResolutionRefused(Invalid):
    """The resolution does not hold, or decides nothing that could be done."""

    code = "resolution-refused"


class NotCounting(Denied):
    """This officer's signature does not count now."""

    code = "not-counting"


class RecordUnreadable(Unavailable):
    """A stored deposit does not open or is not the one that was accepted."""

    code = "deposit-unreadable"
    default_detail = "A stored deposit could not be read. It is kept as it is; tell your operator."


class ConsentRefused(Invalid):
    """The consent is not this user's, or not about the policy in force."""

    code = "consent-refused"


class ConsentBinding(Conflict):
    """The yes cannot be taken back yet, by the policy that its person agreed to."""

    code = "consent-binding"
