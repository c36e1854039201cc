# SPDX-License-Identifier: Apache-2.0
"""hsm.json: what a ceremony left behind, and what every start compares the HSM with.

Implements HSM section 2 ("token serial and key check values are pinned, mismatch refuses to start").
Contains no secret. Replacing the file is the commit of a ceremony: before it, nothing has happened.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from fcntl import LOCK_EX, LOCK_SH, flock
from pathlib import Path
from typing import Any

from holdfast.files import whole_file
from hsm.errors import HsmError, HsmKeyMismatch, HsmKeyMissing

FORMAT = "holdfast-hsm/1"  # refused when it is another: what is pinned must be understood, not skipped


@dataclass(frozen=True)
class KeyRecord:
    """One key on a token. Byte strings are lower-case hex.

    kind: master, binding, log, escrow or tenant-root. public: DER SPKI, empty for a secret key.
    canary: a wrapped key that the master key must open, or what the binding key must make of a fixed text; kcv: the
    check value of what the first opens to, the first 3 bytes of the second, or those of SHA-256(public).
    """

    kind: str
    id: str
    label: str
    version: int
    algorithm: str
    kcv: str
    tenant: str = ""
    public: str = ""
    canary: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)


def key_label(kind: str, tenant: str, version: int) -> str:
    """Return the label of a key on its token: it says of itself whose it is, beside what the manifest says."""
    return "-".join(part for part in (kind, tenant, f"v{version}") if part)


@dataclass(frozen=True)
class TokenRecord:
    """One token. files: SHA-256 of each file of the token's directory, for a module that keeps files."""

    serial: str
    label: str
    generation: int
    files: dict[str, str]
    keys: tuple[KeyRecord, ...]

    def find(self, kind: str, *, tenant: str = "") -> list[KeyRecord]:
        """Return the keys of this kind and tenant, oldest version first."""
        found = [key for key in self.keys if key.kind == kind and key.tenant == tenant]
        return sorted(found, key=lambda key: key.version)

    def by_id(self, cka_id: bytes) -> KeyRecord:
        """Raise HsmKeyMissing when no key has this id."""
        for key in self.keys:
            if key.id == cka_id.hex():
                return key
        raise HsmKeyMissing(f"no key with id {cka_id.hex()} on the token {self.label}")


@dataclass(frozen=True)
class Manifest:
    """All tokens of one installation and the module that serves them.

    are_tenant_keys_bound: whether every tenant key is bound by now. It stands here and not in the database: whoever can
    write there must not have a key bound that is not.
    """

    module_path: str
    module_sha256: str
    oaep: str
    tokens: dict[str, TokenRecord]
    are_tenant_keys_bound: bool = False

    def token(self, name: str) -> TokenRecord:
        """Raise HsmError when no ceremony has made this token."""
        try:
            return self.tokens[name]
        except KeyError:
            raise HsmError(f"no ceremony has made the token {name}") from None

    def with_token(self, name: str, record: TokenRecord) -> "Manifest":
        return replace(self, tokens=self.tokens | {name: record})

    def check_module(self, module: Path) -> None:
        """Raise HsmKeyMismatch unless `module` is, byte for byte, the one that the ceremony used."""
        if str(module) != self.module_path:
            raise HsmKeyMismatch(f"the HSM module is {module}; the ceremony pinned {self.module_path}")
        # Another module at the same path would be given the PIN (FAULTS U4).
        if module_sha256(module) != self.module_sha256:
            raise HsmKeyMismatch(
                f"{module} has changed since the ceremony. After an upgrade that you made: manage.py hsm_accept_module"
            )

    def to_json(self) -> bytes:
        body = {"format": FORMAT, **asdict(self)}
        return json.dumps(body, indent=1, sort_keys=True).encode() + b"\n"

    def save(self, path: Path) -> None:
        """Replace the file at once: a reader sees the old manifest or the new one, after a crash too."""
        with whole_file(path, replaces=True) as file:
            # Not as the umask of whoever holds the ceremony has it: services of other accounts share a vendor's home.
            os.fchmod(file.fileno(), 0o644)
            file.write(self.to_json())


def load(path: Path) -> Manifest:
    """Raise HsmError when there is no manifest or it is not one of ours."""
    try:
        body = json.loads(path.read_bytes())
        # Before all else: fields of another format could be read as something they are not.
        if body.pop("format") != FORMAT:
            raise HsmError(f"{path} has a format that this version does not know")
        tokens = {
            name: TokenRecord(**(token | {"keys": tuple(KeyRecord(**key) for key in token["keys"])}))
            for name, token in body.pop("tokens").items()
        }
        return Manifest(**body, tokens=tokens)
    except FileNotFoundError:
        raise HsmError(f"there is no {path}: the HSM ceremony has not been held") from None
    except OSError as error:
        raise HsmError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HsmError(f"{path} is damaged: copy the newest backups/*.json in its place") from error


def module_sha256(module: Path) -> str:
    """Raise HsmKeyMismatch when the module cannot be read."""
    try:
        return hashlib.sha256(module.read_bytes()).hexdigest()
    except OSError as error:
        raise HsmKeyMismatch(f"the HSM module {module} cannot be read: {error.strerror}") from error


@contextmanager
def locked(home: Path, name: str, *, exclusive: bool) -> Iterator[None]:
    """Hold `home`/.<name>.lock: ceremonies exclusively, those who copy pristine tokens shared.

    A reader may have no right to write in `home`, and where no ceremony was held nothing needs a lock: a
    process of another uid is given a home of its own, with copies of its tokens only.
    """
    path = home / f".{name}.lock"
    if not exclusive and not path.exists():
        yield
        return
    # `flock` and not a file that exists or not: the kernel lets go of it when its holder is killed.
    descriptor = os.open(path, os.O_RDONLY | (os.O_CREAT if exclusive else 0), 0o644)
    try:
        if exclusive:
            # For the same services, which take it shared.
            with suppress(PermissionError):  # another's, who made it so
                os.fchmod(descriptor, 0o644)
        flock(descriptor, LOCK_EX if exclusive else LOCK_SH)
        yield
    finally:
        os.close(descriptor)
