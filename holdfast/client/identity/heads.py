# SPDX-License-Identifier: Apache-2.0
"""The signed heads of the tenant's two logs as one profile holds them: whose signature they bear, which one is kept.

Implements PROTOCOL section 8 for whoever follows a log by its heads. Asks nobody, and compares nothing: `key_log` does
for the log of keys, `restored` where a backup was put back, `auditor` for the audit log.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final
from uuid import UUID

from holdfast.client.errors import TrustRefused, damaged
from holdfast.client.profile.account import Account
from holdfast.core.base.errors import HoldfastError, InvalidSignature, Malformed
from holdfast.core.log.checkpoint import Checkpoint, LogVerifier
from holdfast.core.log.key_log import keys_verifier
from holdfast.core.log.log_entry import log_origin
from holdfast.core.log.writers import Role

MAX_NOTE: Final = 4096  # bytes: a head is 300, with room for a dozen witnesses
KEYS: Final = "keys"
AUDIT: Final = "audit"
LOGS: Final = (KEYS, AUDIT)


def verifier(account: Account, log: str = KEYS) -> LogVerifier | None:
    """Return the verifier of one of the tenant's logs, or None when this profile has no log key pinned."""
    try:
        # Both logs are signed by one key; either name pins it.
        known = keys_verifier(account.state.trust.log_keys, account.tenant)
    except Malformed as error:
        raise damaged("its pinned log key is none") from error
    return LogVerifier(log_origin(str(UUID(bytes=account.tenant)), log), known.keys) if known else None


def of_any_day(account: Account, known: LogVerifier) -> LogVerifier:
    """Return the verifier of heads from earlier, which a key may have signed that has ended since."""
    roles = account.roles
    return replace(known, keys=(*known.keys, *roles.roles.all_of(Role.LOG))) if roles else known


def kept(account: Account, known: LogVerifier) -> Checkpoint | None:
    """Return the newest head of a log that this client has accepted, verified again as it is read."""
    note = account.state.trust.checkpoints.get(known.name)
    if note is None:
        return None
    try:
        return of_any_day(account, known).open_checkpoint(note)
    except HoldfastError as error:
        raise TrustRefused(f"The log head kept in this profile does not hold: {error}.") from error


def own(account: Account, log: str = KEYS) -> str:
    """Return the note of the newest head of a log that this client has accepted; "" for none."""
    known = verifier(account, log)
    return account.state.trust.checkpoints.get(known.name, "") if known else ""


def keep(account: Account, known: LogVerifier, note: str) -> None:
    """Keep a head that was held to the one kept before, in its place."""
    account.state.trust.checkpoints[known.name] = note
    account.save()


def read(account: Account, known: LogVerifier | None, text: str) -> Checkpoint | None:
    """Return the head in a note that a key of this log has signed, today's or one that has ended; None for any other.

    None without a log key as well: nothing can be told of any head then.
    """
    try:
        return of_any_day(account, known).open_checkpoint(text) if known and len(text) <= MAX_NOTE else None
    except (Malformed, InvalidSignature):
        return None
