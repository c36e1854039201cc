# SPDX-License-Identifier: Apache-2.0
"""`ceremony hand-out`: each role's account gets its own of the installation's keys, and nobody else's.

Implements ESCROW "Keys" (which token is whose) and PLATFORM "Running it". The originals stay with the ceremony. A
directory is written so that a process which starts meanwhile finds the old manifest or the new one, with its tokens.

What lies in a role's directory is that account's to change, at any moment: root reads what is to be given and makes the
directory; a process that has become the account looks and writes in it.
"""

from __future__ import annotations

import errno
import os
import pwd
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from config.ceremonies import CeremonyRefused, Step
from config.database_roles import PROCESSES
from config.hsm import ROLE_TOKENS, hsm_config
from config.roles import role_key_file
from holdfast.core.base.text import written_out
from holdfast.core.log.writers import Role
from hsm import manifest as manifests
from hsm.config import HsmConfig
from kernel.files import make_directory, write_durably

# The account's own process does it, and the account can stop that: a few small files take less than a second.
SECONDS: Final = 60
# Of what it says at its end: a path and a sentence, in one write to a pipe.
_MOST_SAID: Final = 3000
# The kernel lets no account look into a process that was root's, so that what else this one knows stays unread.
_FORK: Final = get_context("fork")
_MEND: Final = "Look at it, move it away, then hold this again."


def steps(directory: Path, accounts: Mapping[str, str]) -> Iterator[Step]:
    """Give what a role's account lacks in `directory`/<role>. accounts: user names or numbers by role.

    Raises CeremonyRefused for an account that does not exist, and when it is not root who asks. A step raises it for a
    directory that is not fit to be written; it comes after the others, and keeps nobody from their own.
    """
    config = hsm_config()
    if not config.manifest_path.exists():
        raise CeremonyRefused("The installation has no keys yet. Hold `ceremony init` first.")
    unfit = []
    for role in PROCESSES:
        owner = _account(accounts.get(role, f"holdfast-{role}"))
        home, wanted = directory / role, dict(_wanted(role, config))
        tokens = ", ".join(ROLE_TOKENS[role])
        step = Step(
            f"give {role}, to the account {owner.pw_name} in {home}: its role key, and of the HSM {tokens}",
            partial(_hand_out, home, wanted, owner),
        )
        try:
            is_done = _is_handed_out(home, wanted, owner)
        except CeremonyRefused:
            unfit.append(step)
            continue
        if not is_done:
            yield step
    yield from unfit


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


def _is_handed_out(home: Path, wanted: Mapping[str, bytes], owner: pwd.struct_passwd) -> bool:
    if not os.path.lexists(home):
        return False
    with _opened(home) as descriptor:
        # Of another's directory the step says what is wrong.
        return os.fstat(descriptor).st_uid == owner.pw_uid and _as(owner, home, descriptor, partial(_holds, wanted))


def _hand_out(home: Path, wanted: Mapping[str, bytes], owner: pwd.struct_passwd) -> None:
    make_directory(home.parent)
    with suppress(FileExistsError):
        home.mkdir(mode=0o700)
    with _opened(home) as descriptor:
        if os.fstat(descriptor).st_uid != owner.pw_uid:
            # One that root has made, just now or before a kill. What has something in it may be anything.
            with os.scandir(descriptor) as within:
                is_new = os.fstat(descriptor).st_uid == os.geteuid() and not any(within)
            if not is_new:
                raise CeremonyRefused(
                    f"{home} has something in it, or is another account's than {owner.pw_name}'s. {_MEND}"
                )
            os.fchown(descriptor, owner.pw_uid, owner.pw_gid)
        _as(owner, home, descriptor, partial(_write, wanted))


@contextmanager
def _opened(home: Path) -> Iterator[int]:
    try:
        descriptor = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise CeremonyRefused(f"{home} is no directory ({error.strerror}). {_MEND}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _as(owner: pwd.struct_passwd, home: Path, descriptor: int, act: Callable[[], bool]) -> bool:
    """Return what `act` returns in the directory that is open, done by a process that has become the account.

    Raises CeremonyRefused when it could not be done, with the path at which it stopped.
    """
    ours, theirs = _FORK.Pipe(duplex=False)
    child = _FORK.Process(target=_become, args=(owner, home, descriptor, act, theirs))
    child.start()
    theirs.close()
    try:
        if not ours.poll(SECONDS):
            raise CeremonyRefused(f"The account {owner.pw_name} kept it waiting for {SECONDS} seconds in {home}.")
        said = ours.recv_bytes(_MOST_SAID).decode()
    except EOFError:
        raise CeremonyRefused(f"It ended before anything was said of {home}. {_MEND}") from None
    finally:
        child.kill()
        child.join()
        ours.close()
    if said not in ("True", "False"):
        # With names that are the account's.
        raise CeremonyRefused(written_out(said))
    return said == "True"


def _become(
    owner: pwd.struct_passwd, home: Path, descriptor: int, act: Callable[[], bool], answer: Connection[bytes, bytes]
) -> None:
    try:
        # Before it is the account: what is above need not be open to it. From here on every path is within.
        os.fchdir(descriptor)
        os.setgroups([])
        os.setgid(owner.pw_gid)
        os.setuid(owner.pw_uid)
        said = str(act())
    except OSError as error:
        said = f"{home / (error.filename or '')}: {error.strerror}. {_MEND}"
    answer.send_bytes(said.encode(errors="backslashreplace")[:_MOST_SAID])


def _holds(wanted: Mapping[str, bytes]) -> bool:
    return all(_is_here(Path(name), body) for name, body in wanted.items())


def _is_here(path: Path, body: bytes) -> bool:
    found = _looked_at(path, stat.S_ISREG)
    if found is None or found.st_uid != os.geteuid() or found.st_size != len(body):
        return False
    return path.read_bytes() == body


def _write(wanted: Mapping[str, bytes]) -> bool:
    kept, tokens = [Path(name) for name in wanted], Path("hsm/tokens")
    for path in kept:
        _looked_at(path, stat.S_ISREG)
    _looked_at(tokens, stat.S_ISDIR)
    left = [old for old in tokens.glob("*") if not any(path.is_relative_to(old) for path in kept)]
    for old in left:
        _looked_at(old, stat.S_ISDIR)
    for path, body in zip(kept, wanted.values(), strict=True):
        make_directory(path.parent)
        write_durably(path, body)
    for old in left:
        shutil.rmtree(old)
    return True


def _looked_at(path: Path, is_right: Callable[[int], bool]) -> os.stat_result | None:
    """Return what is at a path without following a link, None where nothing is; raises OSError for another kind.

    The account sees its own mistake by it; against its malice there is that this process is no more than the account.
    """
    for place in (*reversed(path.parents), path):
        try:
            found = place.lstat()
        except FileNotFoundError:
            return None
        if not (is_right if place == path else stat.S_ISDIR)(found.st_mode):
            raise OSError(errno.EINVAL, "is not the plain file or directory that belongs there", str(place))
    return found
