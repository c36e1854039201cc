# SPDX-License-Identifier: Apache-2.0
"""Account chains verified in this process: whoever is at entry n verifies what comes after, and nothing twice.

Implements PROTOCOL section 5 (verification from a pinned state) over `holdfast.core.identity.chain`.
Keeps nothing on disk: a new process verifies from the genesis once, which costs a tenth of a millisecond an entry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from holdfast.core.identity.chain import ChainState, extend, verify_chain
from holdfast.core.identity.entries import Entry, ReGenesis
from holdfast.core.identity.policy import SignedPolicy

Policies = Callable[[], Sequence[SignedPolicy]]


class VerifiedChains:
    """The newest verified state of each user's chain, beside the very bytes that it follows from."""

    def __init__(self, tenant: bytes) -> None:
        self._tenant = tenant
        self._seen: dict[bytes, tuple[list[bytes], ChainState]] = {}

    def read(
        self,
        user: bytes,
        known: Sequence[bytes],
        fresh: Sequence[bytes] = (),
        *,
        policies: Policies,
        oldest_policy: int = 0,
    ) -> ChainState:
        """Verify a chain: `known`, accepted before, and `fresh` on top of it. Raises as `verify_chain` does.

        policies: asked for only when an entry is a re-genesis. oldest_policy: as `extend` has it, for `fresh` only.
        """
        state = self._known(user, list(known), policies) if known else None
        if fresh:
            entries = [Entry.parse(encoded) for encoded in fresh]
            held = _needed(entries, policies)
            if state is None:
                state = verify_chain(entries, tenant=self._tenant, user=user, policies=held)
            else:
                state = extend(state, *entries, policies=held, oldest_policy=oldest_policy)
            self._seen[user] = ([*known, *fresh], state)
        if state is None:
            return verify_chain([], tenant=self._tenant, user=user)
        return state

    def _known(self, user: bytes, known: list[bytes], policies: Policies) -> ChainState:
        seen, state = self._seen.get(user, ([], None))
        if state is not None and known[: len(seen)] == seen:
            entries = [Entry.parse(encoded) for encoded in known[len(seen) :]]
            state = extend(state, *entries, policies=_needed(entries, policies))
        else:
            entries = [Entry.parse(encoded) for encoded in known]
            state = verify_chain(entries, tenant=self._tenant, user=user, policies=_needed(entries, policies))
        self._seen[user] = (known, state)
        return state


def _needed(entries: Sequence[Entry], policies: Policies) -> Sequence[SignedPolicy]:
    return policies() if any(isinstance(entry.body, ReGenesis) for entry in entries) else ()
