# SPDX-License-Identifier: Apache-2.0
"""What the release process concludes from the log's stamps alone."""

from __future__ import annotations

from dataclasses import replace

from holdfast.core.identity.policy import verify_successor
from holdfast.core.signed.cose import Purpose
from recovery.release.facts import Facts
from tests.cast import statements as cast
from tests.cast.statements import DAY, NOW, OFFICER_KEYS, SIGNED_POLICY


def test_copy_of_a_policy_that_cools_off_waits_as_long() -> None:
    """FAULTS P6: by the stamps of the log, whatever the statements date themselves."""
    policies = [SIGNED_POLICY]
    for _ in range(2):
        lower = replace(cast.next_policy(policies[-1]), terms=replace(cast.TERMS, delay_seconds=0))
        signed = cast.signed_by(OFFICER_KEYS, lower.to_payload(), Purpose.POLICY)
        policies.append(verify_successor(signed, predecessor=policies[-1]))
    facts = Facts(policies={one.hash: NOW + 10 * place for place, one in enumerate(policies)})
    found = [
        facts.policy_in_force(policies, now=NOW + seconds).policy.version
        for seconds in (0, 20, DAY, DAY + 9, DAY + 10, DAY + 19, DAY + 20)
    ]
    assert found == [1, 1, 1, 1, 2, 2, 3]
