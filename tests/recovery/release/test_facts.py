# SPDX-License-Identifier: Apache-2.0
"""What the release process concludes from the log's stamps alone."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID, uuid4

from holdfast.core.identity.policy import verify_successor
from holdfast.core.log.log_entry import LogEntry
from holdfast.core.signed.cose import Purpose
from recovery.release.clock import Moment, Now
from recovery.release.directory import Trust
from recovery.release.facts import Facts, LoggedPolicy, Place
from recovery.release.log import StoredStatements
from tests.cast import statements as cast
from tests.cast.roles import ROOT, roles_of
from tests.cast.statements import DAY, NOW, OFFICER_KEYS, SIGNED_POLICY, TENANT


def facts(policies: list[LoggedPolicy] | None = None) -> Facts:
    trust = Trust(ROOT.public, bytes(32), is_development=True)
    return Facts(TENANT.tenant, trust, StoredStatements(), policies=policies or [])


def word(tag: str, officer: bytes) -> bytes:
    """An officer's standing as it was logged before anybody signed: the web process's word."""
    return LogEntry(uuid4().bytes, tag, "user:x", b"", str(UUID(bytes=officer)), NOW).to_leaf()


def test_officers_word_of_before_is_believed_below_the_pinned_size_and_nowhere_else() -> None:
    """ESCROW "What it believes of the log": unsigned is what the tenant root pinned, and nothing after it."""
    roles = roles_of(UUID(bytes=TENANT.tenant), unsigned=(4, bytes(32)))
    carol, dan = uuid4().bytes, uuid4().bytes
    found = facts()
    for index, (tag, person) in enumerate(
        [("suspend", carol), ("suspend", dan), ("return", dan), ("leave", dan), ("suspend", dan)]
    ):
        found.absorb(word(f"escrow:officer:{tag}", person), Place(index, Moment(NOW, NOW)), roles)
    assert (set(found.suspended), found.away) == ({carol}, {dan})
    assert {index: one.why for index, one in found.wrong.items()} == {4: "unsigned"}


def test_copy_of_a_policy_that_cools_off_waits_as_long() -> None:
    """FAULTS P6: by the stamps of the log, whatever the statements date themselves."""
    policies = [SIGNED_POLICY]
    for _ in range(2):
        lower = replace(cast.next_policy(policies[-1]), terms=replace(cast.TERMS, delay_seconds=0))
        signed = cast.signed_by(OFFICER_KEYS, lower.to_payload(), Purpose.POLICY)
        policies.append(verify_successor(signed, predecessor=policies[-1]))
    logged = [LoggedPolicy(one, Moment(NOW + 10 * place, NOW + 10 * place)) for place, one in enumerate(policies)]
    known = facts(logged)
    found = [
        known.policy_in_force(Now(NOW + seconds, NOW + seconds)).policy.version
        for seconds in (0, 20, DAY, DAY + 9, DAY + 10, DAY + 19, DAY + 20)
    ]
    assert found == [1, 1, 1, 1, 2, 2, 3]
