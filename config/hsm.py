# SPDX-License-Identifier: Apache-2.0
"""Which HSM tokens each role may open: the table that keeps the release process alone with the escrow key.

ESCROW "Keys". The ceremony token is opened by no role that runs.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from getpass import getpass
from pathlib import Path
from typing import Any

from config.env import ENV
from holdfast.core.base.secret import SecretBytes
from hsm import registry
from hsm.ceremony import Ceremony
from hsm.config import DEBIAN_SOFTHSM, LONGEST_PIN, TOKENS, HsmConfig, PinDescriptor, PinFile, PinSource
from hsm.errors import HsmError, HsmKeyMissing, HsmUnavailable
from hsm.runtime import open_tokens

log = logging.getLogger("holdfast.hsm")

ROLE_TOKENS: dict[str, tuple[str, ...]] = {
    "web": ("root",),
    "worker": ("root",),
    "sequencer": ("log",),
    "release": ("escrow", "root"),
    "ceremony": ("root", "log"),
    "tool": (),
}


class TypedPin:
    """A PIN that is typed when it is first needed, and kept for this process; it is asked for once, right or wrong."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._typed: SecretBytes | None = None

    def read(self) -> SecretBytes:
        """Return what was typed. Raises HsmError for nothing, or too much."""
        if self._typed is None:
            typed = getpass(f"PIN of the HSM token {self._token}: ").encode()
            if not 0 < len(typed) <= LONGEST_PIN:
                raise HsmError(f"a PIN has 1 to {LONGEST_PIN} bytes")
            self._typed = SecretBytes(typed)
        return self._typed


# What a ceremony was told of PINs, before those in files.
_given_pins: dict[str, PinSource] = {}


def take_pins(descriptors: Mapping[str, int], files: Mapping[str, Path]) -> None:
    """Have a ceremony's PINs from descriptors, and those that lie in no file typed at the terminal, if there is one.

    files: where a token's PIN lies, if not where the settings say. A token that is still to be made gets its PIN when
    it is made.
    """
    _given_pins.clear()
    _given_pins.update({name: PinFile(path) for name, path in files.items()})
    config = hsm_config()
    ceremony = Ceremony(config)
    for name in TOKENS:
        source = config.pin(name)
        if name in descriptors:
            _given_pins[name] = PinDescriptor(descriptors[name])
            continue
        is_made = ceremony.has(name) or not config.softhsm
        if is_made and isinstance(source, PinFile) and not source.path.exists() and sys.stdin.isatty():
            _given_pins[name] = TypedPin(name)


def pin_file(token: str) -> Path:
    """Return where the settings have a token's PIN, whether it lies there or not."""
    return ENV.pin_dir / f"{token}.pin" if ENV.pin_dir is not None else hsm_config().pin_path(token)


def waiting_pin(file: Path) -> Path:
    """Return where a new PIN waits until its token takes it. One that lies there is of a change that was stopped."""
    return file.with_name(f"{file.name}.new")


def hsm_config() -> HsmConfig:
    """Say where the HSM is, from the environment: SoftHSM in the state directory unless told otherwise."""
    pins: dict[str, PinSource] = {}
    if ENV.pin_dir is not None:
        # A service manager hands each process a directory with the PINs of its own tokens only.
        names = {*ROLE_TOKENS[ENV.role], *(TOKENS if ENV.role == "ceremony" else ())}
        pins = {name: PinFile(ENV.pin_dir / f"{name}.pin") for name in names}
    return HsmConfig(
        home=ENV.hsm_home or ENV.state_dir / "hsm",
        module=ENV.hsm_module or DEBIAN_SOFTHSM,
        softhsm=ENV.hsm_softhsm,
        pins=pins | _given_pins,
        refused=ENV.refused_pins_dir,
    )


def verify_at_start() -> None:
    """Open this role's tokens now, so that a process with a wrong, damaged or missing HSM refuses to start.

    An HSM that is merely away is no reason: the process starts, says so, and answers 503 where it needs it. Raises
    HsmError for everything else. Call it after fork.
    """
    for name in ROLE_TOKENS[ENV.role]:
        try:
            token = getattr(registry, name)()
            if name == "root" and not token.binds:
                raise HsmKeyMissing(
                    "The root token has no key that binds tenants' master keys, so none of them can be used. "
                    "Hold its ceremony: manage.py ceremony tenant-keys"
                )
        except HsmUnavailable as error:
            log.warning("the HSM is away: %s", error)
            return


def open_role_tokens() -> dict[str, Any]:
    """Open the tokens of this process's role, and verify all that the ceremony pinned about them."""
    names = ROLE_TOKENS[ENV.role]
    if not names:
        return {}
    tokens = open_tokens(hsm_config(), names)
    return {name: getattr(tokens, name) for name in names}
