# SPDX-License-Identifier: Apache-2.0
"""What `keys` asks before a chain begins anew: the policies of the tenant, and whether a case gives leave.

Implements PROTOCOL section 5, type 8: accepted after the policy's delay, on the device that the case names. That m
officers attested the key is checked by `holdfast.core.identity.chain`, on the bytes in the chain.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from escrow import access as escrow
from escrow.errors import EscrowOff
from holdfast.core.identity.policy import SignedPolicy
from kernel.clock import database_now
from keys.errors import RegenesisRefused
from recovery import access
from recovery.errors import RegenesisTooEarly
from recovery.states import CaseState

_LEAVE = frozenset({CaseState.COLLECTED, CaseState.ROTATED})


class Rules:
    """Registered with `keys` when the app is ready."""

    def policies(self) -> Sequence[SignedPolicy]:
        """Return every verified policy version of the open tenant, oldest first; none when escrow is off."""
        try:
            return escrow.trusted_tenant().standing
        except EscrowOff:
            return ()

    def is_being_recovered(self, device_id: UUID, user_id: UUID) -> bool:
        """Tell whether a case that is not over, or a request to contacts, is to give its release to this device."""
        return access.is_recipient(device_id, user_id)

    def require(self, *, user_id: UUID, case_id: UUID, device_hash: bytes) -> None:
        """Raise RegenesisRefused unless the case gave this user's key back to this very device of theirs.

        Raises RegenesisTooEarly until the policy's delay has run from the attestation that made the quorum.
        """
        case = access.case_for_release(case_id)
        if case is None or (case.subject_id, case.recipient_person_id) != (user_id, user_id):
            raise RegenesisRefused("The attestations name no case in which you recover your own keys.")
        if case.state not in _LEAVE or access.statement_of(case).recipient_device_hash != device_hash:
            raise RegenesisRefused("The case is not collected, or gave its release to another device.")
        m, terms, _ = access.terms_of(case, database_now())
        times = sorted(row.at for row in access.attestations_of(case))
        if len(times) < m:
            raise RegenesisRefused(f"{len(times)} of {m} officers have attested your new key.")
        earliest = times[m - 1] + timedelta(seconds=terms.delay_seconds)
        if database_now() < earliest:
            raise RegenesisTooEarly(earliest_at=earliest.strftime("%Y-%m-%dT%H:%M:%SZ"))
