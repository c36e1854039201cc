# SPDX-License-Identifier: Apache-2.0
"""The token directories: pristine ones that only ceremonies replace, and each process's private copy.

Implements HSM section 6.4: SoftHSM rewrites token.object at every login, and a kill -9 there loses
the whole token; so what a running process logs in to is a copy, and dies with it.
Does nothing for a module that keeps its tokens itself (HsmConfig.softhsm is False).
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from holdfast.files import flush_directory, remove_parts, write_whole
from hsm import manifest as manifests
from hsm.config import HsmConfig
from hsm.errors import HsmTokenDamaged
from hsm.manifest import Manifest, TokenRecord, locked

# slots.removable: a token here is never taken out. library.reset_on_fork: a child is refused by us, and a reset in it
# would only end in another error. objectstore.backend: Debian's build knows no other.
_CONFIGURATION = """directories.tokendir = {tokens}
objectstore.backend = file
log.level = ERROR
slots.removable = false
slots.mechanisms = {mechanisms}
library.reset_on_fork = false
"""

# Everything else that SoftHSM offers is switched off, the padding-oracle mechanisms first of all.
_MECHANISMS = (
    "CKM_AES_KEY_GEN",
    "CKM_AES_KEY_WRAP",
    "CKM_AES_GCM",
    "CKM_AES_ECB",
    "CKM_GENERIC_SECRET_KEY_GEN",
    "CKM_SHA256_HMAC",
    "CKM_RSA_PKCS_KEY_PAIR_GEN",
    "CKM_RSA_PKCS_OAEP",
    "CKM_EC_KEY_PAIR_GEN",
    "CKM_ECDSA",
    "CKM_EC_EDWARDS_KEY_PAIR_GEN",
    "CKM_EDDSA",
)


# Each holds all keys of those before it; without a bound they grow with the square of the tenants.
_BACKUPS_KEPT = 5


class RuntimeDirectory:
    """A 0700 directory of this process alone, with the tokens it may use and its softhsm2.conf.

    A lock held on it for the life of the process tells a live copy from one whose process was killed.
    """

    def __init__(self, config: HsmConfig) -> None:
        root = config.runtime_root
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        guard = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            # Between making a directory and locking it, it would look abandoned to another process.
            flock(guard, LOCK_EX)
            _remove_abandoned(root)
            self.path = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=root))
            self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            flock(self._lock, LOCK_EX | LOCK_NB)
        finally:
            os.close(guard)
        self.tokens.mkdir(mode=0o700)

    @property
    def tokens(self) -> Path:
        return self.path / "tokens"

    def fill(self, config: HsmConfig, manifest: Manifest, names: Iterable[str]) -> None:
        """Copy the named pristine tokens, checked file by file. Raises HsmTokenDamaged.

        The PKCS#11 library must not be initialised: what it knew of the old copy is gone.
        """
        # Emptied first: a half-written file of the last run would be part of the new copy.
        shutil.rmtree(self.tokens)
        self.tokens.mkdir(mode=0o700)
        for name in names:
            record = manifest.token(name)
            pristine = config.pristine(name, record.generation)
            # Before copying and before any login: SoftHSM would rewrite what it finds, damaged or not.
            check_files(pristine, record, name)
            for token in pristine.iterdir():
                shutil.copytree(token, self.tokens / token.name)

    def activate(self) -> None:
        """Point SOFTHSM2_CONF, which C_Initialize reads, at this directory."""
        path = self.path / "softhsm2.conf"
        path.write_text(_CONFIGURATION.format(tokens=self.tokens, mechanisms=",".join(_MECHANISMS)))
        os.environ["SOFTHSM2_CONF"] = str(path)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _remove_abandoned(root: Path) -> None:
    for path in root.iterdir():
        if not path.is_dir():
            continue
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            flock(descriptor, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(descriptor)


def hash_files(directory: Path) -> dict[str, str]:
    """Return SHA-256 of each file below `directory` but SoftHSM's lock files, by relative path."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        # Lock files come and go with every process that looks, and hold nothing.
        if path.is_file() and path.suffix != ".lock"
    }


def check_files(directory: Path, record: TokenRecord, name: str) -> None:
    """Raise HsmTokenDamaged, naming the first file that is not as the ceremony left it."""
    found = hash_files(directory) if directory.is_dir() else {}
    if found == record.files:
        return
    for path in sorted(found.keys() | record.files.keys()):
        if path not in found:
            what = f"{path} is missing"
        elif path not in record.files:
            what = f"{path} does not belong there"
        elif found[path] != record.files[path]:
            what = f"{path} has {(directory / path).stat().st_size} bytes that are not those of the ceremony"
        else:
            continue
        raise HsmTokenDamaged(
            f"the HSM token {name} in {directory} is damaged: {what}. Restore it from its backup with: "
            f"manage.py hsm_restore {name}"
        )


def restore_token(config: HsmConfig, name: str) -> Path:
    """Put the backup made by the last ceremony in place of the token's directory; return that directory.

    Processes that run keep their copies; those that failed to start can be started. The damaged directory
    is kept beside, as `<directory>.damaged`. Raises HsmTokenDamaged when the backup is damaged too.
    """
    with locked(config.home, "ceremony", exclusive=True), locked(config.home, "commit", exclusive=True):
        record = manifests.load(config.manifest_path).token(name)
        backup = config.backup(name, record.generation)
        # A backup is only put back when it is what the ceremony left: a wrong one would start with other keys.
        if hash_files(backup) != record.files:
            raise HsmTokenDamaged(
                f"the backup {backup} of the HSM token {name} is missing or damaged: bring back a copy of it "
                f"from off this machine, then: manage.py hsm_restore {name}"
            )
        pristine = config.pristine(name, record.generation)
        if pristine.exists():
            # Kept: it may be all that is left if the backup turns out to be older than somebody thought.
            aside = pristine.with_name(f"{pristine.name}.damaged")
            shutil.rmtree(aside, ignore_errors=True)
            pristine.rename(aside)
        copy_durably(backup, pristine)
    return pristine


def commit(config: HsmConfig, manifest: Manifest, name: str, record: TokenRecord, tokens: Path | None) -> None:
    """Make `tokens` the pristine directory of `name`, with its backup, by replacing the manifest.

    Killed before that, the old token and manifest stand; killed after, the new ones do.
    tokens: None for a module that keeps its tokens itself; its vendor's tools make the backup.
    """
    backup = config.backup(name, record.generation)
    backup.parent.mkdir(mode=0o700, exist_ok=True)
    if tokens is not None:
        # The backup first: a pristine token without one must never be what the manifest names.
        for target in (backup, config.pristine(name, record.generation)):
            # Left by a ceremony that was killed before its commit.
            shutil.rmtree(target, ignore_errors=True)
            copy_durably(tokens, target)
        record = replace(record, files=hash_files(tokens))
    committed = manifest.with_token(name, record)
    # The manifest goes beside the backup as well: without it the files' hashes and the keys' ids would be lost.
    remove_parts(backup.parent)
    write_whole(backup.with_name(f"{backup.name}.json"), committed.to_json(), replaces=True, mode=0o644)
    with locked(config.home, "commit", exclusive=True):
        remove_parts(config.home)
        # This is the commit. All before it can be left behind, all after it can be done again.
        committed.save(config.manifest_path)
        # Under the lock, since a process that starts may be copying the old directory just now.
        shutil.rmtree(config.pristine(name, record.generation - 1), ignore_errors=True)
    old = config.backup(name, record.generation - _BACKUPS_KEPT)
    shutil.rmtree(old, ignore_errors=True)
    old.with_name(f"{old.name}.json").unlink(missing_ok=True)


def copy_durably(source: Path, target: Path) -> None:
    """Copy a token directory so that `target` is whole or absent, after a crash too."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(source, beside, ignore=shutil.ignore_patterns("*.lock"))
    # Synced before the rename: after a crash the new name must not point at empty files.
    for path in beside.rglob("*"):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    beside.rename(target)
    flush_directory(target.parent)
