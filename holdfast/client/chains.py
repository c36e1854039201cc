# SPDX-License-Identifier: Apache-2.0
"""The user's own account chain: fetched, verified on top of what is known, and extended.

Implements PROTOCOL section 5 for its owner, and the stale-head rule of the REST API.
Does not follow other people's chains; `contacts` does, with their pins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from holdfast.client.account import Account
from holdfast.client.answers import Answer
from holdfast.client.errors import Problem, TrustRefused
from holdfast.core import chain
from holdfast.core.chain import ChainState
from holdfast.core.encoding import b64u
from holdfast.core.entries import Entry
from holdfast.core.errors import HoldfastError

_RACES: Final = 5


def fetch(account: Account, user: bytes, known: Sequence[bytes]) -> list[bytes] | None:
    """Return the entries that the server has after `known`, or None when it has no chain for `user`.

    Raises TrustRefused when the server has fewer entries than are known, or others: it was rolled back, hides
    some, or shows this client another history than before.
    """
    query = {"after": str(len(known) - 1)} if known else {}
    try:
        answer = account.api.get(f"users/{UUID(bytes=user)}/chain", query=query)
    except Problem as problem:
        if problem.status == 404 and not known:
            return None
        raise
    entries = answer.many_octets("entries")
    if not entries and not known:
        return None
    if answer.number("seq") != len(known) + len(entries) - 1:
        raise TrustRefused("The server shows a chain of another length than it has shown before.")
    try:
        newest = Entry.parse([*known, *entries][-1]).hash
    except HoldfastError as error:
        raise TrustRefused(f"The account chain is not to be trusted: {error}.") from error
    if answer.octets("head", 32) != newest:
        raise TrustRefused("The server shows a chain with another head than the entries lead to.")
    return entries


def refresh(account: Account) -> ChainState | None:
    """Bring the own chain up to date, and return it; None before its genesis.

    Raises TrustRefused when the server's chain does not continue the one known: shorter, forked, forged.
    """
    known = account.state.chain
    entries = fetch(account, account.user, known)
    if entries is None:
        return None
    state = verify(account, account.user, [*known, *entries])
    account.state.chain = [*known, *entries]
    device = account.state.device
    if device:
        device.is_active = device.id in state.devices
    account.save()
    return state


def verify(account: Account, user: bytes, entries: Sequence[bytes]) -> ChainState:
    """Verify a chain of this tenant under the pinned policies. Raises TrustRefused."""
    try:
        return chain.verify_chain(
            [Entry.parse(one) for one in entries], tenant=account.tenant, user=user, policies=account.policies
        )
    except HoldfastError as error:
        raise TrustRefused(f"The account chain is not to be trusted: {error}.") from error


def append(account: Account, write: Callable[[ChainState], Sequence[Entry]]) -> ChainState:
    """Extend the own chain by what `write` makes of its newest state, again when another device was faster."""
    for _ in range(_RACES):
        state = refresh(account)
        if state is None:
            raise TrustRefused("The server no longer shows this account's chain.")
        entries = write(state)
        if not entries:
            return state
        # Checked here as every peer will check it, before anything is sent.
        chain.extend(state, *entries, policies=account.policies)
        try:
            upload(account, entries, state.head)
        except Problem as problem:
            if problem.code != "chain-stale":
                raise
            continue
        fresh = refresh(account)
        assert fresh is not None
        return fresh
    raise Problem(status=409, code="chain-stale", detail="Another of your devices keeps writing to your account.")


def upload(account: Account, entries: Sequence[Entry], expected_head: bytes | None) -> Answer:
    """Send entries that were verified here; None stands for an empty chain. Raises Problem `chain-stale` in a race."""
    document = {
        "entries": [b64u(entry.encode()) for entry in entries],
        "expected_head": b64u(expected_head) if expected_head else None,
    }
    return account.api.post(f"users/{account.user_text}/chain", document)
