# SPDX-License-Identifier: Apache-2.0
"""What the release process concludes from the log's stamps alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from holdfast.core.crypto.keys import SealingKey, SigningKey
from holdfast.core.identity.policy import Officer, SignedPolicy, verify_successor
from holdfast.core.log.log_entry import LogEntry
from holdfast.core.signed.cose import Purpose
from recovery.release.clock import Now
from recovery.release.directory import Trust
from recovery.release.facts import CaseFacts, Facts, LoggedPolicy, Place
from recovery.release.log import StoredStatements
from tenants.acts.people import ResetFactors
from tests.cast import statements as cast
from tests.cast.roles import ROOT, roles_of
from tests.cast.statements import DAY, NOW, OFFICER_KEYS, OFFICERS, SIGNED_POLICY, TENANT


def seconds_after(seconds: int) -> Now:
    return Now(NOW + seconds, NOW + seconds)


def told_of(policies: list[SignedPolicy], *, apart: int = 0, **given: Any) -> Facts:
    """What a log says that tells of these versions, one so many seconds after the other."""
    logged = [
        LoggedPolicy(one, Place(place, seconds_after(apart * place).moment)) for place, one in enumerate(policies)
    ]
    trust = Trust(ROOT.public, bytes(32), is_development=True)
    return Facts(TENANT.tenant, trust, StoredStatements(), policies=logged, **given)


def word(tag: str, officer: bytes) -> bytes:
    """An officer's standing as it was logged before anybody signed: the web process's word."""
    return LogEntry(uuid4().bytes, tag, "user:x", b"", str(UUID(bytes=officer)), NOW).to_leaf()


def test_officers_word_of_before_is_believed_below_the_pinned_size_and_nowhere_else() -> None:
    """ESCROW "What it believes of the log": unsigned is what the tenant root pinned, and nothing after it."""
    roles = roles_of(UUID(bytes=TENANT.tenant), unsigned=(4, bytes(32)))
    carol, dan = uuid4().bytes, uuid4().bytes
    found = told_of([])
    for index, (tag, person) in enumerate(
        [("suspend", carol), ("suspend", dan), ("return", dan), ("leave", dan), ("suspend", dan)]
    ):
        found.absorb(word(f"escrow:officer:{tag}", person), Place(index, seconds_after(0).moment), roles)
    assert (set(found.suspended), found.away) == ({carol}, {dan})
    assert {index: one.why for index, one in found.wrong.items()} == {4: "unsigned"}


def entry(tag: str, subject: bytes, **body: Any) -> bytes:
    """An entry as it was logged before the parts of the server signed theirs."""
    return LogEntry(uuid4().bytes, tag, "user:x", b"", str(UUID(bytes=subject)), NOW, body).to_leaf()


def test_approval_is_read_by_person_and_of_before_by_the_number_in_the_cases_own_policy() -> None:
    roles = roles_of(UUID(bytes=TENANT.tenant), unsigned=(9, bytes(32)))
    facts, case, moment = told_of([SIGNED_POLICY]), uuid4().bytes, seconds_after(0).moment
    person = str(UUID(bytes=cast.ALICE))
    persons = {"user": person, "requester": person, "recipient": person, "recipient_device": person}
    terms = {"q": bytes(32), "policy": SIGNED_POLICY.hash, **persons}
    said = [
        entry("recovery:case:open", case, **terms),
        entry("recovery:case:approve", case, index=2, statement_hash=b"2" * 32),
        entry("recovery:case:approve", case, person=str(UUID(bytes=cast.ERIN)), statement_hash=b"3" * 32),
        entry("recovery:case:approve", case, index=4, statement_hash=b"4" * 32),
    ]
    for index, leaf in enumerate(said, 1):
        facts.absorb(leaf, Place(index, moment), roles)
    given = facts.cases[case].approvals
    assert {one: given[one].statement_hash for one in given} == {cast.DAN: b"2" * 32, cast.ERIN: b"3" * 32}
    assert facts.standing(facts.cases[case], now=seconds_after(1)) == given
    # Nobody has number 4.
    assert [one.why for one in facts.wrong.values()] == ["unproven"]


def test_keys_that_officers_may_have_sealed_to_are_those_since_the_case_was_opened() -> None:
    """Also of a version that waits, since it may be in force by an officer's clock; not of one that was withdrawn."""
    policies = [SIGNED_POLICY]
    for delay in (cast.TERMS.delay_seconds, cast.TERMS.delay_seconds, 0, 0):
        terms = replace(cast.TERMS, delay_seconds=delay, release_sealing_key=SealingKey.generate().public)
        made = cast.next_policy(policies[-1], terms=terms, held_in_force=policies[min(len(policies) - 1, 2)].hash)
        signed = cast.signed_by(OFFICER_KEYS, made.to_payload(), Purpose.POLICY)
        policies.append(verify_successor(signed, predecessor=policies[-1], history=policies))
    keys = [one.policy.terms.release_sealing_key for one in policies]
    facts = told_of(policies, apart=10)
    opened = Place(9, seconds_after(15).moment)
    case = CaseFacts(bytes(32), policies[1].hash, cast.ALICE, cast.ALICE, cast.ALICE, opened)
    assert facts.release_keys(case, now=seconds_after(50)) == (keys[4], keys[3], keys[2], keys[1])
    facts.withdrawn[policies[3].hash] = seconds_after(60).moment
    assert facts.release_keys(case, now=seconds_after(70)) == (keys[2], keys[1])


def test_copy_of_a_policy_that_cools_off_waits_as_long() -> None:
    """FAULTS P6: by the stamps of the log, whatever the statements date themselves."""
    policies = [SIGNED_POLICY]
    for _ in range(2):
        terms = replace(cast.TERMS, delay_seconds=0)
        lower = cast.next_policy(policies[-1], terms=terms, held_in_force=SIGNED_POLICY.hash)
        signed = cast.signed_by(OFFICER_KEYS, lower.to_payload(), Purpose.POLICY)
        policies.append(verify_successor(signed, predecessor=policies[-1], history=policies))
    facts = told_of(policies, apart=10)
    found = [
        facts.policy_in_force(seconds_after(seconds)).policy.version
        for seconds in (0, 20, DAY, DAY + 9, DAY + 10, DAY + 19, DAY + 20)
    ]
    assert found == [1, 1, 1, 1, 2, 2, 3]


def test_withdrawn_policy_is_never_in_force() -> None:
    lower = cast.next_policy(terms=replace(cast.TERMS, delay_seconds=0))
    policies = [
        SIGNED_POLICY,
        verify_successor(cast.signed_by(OFFICER_KEYS, lower.to_payload(), Purpose.POLICY), predecessor=SIGNED_POLICY),
    ]
    facts = told_of(policies, withdrawn={policies[1].hash: seconds_after(DAY - 1).moment})
    assert facts.policy_in_force(seconds_after(2 * DAY)).policy.version == 1
    facts.withdrawn[policies[1].hash] = seconds_after(DAY).moment
    assert facts.policy_in_force(seconds_after(2 * DAY)).policy.version == 2


def test_officers_come_and_go_when_the_version_is_in_force() -> None:
    """FAULTS P5, P8: by the stamps of the log."""
    rita = Officer(3, cast.RITA, SigningKey.generate().public, SealingKey.generate().public)
    second = cast.next_policy(roster=(*OFFICERS[:2], rita))
    signed = cast.signed_by(OFFICER_KEYS[:2], second.to_payload(), Purpose.POLICY)
    policies = [SIGNED_POLICY, verify_successor(signed, predecessor=SIGNED_POLICY)]
    persons = {cast.CAROL, cast.DAN, cast.ERIN, cast.RITA}
    facts = told_of(policies, officers=persons, active=persons)
    case = CaseFacts(bytes(32), policies[1].hash, cast.ALICE, cast.ALICE, cast.ALICE, Place(0, seconds_after(0).moment))
    before, after = (facts.excluded(case, now=seconds_after(seconds)) for seconds in (DAY - 1, DAY))
    assert {one for one in persons if before.why(one)} == {cast.RITA}
    assert {one for one in persons if after.why(one)} == {cast.ERIN}


class TestWhoLetWhomIn:
    """ESCROW "Case" (Eligible): whoever invited or reset somebody decides nothing that these ask for."""

    FIRST, SECOND, SUBJECT = (uuid4().bytes for _ in range(3))

    def behind(self, *said: tuple[str, bytes, dict[str, Any]]) -> set[bytes]:
        roles, facts = roles_of(UUID(bytes=TENANT.tenant), unsigned=(9, bytes(32))), told_of([])
        for index, (tag, person, body) in enumerate(said, 1):
            subject = str(UUID(bytes=self.SUBJECT))
            leaf = LogEntry(uuid4().bytes, tag, "user:x", person, subject, NOW, body).to_leaf()
            facts.absorb(leaf, Place(index, seconds_after(index).moment), roles)
        assert not facts.wrong
        return set(facts.sponsors.get(self.SUBJECT, {}))

    @pytest.mark.parametrize("tag", ["tenants:invitation:issue", "tenants:invitation:promise"])
    def test_whoever_made_another_link_stands_behind_them_too(self, tag: str) -> None:
        created = ("tenants:person:create", self.FIRST, {"role": "owner"})
        assert self.behind(created, (tag, self.SECOND, {})) == {self.FIRST, self.SECOND}

    def test_both_who_reset_a_sign_in_stand_behind_them(self) -> None:
        proposer = {"act": ResetFactors.name, "pending": str(uuid4()), "proposer": str(UUID(bytes=self.FIRST))}
        said: list[tuple[str, bytes, dict[str, Any]]] = [
            ("tenants:act:confirm", self.SECOND, proposer),
            ("tenants:totp:reset", self.SECOND, {}),
        ]
        assert self.behind(*said) == {self.FIRST, self.SECOND}

    def test_other_acts_of_two_let_nobody_in(self) -> None:
        body = {"act": "person-shred", "pending": str(uuid4()), "proposer": str(UUID(bytes=self.FIRST))}
        assert self.behind(("tenants:act:confirm", self.SECOND, body)) == set()
