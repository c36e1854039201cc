# SPDX-License-Identifier: Apache-2.0
"""Other people's accounts: pinned at first sight, followed entry by entry, re-trusted only by a human.

Implements PROTOCOL section 5 for peers, and FAULTS S12 and S15.
Does not claim bundles; `bundles` does, on top of the chain that is verified here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from holdfast.client.errors import NotPossible, PeerChanged, WrongWords
from holdfast.client.identity import chains, key_log
from holdfast.client.identity.key_log import Anchor
from holdfast.client.identity.lost_chains import ChainBehind
from holdfast.client.profile.account import Account
from holdfast.client.profile.state import Contact
from holdfast.client.sessions import sessions
from holdfast.core.base import typed
from holdfast.core.base.words import as_typed
from holdfast.core.crypto.safety import Groups, own_number, pair_number
from holdfast.core.identity.chain import ChainState
from holdfast.core.identity.entries import Entry, ReGenesis

# What stands before the key in a fingerprint: the same label on both people's screens.
IDENTITY: Final = "aik"


@dataclass(frozen=True)
class KnownContact:
    """What this client keeps of a person. is_verified: two people compared, and nothing began anew since.

    is_waiting: their account was begun again and waits for a human's yes. anchor: where their head stands in the key
    log.
    """

    user: UUID
    state: ChainState
    is_verified: bool
    is_waiting: bool
    anchor: Anchor


def identity_words(state: ChainState) -> tuple[str, ...]:
    """Return the 8 words of an account's identity key, for two people to compare."""
    return state.aik.fingerprint(IDENTITY)


def refresh(account: Account, user: bytes) -> ChainState:
    """Bring a contact's chain up to date and return it; a contact never seen before is pinned as met.

    Sessions with devices that are theirs no longer are dropped. Raises PeerChanged while a re-genesis waits for a
    human's yes; TrustRefused for a chain that is shorter than, or differs from, what is pinned, or that the key log
    does not hold. A server that was put back from a backup is offered what it lost, and what is pinned goes on.
    """
    contact = account.state.contacts.get(user) or Contact(user, [])
    known = [*contact.entries, *contact.unconfirmed]
    is_behind = False
    try:
        followed = chains.follow(account, user, known)
    except ChainBehind as behind:
        followed = chains.give_back(account, user, known, behind.has)
        is_behind = followed is None
        followed = followed or (chains.verify(account, user, known), [])
    if followed is None:
        raise NotPossible("That person has no account yet.", way_out="Ask the person to enrol a device.")
    state, entries = followed
    if not is_behind:
        key_log.anchor(account, state)
    begun_again = contact.entries and any(isinstance(Entry.parse(encoded).body, ReGenesis) for encoded in entries)
    with account.store.transaction():
        if not is_behind:
            chains.confirm_newest(account, user)
        if contact.unconfirmed or begun_again:
            contact.unconfirmed += entries
            contact.verified = b""
            sessions.drop(account.store, user)
        else:
            contact.entries += entries
            sessions.drop_gone(account.store, state)
        if entries or user not in account.state.contacts:
            account.state.contacts[user] = contact
            account.save()
    if contact.unconfirmed:
        raise PeerChanged(
            "This account was begun again after a recovery. To you it is another person until you have checked.",
            way_out="Call the person, have the 8 words of the new key read to you, then: "
            f"holdfast contacts confirm {UUID(bytes=user)}",
        )
    return state


def confirm(account: Account, user: bytes, *, words: tuple[str, ...]) -> ChainState:
    """Pin the account that a contact began again, under the words that the person read out: it is verified by that.

    Raises WrongWords when they are not those of the key the server shows: somebody else holds it.
    """
    contact = account.state.contacts.get(user)
    if contact is None or not contact.unconfirmed:
        raise NotPossible("Nothing waits for a confirmation from you.")
    state = chains.verify(account, user, [*contact.entries, *contact.unconfirmed])
    if identity_words(state) != as_typed(words):
        raise WrongWords("These are not the words of the new key. Trust nothing under it, and tell your officers.")
    contact.entries += contact.unconfirmed
    contact.unconfirmed = []
    contact.verified = state.head
    account.save()
    return state


def safety_number(account: Account, user: bytes) -> Groups:
    """Return the 12 groups that this person and a contact both see, if nobody stands between them.

    It follows both identity keys in force, so that it also shows a fork; compared on one day, it differs after either
    rotated, and the mark of `verify` outlives that, since rotations are followed by their signatures.
    """
    own = account.chain
    state = refresh(account, user)
    return pair_number(_half(account, own), _half(account, state))


def _half(account: Account, state: ChainState) -> Groups:
    return own_number(tenant=account.tenant, user=state.user, aik=state.aik)


def verify(account: Account, user: bytes, *, number: Sequence[str]) -> ChainState:
    """Mark a contact as verified by the safety number that the contact read out or showed.

    Raises WrongWords when it is not the one seen here: somebody stands between, or one of the two has to refresh.
    """
    if typed.ungrouped("".join(number)) != "".join(safety_number(account, user)):
        raise WrongWords(
            "This is not the safety number seen here. Ask the person to refresh and to read it again; if it still "
            "differs, trust nothing that comes under that name.",
        )
    contact = account.state.contacts[user]
    state = chains.verify(account, user, contact.entries)
    contact.verified = state.head
    account.save()
    return state


def list_contacts(account: Account) -> list[KnownContact]:
    """Return every contact as kept, without asking the server."""
    found = []
    for contact in account.state.contacts.values():
        state = chains.verify(account, contact.user, contact.entries)
        found.append(
            KnownContact(
                user=UUID(bytes=contact.user),
                state=state,
                is_verified=bool(contact.verified),
                is_waiting=bool(contact.unconfirmed),
                anchor=key_log.standing(account, state),
            )
        )
    return found
