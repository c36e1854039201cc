# SPDX-License-Identifier: Apache-2.0
"""Which keys a person's own account states as theirs as an officer, held to that person's account chain.

Implements ESCROW "Policy and officers" (each row of a roster rests on an `officer` statement) on the reader's machine.
Does not replace hearing: a server that hides a statement, or a whole account, is not found out here.
"""

from __future__ import annotations

from uuid import UUID

from holdfast.client.errors import Problem, TrustRefused
from holdfast.client.identity import chains, key_log, peers
from holdfast.client.profile.account import Account
from holdfast.core.base.errors import HoldfastError
from holdfast.core.identity.officers import OfficerStatement, verify_officer_statement
from holdfast.core.signed.cose import Sign1


def newest(account: Account, person: bytes) -> OfficerStatement | None:
    """Return what a person (16 bytes) last stated of their keys; None when the server shows nothing of it.

    Raises TrustRefused for a statement that their account chain, as it is in the key log, does not bear out.
    """
    try:
        answer = account.api.get("escrow/officer-statements", query={"person": str(UUID(bytes=person))})
    except Problem as problem:
        if problem.status != 404:
            raise
        return None  # a server of before there were any
    row = next(answer.many("statements"), None)
    if row is None:
        return None
    # What is known of the account already is not begun anew: another history of it would be found out.
    followed = chains.follow(account, person, peers.entries_of(account, person))
    if followed is None:
        raise TrustRefused("The server shows an officer's statement, and no account of the person whose it is.")
    state, _ = followed
    key_log.anchor(account, state)
    try:
        sign1 = Sign1.parse(row.octets("statement"))
        return verify_officer_statement(sign1, aik=state.aik, tenant=account.tenant, user=person)
    except HoldfastError as error:
        raise TrustRefused(f"What the server shows of an officer's keys is not to be trusted: {error}.") from error
