# SPDX-License-Identifier: Apache-2.0
"""Which keys a person's own account states as theirs as an officer, held to that person's account chain.

Implements ESCROW "Policy and officers" (each row of a roster rests on an `officer` statement) on the reader's machine.
Does not replace hearing: a server that hides a statement, or a whole account, is not found out here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from holdfast.client.errors import Problem, TrustRefused
from holdfast.client.identity import chains, key_log, peers
from holdfast.client.profile.account import Account
from holdfast.client.profile.state import OfficerPublicKeys
from holdfast.client.vault import vault
from holdfast.core.base.errors import HoldfastError
from holdfast.core.identity.officers import OfficerStatement, verify_officer_statement
from holdfast.core.signed.cose import Sign1

PATH: Final = "escrow/officer-statements"


@dataclass(frozen=True)
class StatedKeys:
    """A statement of this account, and the keys that it says. is_by_aik: signed by the identity key of now."""

    statement: Sign1
    keys: OfficerPublicKeys
    is_by_aik: bool


def newest_own(account: Account) -> StatedKeys | None:
    """Return what this account last stated, under an identity key of now or before; None when the server shows nothing.

    Raises TrustRefused for a statement by no identity key of the account.
    """
    row = next(account.api.get(PATH, query={"person": account.user_text}).many("statements"), None)
    if row is None:
        return None
    try:
        statement = Sign1.parse(row.octets("statement"))
        state = vault.chain_of(account)
        key = next((one for one in (state.aik, *state.former_aiks) if one.kid == statement.kid), state.aik)
        said = verify_officer_statement(statement, aik=key, tenant=account.tenant, user=account.user)
    except HoldfastError as error:
        raise distrust(f"A statement about your officer's keys is not to be trusted: {error}.") from error
    keys = OfficerPublicKeys(said.signing_key.encoded, said.sealing_key.encoded)
    return StatedKeys(statement, keys, is_by_aik=key == state.aik)


def distrust(message: str) -> TrustRefused:
    """Return the refusal of a statement in this person's own name."""
    return TrustRefused(
        message, way_out="Sign no policy. Tell the other officers: somebody has a device of yours, or the server lies."
    )


def newest(account: Account, person: bytes) -> OfficerStatement | None:
    """Return what a person (16 bytes) last stated of their keys; None when the server shows nothing of it.

    Raises TrustRefused for a statement that their account chain, as it is in the key log, does not bear out.
    """
    try:
        answer = account.api.get(PATH, query={"person": str(UUID(bytes=person))})
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
