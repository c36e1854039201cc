# SPDX-License-Identifier: Apache-2.0
"""A user's account chain as sessions need it, the same for oneself and for others: now, and as of an older head.

Implements PROTOCOL section 5 (peers follow the chain at each fetch) on `chains` and `contacts`.
Verifies nothing by itself.
"""

from __future__ import annotations

from typing import Final

from holdfast.client.errors import TrustRefused
from holdfast.client.identity import chains, contacts
from holdfast.client.profile.account import Account
from holdfast.client.sessions import sessions
from holdfast.core.base.errors import HoldfastError
from holdfast.core.base.secret import SecretBytes
from holdfast.core.identity import chain
from holdfast.core.identity.chain import ChainState
from holdfast.core.identity.entries import Entry

# The server refuses a message for an older set of devices; this bounds how long one that does not is believed.
FRESH_SECONDS: Final = 300
_FETCHED: Final = "chain-fetched"
_NAMED: Final = "chain-named"


class HiddenChain(TrustRefused):
    """The server shows less of a chain than its owner has named in a message that authenticated."""


def refresh(account: Account, user: bytes) -> ChainState:
    """Fetch what is new in a user's chain (16 bytes), drop sessions with devices that are gone, and return its state.

    Raises PeerChanged while a human has to confirm, and TrustRefused.
    """
    if user == account.user:
        state = chains.refresh(account)
        if state is None:
            raise TrustRefused("The server no longer shows this account's chain.")
    else:
        state = contacts.refresh(account, user)
    now = account.api.clock.now()
    with account.store.transaction():
        account.store.put(_FETCHED, user, SecretBytes(now.to_bytes(8, "big")))
        sessions.drop_gone(account.store, state)
    return state


def is_fresh(account: Account, user: bytes) -> bool:
    """Whether a user's chain was fetched at most five minutes ago, with all that they have named, and all confirmed."""
    contact = account.state.contacts.get(user)
    if user != account.user and (contact is None or contact.unconfirmed):
        return False
    if account.store.get(_NAMED, user) is not None:
        return False
    fetched = account.store.get(_FETCHED, user)
    return (
        fetched is not None and 0 <= account.api.clock.now() - int.from_bytes(fetched.reveal(), "big") < FRESH_SECONDS
    )


def current(account: Account, user: bytes) -> ChainState:
    """Return a user's chain, fetched at most five minutes ago. Raises as `refresh` does."""
    if not is_fresh(account, user):
        return refresh(account, user)
    state = chains.verify(account, user, entries_of(account, user))
    # The own chain may have moved by this device's own hand.
    sessions.drop_gone(account.store, state)
    return state


def find_known(account: Account, user: bytes) -> ChainState | None:
    """Return a user's chain as kept here, however old; None for one never met, or that something stands against."""
    contact = account.state.contacts.get(user)
    if (contact is not None and contact.unconfirmed) or account.store.get(_NAMED, user) is not None:
        return None
    entries = entries_of(account, user)
    return chains.verify(account, user, entries) if entries else None


def expire(account: Account, user: bytes) -> None:
    """Have the chain fetched anew before it is used again."""
    account.store.delete(_FETCHED, user)


def expect(account: Account, user: bytes, head: bytes) -> None:
    """Take a user's word, from inside a message, that their chain has a head: the server has to show it from now on."""
    if not knows(account, user, head):
        account.store.put(_NAMED, user, SecretBytes(head))
        expire(account, user)


def list_expected(account: Account) -> list[bytes]:
    """Return the users who have named a head of theirs that was not seen here yet."""
    return account.store.keys(_NAMED)


def require_shown(account: Account, user: bytes) -> None:
    """Raise TrustRefused while the server hides from this device a head that the user has named in a message."""
    named = account.store.get(_NAMED, user)
    if named is None:
        return
    if not knows(account, user, named.reveal()):
        raise HiddenChain(
            "The server hides newer entries of this person's account, which they have named in a message.",
            way_out="Nothing is sent to them meanwhile: a device of theirs may have been revoked. Try again later; if "
            "this goes on, tell your officers.",
        )
    account.store.delete(_NAMED, user)


def entries_of(account: Account, user: bytes) -> list[bytes]:
    """Return the entries that are pinned of a user's chain, none when they were never met."""
    if user == account.user:
        return account.state.chain
    contact = account.state.contacts.get(user)
    return contact.entries if contact else []


def knows(account: Account, user: bytes, head: bytes) -> bool:
    """Whether a head (32 bytes) is one that this device has seen of the user's chain."""
    return any(Entry.parse(encoded).hash == head for encoded in reversed(entries_of(account, user)))


def as_of(account: Account, user: bytes, head: bytes) -> ChainState:
    """Return what the pinned chain said when `head` was its newest. Raises TrustRefused when it never was."""
    entries = [Entry.parse(encoded) for encoded in entries_of(account, user)]
    try:
        return chain.state_at(entries, head, tenant=account.tenant, user=user, policies=account.policies)
    except HoldfastError as error:
        raise TrustRefused(f"A message rests on an account chain that the server does not show: {error}.") from error
