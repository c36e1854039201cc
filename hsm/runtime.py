# SPDX-License-Identifier: Apache-2.0
"""Opening the tokens that a process may use: the one entry of everything that runs.

Implements the table of tokens in ESCROW "Keys": each process logs in to its own, and cannot name the others.
Call it in the process that uses it, after fork; a process opens once for all its tokens.
"""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from hsm.backend import EscrowToken, LogToken, RootToken
from hsm.config import HsmConfig
from hsm.errors import HsmError
from hsm.pool import HsmPool
from hsm.tokens import Pkcs11EscrowToken, Pkcs11LogToken, Pkcs11RootToken

# All but `ceremony`, whose PIN nothing that runs can read. ESCROW "Keys".
_RUNNING = ("root", "log", "escrow")


class Tokens:
    """The opened tokens; close them, or use them in a `with` statement."""

    def __init__(self, config: HsmConfig, names: tuple[str, ...]) -> None:
        self._config, self._names = config, names
        # One pool for all tokens of a process: C_Initialize and its locks belong to the process and not to a token.
        self._pool = HsmPool(config, names)

    @property
    def root(self) -> RootToken:
        """Raises HsmError when it was not asked for at opening; so do the others."""
        # A token that was not named at opening is refused here, before the pool could look for it.
        self._check("root")
        return Pkcs11RootToken(self._pool)

    @property
    def log(self) -> LogToken:
        self._check("log")
        return Pkcs11LogToken(self._pool)

    @property
    def escrow(self) -> EscrowToken:
        self._check("escrow")
        return Pkcs11EscrowToken(self._pool, deadline_seconds=self._config.rewrap_deadline_seconds)

    def refresh(self) -> bool:
        """Take over what a ceremony has changed since. Return whether anything had changed."""
        return self._pool.refresh()

    def close(self) -> None:
        """Log out and remove the private copy. Later calls raise; the tokens may be opened again."""
        self._pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self, name: str) -> None:
        if name not in self._names:
            raise HsmError(f"this process has not opened the token {name}")


def open_tokens(config: HsmConfig, tokens: Sequence[str]) -> Tokens:
    """Open `tokens` (of root, log, escrow) and verify all that the manifest pins about them.

    Raises HsmTokenDamaged with the restore command, HsmKeyMissing or HsmKeyMismatch when the HSM is not the
    one of the ceremony, HsmPinRejected, HsmUnavailable when it is not there, and HsmError for a second
    opening in one process, one inherited by fork, or the ceremony token, which nothing that runs opens.
    """
    if not tokens or len(set(tokens)) != len(tokens) or not set(tokens) <= set(_RUNNING):
        raise HsmError(f"a process opens some of {', '.join(_RUNNING)}, each once")
    return Tokens(config, tuple(tokens))
