# SPDX-License-Identifier: Apache-2.0
"""The refusals of the HSM layer: one class for each reaction that a caller can have.

Implements the HSM rows of the fault catalogue (FAULTS section 7).
Does not know HTTP; every class but HsmRefused means that the service is unavailable until somebody acts.
"""


class HsmError(Exception):
    """Root of all; raised itself for a mistake in the program or its configuration (fork, two openings)."""


class HsmUnavailable(HsmError):
    """The token is missing, removed, busy or too slow, or its session was lost twice: try again later."""


class HsmNewPinRefused(HsmError):
    """The module does not take this as a token's new PIN: too short, too long, or of signs that it does not know."""


class HsmPinRejected(HsmError):
    """The token refused the PIN. Never tried again in this process: real HSMs count and lock."""


class HsmKeyMissing(HsmError):
    """A key that the manifest names is not on the token. Never a reason to create it."""


class HsmKeyMismatch(HsmError):
    """Module, serial, attribute or key check value is not the one pinned: refuse to start."""


class HsmTokenDamaged(HsmError):
    """The token's directory is not as its ceremony left it. The message carries the restore command."""


class HsmRefused(HsmError):
    """The HSM works and did not open this blob: wrong key, wrong context or tampering, never said which."""
