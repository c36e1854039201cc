# SPDX-License-Identifier: Apache-2.0
"""The vault on the server: one keyring for all devices of a person, written by any of them, believed from them alone.

Implements PROTOCOL section 6 (vault) and FAULTS S9, S10 and C4 on the client.
Does not open doors (`doors`, `pairing`, `trusted`): it is given the vault key, and says whether the vault is theirs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Final, TypeVar

from holdfast.client.errors import NotPossible, Problem, ProfileError, RaceLost, TrustRefused, UpdateNeeded
from holdfast.client.identity import chains
from holdfast.client.identity import device as devices
from holdfast.client.profile.account import Account
from holdfast.client.profile.state import VaultKey
from holdfast.client.vault import vault_contents
from holdfast.client.vault.vault_contents import Contents
from holdfast.client.waiting import Overtaken, retry, stale_problem
from holdfast.core.base.encoding import MAX_BLOB, MAX_VAULT, b64u
from holdfast.core.base.errors import HoldfastError, InvalidSignature
from holdfast.core.base.rows import open_row, seal_row, text, uint
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import PublicKey
from holdfast.core.identity.chain import ChainState
from holdfast.core.signed.cose import Purpose, Sign1, sign
from holdfast.core.signed.statements import DeviceStatement, Sync, SyncKind
from holdfast.core.vault.blob import Section, VaultHeader, new_vault_key, open_vault, read_header, seal_vault

_STALE: Final = "vault-stale"
_SAVED: Final = "vault-saved"

T = TypeVar("T")


@dataclass(frozen=True)
class OpenedVault:
    """A vault that was opened and taken over.

    missing: archive generations that the account chain announces and the vault does not hold: it is older than the
    chain. forked: contacts of whom the vault pins another history than this device; this device's own stays.
    """

    version: int
    epoch: int
    missing: list[int] = field(default_factory=list)
    forked: list[bytes] = field(default_factory=list)


@dataclass(frozen=True)
class Found:
    """The vault as the server shows it, its statement verified. signer: the AIK of the account that signed it."""

    header: VaultHeader
    blob: bytes
    signer: PublicKey


class VaultKeyChanged(ProfileError):
    """Another device of the person changed the vault key; this one has to hear the new key from it."""


class NoVault(NotPossible):
    """There is no vault on the server."""


def find(account: Account) -> Found:
    """Fetch the vault and verify whose it is. Raises NoVault, and TrustRefused as `fetch_verified` does."""
    found = beside_chain(account, lambda state: fetch_verified(account, state))
    if found is None:
        raise NoVault(
            "Your vault is not on the server.",
            way_out="Your phrase signs for your account even without it: holdfast recover phrase. Your archive keys "
            "may be in escrow: holdfast recover escrow.",
        )
    return found


def beside_chain(account: Account, read: Callable[[ChainState], T]) -> T:
    """Return what `read` makes of something that is written beside the account chain, held to the newest chain.

    Another device of the person may write both between two requests of this one: what does not fit the chain that was
    read before is held to the one that is read after, until that does not grow any more.
    """
    state = chain_of(account)

    def attempt() -> T:
        nonlocal state
        try:
            return read(state)
        except TrustRefused:
            before, state = state.head, chain_of(account)
            if state.head == before:
                raise
            raise Overtaken from None

    return retry(attempt, lost=RaceLost("Another of your devices keeps writing to your account."))


# Where a section lies, what its statement calls it, and how long it may be.
_SECTIONS: Final = {
    Section.VAULT: ("vault", SyncKind.VAULT, MAX_VAULT),
    Section.OFFICERS: ("vault/officers", SyncKind.OFFICERS, MAX_BLOB),
}


def fetch_verified(account: Account, state: ChainState) -> Found | None:
    """Fetch the vault and verify whose it is; None when the server has none.

    Raises TrustRefused for a vault that no identity key of the account has signed, of another person, or older than
    one this device has seen.
    """
    kept = account.state.vault
    return fetch_section(account, state, Section.VAULT, seen=(kept.epoch, kept.version))


def fetch_section(account: Account, state: ChainState, section: Section, *, seen: tuple[int, int]) -> Found | None:
    """Fetch one section of the vault and verify whose it is; None when the server has none.

    seen: epoch and version, below which none is taken. Raises TrustRefused as `fetch_verified` does, and for another
    section than the one asked for.
    """
    path, kind, maximum = _SECTIONS[section]
    try:
        answer = account.api.get(path)
    except Problem as problem:
        if problem.status != 404:
            raise
        return None
    blob = answer.octets("blob", maximum=maximum)
    try:
        signed = Sign1.parse(answer.octets("statement"))
        signer = _signer_of(signed, state)
        sync = Sync.from_payload(signed.payload)
        header = read_header(blob, section)
    except HoldfastError as error:
        raise _distrust(f"The vault is not to be trusted: {error}.") from error
    whose = (sync.header.tenant, sync.header.user, sync.kind, sync.blob_hash, sync.version)
    if whose != (account.tenant, account.user, kind, hashlib.sha256(blob).digest(), header.version):
        raise _distrust("The vault is not the one that its statement names.")
    if (header.tenant, header.user) != (account.tenant, account.user):
        raise _distrust("The server shows the vault of another person.")
    # By epoch first: a vault begun anew after the server lost the old one counts its versions from one again.
    if (header.epoch, header.version) < seen:
        raise _distrust("The server shows an older vault than it has shown before.")
    return Found(header, blob, signer)


def _signer_of(signed: Sign1, state: ChainState) -> PublicKey:
    """Verify the signature under the AIK in force, else under those before it. Raises InvalidSignature for others."""
    for key in (state.aik, *reversed(state.former_aiks)):
        if signed.kid == key.kid:
            signed.verify(key, purpose=Purpose.SYNC)
            return key
    raise InvalidSignature("it is not signed by a key of this account")


def _distrust(message: str) -> TrustRefused:
    return TrustRefused(message, way_out="Change nothing. Show this to your officers; another door may be honest.")


def open_found(account: Account, found: Found, key: SecretBytes) -> OpenedVault:
    """Bring a vault to this device under the key that a door of its epoch gave; returns what was in it.

    Raises TrustRefused, and nothing changed, for a key that does not open it, and for a vault with another identity
    key than the account chain names.
    """
    state = chain_of(account)
    if found.signer not in (state.aik, *state.former_aiks[-1:]):
        raise _distrust("The vault was written under an identity key that your account has long left.")
    contents = _open_contents(found, key)
    # One signed by the key before the newest is refused here unless it holds the newest: see `_is_believed`.
    forked = vault_contents.take(account, contents, state)
    account.state.vault = VaultKey(found.header.epoch, key, found.header.version)
    account.save()
    return OpenedVault(found.header.version, found.header.epoch, vault_contents.missing(account, state), forked)


def _open_contents(found: Found, key: SecretBytes) -> Contents:
    try:
        secret = open_vault(found.blob, vault_key=key, expect=found.header)
    except HoldfastError as error:
        raise TrustRefused(
            f"The vault does not open as yours: {error}.",
            way_out="Try another door: holdfast backup status lists them.",
        ) from error
    try:
        return Contents.from_secret(secret)
    except HoldfastError as error:
        # Whoever sealed it holds the vault's key: a device of the person's own.
        raise UpdateNeeded("your vault, on another device of yours") from error


def load(account: Account) -> OpenedVault | None:
    """Merge what other devices wrote into the vault since; None before its first version.

    For a device that holds the vault key. Raises VaultKeyChanged when the key is another one now, and TrustRefused as
    `open_found` does, or when the server no longer has a vault that it had.
    """
    kept = account.state.vault
    if not len(kept.key):
        raise ProfileError("This device does not hold your vault's key.", way_out="See: holdfast recover --help")
    return _merge(account, kept.key, kept.epoch)


def give_back(account: Account) -> int | None:
    """Write the keyring once more where a server that was put back has an older one than this device has seen, or none.

    Returns its version, or None where nothing is missing. What lies there under the same key is merged first, as ever.
    Raises as `load` does. To be called while officers' acceptance of a backup heals (`restored.is_healing`): at any
    other time an older vault is a lie.
    """

    def attempt() -> int | None:
        kept = account.state.vault
        found = beside_chain(account, lambda state: fetch_section(account, state, Section.VAULT, seen=(0, 0)))
        there = (found.header.epoch, found.header.version) if found else (0, 0)
        if there >= (kept.epoch, kept.version):
            return None
        _require_identity(account)
        if found is not None and found.header.epoch == kept.epoch:
            _take_found(account, chain_of(account), found, kept.key)
        return _put(account, vault_contents.of(account), VaultKey(kept.epoch, kept.key, there[1]))

    return retry(attempt, stale=_STALE, lost=_lost()) if len(account.state.vault.key) else None


def _merge(account: Account, key: SecretBytes, epoch: int) -> OpenedVault | None:
    return beside_chain(account, lambda state: _merged(account, state, key, epoch))


def _merged(account: Account, state: ChainState, key: SecretBytes, epoch: int) -> OpenedVault | None:
    found = fetch_verified(account, state)
    if found is None:
        if account.state.vault.version:
            raise TrustRefused(
                f"The server has lost your vault, which it had at version {account.state.vault.version}.",
                way_out="Tell your operator. This device still holds everything in it; to write it again, under a new "
                "key: holdfast rotate vault",
            )
        return None
    if found.header.epoch != epoch:
        raise _key_changed()
    forked = _take_found(account, state, found, key)
    account.state.vault.version = found.header.version
    account.save()
    return OpenedVault(found.header.version, epoch, vault_contents.missing(account, state), forked)


def _take_found(account: Account, state: ChainState, found: Found, key: SecretBytes) -> list[bytes]:
    """Merge what a vault holds, as far as its signer is believed; returns the contacts about whom both differ."""
    contents = _open_contents(found, key)
    if _is_believed(account, found, contents, state):
        return vault_contents.take(account, contents, state)
    # Whoever lost the old identity key can still have written this: archive keys prove themselves, pins do not.
    vault_contents.take_archive_keys(account, contents, state)
    return []


def _is_believed(account: Account, found: Found, contents: Contents, state: ChainState) -> bool:
    """Whether a vault counts in all it says: signed by the AIK in force, or by the one before it and with its seed.

    A rotation begins by writing the next seed into the vault; who lost the old key does not know the new one.
    """
    if found.signer == state.aik:
        return True
    is_former = found.signer in state.former_aiks[-1:]
    return is_former and vault_contents.find_identity(contents, account, state) is not None


def _key_changed() -> VaultKeyChanged:
    return VaultKeyChanged(
        "Another device of yours changed the key of your vault.",
        way_out="Run `holdfast maintain` here; if that does not help, run it on the other device first.",
    )


def save(account: Account, *, next_identity: SecretBytes | None = None) -> int:
    """Write the keyring to the server as a new version, and return it; the first time, under a new vault key.

    When another device wrote meanwhile, its vault is merged first and nothing of either is lost. next_identity: the
    seed to which the AIK is about to be rotated, so that no moment exists in which neither vault nor chain knows it.
    """
    _note_devices(account, _require_identity(account))
    if not len(account.state.vault.key):
        _begin(account)
    is_first = True

    def attempt() -> int:
        nonlocal is_first
        if not is_first:
            load(account)
        is_first = False
        return _put(account, vault_contents.of(account, next_identity=next_identity), account.state.vault)

    return retry(attempt, stale=_STALE, lost=_lost())


def _lost() -> Problem:
    return stale_problem(_STALE, "Another of your devices keeps writing to your vault.")


def save_if_changed(account: Account) -> int | None:
    """Write the keyring when it holds something that the vault does not; returns the new version, or None."""
    if len(account.state.vault.key) and account.store.get(_SAVED, b"") == _digest(vault_contents.of(account)):
        return None
    return save(account)


def begin_epoch(account: Account, *, key: SecretBytes, epoch: int) -> int:
    """Change the vault key: merge what lies under the old one, and write all under the new; returns the version.

    Every door but those made anew for this epoch is closed by it. Idempotent: a second call with the same key and
    epoch finds the work done. Raises VaultKeyChanged when another device began that epoch under another key.
    The old key's bytes leave the profile as its rows do (`store.SqliteStore` says how far that reaches); in this
    process's memory copies may live until it ends, since Python moves and keeps what it likes; and what the server or
    its backups kept of the old vault stays readable to whoever has the old key.
    """
    _require_identity(account)
    kept = account.state.vault
    if kept.epoch >= epoch and len(kept.key):
        return save(account)

    def attempt() -> int:
        found = beside_chain(account, lambda state: fetch_verified(account, state))
        if found is not None and found.header.epoch == epoch:
            _require_own_epoch(found, key)
            account.state.vault = VaultKey(epoch, key, kept.version)
            return save(account)
        if found is not None and len(kept.key):
            _merge(account, kept.key, kept.epoch)
        fresh = VaultKey(epoch, key, found.header.version if found else 0)
        return _put(account, vault_contents.of(account), fresh)

    return retry(attempt, stale=_STALE, lost=_lost())


def _require_own_epoch(found: Found, key: SecretBytes) -> None:
    """Refuse an epoch that another device of the person began first, under a key of its own."""
    try:
        open_vault(found.blob, vault_key=key, expect=found.header)
    except HoldfastError:
        raise _key_changed() from None


def begin_anew(account: Account) -> int:
    """Write a first vault of a new epoch over whatever lies on the server, unread; returns the version.

    For an account whose old vault cannot be opened any more: its archive keys come back from escrow or not at all.
    """
    _require_identity(account)
    found = _unread_header(account)
    epoch = max(account.state.vault.epoch, found.epoch if found else 0) + 1
    version = found.version if found else 0
    account.state.vault = VaultKey(epoch, new_vault_key(), version)
    account.save()
    return save(account)


def _begin(account: Account) -> None:
    state = chain_of(account)
    found = fetch_verified(account, state)
    if found is not None and found.signer == state.aik:
        raise ProfileError(
            "Your vault is on the server, and this device does not hold its key.",
            way_out="Open it by one of its doors first: holdfast recover --help",
        )
    # After a re-genesis the vault of the account before still lies there: the new one follows it, under its own key.
    epoch, version = (found.header.epoch + 1, found.header.version) if found else (1, 0)
    account.state.vault = VaultKey(epoch, new_vault_key(), version)
    account.save()


def _unread_header(account: Account) -> VaultHeader | None:
    """Return what the stored vault says of itself, unauthenticated: enough to write the next version."""
    try:
        return read_header(account.api.get("vault").octets("blob", maximum=MAX_VAULT))
    except Problem as problem:
        if problem.status != 404:
            raise
        return None
    except HoldfastError as error:
        raise _distrust(f"The vault is not to be trusted: {error}.") from error


def _put(account: Account, contents: Contents, under: VaultKey) -> int:
    """Write one version under a vault key, and keep that key and version once the server has it."""
    version = under.version + 1
    signed, blob = seal(account, contents, VaultKey(under.epoch, under.key, version))
    document = {"statement": b64u(signed.encode()), "blob": b64u(blob)}
    account.api.put("vault", document, if_match=f'"{under.version}"')
    with account.store.transaction():
        account.state.vault = VaultKey(under.epoch, under.key, version)
        account.store.put(_SAVED, b"", _digest(contents))
        account.save()
    return version


def seal(account: Account, contents: Contents, under: VaultKey) -> tuple[Sign1, bytes]:
    """Return a vault blob, and the statement by which the identity key of now vouches for it at that version."""
    header = VaultHeader(account.tenant, account.user, under.epoch, under.version)
    try:
        blob = seal_vault(contents.to_secret(), vault_key=under.key, header=header)
    except ValueError:
        raise NotPossible("Your vault is full: it holds at most 1 MiB.", way_out="Tell your operator.") from None
    return sign_section(account, Section.VAULT, blob, version=under.version), blob


def sign_section(account: Account, section: Section, blob: bytes, *, version: int) -> Sign1:
    """Sign, by the identity key, that a blob is this version of one section of the vault."""
    _path, kind, _maximum = _SECTIONS[section]
    statement = Sync(account.header(), kind, hashlib.sha256(blob).digest(), version)
    return sign(statement.to_payload(), purpose=Purpose.SYNC, key=account.identity_key)


def _digest(contents: Contents) -> SecretBytes:
    return SecretBytes(hashlib.sha256(contents.to_secret().reveal()).digest())


@dataclass(frozen=True)
class _KnownDevice:
    """A device's name, as its own statement gave it. noted_at: first, as in every row a vault carries."""

    noted_at: Annotated[int, uint()]
    name: Annotated[str, text()]


def known_devices(account: Account) -> dict[bytes, str]:
    """Return the names of the person's devices, by 16-byte id, as their own devices have noted them."""
    names = {}
    for key in account.store.keys(vault_contents.KNOWN_DEVICE):
        value = account.store.get(vault_contents.KNOWN_DEVICE, key)
        if value is not None:
            names[key] = open_row(_KnownDevice, value, "known device").name
    return names


def _note_devices(account: Account, state: ChainState) -> None:
    """Note each device's name once, while its statement can be held to the chain: later the server could rename it."""
    known = account.store.keys(vault_contents.KNOWN_DEVICE)
    for identifier, statement_hash in state.devices.items():
        if identifier in known:
            continue
        try:
            statement = devices.fetch_statement(account, identifier)
        except Problem:
            continue  # a name can wait; what the vault is for cannot
        if statement.payload_hash != statement_hash:
            raise _distrust("The server shows another device than your account chain lists.")
        noted = _KnownDevice(account.api.clock.earliest(), DeviceStatement.from_payload(statement.payload).name)
        account.store.put(vault_contents.KNOWN_DEVICE, identifier, seal_row(noted))


def _require_identity(account: Account) -> ChainState:
    """Refuse to write under an identity key that the chain no longer names: the server would, and say less."""
    state = chain_of(account)
    if account.identity_key.public != state.aik:
        raise ProfileError(
            "Another device of yours changed your account's identity key.",
            way_out="Run `holdfast maintain`: the other device sends the new key to this one.",
        )
    return state


def chain_of(account: Account) -> ChainState:
    """Return the account chain, brought up to date. Raises ProfileError before its genesis."""
    state = chains.refresh(account)
    if state is None:
        raise ProfileError("This account has no chain yet.", way_out="Enrol a first device: holdfast enrol")
    return state


__all__ = [
    "Found",
    "NoVault",
    "OpenedVault",
    "VaultKeyChanged",
    "begin_anew",
    "begin_epoch",
    "beside_chain",
    "chain_of",
    "fetch_section",
    "fetch_verified",
    "find",
    "give_back",
    "known_devices",
    "load",
    "open_found",
    "save",
    "save_if_changed",
    "seal",
    "sign_section",
]
