# SPDX-License-Identifier: Apache-2.0
"""A rotation in a process of its own, for tests that kill it: `python -m tests.journeys.rotator PROFILE COUNT`.

Ends when the account's identity key has been replaced COUNT times, however often it was killed on the way.
"""

from __future__ import annotations

import sys
from pathlib import Path

from holdfast.client.profile import account as accounts
from holdfast.client.rotation import rotation
from holdfast.core.identity.entries import Reason
from tests.journeys.messenger import PASSPHRASE


def main() -> None:
    """Resume what was interrupted, and begin a rotation of everything if that was not the one that is wanted."""
    with accounts.open_account(Path(sys.argv[1]), passphrase=PASSPHRASE) as account:
        account.connect()
        rotation.resume(account)
        if len(account.chain.former_aiks) < int(sys.argv[2]):
            rotation.rotate(account, {*rotation.EVERYTHING, rotation.DEVICE}, reason=Reason.USER_REQUEST)


if __name__ == "__main__":
    main()
