# SPDX-License-Identifier: Apache-2.0
"""Which HSM tokens each role may open: the table that keeps the release process alone with the escrow key.

ESCROW "Keys". The ceremony token is opened by no role that runs.
"""

from __future__ import annotations

import logging
from typing import Any

from config.env import ENV
from hsm import registry
from hsm.config import DEBIAN_SOFTHSM, HsmConfig, PinFile
from hsm.errors import HsmKeyMissing, HsmUnavailable
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


def hsm_config() -> HsmConfig:
    """Say where the HSM is, from the environment: SoftHSM in the state directory unless told otherwise."""
    pins = {}
    if ENV.pin_dir is not None:
        # A service manager hands each process a directory with the PINs of its own tokens only.
        names = {*ROLE_TOKENS[ENV.role], *({"ceremony"} if ENV.role == "ceremony" else ())}
        pins = {name: PinFile(ENV.pin_dir / f"{name}.pin") for name in names}
    return HsmConfig(
        home=ENV.hsm_home or ENV.state_dir / "hsm",
        module=ENV.hsm_module or DEBIAN_SOFTHSM,
        softhsm=ENV.hsm_softhsm,
        pins=pins,
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
