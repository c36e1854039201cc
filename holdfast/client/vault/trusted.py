# SPDX-License-Identifier: Apache-2.0
"""The contacts door: shares of it given to people one trusts, and the shares that one keeps for others.

Implements PROTOCOL section 6 (contacts door) on the owner's devices and on their contacts', FAULTS R7 to R9.
Does not ask for shares back; `share_requests` does. k contacts together hold as much power as the vault itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final
from uuid import UUID

from holdfast.client.errors import ClientError, NotPossible, Problem, ProfileError, TrustRefused, WrongInput
from holdfast.client.identity import chains, contacts
from holdfast.client.identity import device as devices
from holdfast.client.messages import handshakes, letters
from holdfast.client.messages.letters import Letter, LetterKind
from holdfast.client.profile.account import Account
from holdfast.client.vault import doors, vault
from holdfast.client.vault.vault_contents import HELD_SHARE, TRUSTED_SET, next_stamp
from holdfast.core.base.encoding import MAX_BLOB, b64u
from holdfast.core.base.errors import HoldfastError, Untrusted, Unusable, UnwrapFailed
from holdfast.core.base.rows import octets, open_row, pair, seal_row, secret, several, uint
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import SealingKey
from holdfast.core.identity import chain_author
from holdfast.core.identity.chain import ChainState
from holdfast.core.identity.entries import Entry, ShareManifest
from holdfast.core.signed.cose import Purpose, Sign1, sign
from holdfast.core.signed.payloads import MAX_AHEAD_SECONDS
from holdfast.core.signed.statements import DeviceStatement
from holdfast.core.vault import contact_shares
from holdfast.core.vault.contact_shares import DEFAULT_K, ContactShare, ShareLetter
from holdfast.core.vault.door_blob import DoorOwner
from holdfast.core.vault.share_manifest import Manifest

_UNDER_WAY: Final = ("share-set", b"")
_MAX_UNNAMED: Final = 4  # of one owner, kept until their chain names one: one is under way, and a change of mind or two


@dataclass(frozen=True)
class _SetUnderWay:
    """A set that is being given out. Holds the shares in the clear, so it is destroyed once every contact has theirs.

    made_at: UTC seconds. manifest: as signed. shares: (contact, share). epoch: of the vault key behind the door.
    """

    ROW_SIZE: ClassVar = MAX_BLOB

    made_at: Annotated[int, uint()]
    manifest: Annotated[bytes, octets()]
    door: Annotated[bytes, octets()]
    shares: Annotated[list[tuple[bytes, SecretBytes]], several(pair(octets(16), secret()))]
    epoch: Annotated[int, uint()]


@dataclass(frozen=True)
class _ChosenSet:
    """The set whose door stands, for all of the person's devices. made_at: first, as in every row a vault carries."""

    made_at: Annotated[int, uint()]
    manifest: Annotated[bytes, octets()]
    epoch: Annotated[int, uint()]


@dataclass(frozen=True)
class _HeldRow:
    """A share held for somebody. taken_at: first, as in every row a vault carries."""

    taken_at: Annotated[int, uint()]
    manifest: Annotated[bytes, octets()]
    share: Annotated[SecretBytes, secret()]


@dataclass(frozen=True)
class TrustedSet:
    """The owner's trusted contacts: k of them open the vault together. epoch: of the vault key behind the door."""

    contacts: tuple[bytes, ...]
    k: int
    set_id: bytes
    made_at: int
    epoch: int


@dataclass(frozen=True)
class HeldShare:
    """A share kept for somebody. is_current: its owner's account chain names the set; otherwise they are making it, or
    have left it."""

    owner: bytes
    set_id: bytes
    k: int
    n: int
    made_at: int
    is_current: bool


@dataclass(frozen=True)
class _Kept:
    """A held share as the store has it, with its manifest. taken_at: UTC seconds by this device."""

    taken_at: int
    key: bytes
    manifest: Manifest
    share: ContactShare


# The owner


def choose(account: Account, people: Sequence[bytes], *, k: int = DEFAULT_K) -> TrustedSet:
    """Give each of `people` (16-byte users) a share, any k of which open the vault; replaces the contacts so far.

    The set so far stays good until the new one is complete. Resumable: what was interrupted, `resume` carries on.
    Raises WrongInput unless 2 <= k <= n <= 16 different people other than oneself; PeerChanged for one who began
    again. Whoever is left out and kept their share opens, with k-1 like them, the vault key of before; rotate the
    vault key (holdfast rotate) to make an end of that.
    """
    for person in people:
        contacts.refresh(account, person)
    _require_vault(account)
    owner = DoorOwner(account.tenant, account.user, account.state.vault.epoch)
    try:
        made = contact_shares.prepare(
            account.state.vault.key, owner=owner, header=account.header(), contacts=people, k=k
        )
    except Unusable as error:
        raise WrongInput(f"This cannot be: {error}.", way_out="Choose three to five people, and let k be 3.") from None
    signed = sign(made.manifest.to_payload(), purpose=Purpose.SHARE_MANIFEST, key=account.identity_key)
    shares = [(contact, share.to_secret()) for contact, share in made.shares.items()]
    under_way = _SetUnderWay(account.api.clock.earliest(), signed.encode(), made.door, shares, owner.epoch)
    account.store.put(*_UNDER_WAY, seal_row(under_way))
    resume(account)
    chosen_now = find_chosen_set(account)
    assert chosen_now is not None
    return chosen_now


def _require_vault(account: Account) -> None:
    if len(account.state.vault.key):
        vault.load(account)
    else:
        vault.save(account)


def resume(account: Account) -> bool:
    """Carry on with a set that was interrupted; False when none was.

    Shares first, then the door, then the chain: until the last step the contacts so far can still help.
    """
    value = account.store.get(*_UNDER_WAY)
    if value is None:
        return False
    made = open_row(_SetUnderWay, value, "set of shares")
    signed = Sign1.parse(made.manifest)
    if made.epoch != account.state.vault.epoch:
        # The vault key changed meanwhile: this door would open nothing that is written now.
        account.store.delete(*_UNDER_WAY)
        return False
    manifest = Manifest.from_payload(signed.payload)
    if manifest.header.issued_at > account.api.clock.earliest() + MAX_AHEAD_SECONDS:
        # Made under a clock that was ahead: it would count as the newest of all until then.
        account.store.delete(*_UNDER_WAY)
        choose(account, manifest.contacts, k=manifest.k)
        return True
    if signed.kid != account.identity_key.public.kid:
        # Rotated since: a contact who hears of the set before the chain names it asks for the key in force.
        signed = sign(signed.payload, purpose=Purpose.SHARE_MANIFEST, key=account.identity_key)
    for contact, share in made.shares:
        _give_to(account, contact, ContactShare.from_secret(share), manifest, signed)
    _put_manifest(account, signed)
    doors.put_door(account, doors.CONTACTS, made.door)

    def write(state: ChainState) -> list[Entry]:
        if state.manifest_hash == manifest.hash:
            return []
        return [chain_author.share_manifest(state, by=account.author(state), manifest_hash=manifest.hash)]

    chains.append(account, write)
    with account.store.transaction():
        doors.mark(account, doors.CONTACTS, epoch=made.epoch, blob=made.door)
        made_at = max(made.made_at, next_stamp(account, TRUSTED_SET, b""))
        account.store.put(TRUSTED_SET, b"", seal_row(_ChosenSet(made_at, signed.encode(), made.epoch)))
        account.store.delete(*_UNDER_WAY)
    vault.save(account)
    return True


def _give_to(account: Account, contact: bytes, share: ContactShare, manifest: Manifest, signed: Sign1) -> None:
    """Send a contact's share to each of their devices that their verified chain lists."""
    state = contacts.refresh(account, contact)
    if not state.devices:
        raise NotPossible(
            f"{UUID(bytes=contact)} has no device now.", way_out="Choose somebody else, or ask them to enrol one."
        )
    for identifier, statement_hash in state.devices.items():
        statement = devices.fetch_statement(account, identifier)
        if statement.payload_hash != statement_hash:
            raise TrustRefused(
                f"The server shows another device of {UUID(bytes=contact)} than their account chain lists.",
                way_out="Give no share now; tell your officers.",
            )
        to = DeviceStatement.from_payload(statement.payload)
        letter = contact_shares.seal_share(share, manifest=manifest, statement=signed, contact=contact, to=to)
        letters.send(account, identifier, LetterKind.SHARE, letter)


def _put_manifest(account: Account, signed: Sign1) -> None:
    try:
        version = account.api.get("recovery/contacts").number("version")
    except Problem as problem:
        if problem.status != 404:
            raise
        version = 0
    account.api.put("recovery/contacts", {"manifest": b64u(signed.encode())}, if_match=f'"{version}"')


def find_chosen_set(account: Account) -> TrustedSet | None:
    """Return the trusted contacts of now; None when there are none."""
    value = account.store.get(TRUSTED_SET, b"")
    if value is None:
        return None
    row = open_row(_ChosenSet, value, "trusted set")
    if not row.manifest:
        return None
    manifest = Manifest.from_payload(Sign1.parse(row.manifest).payload)
    return TrustedSet(manifest.contacts, manifest.k, manifest.set_id, row.made_at, row.epoch)


def reshare(account: Account) -> bool:
    """Give the same contacts fresh shares for the vault key of now; True when they hold such.

    Needed after each change of the vault key; does nothing when it is done. False without trusted contacts, and when
    one of them cannot be given a share before the person has looked (they began again, have no device, or the server
    shows another): a rotation goes on without them, and the contacts door is then listed as closed.
    """
    try:
        if resume(account):
            return True
        now = find_chosen_set(account)
        if now is not None and now.epoch != account.state.vault.epoch:
            choose(account, now.contacts, k=now.k)
    except (NotPossible, ProfileError, TrustRefused):
        return False
    return now is not None


def give_back(account: Account) -> bool:
    """Give the same contacts fresh shares where a server that was put back has lost the set; True if that was done.

    The letters with the shares may be lost with it, and who has taken theirs is not known here: so all are given one
    anew. To be called as `doors.give_back`. Raises as `choose` does.
    """
    now = find_chosen_set(account)
    if now is None or vault.chain_of(account).manifest_hash is None:
        return False
    try:
        fetch_manifest(account)
    except (Problem, TrustRefused):
        choose(account, now.contacts, k=now.k)
        return True
    return False


def fetch_manifest(account: Account) -> Manifest:
    """Return the manifest of one's own set, as the account chain names it. Raises NotPossible, TrustRefused."""
    state = vault.chain_of(account)
    if state.manifest_hash is None:
        raise NotPossible(
            "Your account has no trusted contacts.", way_out="Another door may be open: holdfast recover --help"
        )
    try:
        signed = Sign1.parse(account.api.get("recovery/contacts").octets("manifest"))
        manifest = Manifest.from_payload(signed.payload)
    except HoldfastError as error:
        raise _not_the_manifest(str(error)) from error
    if signed.payload_hash != state.manifest_hash:
        raise _not_the_manifest("it is another one than your account chain names")
    if (manifest.header.tenant, manifest.header.user) != (account.tenant, account.user):
        raise _not_the_manifest("it is another person's")
    return manifest


def _not_the_manifest(reason: str) -> TrustRefused:
    return TrustRefused(
        f"The list of your trusted contacts is not to be trusted: {reason}.",
        way_out="Ask nobody for a share now; show this to your officers.",
    )


# The contact


def take_shares(account: Account) -> list[HeldShare]:
    """Keep the shares that came by letter, each verified; returns all shares held.

    A share is kept if its owner's account chain names its manifest, or if their identity key of now signed it and
    their chain is about to. Shares that an owner has replaced are destroyed once the chain names what replaced them;
    letters that are no share for this device are destroyed at once. While an owner's chain is in doubt, or does not
    show the key that signed, their letters wait.
    """
    for letter in letters.waiting(account, LetterKind.SHARE):
        try:
            _take(account, letter)
        except HoldfastError:
            pass  # wrong by itself
        except ClientError as error:
            # Its owner began again, or their chain is in doubt or could not be had now: the letter waits.
            letters.hold(account, letter, error)
            continue
        letters.put_away(account, [letter])
    _prune(account)
    return list_held_shares(account)


def _take(account: Account, letter: Letter) -> None:
    read = ShareLetter.parse(letter.message)
    manifest, owner = read.manifest, read.manifest.header.user
    if manifest.header.tenant != account.tenant or owner == account.user:
        raise Untrusted("a share of another tenant, or of oneself")
    state = contacts.refresh(account, owner)
    if state.manifest_hash != manifest.hash:
        if read.statement.kid not in {key.kid for key in (state.aik, *state.former_aiks)}:
            raise TrustRefused(
                "It is signed by a key that its owner's account does not show.",
                way_out="It is kept for a month. If the person says that they gave you one, tell your officers.",
            )
        # Not in the chain yet: then it is theirs only if the key in force signed it.
        read.statement.verify(state.aik, purpose=Purpose.SHARE_MANIFEST)
    share = _open_share(account, read)
    key = owner + manifest.set_id
    if account.store.get(HELD_SHARE, key) is None:
        row = _HeldRow(account.api.clock.earliest(), read.statement.encode(), share.to_secret())
        account.store.put(HELD_SHARE, key, seal_row(row))


def _open_share(account: Account, read: ShareLetter) -> ContactShare:
    """Open a share with the key it was sealed to: this device's, or the one's that it followed."""
    for own in handshakes.own_devices(account):
        with contextlib.suppress(UnwrapFailed):
            return read.open(contact=account.user, device=own.id, key=SealingKey.from_seed(own.sealing_seed))
    raise UnwrapFailed("the share does not open")


def _prune(account: Account) -> None:
    """Destroy shares that their owner's chain has named and names no more, and those of older sets never named."""
    kept = list(load_held_shares(account))
    for owner in {share.manifest.header.user for share in kept}:
        # A contact who was left out gets no letter about it; the owner's chain is where they see it.
        with contextlib.suppress(ClientError):
            contacts.refresh(account, owner)
    since = {share.manifest.header.user: share.manifest.created_at for share in kept if _is_current(account, share)}
    with account.store.transaction():
        # Nobody fills a contact's device with sets that their chain never names.
        waiting = [share for share in kept if not _is_current(account, share)]
        for owner in {share.manifest.header.user for share in waiting}:
            mine = [share for share in waiting if share.manifest.header.user == owner]
            for share in sorted(mine, key=lambda one: one.taken_at)[:-_MAX_UNNAMED]:
                account.store.delete(HELD_SHARE, share.key)
        for share in kept:
            owner, made_at = share.manifest.header.user, share.manifest.created_at
            # A set that a clock dated ahead makes none of today an older one.
            newer = since.get(owner, 0)
            is_older = made_at < newer <= account.api.clock.latest() + MAX_AHEAD_SECONDS
            is_left = share.manifest.hash in _named_before(account, owner) or is_older
            if is_left and not _is_current(account, share):
                account.store.delete(HELD_SHARE, share.key)


def _named_before(account: Account, owner: bytes) -> set[bytes]:
    pinned = account.state.contacts.get(owner)
    bodies = [Entry.parse(entry).body for entry in pinned.entries] if pinned else []
    return {body.manifest_hash for body in bodies if isinstance(body, ShareManifest)}


def load_held_shares(account: Account) -> Iterator[_Kept]:
    """Return every share kept for somebody, with its manifest."""
    for key in account.store.keys(HELD_SHARE):
        value = account.store.get(HELD_SHARE, key)
        if value is not None:
            row = open_row(_HeldRow, value, "held share")
            manifest = Manifest.from_payload(Sign1.parse(row.manifest).payload)
            yield _Kept(row.taken_at, key, manifest, ContactShare.from_secret(row.share))


def _is_current(account: Account, share: _Kept) -> bool:
    pinned = account.state.contacts.get(share.manifest.header.user)
    if pinned is None:
        return False
    state = chains.verify(account, pinned.user, pinned.entries)
    return state.manifest_hash == share.manifest.hash


def list_held_shares(account: Account) -> list[HeldShare]:
    """Return the shares that this person keeps for others, as far as their chains are known here."""
    return [
        HeldShare(
            owner=share.manifest.header.user,
            set_id=share.manifest.set_id,
            k=share.manifest.k,
            n=share.manifest.n,
            made_at=share.manifest.created_at,
            is_current=_is_current(account, share),
        )
        for share in load_held_shares(account)
    ]
