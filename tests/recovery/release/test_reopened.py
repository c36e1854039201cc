# SPDX-License-Identifier: Apache-2.0
"""A process that lives and one that reads the log anew believe the same, whatever the log says and whenever they look.

ESCROW "What it believes of the log". Logs grow at random; the facts of one reader that settles now and then are
compared with those of one that settles at the end alone.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from holdfast.core.base.errors import HoldfastError
from holdfast.core.identity.acts import Act
from holdfast.core.identity.policy import verify_successor
from holdfast.core.identity.trust import root_pin
from holdfast.core.log.log_entry import LogEntry, log_origin
from holdfast.core.log.merkle import leaf_hash
from holdfast.core.log.writers import Role
from holdfast.core.signed.cose import Purpose, encode_many
from recovery.release.clock import Now
from recovery.release.directory import Trust
from recovery.release.facts import Facts, Place, VetoPapers
from tests.cast import statements as cast
from tests.cast.statements import NOW, OFFICER_KEYS, OFFICERS, ROLE_KEYS, ROLES, SIGNED_POLICY

ORIGIN = log_origin(str(uuid.UUID(bytes=cast.ACME)), "audit")
ALICE = str(uuid.UUID(bytes=cast.ALICE))
PIN = root_pin(cast.ACME, cast.ROOT.public, SIGNED_POLICY.hash)


@dataclass
class Kept:
    """Statements by hash, as the rows hold them."""

    rows: dict[bytes, bytes] = field(default_factory=dict)

    def policy(self, statement_hash: bytes) -> bytes | None:
        return self.rows.get(statement_hash)

    escrow_key = officer_state = resolution = policy

    def veto(self, case_id: bytes, device_id: bytes) -> VetoPapers | None:
        return None


class Believing(Facts):
    """Facts that take every other veto for one that counts, by nothing but what its entry names."""

    def counts_as_veto(self, case: Any, case_id: bytes, device_id: Any, statement_hash: Any) -> bool:
        return bool(isinstance(statement_hash, bytes) and statement_hash[0] % 2)


class Log:
    """A log that grows at random; each leaf with the time at which its head was seen."""

    def __init__(self, dice: random.Random) -> None:
        self.dice, self.kept, self.at = dice, Kept(), NOW
        self.leaves: list[tuple[bytes, int]] = []
        self.policies, self.cases = [SIGNED_POLICY], [str(uuid.UUID(int=0))]
        self.kept.rows[SIGNED_POLICY.hash] = encode_many(cast.FOUNDING)
        self.say("escrow:policy:publish", hash=SIGNED_POLICY.hash)

    def say(self, tag: str, subject: str = "", **body: Any) -> None:
        entry = LogEntry(uuid.UUID(int=self.dice.getrandbits(128)).bytes, tag, "x", b"", subject, NOW, body)
        self.leaves.append((entry.to_signed_leaf(origin=ORIGIN, key=ROLE_KEYS[Role.WEB]), self.at))

    def grow(self) -> None:
        grows = (self.lie, self.open, self.suspend, self.resolve, self.resolve, self.publish, self.veto, self.wait)
        self.dice.choice(grows)()

    def wait(self) -> None:
        self.at += self.dice.choice([0, 1, 60, 40_000])

    def lie(self) -> None:
        self.leaves.append((self.dice.randbytes(9), self.at))

    def open(self) -> None:
        self.cases.append(str(uuid.UUID(int=self.dice.getrandbits(128))))
        persons = {"user": ALICE, "requester": ALICE, "recipient": ALICE, "recipient_device": ALICE}
        self.say("recovery:case:open", self.cases[-1], q=bytes(32), policy=self.policies[-1].hash, **persons)

    def veto(self) -> None:
        named = {"statement": self.dice.randbytes(32)} if self.dice.random() < 0.8 else {}
        self.say("recovery:case:veto", self.dice.choice(self.cases), device=ALICE, **named)

    def suspend(self) -> None:
        self.say("tenants:person:suspend", str(uuid.UUID(bytes=self.dice.choice(OFFICERS).person)))

    def publish(self) -> None:
        terms = replace(self.policies[-1].policy.terms, delay_seconds=self.dice.randrange(100_000))
        made = cast.next_policy(self.policies[-1], terms=terms, held_in_force=self.dice.choice(self.policies).hash)
        signed = cast.signed_by(OFFICER_KEYS, made.to_payload(), Purpose.POLICY)
        try:
            one = verify_successor(signed, predecessor=self.policies[-1], history=self.policies)
        except HoldfastError:
            return
        self.policies.append(one)
        self.kept.rows[one.hash] = encode_many(signed)
        self.say("escrow:policy:publish", hash=one.hash)

    def resolve(self) -> None:
        index, newest = self.dice.randrange(len(self.leaves)), self.policies[-1]
        objects: list[tuple[Act, tuple[int | bytes, ...]]] = [
            (Act.ACKNOWLEDGE_LEAF, (index, leaf_hash(self.leaves[index][0]))),
            (Act.RETURN_OFFICER, (self.dice.choice(OFFICERS).person,)),
            (Act.WITHDRAW_VERSION, (newest.policy.version, newest.hash)),
        ]
        act, about = self.dice.choice(objects)
        under, nonce = self.dice.choice(self.policies).hash, self.dice.randbytes(16)
        said = cast.resolution(act, *about, policy_hash=under, nonce=nonce)
        said = replace(said, header=replace(said.header, issued_at=self.at))
        signed = cast.signed_by(OFFICER_KEYS, said.to_payload(), Purpose.RESOLUTION)
        self.kept.rows[signed[0].payload_hash] = encode_many(signed)
        self.say("escrow:resolution:pass", hash=signed[0].payload_hash)


def believed(log: Log, *, settles: Callable[[], bool]) -> dict[str, Any]:
    facts = Believing(cast.ACME, Trust(cast.ROOT.public, PIN, is_development=True), log.kept)
    for index, (leaf, at) in enumerate(log.leaves):
        facts.absorb(leaf, Place(index, Now(at, at).moment), ROLES)
        if settles():
            facts.settle(Now(at, at))
    end = Now(log.at, log.at)
    facts.settle(end)
    return {
        "wrong": facts.wrong,
        "suspended": facts.suspended,
        "withdrawn": facts.withdrawn,
        "pending": {resolution.nonce for resolution, _ in facts.pending},
        "stages": {case_id: (case.stage, case.extra_officers) for case_id, case in facts.cases.items()},
        "vetoes": facts.vetoes,
        "times": facts.history(end).in_force_from,
    }


@pytest.mark.parametrize("start", range(0, 300, 20))
def test_it_does_not_matter_when_a_process_looks(start: int) -> None:
    for seed in range(start, start + 20):
        log = Log(random.Random(seed))
        for _ in range(40):
            log.grow()
        often = random.Random(seed)
        assert believed(log, settles=lambda: often.random() < 0.5) == believed(log, settles=lambda: False), seed  # noqa: B023


@pytest.mark.parametrize("settles", [True, False])
def test_version_withdrawn_a_second_time_stays_withdrawn_from_the_first(settles: bool) -> None:
    log, first = Log(random.Random(0)), SIGNED_POLICY
    weaker = replace(first.policy.terms, delay_seconds=0)
    made = cast.next_policy(first, terms=weaker, held_in_force=first.hash)
    signed = cast.signed_by(OFFICER_KEYS, made.to_payload(), Purpose.POLICY)
    second = verify_successor(signed, predecessor=first, history=[first])
    log.kept.rows[second.hash] = encode_many(signed)
    log.say("escrow:policy:publish", hash=second.hash)
    waits = first.policy.terms.cooling_off_seconds
    assert waits > 60
    # Once while it waits, and once when it would be in force had nobody withdrawn it.
    for later, nonce in ((60, b"1"), (waits, b"2")):
        log.at += later
        said = cast.resolution(Act.WITHDRAW_VERSION, 2, second.hash, policy_hash=first.hash, nonce=nonce * 16)
        resolution = cast.signed_by(
            OFFICER_KEYS, replace(said, header=replace(said.header, issued_at=log.at)).to_payload(), Purpose.RESOLUTION
        )
        log.kept.rows[resolution[0].payload_hash] = encode_many(resolution)
        log.say("escrow:resolution:pass", hash=resolution[0].payload_hash)
    found = believed(log, settles=lambda: settles)
    assert found["withdrawn"][second.hash].wall == NOW + 60
    assert found["times"][1] > log.at + 10**9  # never
