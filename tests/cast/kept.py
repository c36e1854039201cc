# SPDX-License-Identifier: Apache-2.0
"""Installations that earlier code made, kept so that the code of today can be held to them.

What each holds, and how it was made, stands in tests/migrations/README.md. Never started from where they are kept.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

from hsm.ceremony import Ceremony
from hsm.config import HsmConfig
from tests.cast.server import PROJECT, Installation

KEPT = PROJECT / "tests" / "migrations" / "installation-1.tar.xz"
ON_POSTGRES = KEPT.with_name("installation-2.tar.xz")  # with `holdfast.dump` beside what `up` makes
# The profiles name their server by this address. Nothing needs to answer there, unless a profile is to reach it.
PORT = 8322
TENANT = "771b0ae0-31a1-46e2-a318-42b3cc99ed1f"


def unpack(to: Path, kept: Path = KEPT) -> Path:
    """Unpack a kept installation into `to`, which is not there yet, and return it: a state directory as `up` makes.

    Its HSM home pins the PKCS#11 module by path and content; what is installed here is accepted in its place. Nothing
    else in it names a path.
    """
    to.mkdir(mode=0o700)
    with tarfile.open(kept) as packed:
        packed.extractall(to)
    Ceremony(hsm_of(to)).accept_module()
    return to


def unpacked(directory: Path) -> Installation:
    """Unpack the kept installation below an empty directory, as one that can be managed and started."""
    made = Installation(directory, port=PORT)
    unpack(made.state_dir)
    return made


def hsm_of(state_dir: Path) -> HsmConfig:
    """Return the HSM home of an unpacked installation, whose PINs lie in it."""
    return HsmConfig(home=state_dir / "hsm")


def profile(state_dir: Path, name: str) -> Path:
    """Return the profile of an officer, of the owner or the auditor, or of a member's device.

    What opens it stands in its file `passphrase`.
    """
    demo = state_dir / "demo"
    return next(path for path in (demo / "profiles" / name, demo / "members" / name) if path.is_dir())
