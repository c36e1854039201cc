# SPDX-License-Identifier: Apache-2.0
"""Where a process finds the key with which its role vouches for log entries (ESCROW "What it believes of the log").

One file a role, mode 0600, owned by that role's account: no other process can read it.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Final

from config.env import ENV
from config.refusal import refuse
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import KeyKind, SigningKey
from holdfast.core.log.writers import Role
from kernel.files import make_directory, write_durably

_SEED_BYTES: Final = 32
# The parts that append entries; `log` signs heads with a key in the HSM.
WRITING_ROLES: Final[tuple[Role, ...]] = (Role.WEB, Role.WORKER, Role.SEQUENCER, Role.RELEASE, Role.CEREMONY)


class RoleKeyMissing(Exception):
    """This process's role has no key, or one that others may read; the text says what to do."""


def role_key_file(role: Role) -> Path:
    """Return where a role's key is: as this process was told, or in the state directory."""
    if ENV.role_key_file is not None and role == ENV.role:
        return ENV.role_key_file
    return ENV.state_dir / "roles" / f"{role}.key"


def create_role_key(role: Role) -> SigningKey:
    """Make a role's key, once; afterwards return the one there is. The ceremony calls it."""
    path = role_key_file(role)
    if not path.exists():
        make_directory(path.parent)
        write_durably(path, secrets.token_bytes(_SEED_BYTES))
    return _read(path)


def open_role_keys() -> dict[Role, SigningKey]:
    """Return the key of this process's role; none for a tool, which appends nothing. Raises RoleKeyMissing."""
    if ENV.role == "tool":
        return {}
    role = Role(ENV.role)
    return {role: _read(role_key_file(role))}


def require_role_key() -> None:
    """End this process with a sentence when its role's key is missing: nothing that it did could be logged."""
    try:
        open_role_keys()
    except RoleKeyMissing as error:
        refuse(str(error))


def _read(path: Path) -> SigningKey:
    try:
        seed, mode = path.read_bytes(), path.stat().st_mode
    except OSError as error:
        reason = error.strerror or "it cannot be read"
        raise RoleKeyMissing(
            f"The role key {path}: {reason}. The ceremony makes it, and HOLDFAST_ROLE_KEY_FILE names it."
        ) from None
    if len(seed) != _SEED_BYTES:
        raise RoleKeyMissing(f"The role key {path} has not {_SEED_BYTES} bytes; put the right file there.")
    if mode & 0o077:
        raise RoleKeyMissing(f"Others may read the role key {path}; make it: chmod 600.")
    return SigningKey.from_seed(KeyKind.ED25519, SecretBytes(seed))
