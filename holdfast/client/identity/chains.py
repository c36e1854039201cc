# SPDX-License-Identifier: Apache-2.0
"""Account chains as the server shows them: fetched, verified on top of what is known, and the own one extended.

Implements PROTOCOL section 5 for its owner, the stale-head rule of the REST API, and FAULTS S10 and S12 for chains.
Does not decide whose chain is to be believed: `contacts` pins other people's, `rotation` writes new keys.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from holdfast.client.errors import AnswerRefused, ClientError, Problem, RaceLost, TrustRefused
from holdfast.client.identity import evidence, key_log, lost_chains, restored
from holdfast.client.identity.evidence import Contradiction
from holdfast.client.identity.lost_chains import ChainBehind
from holdfast.client.profile.account import Account
from holdfast.client.server.answers import Answer
from holdfast.client.waiting import retry, stale_problem
from holdfast.core.base.encoding import Fields, b64u, decode, encode
from holdfast.core.base.errors import Forked, HoldfastError
from holdfast.core.base.secret import SecretBytes
from holdfast.core.identity import chain
from holdfast.core.identity.chain import ChainState
from holdfast.core.identity.entries import Entry, ReGenesis, RevokeDevice
from holdfast.core.signed.payloads import MAX_U32

STALE: Final = "chain-stale"  # the problem code of an upload that does not follow the newest entry
UNKNOWN: Final = "unauthenticated"  # the problem code of a request by a device that the server does not know
KEEPS_WRITING: Final = "Another of your devices keeps writing to your account."
# Entries of a chain that are read: more than twice what a server takes of one.
MOST_ENTRIES: Final = 10_000
_FLOOR: Final = "chain-policy"
_FORKED: Final = (
    "Both entries are kept on this device as evidence. Show them to your officers: somebody writes under a key "
    "that was taken or replaced."
)


class ForkSeen(TrustRefused):
    """A key of this account signed two histories. Both entries are kept as evidence."""


def follow(account: Account, user: bytes, known: Sequence[bytes]) -> tuple[ChainState, list[bytes]] | None:
    """Return the chain that the server has, verified, and its entries after `known`; None without a chain.

    Page by page, each verified before the next one is asked for: a server that makes entries up is found out at the
    first of them, and has filled nothing. What is appended meanwhile is read as well. Raises as `verify` does, and
    TrustRefused when the server has fewer entries than are known, or others: it was rolled back, hides some, or shows
    this client another history than before; ForkSeen when that history is signed as well. AnswerRefused for a chain
    without an end. A re-genesis among the fresh entries is held to `key_log.require_dated` as well.
    """
    fresh: list[bytes] = []
    verified, more = 0, True
    while more:
        page = _fetch(account, user, [*known, *fresh])
        if page is None:
            return None
        came, more = page
        fresh += came
        # The first half of a revocation does not stand alone: it waits for the page that has the other half.
        ready = _standing(fresh) if more else len(fresh)
        if ready > verified or not more:
            state = verify(account, user, [*known, *fresh[:verified]], fresh[verified:ready])
            verified = ready
    for entry in map(Entry.parse, fresh):
        if isinstance(entry.body, ReGenesis):
            key_log.require_dated(account, user, entry)
    return state, fresh


def _standing(entries: Sequence[bytes]) -> int:
    """Return how many entries there are before the revocations at the end of a page."""
    count = len(entries)
    try:
        while count and isinstance(Entry.parse(entries[count - 1]).body, RevokeDevice):
            count -= 1
    except HoldfastError:
        pass  # said by `verify`, to which this entry goes
    return count


def _fetch(account: Account, user: bytes, known: Sequence[bytes]) -> tuple[list[bytes], bool] | None:
    """Return a page of the entries after `known`, and whether there are more; None when there is no chain at all."""
    try:
        answer = account.api.get(f"users/{UUID(bytes=user)}/chain", query=_after(len(known)))
    except Problem as problem:
        if problem.status == 404 and not known:
            return None
        if problem.status == 404:
            raise ChainBehind(0) from problem
        raise
    entries, more, seq = answer.many_octets("entries"), answer.flag("more"), answer.number("seq")
    has = len(known) + len(entries)
    if seq >= MOST_ENTRIES or (more and not entries):
        raise AnswerRefused("The server's account chain has no end.")
    if not has:
        return None
    if more and seq >= has:
        return entries, True
    if seq != has - 1:
        raise _explain_contradiction(
            account, user, known, "The server shows a chain of another length than it has shown before."
        )
    try:
        newest = Entry.parse([*known, *entries][-1]).hash
    except HoldfastError as error:
        raise TrustRefused(f"The account chain is not to be trusted: {error}.") from error
    if answer.octets("head", 32) != newest:
        reason = "The server shows a chain with another head than the entries lead to."
        raise _explain_contradiction(account, user, known, reason)
    return entries, False


def _after(count: int) -> dict[str, str]:
    """Return the query for what comes after `count` entries."""
    return {"after": str(count - 1)} if count else {}


def _explain_contradiction(account: Account, user: bytes, known: Sequence[bytes], reason: str) -> TrustRefused:
    """Read the chain that the server shows now, as far as it is known, and keep the first entry that excludes one.

    Returns ChainBehind where it shows none that does, but fewer: it was put back from a backup, or hides them.
    """
    seen, is_same, more = 0, True, True
    try:
        state = account.verified.read(user, known, policies=lambda: account.policies)
        while more and seen < len(known):
            answer = account.api.get(f"users/{UUID(bytes=user)}/chain", query=_after(seen))
            shown = answer.many_octets("entries")
            for ours, theirs in zip(known[seen:], shown, strict=False):
                other = Entry.parse(theirs)
                if other.hash != Entry.parse(ours).hash:
                    is_same = False
                    # What no key of the chain has signed is no evidence, and does not raise Forked here.
                    chain.extend(state, other)
            seen, more = seen + len(shown), bool(shown) and answer.flag("more")
    except Forked:
        return _keep_fork(account, user, ours, theirs)
    except (ClientError, HoldfastError):
        return TrustRefused(reason)
    return ChainBehind(seen) if is_same and seen < len(known) else TrustRefused(reason)


def _keep_fork(account: Account, user: bytes, ours: bytes, theirs: bytes) -> ForkSeen:
    evidence.keep(account, Contradiction.CHAIN_FORK, user=user, ours=ours, theirs=theirs)
    return ForkSeen("Two histories of one account are signed by its keys.", way_out=_FORKED)


def verify(account: Account, user: bytes, known: Sequence[bytes], fresh: Sequence[bytes] = ()) -> ChainState:
    """Verify a chain of this tenant: `known`, accepted before, and what is `fresh` on top of it.

    Raises TrustRefused; ForkSeen, after keeping both sides, when a fresh entry contradicts a known one under a key
    of the chain.
    """
    try:
        return account.verified.read(
            user, known, fresh, policies=lambda: account.policies, oldest_policy=_floor(account, user)
        )
    except Forked as error:
        both = _contradiction(account, user, known, fresh)
        if both:
            raise _keep_fork(account, user, *both) from error
        raise TrustRefused(f"The account chain is not to be trusted: {error}.") from error
    except HoldfastError as error:
        raise TrustRefused(f"The account chain is not to be trusted: {error}.") from error


def _contradiction(
    account: Account, user: bytes, known: Sequence[bytes], fresh: Sequence[bytes]
) -> tuple[bytes, bytes] | None:
    """Return the entry accepted before, and the fresh one that excludes it."""
    entries = [*known, *fresh]
    for count in range(max(1, len(known)), len(entries)):
        try:
            account.verified.read(user, entries[:count], [entries[count]], policies=lambda: account.policies)
        except Forked:
            seq = Entry.parse(entries[count]).seq
            return entries[min(seq, count - 1)], entries[count]
        except HoldfastError:
            # The first half of a revocation does not stand alone, yet what follows it may be the fork.
            continue
    return None


def give_back(account: Account, user: bytes, known: Sequence[bytes], has: int) -> tuple[ChainState, list[bytes]] | None:
    """Offer the server, which has only `has` entries of somebody's chain, what it lacks; follow what it shows then.

    Returns None where it still has fewer than are known here: nothing that is pinned is let go, and what is known goes
    on. Raises ChainBehind where no officers have accepted a backup, and as `follow` does.
    """
    with contextlib.suppress(Problem):
        if not lost_chains.offer(account, user, known, has) and not restored.is_healing(account):
            raise ChainBehind(has)
    try:
        return follow(account, user, known)
    except ChainBehind:
        return None


def confirm_newest(account: Account, user: bytes) -> None:
    """Remember that `user`'s chain was the newest while today's policy was in force.

    A re-genesis that comes later and names an older policy is refused: its officers may have left since. The
    caller has just been told by the server that there is nothing newer.
    """
    # A server that is ahead for a moment must not have a version remembered that is not in force yet.
    version = chain.in_force(account.policies, account.api.clock.earliest())
    if version > _floor(account, user):
        account.store.put(_FLOOR, user, SecretBytes(encode({1: version})))


def _floor(account: Account, user: bytes) -> int:
    kept = account.store.get(_FLOOR, user)
    return Fields(decode(kept.reveal()), "chain policy", (1,)).uint(1, maximum=MAX_U32) if kept else 0


def refresh(account: Account) -> ChainState | None:
    """Bring the own chain up to date, and return it; None before its genesis.

    Entries that this device did not make are kept for `key_log.foreign_entries`. Raises TrustRefused when the
    server's chain does not continue the one known (shorter, forked, forged), or is not in the key log. Where a backup
    was put back that officers accepted, what the server lost of it is given back first.
    """
    known = account.state.chain
    try:
        followed = follow(account, account.user, known)
    except ChainBehind as behind:
        if not lost_chains.offer(account, account.user, known, behind.has):
            raise
        followed = follow(account, account.user, known)
    except Problem as problem:
        if problem.code != UNKNOWN or not lost_chains.come_back(account):
            raise
        followed = follow(account, account.user, known)
    if followed is None:
        return None
    state, entries = followed
    key_log.anchor(account, state)
    device = account.state.device
    is_active = device is not None and device.id in state.devices
    with account.store.transaction():
        confirm_newest(account, account.user)
        if entries or (device and device.is_active != is_active):
            key_log.watch(account, len(known), entries)
            account.state.chain = [*known, *entries]
            if device:
                device.is_active = is_active
            account.save()
    return state


def append(account: Account, write: Callable[[ChainState], Sequence[Entry]]) -> ChainState:
    """Extend the own chain by what `write` makes of its newest state, again when another device was faster."""

    def attempt() -> ChainState:
        state = refresh(account)
        if state is None:
            raise TrustRefused("The server no longer shows this account's chain.")
        entries = write(state)
        if not entries:
            return state
        require_extends(account, state, entries)
        upload(account, entries, state.head)
        fresh = refresh(account)
        assert fresh is not None
        return fresh

    return retry(attempt, stale=STALE, lost=stale_problem(STALE, KEEPS_WRITING))


def require_extends(account: Account, state: ChainState, entries: Sequence[Entry]) -> ChainState:
    """Check entries of one's own as every peer will check them, before anything is sent; returns what they lead to.

    Raises RaceLost when they do not follow: above all on a device whose identity key was rotated elsewhere.
    """
    policies = account.policies
    now = account.api.clock.now()
    try:
        return chain.extend(state, *entries, policies=policies, oldest_policy=chain.in_force(policies, now))
    except HoldfastError as error:
        raise RaceLost(
            f"What this device would write does not follow from your account chain: {error}.",
            way_out="Another of your devices may have changed your keys: run `holdfast maintain`, then try again.",
        ) from error


def upload(account: Account, entries: Sequence[Entry], expected_head: bytes | None) -> Answer:
    """Send entries that were verified here; None stands for an empty chain. Raises Problem `chain-stale` in a race."""
    key_log.remember_made(account, entries)
    document = {
        "entries": [b64u(entry.encode()) for entry in entries],
        "expected_head": b64u(expected_head) if expected_head else None,
    }
    return account.api.post(f"users/{account.user_text}/chain", document)
