# SPDX-License-Identifier: Apache-2.0
"""Which tokens this process holds: set once by the composition root, asked by the apps.

A process that was not given a token cannot name it: asking raises HsmUnavailable (ESCROW "Keys").
Opening is lazy, so that it happens after fork (HSM section 6.3). One that failed is tried again later, but never with a
PIN that was refused.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast

from hsm.backend import EscrowToken, LogToken, RootToken
from hsm.errors import HsmUnavailable
from hsm.pool import Starts

_opener: Callable[[], dict[str, Any]] | None = None
_tokens: dict[str, Any] | None = None
# Kept here, since a pool that could not be opened is gone with what it had learnt.
_starts = Starts()
_lock = threading.Lock()


def install(opener: Callable[[], dict[str, Any]]) -> None:
    """Say how this process opens its tokens: a callable giving {"root": RootToken, …}, called until it gives."""
    global _opener, _tokens, _starts
    with _lock:
        _opener, _tokens, _starts = opener, None, Starts()


def _token(name: str) -> Any:
    global _tokens  # noqa: PLW0603
    if _tokens is None:
        with _lock:
            # Looked at again under the lock: two threads may both have come here, and a second opening is refused.
            if _tokens is None:
                if _opener is None:
                    raise HsmUnavailable("this process was given no HSM token")
                with _starts.one():
                    _tokens = _opener()
    try:
        return _tokens[name]
    except KeyError:
        raise HsmUnavailable(f"this process was not given the {name} token") from None


def root() -> RootToken:
    """The token that wraps tenant master keys: web, worker, and a read-only copy for the release process."""
    return cast(RootToken, _token("root"))


def log() -> LogToken:
    """The token that signs checkpoints: the sequencer only."""
    return cast(LogToken, _token("log"))


def escrow() -> EscrowToken:
    """The token that re-wraps escrow halves: the release process only."""
    return cast(EscrowToken, _token("escrow"))
