# SPDX-License-Identifier: Apache-2.0
"""What a process remembers of a refused PIN beyond its own end: a mark for each token, which an operator takes away.

Implements FAULTS H3 across restarts: real tokens count refused PINs and lock, and whoever starts a process again, be it
systemd, a container's runtime or a person, knows nothing of that.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from hsm.errors import HsmError, HsmPinRejected, HsmUnavailable

# A login takes milliseconds. One that hangs in a module is for its own process to give up.
_LONGEST_WAIT: Final = 10.0  # seconds
_PAUSE: Final = 0.05  # seconds


@dataclass(frozen=True)
class RefusedPins:
    """The marks of the processes that share one directory, as those of one account do."""

    directory: Path

    def mark(self, token: str) -> Path:
        """Return where the mark of a token is, when there is one."""
        return self.directory / token

    @contextmanager
    def trying(self, token: str) -> Iterator[None]:
        """Try the PIN of a token inside the `with`, alone; where it raises HsmPinRejected, that is marked for good.

        Raises HsmPinRejected, untried, where there is a mark; HsmError where none could be made; HsmUnavailable when
        another process does not end its own try.
        """
        with self._alone():
            self.require_untried(token)
            try:
                yield
            except HsmPinRejected as refused:
                # On a full disk the mark stays empty, and is one all the same.
                with suppress(OSError):
                    self.mark(token).write_text(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC: {refused}\n")
                raise HsmPinRejected(f"{refused}; {self._way_out(token)}") from refused

    def require_untried(self, token: str) -> None:
        """Raise HsmPinRejected where the PIN of a token was refused before, with the way out."""
        try:
            said = self.mark(token).read_text(errors="replace").strip() or "at a time that could not be written down"
        except FileNotFoundError:
            return
        except OSError as error:
            raise HsmError(
                f"whether the PIN was refused before cannot be told: {self.mark(token)}: {error.strerror}"
            ) from None
        raise HsmPinRejected(f"the PIN of the token {token} was refused before ({said}); {self._way_out(token)}")

    def _way_out(self, token: str) -> str:
        return (
            "tokens count and lock, so no later start tries it again. Put the right PIN in place, then remove "
            f"{self.mark(token)}"
        )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            # Without a mark a wrong PIN would be tried at each start: so it is not tried at all.
            raise HsmError(
                f"a refused PIN could not be remembered in {self.directory} ({error.strerror}), so none is tried"
            ) from None
        try:
            until = time.monotonic() + _LONGEST_WAIT
            while not _locked(lock):
                if time.monotonic() > until:
                    raise HsmUnavailable("another process does not end its login")
                time.sleep(_PAUSE)
            yield
        finally:
            os.close(lock)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
