# SPDX-License-Identifier: Apache-2.0
"""What the release process concludes from the log's stamps alone."""

from __future__ import annotations

from dataclasses import replace

from holdfast.core.crypto.keys import SealingKey, SigningKey
from holdfast.core.identity.policy import Officer, verify_successor
from holdfast.core.signed.cose import Purpose
from recovery.release.facts import CaseFacts, Facts
from tests.cast import statements as cast
from tests.cast.statements import DAY, NOW, OFFICER_KEYS, OFFICERS, SIGNED_POLICY


def test_copy_of_a_policy_that_cools_off_waits_as_long() -> None:
    """FAULTS P6: by the stamps of the log, whatever the statements date themselves."""
    policies = [SIGNED_POLICY]
    for _ in range(2):
        terms = replace(cast.TERMS, delay_seconds=0)
        lower = cast.next_policy(policies[-1], terms=terms, held_in_force=SIGNED_POLICY.hash)
        signed = cast.signed_by(OFFICER_KEYS, lower.to_payload(), Purpose.POLICY)
        policies.append(verify_successor(signed, predecessor=policies[-1], history=policies))
    facts = Facts(policies={one.hash: NOW + 10 * place for place, one in enumerate(policies)})
    found = [
        facts.policy_in_force(policies, now=NOW + seconds).policy.version
        for seconds in (0, 20, DAY, DAY + 9, DAY + 10, DAY + 19, DAY + 20)
    ]
    assert found == [1, 1, 1, 1, 2, 2, 3]


def test_withdrawn_policy_is_never_in_force() -> None:
    lower = cast.next_policy(terms=replace(cast.TERMS, delay_seconds=0))
    policies = [
        SIGNED_POLICY,
        verify_successor(cast.signed_by(OFFICER_KEYS, lower.to_payload(), Purpose.POLICY), predecessor=SIGNED_POLICY),
    ]
    facts = Facts(policies={one.hash: NOW for one in policies}, withdrawn={policies[1].hash: NOW + DAY - 1})
    assert facts.policy_in_force(policies, now=NOW + 2 * DAY).policy.version == 1
    facts.withdrawn[policies[1].hash] = NOW + DAY
    assert facts.policy_in_force(policies, now=NOW + 2 * DAY).policy.version == 2


def test_officers_come_and_go_when_the_version_is_in_force() -> None:
    """FAULTS P5, P8: by the stamps of the log."""
    rita = Officer(3, cast.RITA, SigningKey.generate().public, SealingKey.generate().public)
    second = cast.next_policy(roster=(*OFFICERS[:2], rita))
    signed = cast.signed_by(OFFICER_KEYS[:2], second.to_payload(), Purpose.POLICY)
    policies = [SIGNED_POLICY, verify_successor(signed, predecessor=SIGNED_POLICY)]
    persons = {cast.CAROL, cast.DAN, cast.ERIN, cast.RITA}
    facts = Facts(policies={one.hash: NOW for one in policies}, officers=persons, active=persons)
    case = CaseFacts(bytes(32), policies[1].hash, cast.ALICE, cast.ALICE, cast.ALICE, NOW)
    before, after = (facts.excluded(case, policies, now=NOW + seconds) for seconds in (DAY - 1, DAY))
    assert {one for one in persons if before.why(one)} == {cast.RITA}
    assert {one for one in persons if after.why(one)} == {cast.ERIN}
