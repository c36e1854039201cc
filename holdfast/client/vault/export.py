# SPDX-License-Identifier: Apache-2.0
"""The export file: everything the vault holds, in one file behind a password of its own, for a drawer or a safe.

Implements PROTOCOL section 6 (export file) on the client.
Does not write files, and finishes no recovery: `recover` does, after `open_file` has brought the keyring back.
"""

from __future__ import annotations

from typing import Final

from holdfast.client.errors import NotPossible, TrustRefused, WrongInput
from holdfast.client.profile.account import Account
from holdfast.client.profile.state import VaultKey
from holdfast.client.vault import doors, vault, vault_contents
from holdfast.client.vault.vault import Found
from holdfast.core.base.errors import HoldfastError, InvalidSignature, Malformed, Unusable, UnwrapFailed
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import PublicKey
from holdfast.core.vault.export_file import ExportFile
from holdfast.core.vault.password_door import (
    DEFAULT_COST,
    Argon2Cost,
    DoorOwner,
    open_password_door,
    seal_password_door,
)


def write(account: Account, *, password: SecretBytes, cost: Argon2Cost = DEFAULT_COST) -> bytes:
    """Return the file of the keyring as this device has it, behind a password of at least 14 characters.

    Whoever has the file and its password opens this account's vault until the vault key changes, and reads the archive
    of this day for ever: deleting the copy that one knows of deletes no other. Raises WrongInput for a shorter
    password.
    """
    if len(account.state.vault.key):
        vault.load(account)
    else:
        vault.save(account)
    kept = account.state.vault
    signed, blob = vault.seal(account, vault_contents.of(account), kept)
    owner = DoorOwner(account.tenant, account.user, kept.epoch)
    try:
        door = seal_password_door(kept.key, password=password, owner=owner, cost=cost)
    except Unusable as error:
        raise WrongInput(f"This password cannot be used: {error}.", way_out="Choose a longer one.") from None
    return ExportFile.make(blob, signed, door, header=account.header(), key=account.signing_key).encode()


def open_file(
    account: Account, data: bytes, *, password: SecretBytes, without_vault: bool = False
) -> tuple[vault.OpenedVault, bool]:
    """Bring the keyring to this device by an export file; the second value says that the file itself was used.

    The vault on the server is newer and is taken wherever the file's key opens it. Where there is none, the file is
    taken; where one lies there under another key, only if the person says so (without_vault), because it will be
    written over. Raises WrongPassword; WrongInput for what is no export file or another person's; NotPossible
    where the person has to say so; TrustRefused for one made under an identity key that the account has left.
    """
    try:
        file = ExportFile.parse(data)
    except Malformed as error:
        raise WrongInput(
            f"This is not an export file of Holdfast: {error}.", way_out="Look for another file."
        ) from None
    if (file.header.tenant, file.header.user) != (account.tenant, account.user):
        raise WrongInput(
            "The export file is of another person or another tenant.", way_out="Use the file of this account."
        )
    key = _key_of(file, password)
    state = vault.chain_of(account)
    found = vault.fetch_verified(account, state)
    if found is not None and found.header.epoch == file.header.epoch:
        return vault.open_found(account, found, key), False
    if found is not None and not without_vault:
        raise NotPossible(
            "The vault on the server has another key than the one in this file.",
            way_out="Another door may open it: holdfast recover --help. To go on with what is in the file, and write "
            "over that vault: holdfast recover import --without-vault",
        )
    signer = _signer(file, (state.aik, *state.former_aiks))
    opened = vault.open_found(account, Found(file.header, file.vault, signer), key)
    # The key of the file is no longer one to write under: a vault of a new epoch follows.
    account.state.vault = VaultKey()
    account.save()
    return opened, True


def _key_of(file: ExportFile, password: SecretBytes) -> SecretBytes:
    try:
        return open_password_door(file.door, password=password, owner=file.owner)
    except UnwrapFailed:
        raise doors.WrongPassword(
            "The password does not open this file.", way_out="It is the file's own, not your vault's: try again."
        ) from None
    except Unusable as error:
        raise doors.no_secret(error) from None
    except HoldfastError as error:
        raise TrustRefused(f"The file's door is not to be used: {error}.", way_out=_CHANGED) from error


_CHANGED: Final = "Somebody changed the file: use another copy."


def _signer(file: ExportFile, keys: tuple[PublicKey, ...]) -> PublicKey:
    """Return the identity key of the account that vouched for the file's vault."""
    for key in keys:
        try:
            file.verify(aik=key)
        except InvalidSignature:
            continue
        except HoldfastError as error:
            raise TrustRefused(f"The export file is not to be trusted: {error}.", way_out=_CHANGED) from error
        return key
    raise TrustRefused(
        "No identity key of your account has signed this file.",
        way_out="Somebody made or changed it: use another copy.",
    )
