# SPDX-License-Identifier: Apache-2.0
"""Recovery by the user: through one of their doors to an account on a new device, and everything rotated after it.

Implements PROTOCOL section 6 and PLATFORM "Recovery by the user" in two acts: one of `by_…`, then `finish`.
Does not go through officers; `recovery` does, when every door is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final
from uuid import UUID

from holdfast.client.errors import NotPossible, RaceLost, WrongInput
from holdfast.client.identity import chains
from holdfast.client.identity.contacts import identity_words
from holdfast.client.identity.device import ensure_identity_seed, new_identity_author
from holdfast.client.messages import prekeys
from holdfast.client.profile.account import Account
from holdfast.client.rotation import rotation
from holdfast.client.vault import doors, export, pairing, share_requests, vault, vault_contents
from holdfast.client.vault.doors import Door
from holdfast.client.waiting import wait_for
from holdfast.core.base.encoding import encode
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.crypto.phrase import Phrase
from holdfast.core.identity import chain, chain_author
from holdfast.core.identity.chain import ChainState
from holdfast.core.identity.entries import Entry, Reason
from holdfast.core.signed.cose import Sign1

# [when, by which door]: a door was opened here, and `finish` has not come to its end.
_ROW: Final = ("recovering", b"")
_IMPORT: Final = "import"


@dataclass(frozen=True)
class KnownDevice:
    """A device that the account chain lists, by the name that the person's own devices noted; "" when none did."""

    device: UUID
    name: str


@dataclass(frozen=True)
class OpenedDoor:
    """What a door opened. The device is not in the account yet; `finish` brings it in.

    vault: None when the vault itself was lost. devices: of the account, for the person to say which are lost.
    missing: archive generations that did not come back; escrow may have them. blamed: contacts whose share was wrong.
    """

    kind: str
    vault: vault.OpenedVault | None
    devices: list[KnownDevice]
    missing: list[int]
    blamed: list[bytes] = field(default_factory=list)


@dataclass(frozen=True)
class Recovered:
    """The account as it is after a recovery. words: of the new identity key, for contacts who ask.

    needs: doors that only the person can open again. missing: as in `OpenedVault`.
    """

    words: tuple[str, ...]
    revoked: list[UUID]
    needs: list[Door]
    missing: list[int]


def by_password(account: Account, password: SecretBytes) -> OpenedDoor:
    """Open the vault by its password. Raises as `doors.open_with_password` does."""
    _require_new(account)
    return _finish_opening(account, doors.PASSWORD, doors.open_with_password(account, password=password))


def by_phrase(
    account: Account, phrase: Phrase, *, passphrase: SecretBytes | None = None, without_vault: bool = False
) -> OpenedDoor:
    """Open the vault by the recovery phrase; where it is lost, go on without it if the person says so.

    without_vault: the phrase's own key signs a new identity key for the account. Nothing of the vault comes back by
    that, and a later vault is written over it: archive keys then come from escrow or not at all. So a server that says
    the vault is lost is not simply believed. Raises WrongPhrase; NoVault; TrustRefused as `doors` does.
    """
    _require_new(account)
    if not without_vault:
        return _finish_opening(account, doors.PHRASE, doors.open_with_phrase(account, phrase, passphrase=passphrase))
    key = doors.key_in_force(account, phrase, passphrase)
    if key is None:
        raise doors.WrongPhrase(
            "This phrase does not sign for your account.",
            way_out="It was replaced, or is another account's. Officers can still help: holdfast recover escrow",
        )
    _take_over(account, key)
    return _finish_opening(account, doors.PHRASE, None)


def by_device(account: Account, *, wait_seconds: int = 0) -> OpenedDoor:
    """Open the vault by the letter of another device, as `pairing.complete` does."""
    # Noted first: the letter is gone once it was read, and this device is in the account already.
    _note(account, doors.DEVICE)
    joined = pairing.complete(account, wait_seconds=wait_seconds)
    return _finish_opening(account, doors.DEVICE, joined.opened)


def by_contacts(account: Account, *, wait_seconds: int = 0) -> OpenedDoor:
    """Open the vault by the shares that contacts gave to this device's request. Raises as `share_requests.gather`."""
    _require_new(account)
    gathered = wait_for(lambda: share_requests.gather(account), wait_seconds)
    return replace(_finish_opening(account, doors.CONTACTS, gathered.vault), blamed=gathered.blamed)


def by_export(account: Account, data: bytes, *, password: SecretBytes, without_vault: bool = False) -> OpenedDoor:
    """Open the vault by an export file, as `export.open_file` does."""
    _require_new(account)
    opened, _is_file = export.open_file(account, data, password=password, without_vault=without_vault)
    return _finish_opening(account, _IMPORT, opened)


def _require_new(account: Account) -> None:
    if account.device.is_active and len(account.state.identity_seed):
        raise NotPossible(
            "This device holds your account already.", way_out="Recover on the new device. See: holdfast devices list"
        )


def _note(account: Account, kind: str) -> None:
    account.store.put(*_ROW, SecretBytes(encode([account.api.clock.now(), kind])))


def _finish_opening(account: Account, kind: str, opened: vault.OpenedVault | None) -> OpenedDoor:
    _note(account, kind)
    return OpenedDoor(kind, opened, devices(account), vault_contents.missing(account, account.chain))


def devices(account: Account) -> list[KnownDevice]:
    """Return the other devices of the account, by the names that the vault brought along."""
    names = vault.known_devices(account)
    others = [device for device in account.chain.devices if device != account.device.id]
    return [KnownDevice(UUID(bytes=device), names.get(device, "")) for device in others]


def is_unfinished(account: Account) -> bool:
    """Whether a door was opened here and `finish` has not come to its end."""
    if not len(account.state.identity_seed) or account.device.id in account.chain.revoked:
        return False
    return account.store.get(*_ROW) is not None or not account.device.is_active


def finish(account: Account, *, lost: Sequence[UUID] = ()) -> Recovered:
    """Bring this device into the account, and rotate all that whoever opened a door could have seen.

    Identity key, vault key, shares and archive generation are replaced, the devices named as lost revoked, and peers
    told, whatever the reason was: the secret that opened the door has been typed, spoken or carried about. The device's
    pre-keys are published. Resumable: called again, it goes on where it was. Raises NotPossible before a door was
    opened, WrongInput for a lost device that is not the account's.
    """
    if not is_unfinished(account):
        raise NotPossible(
            "No door was opened on this device yet.", way_out="See the doors there are: holdfast recover --help"
        )
    state = _join_chain(account)
    # Before peers are told: until this device has published, nobody could begin a session with it.
    prekeys.publish(account)
    _require_revocable(account, state, lost)
    if not len(account.state.vault.key):
        # Nothing that lies on the server opens any more: what this device has begins a vault of its own.
        vault.begin_anew(account)
    revoke = [device for device in lost if device.bytes in state.devices]
    resumed = [progress for progress in rotation.resume(account) if progress.reason is Reason.RECOVERY]
    if not resumed or any(device.bytes in vault.chain_of(account).devices for device in revoke):
        rotation.rotate(account, rotation.EVERYTHING, reason=Reason.RECOVERY, revoke=revoke)
    account.store.delete(*_ROW)
    by_hand = (doors.PASSWORD, doors.PHRASE)
    needs = [door for door in doors.status(account) if door.needs and (door.set_at or door.kind in by_hand)]
    state = vault.chain_of(account)
    return Recovered(identity_words(state), list(lost), needs, vault_contents.missing(account, state))


def _require_revocable(account: Account, state: ChainState, lost: Sequence[UUID]) -> None:
    known = (state.devices.keys() | state.revoked) - {account.device.id}
    wrong = [device for device in lost if device.bytes not in known]
    if wrong:
        raise WrongInput(
            f"{wrong[0]} is not a device to revoke here.", way_out="Your account's devices: holdfast devices list"
        )


def _join_chain(account: Account) -> ChainState:
    """Append this device to the account chain, under the identity key that the door brought."""
    statement = Sign1.parse(account.device.statement)

    def write(state: ChainState) -> list[Entry]:
        if account.device.id in state.devices:
            return []
        if account.identity_key.public != state.aik:
            raise RaceLost(
                "Your account's identity key was changed since the door was opened.", way_out="Open the door again."
            )
        return [
            chain_author.add_device(
                state, by=account.author(state), device=account.device.id, statement_hash=statement.payload_hash
            )
        ]

    return chains.append(account, write)


def _take_over(account: Account, recovery_key: SigningKey) -> None:
    """Have the phrase's key hand the account to a new identity key, with this device in it: one upload."""
    seed = ensure_identity_seed(account)
    statement = Sign1.parse(account.device.statement)

    def write(state: ChainState) -> list[Entry]:
        new = new_identity_author(account, seed, state)
        if state.aik == new.key.public:
            return []
        by = account.author_as(recovery_key, state)
        first = chain_author.rotate_key(state, by=by, new_aik=new.key, reason=Reason.RECOVERY)
        after = chain.extend(state, first, policies=account.policies)
        second = chain_author.add_device(after, by=new, device=account.device.id, statement_hash=statement.payload_hash)
        return [first, second]

    chains.append(account, write)
