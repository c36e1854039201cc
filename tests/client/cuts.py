# SPDX-License-Identifier: Apache-2.0
"""A client that is cut off at a chosen moment: at a request, at its answer, at a commit, or just after one.

Stands for kill -9 in one process: what is not in the store is forgotten, and the account is opened anew from it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx2

from holdfast.client.profile import account as accounts
from holdfast.client.profile.account import Account
from holdfast.client.profile.store import MemoryStore
from holdfast.client.server.clock import Clock
from holdfast.core.base.secret import SecretBytes
from tests.cast.lying_server import URL
from tests.cast.members import Members


class Cut(BaseException):
    """The power went."""


@dataclass
class Scene:
    """A world as it is before an act: who acts, and the others, whom the check asks."""

    world: Members
    account: Account
    others: tuple[Account, ...]


class Moments:
    """Counts the moments at which a client can be cut, and cuts at one: `at` is 1 for the first, 0 for never."""

    def __init__(self) -> None:
        self.at = 0
        self.count = 0

    def pass_one(self) -> None:
        self.count += 1
        if self.count == self.at:
            raise Cut


class CutStore(MemoryStore):
    """A store that may be cut before a commit, which is then undone, and after one, which then stands."""

    moments: Moments

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        is_outermost = self._depth == 0
        with super().transaction():
            yield
            if is_outermost:
                self.moments.pass_one()
        if is_outermost:
            self.moments.pass_one()

    def put(self, kind: str, key: bytes, value: SecretBytes) -> None:
        with self.transaction() if self._depth == 0 else contextlib.nullcontext():
            super().put(kind, key, value)

    def delete(self, kind: str, key: bytes) -> None:
        with self.transaction() if self._depth == 0 else contextlib.nullcontext():
            super().delete(kind, key)


def reopened(world: Members, account: Account, moments: Moments) -> Account:
    """Return the account as a new process finds it: all that it knows is in the store."""
    store = account.store
    if not isinstance(store, CutStore):
        store.__class__ = CutStore
    assert isinstance(store, CutStore)
    store.moments = moments
    fresh = accounts.open_store(store)

    def answer(request: httpx2.Request) -> httpx2.Response:
        moments.pass_one()
        response = world.server._answer(request)
        moments.pass_one()
        return response

    fresh.connect(URL, transport=httpx2.MockTransport(answer), clock=Clock(lambda: world.now))
    return fresh


def sweep(
    scenes: Iterator[Scene], act: Callable[[Account], None], check: Callable[[Scene], None], *, step: int = 1
) -> int:
    """Do an act in a fresh scene each time, cut at one moment later each time and then done again to its end.

    step: every how manieth moment is tried, for acts of many. Returns how many moments were passed, when the act
    ended without a cut.
    """
    for number in range(1, 300, step):
        scene = next(scenes)
        moments = Moments()
        moments.at = number
        try:
            act(reopened(scene.world, scene.account, moments))
        except Cut:
            act(reopened(scene.world, scene.account, Moments()))
            check(scene)
            continue
        check(scene)
        return number - 1
    raise AssertionError("the act never came to its end")
