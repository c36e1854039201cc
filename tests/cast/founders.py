# SPDX-License-Identifier: Apache-2.0
"""The demo's officers at their desks, for a tenant that a test has begun: they propose, sign, and are called.

Run as `python -m tests.cast.founders propose [DELAY] | key | found [HASH]`, under the environment of a ceremony.
`propose` prints the policy's hash; `found` holds the ceremony with officers who read out the words of that policy.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import django
from django.core.management import call_command
from django.core.management.base import CommandError


def answers(policy_hash: str = "") -> Callable[[str], str]:
    """Return what the officers say when they are called; without a hash, of the policy that is proposed."""
    from config import development
    from escrow.models import PolicyProposal
    from tenants.models import Tenant

    rows = PolicyProposal.unscoped.order_by("-proposed_at")
    known = bytes.fromhex(policy_hash) if policy_hash else bytes(rows[0].hash)
    return development.said_by(development.founding_of(Tenant.objects.get(slug="acme")), known)


def main() -> int:
    """Do what was asked."""
    act, *given = sys.argv[1:]
    django.setup()
    from config import development
    from tenants.models import Tenant

    if act == "found":
        try:
            call_command("ceremony", "found", "acme", "--no-wait", "--yes", answer=answers(*given))
        except CommandError as error:
            sys.stderr.write(f"{error}\n")
            return 1
        return 0
    founding = development.founding_of(Tenant.objects.get(slug="acme"))
    if act == "propose":
        sys.stdout.write(development.propose_policy(founding, delay=int(given[0]) if given else 5).hex())
    else:
        development.sign_escrow_key(founding)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
