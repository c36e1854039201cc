# SPDX-License-Identifier: Apache-2.0
"""What the key directory refuses, one class per code. Codes are API and are printed in docs/problems.md."""

from __future__ import annotations

from kernel.errors import Conflict, Denied, Invalid, NotFound, Throttled, Unavailable


class DeviceKnown(Conflict):
    """This device, or this device statement, is enrolled already."""

    code = "device-known"


class DeviceMismatch(Invalid):
    """The statement is not about this device, user and tenant."""

    code = "device-mismatch"


class ChainStale(Conflict):
    """The account chain has moved on; read the newer entries first."""

    code = "chain-stale"


class ChainFork(Conflict):
    """Another entry with a valid signature has this place in the account chain."""

    code = "chain-fork"


class ChainRefused(Invalid):
    """The account chain cannot take these entries together."""

    code = "chain-refused"


class NothingRestored(Conflict):
    """No backup was put back that was accepted within 90 days, so nothing is given back."""

    code = "nothing-restored"
    default_detail = "This server has lost nothing that it could be given back. Append to the chain as always."


class NotLoggedYet(NotFound):
    """No signed head of the key log covers this entry yet."""

    code = "not-logged-yet"
    default_detail = "The key log's next signed head will cover this entry, within a minute. Retry then."


class RegenesisRefused(Denied):
    """The officers' attestations do not allow this account chain to begin anew."""

    code = "regenesis-refused"


class PreKeyReused(Conflict):
    """A pre-key id of this device was used for another key."""

    code = "pre-key-id-reused"


class PreKeyOlder(Conflict):
    """A newer signed pre-key is published already."""

    code = "pre-key-older"


class PreKeyStale(Conflict):
    """Another signed pre-key was published meanwhile; read which by a check."""

    code = "pre-key-stale"
    default_detail = "Ask for a check, then publish on top of the signed pre-key that it names."


class SuccessorStale(Conflict):
    """Another successor of this device waits already; read your devices again."""

    code = "successor-stale"
    default_detail = "Read your devices, then register on top of the successor that waits."


class ClaimLimit(Throttled):
    """Too many one-time pre-keys were claimed within the hour."""

    code = "claim-limit"


class EnvelopesMismatch(Invalid):
    """The envelopes are not for exactly the recipient's active devices."""

    code = "envelopes-mismatch"


class MailboxFull(Conflict):
    """A mailbox holds as much as it may; its device has to fetch its messages first."""

    code = "mailbox-full"
    default_detail = "A device of the recipient has not fetched its messages for long. Try again when it has."


class MessageLimit(Throttled):
    """Too many messages were sent within the hour."""

    code = "message-limit"
    default_detail = "You sent as many messages as one person may in an hour."


class VaultStale(Conflict):
    """The vault or the door was written meanwhile; read it again."""

    code = "vault-stale"


class DoorNeeded(Conflict):
    """An officer keeps two doors of their section that they have shown to open."""

    code = "door-needed"
    default_detail = "Set and prove another door first (holdfast officer doors): an officer in office keeps two."


class DoorUnproven(Invalid):
    """The proof does not say that the account has just opened this door."""

    code = "door-unproven"


class IfMatchMissing(Invalid):
    """This address needs an If-Match header with the version last read."""

    code = "if-match-missing"


class NoTenantKey(Unavailable):
    """The tenant has no master key yet, so nothing can be stored encrypted."""

    code = "no-tenant-key"
    default_detail = "The tenant has no master key. Its operator has to finish creating it."
