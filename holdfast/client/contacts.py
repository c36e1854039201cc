# SPDX-License-Identifier: Apache-2.0
"""Other people's accounts: pinned at first sight, followed entry by entry, re-trusted only by a human.

Implements PROTOCOL section 5 for peers, and FAULTS S12 and S15.
Does not claim bundles; `bundles` does, on top of the chain that is verified here.
"""

from __future__ import annotations

from uuid import UUID

from holdfast.client import chains
from holdfast.client.account import Account
from holdfast.client.errors import PeerChanged, ProfileError, WrongWords
from holdfast.client.state import Contact
from holdfast.core.chain import ChainState
from holdfast.core.entries import Entry, ReGenesis

# What stands before the key in a fingerprint: the same label on both people's screens.
IDENTITY: str = "aik"


def identity_words(state: ChainState) -> tuple[str, ...]:
    """Return the 8 words of an account's identity key, for two people to compare."""
    return state.aik.fingerprint(IDENTITY)


def refresh(account: Account, user: bytes) -> ChainState:
    """Bring a contact's chain up to date and return it; a contact never seen before is pinned as met.

    Raises PeerChanged while a re-genesis waits for a human's yes; TrustRefused for a chain that is shorter
    than, or differs from, what is pinned.
    """
    contact = account.state.contacts.get(user) or Contact(user, [])
    known = [*contact.entries, *contact.unconfirmed]
    entries = chains.fetch(account, user, known)
    if entries is None:
        raise ProfileError("That person has no account yet.", way_out="Ask the person to enrol a device.")
    state = chains.verify(account, user, [*known, *entries])
    begun_again = contact.entries and any(isinstance(Entry.parse(one).body, ReGenesis) for one in entries)
    if contact.unconfirmed or begun_again:
        contact.unconfirmed += entries
    else:
        contact.entries += entries
    account.state.contacts[user] = contact
    account.save()
    if contact.unconfirmed:
        raise PeerChanged(
            "This account was begun again after a recovery. To you it is another person until you have checked.",
            way_out="Call the person, have the 8 words of the new key read to you, then: "
            f"holdfast chain confirm {UUID(bytes=user)}",
        )
    return state


def confirm(account: Account, user: bytes, *, words: tuple[str, ...]) -> ChainState:
    """Pin the account that a contact began again, under the words that the person read out.

    Raises WrongWords when they are not those of the key the server shows: somebody else holds it.
    """
    contact = account.state.contacts.get(user)
    if contact is None or not contact.unconfirmed:
        raise ProfileError("Nothing waits for a confirmation from you.")
    state = chains.verify(account, user, [*contact.entries, *contact.unconfirmed])
    if identity_words(state) != words:
        raise WrongWords("These are not the words of the new key. Trust nothing under it, and tell your officers.")
    contact.entries += contact.unconfirmed
    contact.unconfirmed = []
    account.save()
    return state
