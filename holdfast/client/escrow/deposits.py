# SPDX-License-Identifier: Apache-2.0
"""Deposits as the server shows them, held to everything they claim: for their owner, officers and recipients.

Implements ESCROW "Deposit" on the reading side, and FAULTS S9, C4 and C10.
Does not make deposits (`escrow`) nor open them (`officer`, `recovery`).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from holdfast.client.errors import TrustRefused
from holdfast.client.identity import chains, device
from holdfast.client.profile.account import Account, read_many
from holdfast.core.base.encoding import MAX_BLOB
from holdfast.core.base.errors import HoldfastError
from holdfast.core.escrow.deposit import Deposit
from holdfast.core.escrow.receipt import verify_receipt
from holdfast.core.identity.chain import ChainState
from holdfast.core.identity.entries import AddDevice, Entry
from holdfast.core.identity.policy import SignedPolicy
from holdfast.core.identity.trust import SignedTenantKey, verify_escrow_keys
from holdfast.core.signed.cose import Purpose, Sign1
from holdfast.core.signed.statements import DepositStatement, DeviceStatement, EscrowKey


@dataclass(frozen=True)
class VerifiedDeposit:
    """A deposit that its subject's own device made and signed, under a policy and an escrow key of the pin."""

    deposit: Deposit
    policy: SignedPolicy
    escrow_key: SignedTenantKey[EscrowKey]
    is_from_revoked: bool

    @property
    def deposit_id(self) -> bytes:
        """The 16-byte id."""
        return self.deposit.header.deposit_id

    @property
    def generation(self) -> int:
        """The generation whose key is inside."""
        return self.deposit.header.generation


@dataclass(frozen=True)
class Subject:
    """Whose deposits are looked at: their verified chain, and every device it ever listed, by statement hash."""

    state: ChainState
    devices: Mapping[bytes, bytes]


def subject_of(account: Account, user: bytes) -> Subject:
    """Fetch and verify a subject's whole chain; one's own is held to what is known of it.

    Raises TrustRefused; the chain of somebody else is verified from its genesis, since officers pin nobody.
    """
    if user == account.user and account.state.chain:
        chains.refresh(account)
        entries: Sequence[bytes] = account.state.chain
        state = account.chain
    else:
        followed = chains.follow(account, user, [])
        if followed is None:
            raise TrustRefused("The server shows no account chain of the person whose deposits these are.")
        state, entries = followed
    bodies = [Entry.parse(entry).body for entry in entries]
    added = {body.device: body.statement_hash for body in bodies if isinstance(body, AddDevice)}
    return Subject(state, added)


def verify(
    account: Account, subject: Subject, *, deposit_id: bytes, record_hash: bytes, record: bytes, statement: bytes
) -> VerifiedDeposit:
    """Hold one deposit to its hash, its depositor, its subject's chain, and the pinned policy and escrow key.

    Raises TrustRefused for anything that does not fit: a record swapped, changed, or of somebody else.
    """
    if not hmac.compare_digest(hashlib.sha256(record).digest(), record_hash):
        raise TrustRefused("The deposit shown is not the one that was named.")
    try:
        deposit = Deposit.from_record(record)
        head = deposit.header
        signer = device.fetch_statement(account, head.device)
        depositor = DeviceStatement.from_payload(signer.payload)
        signed = Sign1.parse(statement)
        said = DepositStatement.from_payload(signed.verify(depositor.signing_key, purpose=Purpose.DEPOSIT))
        policy = account.trusted.policy_named(head.policy_hash)
        escrow_key = _escrow_key_named(account, head.escrow_key_hash)
        deposit.require_half_for(escrow_key.statement.key)
    except HoldfastError as error:
        raise TrustRefused(f"The deposit is not to be trusted: {error}.") from error
    whose = (account.tenant, subject.state.user, deposit_id)
    if (head.tenant, head.user, head.deposit_id) != whose or said.record_hash != record_hash:
        raise TrustRefused("The deposit is of another person, or its statement names another record.")
    if (said.header.user, said.header.device) != (head.user, head.device):
        raise TrustRefused("The deposit was signed in another device's name.")
    if subject.devices.get(head.device) != signer.payload_hash:
        raise TrustRefused("The deposit was made by a device that was never its subject's.")
    if (policy.policy.m, policy.policy.n) != (head.m, head.n):
        raise TrustRefused("The deposit asks for another number of officers than its policy.")
    announced = {generation.generation: generation.commitment for generation in subject.state.generations}
    if announced.get(head.generation) != head.ak_commitment:
        raise TrustRefused("The deposit holds a key that its subject's account chain does not announce.")
    return VerifiedDeposit(deposit, policy, escrow_key, head.device in subject.state.revoked)


def has_receipt(account: Account, found: VerifiedDeposit, receipt: bytes) -> bool:
    """Tell whether a receipt shows that a deposit's half is that deposit's own: ESCROW "Deposit"."""
    record_hash = hashlib.sha256(found.deposit.to_record()).digest()
    try:
        verify_receipt(Sign1.parse(receipt), found.deposit, found.policy.policy, record_hash=record_hash)
    except HoldfastError:
        return False
    return True


def fetch(account: Account, subject: Subject, *, deposit_id: bytes, record_hash: bytes) -> VerifiedDeposit:
    """Fetch one deposit and hold it to everything, as `verify` does."""
    answer = account.api.get(f"escrow/deposits/{UUID(bytes=deposit_id)}")
    record = answer.octets("record", maximum=MAX_BLOB)
    statement = answer.octets("statement")
    return verify(account, subject, deposit_id=deposit_id, record_hash=record_hash, record=record, statement=statement)


def _escrow_key_named(account: Account, key_hash: bytes) -> SignedTenantKey[EscrowKey]:
    history = [read_many(statement) for statement in account.state.trust.escrow_keys]
    for key in verify_escrow_keys(history, trusted=account.trusted):
        if key.hash == key_hash:
            return key
    raise TrustRefused("The deposit names an escrow key that the pin does not lead to.")
