# SPDX-License-Identifier: Apache-2.0
"""A policy's history of 100 versions, followed from the pin, beside the bare signatures that it has.

The floor is the verification of every signature once, as the library verifies one; what is above it
is reading the versions, and holding each to those before it.
"""

from __future__ import annotations

from typing import Final

from bench.world import best_of, report, row
from holdfast.core.identity.trust import root_pin, verify_tenant
from holdfast.core.signed.cose import Purpose
from tests.cast import statements as cast

VERSIONS: Final = 100
ROUNDS: Final = 12


def main() -> None:
    """Measure, and print the row."""
    history = cast.policy_history(VERSIONS)
    pin = root_pin(cast.ACME, cast.ROOT.public, cast.SIGNED_POLICY.hash)
    keys = {key.public.kid: key.public for key in cast.OFFICER_KEYS}

    def follow() -> None:
        verify_tenant(history, tenant=cast.ACME, root_key=cast.ROOT.public, pin=pin)

    def signatures() -> None:
        for statements in history:
            for one in statements:
                one.verify(keys[one.kid], purpose=Purpose.POLICY)

    ours, floor = best_of(follow, signatures, rounds=ROUNDS, per=1)
    report([row(f"follow a policy's {VERSIONS} versions", ours, floor, "ms", scale=1e3, goal="<= 1.2")])


if __name__ == "__main__":
    main()
