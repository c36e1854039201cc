# SPDX-License-Identifier: Apache-2.0
"""The chain entries of one rotation: the new signed with the old, on a head that may move before they are taken.

Implements PROTOCOL section 5 (revocation and rotation in one upload, a new archive generation).
Uploads nothing and keeps nothing; made again on another head, they name the same keys.
"""

from __future__ import annotations

from holdfast.client.profile.account import Account
from holdfast.client.rotation.rotation_record import Part, Rotation
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.escrow.deposit import archive_key_commitment
from holdfast.core.identity import chain, chain_author
from holdfast.core.identity.chain import ChainState
from holdfast.core.identity.chain_author import Author
from holdfast.core.identity.entries import Entry, Reason, RevokeDevice
from holdfast.core.signed.cose import Sign1


def signed_entries(account: Account, rotation: Rotation, state: ChainState) -> list[Entry]:
    """Return what the rotation appends to the chain at `state`, signed by the identity key of now."""
    entries: list[Entry] = []
    author = account.author(state)
    if rotation.device:
        statement = Sign1.parse(rotation.device.statement)
        entries.append(
            chain_author.add_device(state, by=author, device=rotation.device.id, statement_hash=statement.payload_hash)
        )
        state = chain.extend(state, *entries)
    if Part.IDENTITY in rotation.parts:
        key = SigningKey.from_seed(account.device_statement.suite.signing_kind, rotation.identity)
        fresh = _new_identity(account, rotation, state, author, key)
        entries += fresh
        state = chain.extend(state, *fresh)
        author = Author(author.device, author.issued_at, key)
    if Part.ARCHIVE in rotation.parts:
        entries.append(_generation(rotation, state, author))
    return entries


def _new_identity(
    account: Account, rotation: Rotation, state: ChainState, author: Author, key: SigningKey
) -> tuple[Entry, ...]:
    # Another own device may have revoked one of them meanwhile: that is what was wanted.
    gone = [
        RevokeDevice(device, rotation.reason, rotation.since) for device in rotation.revoke if device in state.devices
    ]
    if rotation.device:
        gone.append(RevokeDevice(account.device.id, Reason.DEVICE_RETIRED, author.issued_at))
    if gone:
        return chain_author.revoke_devices(state, by=author, devices=gone, reason=rotation.reason, new_aik=key)
    return (chain_author.rotate_key(state, by=author, new_aik=key, reason=rotation.reason),)


def _generation(rotation: Rotation, state: ChainState, author: Author) -> Entry:
    number = state.generations[-1].generation + 1 if state.generations else 1
    not_before = max([author.issued_at, *(archive.not_before for archive in state.generations[-1:])])
    return chain_author.archive_generation(
        state,
        by=author,
        generation=number,
        not_before=not_before,
        commitment=archive_key_commitment(number, rotation.archive_key),
    )
