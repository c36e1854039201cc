# SPDX-License-Identifier: Apache-2.0
"""The chain against a model of a few sets and numbers: an owner, a thief with every key the owner has lost, and time.

Implements FAULTS S12 and S15 as a state machine. The model decides by itself what must be accepted; no rule asks the
code first, so that a rule dropped from the code is found.
"""

from __future__ import annotations

from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from holdfast.core.base.errors import Forked, HoldfastError, InvalidSignature, Malformed, Untrusted
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.identity import chain_author
from holdfast.core.identity.chain import extend, state_at, verify_chain
from holdfast.core.identity.chain_author import Author
from holdfast.core.identity.entries import (
    AddDevice,
    ArchiveGeneration,
    Body,
    Entry,
    Reason,
    RevokeDevice,
    RotateKey,
    SetRecoveryKey,
)
from holdfast.core.signed.payloads import Header
from tests.cast.statements import ACME, ALICE, DAY, NOW, hash_of, id_of

WEEK: Final = 7 * DAY
TOLERANCE: Final = 3_900
KEYS: Final = [SigningKey.generate() for _ in range(40)]
DEVICES: Final = [id_of(f"device {number}") for number in range(6)]
devices = st.sampled_from(DEVICES)


class Chain(RuleBasedStateMachine):
    """What the owner has done, in plain values; `entries` is what a verifier is shown."""

    @initialize(with_phrase=st.booleans())
    def begin(self, with_phrase: bool) -> None:
        self.now = NOW
        self.latest = NOW
        self.unused = list(KEYS)
        self.aik = self.unused.pop()
        self.recovery = self.unused.pop() if with_phrase else None
        self.announced: tuple[SigningKey, int] | None = None
        self.lost: list[SigningKey] = []
        self.mine = {DEVICES[0]}
        self.gone: set[bytes] = set()
        self.generations: list[tuple[int, int]] = []
        by = Author(DEVICES[0], self.now, self.aik)
        recovery = self.recovery.public if self.recovery else None
        genesis = chain_author.genesis(tenant=ACME, user=ALICE, by=by, recovery_key=recovery)
        self.entries = [genesis]
        self.state = verify_chain(self.entries, tenant=ACME, user=ALICE)
        self.take([(AddDevice(DEVICES[0], hash_of(str(DEVICES[0]))), [self.aik])], is_right=True)

    # What every rule does

    def take(self, bodies: list[tuple[Body, list[SigningKey]]], *, is_right: bool, at: int | None = None) -> None:
        """Offer entries for one upload on the newest head, and hold the verdict to the model's."""
        header = Header(ACME, ALICE, DEVICES[0], self.now if at is None else at)
        made: list[Entry] = []
        seq, prev = self.state.seq, self.state.head
        for body, keys in bodies:
            seq += 1
            made.append(Entry.make(header, seq, prev, body, keys))
            prev = made[-1].hash
        self.judge(made, is_right=is_right)

    def judge(self, made: list[Entry], *, is_right: bool) -> None:
        try:
            state = extend(self.state, *made)
        except HoldfastError:
            assert not is_right
            return
        assert is_right
        self.entries += made
        self.state = state
        self.latest = max(self.latest, *(entry.header.issued_at for entry in made))

    @property
    def is_timely(self) -> bool:
        return self.now >= self.latest - TOLERANCE

    # Time

    @rule(seconds=st.sampled_from([0, 60, TOLERANCE, TOLERANCE + 1, DAY, WEEK - 1, WEEK]))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(seconds=st.sampled_from([60, TOLERANCE, TOLERANCE + 1, WEEK]))
    def have_a_wrong_clock(self, seconds: int) -> None:
        self.now -= seconds

    # The owner

    @rule(device=devices)
    def add(self, device: bytes) -> None:
        fresh = device not in self.mine | self.gone
        self.take([(AddDevice(device, hash_of(str(device))), [self.aik])], is_right=fresh and self.is_timely)
        if fresh and self.is_timely:
            self.mine.add(device)

    @rule(gone=st.sets(devices, min_size=1, max_size=3), together=st.booleans())
    def revoke(self, gone: set[bytes], together: bool) -> None:
        new = self.unused[-1]
        bodies: list[tuple[Body, list[SigningKey]]] = [
            (RevokeDevice(one, Reason.DEVICE_LOST, self.now), [self.aik]) for one in sorted(gone)
        ]
        if together:
            bodies.append((RotateKey(new.public, Reason.DEVICE_LOST), [self.aik, new]))
        right = together and gone <= self.mine and self.is_timely
        self.take(bodies, is_right=right)
        if right:
            self.mine -= gone
            self.gone |= gone
            self.announced = None
            self.change_over()

    @rule(by_phrase=st.booleans())
    def rotate(self, by_phrase: bool) -> None:
        new = self.unused[-1]
        old = self.recovery if by_phrase else self.aik
        if old is None:
            return
        self.take([(RotateKey(new.public, Reason.SCHEDULE), [old, new])], is_right=self.is_timely)
        if self.is_timely:
            if by_phrase:
                self.announced = None
            self.change_over()

    def change_over(self) -> None:
        self.lost.append(self.aik)
        self.aik = self.unused.pop()

    @rule(number=st.integers(0, 6), not_before=st.sampled_from([NOW - DAY, NOW, NOW + DAY]))
    def announce_generation(self, number: int, not_before: int) -> None:
        newest = self.generations[-1] if self.generations else (-1, 0)
        right = self.is_timely and number > newest[0] and not_before >= newest[1]
        self.take([(ArchiveGeneration(number, not_before, hash_of("ak")), [self.aik])], is_right=right)
        if right:
            self.generations.append((number, not_before))

    @rule()
    def two_devices_announce_one_generation(self) -> None:
        """Both on the same head: the first one accepted wins, and the other's is in a place that is taken."""
        if not self.is_timely:
            return
        number = self.generations[-1][0] + 1 if self.generations else 1
        not_before = max([NOW, *(at for _, at in self.generations[-1:])])
        header = Header(ACME, ALICE, DEVICES[0], self.now)
        first, second = (
            Entry.make(
                header,
                self.state.seq + 1,
                self.state.head,
                ArchiveGeneration(number, not_before, hash_of(f"ak of {name}")),
                [self.aik],
            )
            for name in ("laptop", "phone")
        )
        self.judge([first], is_right=True)
        self.generations.append((number, not_before))
        self.require_fork(second)

    # The recovery key, by the owner with the phrase, or by whoever has the identity key alone

    @rule(which=st.sampled_from(["announced", "current", "new"]), with_phrase=st.booleans())
    def set_recovery_key(self, which: str, with_phrase: bool) -> None:
        key = {
            "announced": self.announced[0] if self.announced else None,
            "current": self.recovery,
            "new": self.unused[-1],
        }[which]
        if key is None:
            return
        keys = [self.aik, *([self.recovery] if with_phrase and self.recovery else [])]
        waited = self.announced is not None and self.now >= self.announced[1] + WEEK
        at_once = self.recovery is None or (with_phrase and self.recovery is not None)
        early = not at_once and which == "announced" and not waited
        right = self.is_timely and not early
        self.take([(SetRecoveryKey(key.public), keys)], is_right=right)
        if not right:
            return
        if which == "new":
            self.unused.pop()
        if at_once or which == "current" or (waited and which == "announced"):
            self.recovery = key
            self.announced = None
        else:
            self.announced = (key, self.now)

    # The thief

    @precondition(lambda self: self.lost)
    @rule(data=st.data())
    def thief_extends_the_chain(self, data: st.DataObject) -> None:
        """With a key that was rotated away, on the newest head: a fork, and said to be one."""
        key = data.draw(st.sampled_from(self.lost))
        header = Header(ACME, ALICE, DEVICES[0], self.latest)
        new = self.unused[-1]
        forgeries: list[tuple[Body, list[SigningKey]]] = [
            (AddDevice(id_of("thief"), hash_of("thief")), [key]),
            (RotateKey(new.public, Reason.SCHEDULE), [key, new]),
            (SetRecoveryKey(new.public), [key]),
        ]
        body, keys = data.draw(st.sampled_from(forgeries))
        entry = Entry.make(header, self.state.seq + 1, self.state.head, body, keys)
        self.require_fork(entry)

    @rule(data=st.data())
    def thief_rewrites_the_past(self, data: st.DataObject) -> None:
        """With any key of the chain, in a place that is taken: a fork, wherever it is."""
        seq = data.draw(st.integers(1, self.state.seq))
        key = data.draw(st.sampled_from([self.aik, *self.lost]))
        header = Header(ACME, ALICE, DEVICES[0], self.latest)
        body = AddDevice(id_of("thief"), hash_of("thief"))
        self.require_fork(Entry.make(header, seq, self.entries[seq - 1].hash, body, [key]))

    def require_fork(self, entry: Entry) -> None:
        try:
            extend(self.state, entry)
        except Forked:
            return
        raise AssertionError("a fork was not seen")

    @rule()
    def stranger_signs(self) -> None:
        key = self.unused[0]
        self.take([(AddDevice(id_of("stranger"), hash_of("stranger")), [key])], is_right=False)

    @rule(data=st.data())
    def verifier_is_shown_less(self, data: st.DataObject) -> None:
        """From every pin, what is shorter is refused, and what leaves an entry out as well."""
        cut = data.draw(st.integers(0, len(self.entries) - 1))
        for shown in (self.entries[:cut], self.entries[:cut] + self.entries[cut + 1 :]):
            try:
                verify_chain(shown, tenant=ACME, user=ALICE, pinned=self.state.pin)
            except (Untrusted, Malformed, InvalidSignature):
                continue
            raise AssertionError("a chain with a piece missing was believed")

    # What always holds

    @invariant()
    def state_is_the_models(self) -> None:
        state = self.state
        assert state.aik == self.aik.public
        assert state.recovery_key == (self.recovery.public if self.recovery else None)
        announced = (state.announced.key, state.announced.at) if state.announced else None
        assert announced == ((self.announced[0].public, self.announced[1]) if self.announced else None)
        assert state.devices.keys() == self.mine
        assert state.revoked == self.gone
        assert [key.public for key in self.lost] == list(state.former_aiks)
        assert state.time == self.latest
        assert [(one.generation, one.not_before) for one in state.generations] == self.generations

    @invariant()
    def every_way_of_reading_gives_one_state(self) -> None:
        wire = [Entry.parse(entry.encode()) for entry in self.entries[-3:]]
        whole = verify_chain([*self.entries[:-3], *wire], tenant=ACME, user=ALICE)
        assert whole == self.state
        assert state_at(self.entries, self.state.head, tenant=ACME, user=ALICE) == whole


TestChain = Chain.TestCase
TestChain.settings = settings(max_examples=80, stateful_step_count=25, deadline=None)
