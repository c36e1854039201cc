# SPDX-License-Identifier: Apache-2.0
"""The key of a profile in the operating system's keyring: Secret Service, KWallet, Keychain, Credential Locker.

Implements docs/formats/profile.md (keyring entry): service "holdfast", name = the profile's id, value = base64url.
Imports the package that reaches it when a profile is kept there: most profiles of servers have a passphrase.
Does not fall back: without a keyring that encrypts, the person chooses a passphrase file themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from holdfast.client.errors import MachineError, ProfileError
from holdfast.client.profile.head import KEY_SIZE
from holdfast.core.base.encoding import b64u, unb64u
from holdfast.core.base.errors import Malformed
from holdfast.core.base.secret import SecretBytes

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend
    from keyring.errors import KeyringError

SERVICE: Final = "holdfast"
# The package's own line: backends below it are "suitable, but not recommended", plain files among them.
_RECOMMENDED: Final = 1
_WAY_OUT: Final = "Open the profile by a passphrase instead: --no-keyring asks for one, --passphrase-file reads one."


def keep(profile: bytes, key: SecretBytes) -> None:
    """Put the key of a profile (16-byte id) into the keyring, and see that it is there. Raises MachineError."""
    from keyring.errors import KeyringError

    backend = _backend()
    try:
        backend.set_password(SERVICE, profile.hex(), b64u(key.reveal()))
    except KeyringError as error:
        raise _refused(error) from error
    if fetch(profile) != key:
        raise MachineError("The keyring of this machine did not keep the profile's key.", way_out=_WAY_OUT)


def fetch(profile: bytes) -> SecretBytes:
    """Return the 32-byte key of a profile. Raises MachineError when the keyring is locked, ProfileError for none."""
    from keyring.errors import KeyringError

    backend = _backend()
    try:
        text = backend.get_password(SERVICE, profile.hex())
    except KeyringError as error:
        raise _refused(error) from error
    if text is None:
        raise ProfileError(
            "The keyring of this machine does not have this profile's key.",
            way_out="Open the profile where it was made, or as the user who made it; or recover the account.",
        )
    try:
        key = SecretBytes(unb64u(text, max_size=KEY_SIZE))
    except Malformed:
        key = SecretBytes(b"")
    if len(key) != KEY_SIZE:
        raise ProfileError("What the keyring has for this profile is not its key: somebody changed it.")
    return key


def forget(profile: bytes) -> None:
    """Take the key of a profile out of the keyring; every row of the profile is unreadable from then on."""
    from keyring.errors import KeyringError, PasswordDeleteError

    backend = _backend()
    try:
        backend.delete_password(SERVICE, profile.hex())
    except PasswordDeleteError:
        return  # it has none
    except KeyringError as error:
        raise _refused(error) from error


def name() -> str:
    """Return what the keyring in use is called. Raises MachineError when there is none to trust."""
    return str(_backend().name)


def _backend() -> KeyringBackend:
    """Return the backend in use; a chain of them stands for its first that encrypts."""
    import keyring as system
    from keyring.backends import chainer

    configured = system.get_keyring()
    members = configured.backends if isinstance(configured, chainer.ChainerBackend) else [configured]
    for backend in members:
        if _is_trusted(backend):
            return backend
    raise MachineError(f"This machine has no keyring that keeps a secret (found: {configured.name}).", way_out=_WAY_OUT)


def _is_trusted(backend: KeyringBackend) -> bool:
    from keyring.backends import fail, null

    if isinstance(backend, (fail.Keyring, null.Keyring)):
        return False
    # keyrings.alt and its like: files in plain text, or encrypted under what lies beside them.
    is_plain = "plaintext" in type(backend).__name__.lower() or type(backend).__module__.startswith("keyrings.alt")
    return not is_plain and float(backend.priority) >= _RECOMMENDED


def _refused(error: KeyringError) -> MachineError:
    return MachineError(
        f"The keyring of this machine refused ({type(error).__name__}).",
        way_out="Unlock it and run the command again, or choose a passphrase file: --passphrase-file FILE",
    )
