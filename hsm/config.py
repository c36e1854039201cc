# SPDX-License-Identifier: Apache-2.0
"""Where the HSM is, and where its PINs are read from.

Implements HSM section 2 ("PIN from a file or descriptor, never argv").
Reads no environment and no settings: whoever composes the process passes an HsmConfig.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from holdfast.core.base import typed
from holdfast.core.base.errors import Mistyped
from holdfast.core.base.secret import SecretBytes
from hsm.errors import HsmError, HsmPinRejected
from hsm.refused import RefusedPins

DEBIAN_SOFTHSM = Path("/usr/lib/softhsm/libsofthsm2.so")  # where Debian's package puts it; for development only

# Four tokens, four PINs: no process can be talked into the keys of another. ESCROW "Keys".
TOKENS = ("ceremony", "root", "log", "escrow")

LONGEST_PIN = 256  # bytes: ours have 32; a longer file is not a PIN but another file


class PinSource(Protocol):
    """Gives the PIN each time a login needs it, so that the process need not keep it."""

    def read(self) -> SecretBytes: ...


@dataclass(frozen=True)
class PinFile:
    """A PIN in a file that only its owner may read (0600 or 0400)."""

    path: Path

    def read(self) -> SecretBytes:
        """Return the PIN without the line end. Raises HsmError when the file is absent or open to others."""
        try:
            with self.path.open("rb") as file:
                # Of the open file and not of the path: between a look and an open, the file could be exchanged.
                mode = os.fstat(file.fileno()).st_mode
                pin = file.read(LONGEST_PIN + 1)
        except OSError as error:
            raise HsmError(f"the PIN file {self.path} cannot be read: {error.strerror}") from error
        if stat.S_IMODE(mode) & 0o077:
            raise HsmError(f"the PIN file {self.path} is open to others than its owner: chmod 600 it")
        return pin_of(pin)


class PinDescriptor:
    """A PIN behind an inherited file descriptor: a file is read again each time, a pipe once and kept."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._kept: SecretBytes | None = None

    def read(self) -> SecretBytes:
        """Return the PIN without the line end. Raises HsmError when the descriptor gives nothing."""
        if self._kept is not None:
            return self._kept
        try:
            # `pread` leaves the offset alone, so that a later login reads the same bytes again.
            return pin_of(os.pread(self._descriptor, LONGEST_PIN + 1, 0))
        except OSError:
            pass
        try:
            # A pipe has no offset and gives its bytes once; a later login needs them again.
            with os.fdopen(os.dup(self._descriptor), "rb") as pipe:
                self._kept = pin_of(pipe.read(LONGEST_PIN + 1))
        except OSError as error:
            raise HsmError(f"the descriptor {self._descriptor} of a PIN cannot be read: {error.strerror}") from error
        return self._kept


def pin_of(raw: bytes) -> SecretBytes:
    """Return the PIN in what a file, a pipe or a person gave: its first line. Raises HsmError when that is none."""
    try:
        # No more than what nobody sees is taken away: a token counts its wrong PINs, so that there is one try.
        pin = typed.visible(typed.text_of(typed.first_line(raw, "a PIN"), "a PIN")).encode()
    except Mistyped as error:
        raise HsmError(f"{error}") from error
    if not 0 < len(pin) <= LONGEST_PIN:
        raise HsmError("a PIN has 1 to 256 bytes")
    return SecretBytes(pin)


@dataclass(frozen=True)
class HsmConfig:
    """One installation: `home` holds hsm.json, tokens/, backups/, pins/ and, unless moved, run/ and refused/.

    softhsm: the module keeps tokens in files, so each process works on a private copy of them.
    deadline_seconds bounds every call but the escrow re-wrap, whose result must not be guessed at.
    """

    home: Path
    module: Path = DEBIAN_SOFTHSM
    softhsm: bool = True
    pins: Mapping[str, PinSource] = field(default_factory=dict)
    runtime: Path | None = None
    # Where this process's account remembers that a PIN was refused.
    refused: Path | None = None
    threads: int = 4
    # A request waits for this, so it is short. A re-wrap has begun to unwrap and its result
    # must be known, so it waits longer.
    deadline_seconds: float = 3.0
    rewrap_deadline_seconds: float = 60.0

    def pin(self, token: str) -> PinSource:
        return self.pins.get(token) or PinFile(self.pin_path(token))

    @contextmanager
    def trying_pin(self, token: str) -> Iterator[None]:
        """Try the PIN of a token inside the `with`: one of a file once, until an operator says that it was mended.

        One that a person gave for this one time is marked nowhere: nobody tries it again but them. Raises
        HsmPinRejected; as `RefusedPins.trying` does for a file's.
        """
        if isinstance(self.pin(token), PinFile):
            with self.refused_pins.trying(token):
                yield
            return
        try:
            yield
        except HsmPinRejected as refused:
            raise HsmPinRejected(f"{refused}; it is not tried again") from refused

    def pin_path(self, token: str) -> Path:
        return self.home / "pins" / f"{token}.pin"

    @property
    def manifest_path(self) -> Path:
        return self.home / "hsm.json"

    @property
    def runtime_root(self) -> Path:
        return self.runtime or self.home / "run"

    @property
    def refused_pins(self) -> RefusedPins:
        return RefusedPins(self.refused or self.home / "refused")

    def pristine(self, token: str, generation: int) -> Path:
        return self.home / "tokens" / f"{token}-{generation}"

    def backup(self, token: str, generation: int) -> Path:
        return self.home / "backups" / f"{token}-{generation}"
