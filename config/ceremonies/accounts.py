# SPDX-License-Identifier: Apache-2.0
"""`ceremony hand-out`: each role's account gets its own of the installation's keys, and nobody else's.

Implements ESCROW "Keys" (which token is whose) and PLATFORM "Running it". The originals stay with the ceremony. A
directory is written so that a process which starts meanwhile finds the old manifest or the new one, with its tokens.
"""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from config.ceremonies import CeremonyRefused, Step
from config.database_roles import PROCESSES
from config.hsm import ROLE_TOKENS, hsm_config
from config.roles import role_key_file
from holdfast.core.log.writers import Role
from hsm import manifest as manifests
from hsm.config import HsmConfig
from kernel.files import make_directory, write_durably


def steps(directory: Path, accounts: Mapping[str, str]) -> Iterator[Step]:
    """Give what a role's account lacks in `directory`/<role>. accounts: user names or numbers by role.

    Raises CeremonyRefused for an account that does not exist, and when it is not root who asks.
    """
    config = hsm_config()
    if not config.manifest_path.exists():
        raise CeremonyRefused("The installation has no keys yet. Hold `ceremony init` first.")
    for role in PROCESSES:
        owner = _account(accounts.get(role, f"holdfast-{role}"))
        home, wanted = directory / role, dict(_wanted(role, config))
        if all(_holds(home / name, body) for name, body in wanted.items()) and _is_owned(home, owner):
            continue
        tokens = ", ".join(ROLE_TOKENS[role])
        yield Step(
            f"give {role}, to the account {owner.pw_name} in {home}: its role key, and of the HSM {tokens}",
            partial(_hand_out, home, wanted, owner),
        )


def _account(name: str) -> pwd.struct_passwd:
    if os.geteuid() != 0:
        raise CeremonyRefused("Hold it as root: what it writes belongs to other accounts.")
    try:
        return pwd.getpwnam(name)
    except KeyError:
        if name.isascii() and name.isdigit():
            # An account that no system knows by name is a number all the same.
            return pwd.struct_passwd((name, "x", int(name), int(name), "", "/", "/"))
        raise CeremonyRefused(f"There is no account {name}. Make it, or name another: --account ROLE=USER.") from None


def _wanted(role: str, config: HsmConfig) -> Iterator[tuple[str, bytes]]:
    """Give each file by its name in the role's directory, in the order in which they have to be written."""
    key = role_key_file(Role(role))
    # An account that made its own key (`manage.py role_key`) keeps it, and none lies here.
    if key.exists():
        yield "role.key", key.read_bytes()
    manifest = manifests.load(config.manifest_path)
    for name in ROLE_TOKENS[role]:
        if config.softhsm:
            pristine = config.pristine(name, manifest.token(name).generation)
            for path in sorted(pristine.rglob("*")):
                if path.is_file() and path.suffix != ".lock":
                    yield f"hsm/tokens/{pristine.name}/{path.relative_to(pristine)}", path.read_bytes()
        pin = config.pin_path(name)
        if pin.exists():
            yield f"hsm/pins/{name}.pin", pin.read_bytes()
    # Last: it says which of the token directories count.
    yield "hsm/hsm.json", config.manifest_path.read_bytes()


def _holds(path: Path, body: bytes) -> bool:
    try:
        return path.read_bytes() == body
    except FileNotFoundError:
        return False


def _is_owned(home: Path, owner: pwd.struct_passwd) -> bool:
    return all(path.stat().st_uid == owner.pw_uid for path in (home, *home.rglob("*")))


def _hand_out(home: Path, wanted: Mapping[str, bytes], owner: pwd.struct_passwd) -> None:
    make_directory(home)
    os.chown(home, owner.pw_uid, owner.pw_gid)
    for name, body in wanted.items():
        path = home / name
        make_directory(path.parent)
        # Belongs to whoever has the directory around it: that account.
        write_durably(path, body)
    kept = {home / name for name in wanted}
    for old in (home / "hsm" / "tokens").glob("*"):
        if not any(path.is_relative_to(old) for path in kept):
            shutil.rmtree(old)
    for path in (home, *home.rglob("*")):
        os.chown(path, owner.pw_uid, owner.pw_gid, follow_symlinks=False)
