# SPDX-License-Identifier: Apache-2.0
"""What the release process concludes from the log's stamps alone."""

from __future__ import annotations

from dataclasses import replace

from holdfast.core.identity.policy import verify_successor
from holdfast.core.signed.cose import Purpose
from recovery.release.clock import Moment, Now
from recovery.release.directory import Trust
from recovery.release.facts import Facts, LoggedPolicy
from recovery.release.log import StoredStatements
from tests.cast import statements as cast
from tests.cast.roles import ROOT
from tests.cast.statements import DAY, NOW, OFFICER_KEYS, SIGNED_POLICY, TENANT


def test_copy_of_a_policy_that_cools_off_waits_as_long() -> None:
    """FAULTS P6: by the stamps of the log, whatever the statements date themselves."""
    policies = [SIGNED_POLICY]
    for _ in range(2):
        lower = replace(cast.next_policy(policies[-1]), terms=replace(cast.TERMS, delay_seconds=0))
        signed = cast.signed_by(OFFICER_KEYS, lower.to_payload(), Purpose.POLICY)
        policies.append(verify_successor(signed, predecessor=policies[-1]))
    logged = [LoggedPolicy(one, Moment(NOW + 10 * place, NOW + 10 * place)) for place, one in enumerate(policies)]
    facts = Facts(
        TENANT.tenant, Trust(ROOT.public, bytes(32), is_development=True), StoredStatements(), policies=logged
    )
    found = [
        facts.policy_in_force(Now(NOW + seconds, NOW + seconds)).policy.version
        for seconds in (0, 20, DAY, DAY + 9, DAY + 10, DAY + 19, DAY + 20)
    ]
    assert found == [1, 1, 1, 1, 2, 2, 3]
