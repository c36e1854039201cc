# SPDX-License-Identifier: Apache-2.0
"""The vault on the server: the keyring that lets another device of the same person carry on, behind a password.

Implements PROTOCOL section 6 (vault, password door) and FAULTS S7, S9, S10 on the client.
Does not keep what is this device's alone: its seeds and pre-keys never leave it.
"""

from __future__ import annotations

import hashlib

from holdfast.client import chains
from holdfast.client.account import Account
from holdfast.client.errors import Problem, ProfileError, TrustRefused
from holdfast.client.state import Contact, Generation
from holdfast.core.cose import Purpose, Sign1, sign
from holdfast.core.doors import (
    DEFAULT_COST,
    KIND,
    Argon2Cost,
    DoorOwner,
    open_password_door,
    seal_password_door,
)
from holdfast.core.encoding import MAX_VAULT, Encodable, Fields, b64u, decode, encode
from holdfast.core.errors import HoldfastError, UnwrapFailed
from holdfast.core.keys import SigningKey
from holdfast.core.payloads import Header
from holdfast.core.secret import SecretBytes
from holdfast.core.statements import Sync, SyncKind
from holdfast.core.vault import VaultHeader, new_vault_key, open_vault, read_header, seal_vault

_KEYRING: int = 1


class WrongPassword(TrustRefused):
    """The password does not open the door, or the door is not this account's."""


def save(account: Account, *, password: SecretBytes | None = None, cost: Argon2Cost = DEFAULT_COST) -> int:
    """Write the keyring to the server as a new version; returns it. With `password`, (re)make its door first.

    Raises Problem (409) when another device wrote meanwhile: open the vault, then save again.
    """
    vault = account.state.vault
    if not len(vault.key):
        if password is None:
            raise ProfileError("There is no vault yet.", way_out="Make one with a password: `holdfast vault save`.")
        found = _on_server(account)
        # After a recovery the old vault still lies there: the new one follows it, under a key of its own.
        vault.epoch, vault.version = (found.epoch + 1, found.version) if found else (1, 0)
        vault.key = new_vault_key()
        account.save()
    if password is not None:
        owner = DoorOwner(account.tenant, account.user, vault.epoch)
        door = seal_password_door(vault.key, password=password, owner=owner, cost=cost)
        account.api.put(f"vault/doors/{KIND}", {"blob": b64u(door)}, if_match=f'"{_door_version(account)}"')
    version = vault.version + 1
    header = VaultHeader(account.tenant, account.user, vault.epoch, version)
    blob = seal_vault(_keyring(account), vault_key=vault.key, header=header)
    statement = Sync(
        header=Header(account.tenant, account.user, account.device.id, account.api.clock.now()),
        kind=SyncKind.VAULT,
        blob_hash=hashlib.sha256(blob).digest(),
        version=version,
    )
    signed = sign(statement.to_payload(), purpose=Purpose.SYNC, key=account.identity_key)
    document = {"statement": b64u(signed.encode()), "blob": b64u(blob)}
    account.api.put("vault", document, if_match=f'"{vault.version}"')
    vault.version = version
    account.save()
    return version


def _on_server(account: Account) -> VaultHeader | None:
    """Return what the stored vault says of itself, unauthenticated: enough to write the next version."""
    try:
        return read_header(account.api.get("vault").octets("blob", maximum=MAX_VAULT))
    except Problem as problem:
        if problem.status != 404:
            raise
        return None
    except HoldfastError as error:
        raise TrustRefused(f"The vault is not to be trusted: {error}.") from error


def open_with_password(account: Account, *, password: SecretBytes) -> int:
    """Bring the keyring to this device; returns its version.

    Raises WrongPassword; TrustRefused for a vault that the account's identity key has not signed, that is
    older than one seen before, or that holds another identity key than the account chain names.
    """
    state = chains.refresh(account)
    if state is None:
        raise ProfileError("This account has no chain yet.")
    answer = account.api.get("vault")
    blob = answer.octets("blob", maximum=MAX_VAULT)
    try:
        signed = Sign1.parse(answer.octets("statement"))
        sync = Sync.from_payload(signed.verify(state.aik, purpose=Purpose.SYNC))
        found = read_header(blob)
    except HoldfastError as error:
        raise TrustRefused(f"The vault is not to be trusted: {error}.") from error
    whose = (sync.header.tenant, sync.header.user, sync.kind, sync.blob_hash, sync.version)
    if whose != (account.tenant, account.user, SyncKind.VAULT, hashlib.sha256(blob).digest(), found.version):
        raise TrustRefused("The vault is not the one that its statement names.")
    if sync.version < account.state.vault.version:
        raise TrustRefused("The server shows an older vault than it has shown before.")
    header = VaultHeader(account.tenant, account.user, found.epoch, sync.version)
    key = _open_door(account, password, found.epoch)
    try:
        _take_keyring(account, open_vault(blob, vault_key=key, expect=header))
    except HoldfastError as error:
        raise TrustRefused(f"The vault does not hold this account: {error}.") from error
    kept = account.state.vault
    kept.epoch, kept.key, kept.version = found.epoch, key, sync.version
    account.save()
    return sync.version


def _open_door(account: Account, password: SecretBytes, epoch: int) -> SecretBytes:
    if not _door_version(account):
        raise ProfileError("The vault has no password.", way_out="Set one on a device that holds the vault.")
    blob = account.api.get(f"vault/doors/{KIND}").octets("blob", maximum=4096)
    owner = DoorOwner(account.tenant, account.user, epoch)
    try:
        return open_password_door(blob, password=password, owner=owner)
    except UnwrapFailed:
        raise WrongPassword(
            "The password does not open your vault.", way_out="Try again, or recover the account."
        ) from None
    except HoldfastError as error:
        # Above all Argon2 parameters outside the bounds: the server stores them (FAULTS S7).
        raise TrustRefused(f"The vault's door is not to be used: {error}.") from error


def _door_version(account: Account) -> int:
    """Return the version of the password door as the server has it; 0 for none."""
    rows = account.api.get("vault/doors").many("doors", maximum=16)
    return next((row.number("version") for row in rows if row.text("kind") == KIND), 0)


def _keyring(account: Account) -> SecretBytes:
    state = account.state
    fields: dict[int, Encodable] = {
        1: _KEYRING,
        2: account.identity_key.seed().reveal(),
        3: [one.to_value() for one in state.generations],
        4: [one.to_value() for one in state.contacts.values()],
        5: account.chain.head,
        6: [[origin, text] for origin, text in sorted(state.trust.checkpoints.items())],
        7: state.consent,
    }
    return SecretBytes(encode(fields))


def _take_keyring(account: Account, keyring: SecretBytes) -> None:
    read = Fields(decode(keyring.reveal(), max_size=MAX_VAULT), "keyring", range(1, 8))
    read.uint(1, minimum=_KEYRING, maximum=_KEYRING)
    seed = SecretBytes(read.octets(2, 32))
    state = account.chain
    if SigningKey.from_seed(account.device_statement.suite.signing_kind, seed).public != state.aik:
        raise TrustRefused("The vault holds another identity key than the account chain names.")
    if read.octets(5, 32) not in state.hashes:
        raise TrustRefused("The vault was written on another account chain than the one shown now.")
    committed = {one.generation: one.commitment for one in state.generations}
    generations = [Generation.from_value(row) for row in read.array(3)]
    if any(committed.get(one.number) != one.commitment for one in generations):
        raise TrustRefused("The vault holds an archive key that the account chain does not name.")
    own = account.state
    own.identity_seed = seed
    own.generations = generations
    own.contacts = {one.user: one for one in map(Contact.from_value, read.array(4))}
    own.consent = read.octets(7)
    rows = [Fields.of_row(row, "keyring checkpoint", 2) for row in read.array(6)]
    for row in rows:
        # What this device has seen itself is kept: the follower of the log holds both to be consistent.
        own.trust.checkpoints.setdefault(row.text(0), row.text(1, maximum=4096))


__all__ = ["WrongPassword", "open_with_password", "save"]
