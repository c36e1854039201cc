# SPDX-License-Identifier: Apache-2.0
"""What the vault holds: written to bytes, checked against the account chain, and merged with what this device knows.

Implements PROTOCOL section 2 (vault) and the format "keyring" of docs/formats.
Does not encrypt, fetch or store; `vault` does. What is one device's alone (its seeds, pre-keys, sessions) is not in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Final

from holdfast.client.errors import TrustRefused
from holdfast.client.identity import key_log
from holdfast.client.profile.account import Account
from holdfast.client.profile.state import Contact, Generation
from holdfast.core.base.encoding import MAX_VAULT, Fields, decode, encode
from holdfast.core.base.errors import HoldfastError, Malformed
from holdfast.core.base.rows import (
    encode_row,
    mapping,
    nested,
    octets,
    open_map,
    seal_map,
    secret,
    several,
    text,
    uint,
)
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.identity.chain import ChainState
from holdfast.core.identity.entries import Entry, ReGenesis
from holdfast.core.signed.cose import Sign1
from holdfast.core.signed.statements import Consent

FORMAT: Final = 2  # docs/formats/keyring.md
# Rows of the store that every device of the person keeps: dCBOR arrays whose first item is the time of writing.
KNOWN_DEVICE: Final = "known-device"
HELD_SHARE: Final = "held-share"
TRUSTED_SET: Final = "trusted-set"
DOOR: Final = "door"
CARRIED: Final = (KNOWN_DEVICE, HELD_SHARE, TRUSTED_SET, DOOR)
# Of the vault's 1 MiB: the keys and what else is in it always have the other half.
_CONTACTS_OCTETS: Final = 512 * 1024


@dataclass(frozen=True)
class CarriedRow:
    """A row of the profile that the vault carries to the person's other devices, as it lies in the store."""

    kind: Annotated[str, text()]
    key: Annotated[bytes, octets()]
    value: Annotated[SecretBytes, secret()]


@dataclass(frozen=True)
class Contents:
    """A vault's contents as read; nothing in it is believed before `take` held it to the account chain.

    identity_seeds: the AIK's, and while a rotation is under way the next one's. head: 32 bytes, of the chain as the
    writer knew it.
    """

    identity_seeds: Annotated[tuple[SecretBytes, ...], several(secret(32), of=tuple, minimum=1, maximum=2).at(2)]
    generations: Annotated[tuple[Generation, ...], several(nested(Generation, "archive key"), of=tuple).at(3)]
    contacts: Annotated[tuple[Contact, ...], several(nested(Contact, "contact"), of=tuple).at(4)]
    head: Annotated[bytes, octets(32).at(5)]
    checkpoints: Annotated[dict[str, str], mapping(text(), text(maximum=4096)).at(6)]
    consent: Annotated[bytes, octets().at(7)]
    rows: Annotated[tuple[CarriedRow, ...], several(nested(CarriedRow, "keyring row"), of=tuple).at(8)]
    version: Annotated[int, uint(minimum=FORMAT, maximum=FORMAT).at(1)] = FORMAT

    def to_secret(self) -> SecretBytes:
        """Return the bytes: dCBOR{1: 2, 2: [seed…], 3: archive keys, 4: contacts, 5: head, 6..8}."""
        return seal_map(self)

    @classmethod
    def from_secret(cls, secret: SecretBytes) -> Contents:
        """Read the bytes of an opened vault. Raises Malformed."""
        contents = open_map(cls, secret, "keyring")
        for row in contents.rows:
            if row.kind not in CARRIED:
                raise Malformed("keyring row: field 0 is not a kind of row that a vault carries")
            written_at(row.value)
        return contents


def written_at(value: SecretBytes) -> int:
    """Return when a carried row was written. Raises Malformed for one that does not begin with a time."""
    row = decode(value.reveal(), max_size=MAX_VAULT)
    if not isinstance(row, list) or not row:
        raise Malformed("keyring row: not an array")
    return Fields.of_row(row, "keyring row", len(row)).uint(0)


def of(account: Account, *, next_identity: SecretBytes | None = None) -> Contents:
    """Collect what this device would write into the vault."""
    state, store = account.state, account.store
    rows: list[CarriedRow] = []
    for kind in CARRIED:
        for key in sorted(store.keys(kind)):
            value = store.get(kind, key)
            if value is not None:
                rows.append(CarriedRow(kind, key, value))
    seeds = (account.identity_key.seed(), *((next_identity,) if next_identity else ()))
    chain = account.chain
    committed = {archive.generation: archive.commitment for archive in chain.generations}
    return Contents(
        identity_seeds=seeds,
        # A key that is not announced yet is this device's own affair: its number may go to another device.
        generations=tuple(
            generation for generation in state.generations if committed.get(generation.number) == generation.commitment
        ),
        contacts=_fitting(state.contacts.values()),
        head=chain.head,
        checkpoints=dict(state.trust.checkpoints),
        consent=state.consent,
        rows=tuple(rows),
    )


def _fitting(contacts: Iterable[Contact]) -> tuple[Contact, ...]:
    """Return the contacts that the vault has room for, by user: those that were compared first, then the shortest.

    Anybody of the tenant becomes a contact by one message, with a chain as long as they like: it must not keep the
    keys out of the vault. Who is left out stays pinned on this device.
    """
    room, found = _CONTACTS_OCTETS, []
    for size, contact in sorted(
        ((len(encode(encode_row(contact))), contact) for contact in contacts),
        key=lambda row: (not row[1].verified, row[0], row[1].user),
    ):
        if size <= room:
            room -= size
            found.append(contact)
    return tuple(sorted(found, key=lambda contact: contact.user))


def identity_in(contents: Contents, account: Account, state: ChainState) -> SecretBytes:
    """Return the seed that is the account chain's AIK. Raises TrustRefused when the contents have another."""
    seed = find_identity(contents, account, state)
    if seed is None:
        raise TrustRefused(
            "The vault holds another identity key than the account chain names.",
            way_out="Recover by your phrase, which can sign for the account itself: holdfast recover phrase",
        )
    return seed


def find_identity(contents: Contents, account: Account, state: ChainState) -> SecretBytes | None:
    """Return the seed that is the account chain's AIK, if the contents have it."""
    kind = account.device_statement.suite.signing_kind
    return next(
        (seed for seed in contents.identity_seeds if SigningKey.from_seed(kind, seed).public == state.aik), None
    )


def take(account: Account, contents: Contents, state: ChainState) -> list[bytes]:
    """Merge what an opened vault holds into this device; returns the contacts about whom both differ.

    The rules: archive keys are united, each held to the account chain's commitment, and none is ever dropped; of two
    pins of one contact the longer counts if it continues the shorter, with the mark of a comparison from either, and
    otherwise this device's own; checkpoints seen here stay; of two consents or two rows under one key the later counts.
    Raises TrustRefused, and nothing changed, for an identity key, a chain or an archive key that the account chain does
    not name.
    """
    seed = identity_in(contents, account, state)
    if contents.head not in state.hashes:
        raise TrustRefused(
            "The vault was written on another account chain than the one shown now.",
            way_out="Compare your chain on two devices (holdfast chain show), and tell your officers.",
        )
    generations = _unite(account.state.generations, contents.generations, state)
    contacts, forked = _longest(account.state.contacts, contents.contacts)
    with account.store.transaction():
        own = account.state
        own.identity_seed = seed
        own.generations, own.contacts = generations, contacts
        own.consent = _later_consent(own.consent, contents.consent)
        for origin, text in contents.checkpoints.items():
            if own.trust.checkpoints.setdefault(origin, text) != text:
                # Both must be of one log; the follower compares them when it next may ask the server.
                key_log.hear(account, text)
        _take_rows(account, contents.rows)
        account.save()
    return forked


def take_archive_keys(account: Account, contents: Contents, state: ChainState) -> list[int]:
    """Take nothing but archive keys that the chain names; returns those that were new here.

    For contents whose writer is not to be believed in anything else: commitments vouch for these whoever brings them.
    """
    known = {generation.number for generation in account.state.generations}
    account.state.generations = _unite(account.state.generations, contents.generations, state)
    account.save()
    return [generation.number for generation in account.state.generations if generation.number not in known]


def missing(account: Account, state: ChainState) -> list[int]:
    """Return the archive generations that the chain announces and this device does not hold."""
    held = {generation.number for generation in account.state.generations}
    return [archive.generation for archive in state.generations if archive.generation not in held]


def _unite(own: Iterable[Generation], brought: Iterable[Generation], state: ChainState) -> list[Generation]:
    committed = {archive.generation: archive.commitment for archive in state.generations}
    united = {generation.number: generation for generation in own}
    brought = list(brought)
    # All of them before any: those of this device's own are written to.
    for generation in brought:
        if committed.get(generation.number) != generation.commitment:
            raise TrustRefused(
                f"The vault holds an archive key (generation {generation.number}) that the account chain does not "
                "name.",
                way_out="Compare your chain on two devices (holdfast chain show), and tell your officers.",
            )
    for generation in brought:
        known = united.setdefault(generation.number, generation)
        if known.commitment != generation.commitment:
            # A generation of this device's own making that lost the race for its number was never used.
            united[generation.number] = generation
        elif not known.deposit_id:
            known.deposit_id, known.record_hash = generation.deposit_id, generation.record_hash
        known.is_exposed = known.is_exposed or generation.is_exposed
    return [united[number] for number in sorted(united)]


def _longest(own: dict[bytes, Contact], brought: Iterable[Contact]) -> tuple[dict[bytes, Contact], list[bytes]]:
    united, forked = dict(own), []
    for contact in brought:
        known = united.get(contact.user)
        if known is None:
            united[contact.user] = contact
            continue
        shared = min(len(known.entries), len(contact.entries))
        if known.entries[:shared] != contact.entries[:shared]:
            forked.append(contact.user)
            continue
        longer, shorter = (contact, known) if len(contact.entries) > len(known.entries) else (known, contact)
        longer.verified = longer.verified or _still_verified(shorter, longer)
        longer.suite = longer.suite or shorter.suite
        united[contact.user] = longer
    return united, forked


def _still_verified(shorter: Contact, longer: Contact) -> bytes:
    """Return the mark of a comparison that two people made, unless the account was begun again since."""
    since = [Entry.parse(entry) for entry in longer.entries[len(shorter.entries) :]]
    return b"" if any(isinstance(entry.body, ReGenesis) for entry in since) else shorter.verified


def _later_consent(own: bytes, brought: bytes) -> bytes:
    if not own or not brought:
        return own or brought
    try:
        said = Consent.from_payload(Sign1.parse(brought).payload)
    except HoldfastError:
        return own
    mine = Consent.from_payload(Sign1.parse(own).payload)
    return brought if said.order > mine.order else own


def next_stamp(account: Account, kind: str, key: bytes) -> int:
    """Return the time to write a carried row with: now, and later than what it follows, though a clock was ahead then.

    Devices keep the later of two rows: what is done now must not give way to what was dated into the future.
    """
    known = account.store.get(kind, key)
    return max(account.api.clock.earliest(), written_at(known) + 1 if known else 0)


def _take_rows(account: Account, rows: Iterable[CarriedRow]) -> None:
    for row in rows:
        known = account.store.get(row.kind, row.key)
        if known is None or written_at(row.value) > written_at(known):
            account.store.put(row.kind, row.key, row.value)
