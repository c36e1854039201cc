# SPDX-License-Identifier: Apache-2.0
"""Shares of a vault's contacts door: made, sealed to trusted contacts, and put together again.

Implements PROTOCOL section 6 "Contacts door" but for the manifest and the request, which are in `share_manifest`.
Does not know who the contacts' devices are or who really asks: chains and two people's voices say that.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from holdfast.core.base.encoding import Fields, decode, encode, label
from holdfast.core.base.errors import QuorumNotMet, Untrusted, Unusable
from holdfast.core.base.secret import SecretBytes
from holdfast.core.base.writing import read_back
from holdfast.core.crypto import slip39
from holdfast.core.crypto.keys import SealingKey
from holdfast.core.crypto.sealing import open_sealed, seal
from holdfast.core.crypto.shares import MAX_SHARES, MIN_QUORUM
from holdfast.core.signed.cose import Sign1
from holdfast.core.signed.payloads import Header, check_time
from holdfast.core.signed.statements import DeviceStatement
from holdfast.core.vault.contacts_door import SECRET_SIZE, SET_SIZE, seal_contacts_door
from holdfast.core.vault.door_blob import DoorOwner
from holdfast.core.vault.share_manifest import Manifest, ShareRequest, share_commitment

DEFAULT_K: Final = 3  # of 5, PROTOCOL section 6 "Contacts door": two may be lost, and two alone open nothing
BLIND_SIZE: Final = 32  # bytes: random, so that a commitment tells nobody whether two sets hold one share
SHARE_SIZE: Final = 42  # bytes of a SLIP-0039 share of 32
# Bytes of the map around it, which is about 100 long.
_MAX_SHARE: Final = 256
_LETTER: Final = 1  # version of the letter


class WrongShare(Untrusted):
    """A share that is not what the manifest says this contact holds. contact: their 16-byte user id."""

    def __init__(self, contact: bytes, reason: str) -> None:
        super().__init__(f"share of contact {contact.hex()}: {reason}")
        self.contact = contact


@dataclass(frozen=True, slots=True)
class ContactShare:
    """One contact's share in the clear: the set's id (16), its place in the manifest, the share (42), a blind (32)."""

    set_id: bytes
    index: int
    share: SecretBytes
    blind: bytes

    @read_back("from_secret")
    def to_secret(self) -> SecretBytes:
        """Return dCBOR{1: set, 2: index, 3: share, 4: blind}: what is sealed, and what a contact keeps."""
        return SecretBytes(encode({1: self.set_id, 2: self.index, 3: self.share.reveal(), 4: self.blind}))

    @classmethod
    def from_secret(cls, octets: SecretBytes) -> ContactShare:
        """Read a share; raises Malformed, also where the SLIP-0039 share inside has another index."""
        read = Fields(decode(octets.reveal(), max_size=_MAX_SHARE), "contact's share", range(1, 5))
        share = SecretBytes(read.octets(3, SHARE_SIZE))
        index = read.uint(2, maximum=MAX_SHARES - 1)
        # Two places say the index. Were they to differ, the manifest would vouch for
        # one and the arithmetic use the other.
        if slip39.Share.from_bytes(share).index != index:
            raise read.refuse(2, "is not the index of the share")
        return cls(read.octets(1, SET_SIZE), index, share, read.octets(4, BLIND_SIZE))


@dataclass(frozen=True, slots=True)
class Prepared:
    """A new contacts door: its blob, the manifest to be signed by the AIK, and each contact's share."""

    door: bytes
    manifest: Manifest
    shares: dict[bytes, ContactShare]


def prepare(
    vault_key: SecretBytes, *, owner: DoorOwner, header: Header, contacts: Sequence[bytes], k: int = DEFAULT_K
) -> Prepared:
    """Make a contacts door whose secret k of the contacts can put together again.

    header: of the manifest; names the owner. contacts: 16-byte user ids, one share each. Raises Unusable
    unless 2 <= k <= n <= 16, for one contact named twice and for the owner among them.
    """
    if not MIN_QUORUM <= k <= len(contacts) <= MAX_SHARES:
        raise Unusable("trusted contacts are k of n with 2 <= k <= n <= 16")
    # One person with two shares would be half a quorum, and the owner's own share is lost with the devices.
    if len(set(contacts)) != len(contacts) or owner.user in contacts:
        raise Unusable("every trusted contact is another person")
    # A new secret for each door: old shares must not open a door that was made to shut somebody out.
    secret, set_id = SecretBytes(secrets.token_bytes(SECRET_SIZE)), secrets.token_bytes(SET_SIZE)
    parts = slip39.split(secret, k=k, n=len(contacts))
    shares = {
        contact: ContactShare(set_id, part.index, part.to_bytes(), secrets.token_bytes(BLIND_SIZE))
        for contact, part in zip(contacts, parts, strict=True)
    }
    door = seal_contacts_door(vault_key, secret=secret, set_id=set_id, owner=owner)
    # The manifest is signed and public to the contacts: blinded, it says nothing of the shares.
    rows = tuple((contact, share_commitment(share.blind, share.share)) for contact, share in shares.items())
    return Prepared(door, Manifest.of_door(header, set_id=set_id, k=k, rows=rows, door=door), shares)


def check_share(manifest: Manifest, contact: bytes, share: ContactShare) -> None:
    """Raise WrongShare, naming the contact, unless this is their share of exactly this set.

    Shares of another set, and so of another epoch of the vault, are refused here before any arithmetic.
    """
    # In this order, from who to what: the first thing that is wrong is what the owner
    # hears about this contact (FAULTS R9).
    at = manifest.index_of(contact)
    if at is None:
        raise WrongShare(contact, "they are not named in the manifest")
    if share.set_id != manifest.set_id:
        raise WrongShare(contact, "it is of another set, made earlier or later than this door")
    if share.index != at:
        raise WrongShare(contact, "it has another contact's place")
    # Before any arithmetic: one wrong share spoils the secret and afterwards nobody can tell whose it was.
    if share_commitment(share.blind, share.share) != manifest.rows[at][1]:
        raise WrongShare(contact, "it is not the share that the manifest commits to")


def seal_share(
    share: ContactShare, *, manifest: Manifest, statement: Sign1, contact: bytes, to: DeviceStatement
) -> bytes:
    """Return the letter that brings a contact's share, and the signed manifest, to one of their devices.

    statement: the manifest as signed by the owner's AIK. `to` is active in the contact's chain, which the caller
    has checked. Raises Untrusted when it is not that contact's, and ValueError when the statement is not the
    manifest's (the caller's mistake).
    """
    # The contact keeps share and manifest together, and checks the one by the other: two that do
    # not fit would look like a wrong share.
    if statement.payload_hash != manifest.hash:
        raise ValueError("another manifest was signed than the one given")
    # Sealed to a device, not to a person: the owner would otherwise give a share to
    # whoever the server says the contact is.
    if (to.header.tenant, to.header.user) != (manifest.header.tenant, contact):
        raise Untrusted("the device is not this contact's")
    info = _share_info(manifest, contact, to.header.device)
    sealed = seal(share.to_secret(), to=to.sealing_key, info=info)
    return encode({1: _LETTER, 2: statement.encode(), 3: sealed})


@dataclass(frozen=True, slots=True)
class ShareLetter:
    """A letter as a contact's device receives it. manifest is read, and trusted by nobody yet."""

    statement: Sign1
    manifest: Manifest
    sealed: bytes

    @classmethod
    def parse(cls, letter: bytes) -> ShareLetter:
        """Read a letter; raises Malformed. The statement is then verified under the owner's AIK."""
        read = Fields(decode(letter), "share letter", (1, 2, 3))
        read.uint(1, minimum=_LETTER, maximum=_LETTER)
        statement = Sign1.parse(read.octets(2))
        return cls(statement, Manifest.from_payload(statement.payload), read.octets(3, maximum=4096))

    def open(self, *, contact: bytes, device: bytes, key: SealingKey) -> ContactShare:
        """Return the share sealed to this device (16 bytes) of this contact (16 bytes).

        Raises UnwrapFailed, Malformed, or WrongShare when it is not what the manifest says.
        """
        # Contact and device in it: a letter that the server carries to another device does not open there.
        info = _share_info(self.manifest, contact, device)
        share = ContactShare.from_secret(open_sealed(self.sealed, key=key, info=info))
        # Now and not when it is needed: a wrong share found years later can no longer be replaced.
        check_share(self.manifest, contact, share)
        return share


def answer_request(
    share: ContactShare, *, request: ShareRequest, manifest: Manifest, contact: bytes, now: int
) -> bytes:
    """Return the share, sealed again to the key of a request whose six groups of digits the contact has compared.

    Raises Expired; Untrusted when the request is not by the manifest's owner or not for this manifest; WrongShare
    when the share is not of it.
    """
    # An old request would let whoever kept its key collect shares long after the talk.
    check_time(request.header, now)
    # For this owner and this set: digits that were compared for one request must not
    # bring out another share (FAULTS R8).
    _require_same(request, manifest)
    check_share(manifest, contact, share)
    return seal(share.to_secret(), to=request.key, info=_answer_info(request, contact))


def open_answer(
    sealed: bytes, *, request: ShareRequest, manifest: Manifest, contact: bytes, key: SealingKey
) -> ContactShare:
    """Return the share that a contact sent to the request's own key. Raises UnwrapFailed, Malformed or WrongShare."""
    _require_same(request, manifest)
    share = ContactShare.from_secret(open_sealed(sealed, key=key, info=_answer_info(request, contact)))
    check_share(manifest, contact, share)
    return share


def combine(manifest: Manifest, shares: Mapping[bytes, ContactShare]) -> SecretBytes:
    """Return the 32-byte secret S of the contacts door, from k or more shares by contact.

    Raises WrongShare for the first that is not what the manifest says (leave it out and try again), QuorumNotMet
    for fewer than k, UnwrapFailed when shares that all match do not add up: then the set was made wrong.
    """
    for contact, share in shares.items():
        check_share(manifest, contact, share)
    # After the shares were checked: k wrong ones are not a quorum.
    if len(shares) < manifest.k:
        raise QuorumNotMet(f"{len(shares)} of the {manifest.k} shares that are needed")
    return slip39.combine(slip39.Share.from_bytes(share.share) for share in shares.values())


def _require_same(request: ShareRequest, manifest: Manifest) -> None:
    whose = (request.header.tenant, request.header.user, request.manifest_hash)
    if whose != (manifest.header.tenant, manifest.header.user, manifest.hash):
        raise Untrusted("the request asks for shares of another person's, or of another set")


def _share_info(manifest: Manifest, contact: bytes, device: bytes) -> bytes:
    return label("share", manifest.hash, contact, device)


def _answer_info(request: ShareRequest, contact: bytes) -> bytes:
    # The hash has the request's key, device and set: an answer cannot be carried over to another request.
    return label("share-answer", request.hash, contact)
