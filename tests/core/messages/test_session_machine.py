# SPDX-License-Identifier: Apache-2.0
"""Two ends and a hostile network, driven at random beside a model that knows only which messages were seen when."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from holdfast.core.base.errors import HoldfastError, UnwrapFailed
from holdfast.core.crypto.suites import Suite
from holdfast.core.messages.session import Session, read_message
from tests.cast.devices import Device
from tests.cast.statements import DAY, NOW

OLD_CHAINS = 5
LIFE = 30 * DAY
ALICE = {suite: Device("alice", suite) for suite in (Suite.CLASSICAL, Suite.HYBRID_P256)}
BOB = {suite: Device("bob", suite) for suite in (Suite.CLASSICAL, Suite.HYBRID_P256)}


@dataclass
class Message:
    sender: int
    chain: int
    number: int
    text: bytes
    wire: bytes


@dataclass
class End:
    """What the model knows of one end: where its chains stand, which numbers of which chain it misses, since when."""

    sending: int = 0
    lengths: list[int] = field(default_factory=lambda: [0])
    receiving: int = -1
    next_number: int = 0
    missing: dict[int, dict[int, int]] = field(default_factory=dict)

    def take(self, message: Message, sender: End, now: int) -> bool:
        """Say whether a message opens, and remember that it did."""
        self.missing = {
            chain: kept
            for chain, numbers in self.missing.items()
            if (kept := {number: at for number, at in numbers.items() if now < at + LIFE})
        }
        if message.chain > self.receiving:
            assert message.chain == self.receiving + 1
            if self.receiving >= 0:
                self._miss(self.receiving, range(self.next_number, sender.lengths[self.receiving]), now)
            self.receiving, self.next_number = message.chain, 0
            self._miss(message.chain, range(message.number), now)
            for chain in sorted(set(self.missing) - {message.chain})[:-OLD_CHAINS]:
                del self.missing[chain]
            self.next_number = message.number + 1
            # A new chain of the peer's is answered by a new one of one's own.
            self.sending += 1
            self.lengths.append(0)
            return True
        if message.chain == self.receiving and message.number >= self.next_number:
            self._miss(message.chain, range(self.next_number, message.number), now)
            self.next_number = message.number + 1
            return True
        numbers = self.missing.get(message.chain, {})
        opens = numbers.pop(message.number, None) is not None
        if not numbers:
            self.missing.pop(message.chain, None)
        return opens

    def _miss(self, chain: int, numbers: range, now: int) -> None:
        if numbers:
            self.missing.setdefault(chain, {}).update(dict.fromkeys(numbers, now))


class TwoEnds(RuleBasedStateMachine):
    """Reordering, loss, duplication, junk, restarts and the passing of time."""

    @initialize(suite=st.sampled_from(sorted(ALICE)), one_time=st.sampled_from([0, None]), lost=st.integers(0, 3))
    def begin(self, suite: Suite, one_time: int | None, lost: int) -> None:
        self.now = NOW
        hers = ALICE[suite].initiate(BOB[suite], one_time=one_time)
        self.model = (End(lengths=[0]), End(sending=-1, lengths=[]))
        self.wires: list[Message] = []
        self.sessions: list[Session] = [hers]
        for _ in range(lost + 1):
            self.send(0)
        first = self.wires[-1]
        his, text = BOB[suite].respond(first.wire, ALICE[suite], now=self.now)
        assert text == first.text
        assert self.model[1].take(first, self.model[0], self.now)
        self.sessions.append(his)

    def _one(self, data: st.DataObject, recent: bool) -> Message:
        return self.wires[data.draw(st.integers(max(0, len(self.wires) - 8) if recent else 0, len(self.wires) - 1))]

    @rule(who=st.integers(0, 1))
    def send(self, who: int) -> None:
        end = self.model[who]
        text = b"%d: %d.%d" % (who, end.sending, end.lengths[end.sending])
        number = end.lengths[end.sending]
        end.lengths[end.sending] += 1
        self.wires.append(Message(who, end.sending, number, text, self.sessions[who].encrypt(text)))

    @rule(data=st.data(), recent=st.booleans(), is_parsed=st.booleans())
    def deliver(self, data: st.DataObject, recent: bool, is_parsed: bool) -> None:
        """Hand over any message there ever was: late, early, again."""
        message = self._one(data, recent)
        to = 1 - message.sender
        session = self.sessions[to]
        before = session.received
        wire = read_message(message.wire) if is_parsed else message.wire
        if self.model[to].take(message, self.model[message.sender], self.now):
            assert session.decrypt(wire, now=self.now) == message.text
            assert session.received == before + 1
        else:
            with pytest.raises(UnwrapFailed):
                session.decrypt(wire, now=self.now)
            assert session.received == before

    @rule(data=st.data(), mask=st.integers(1, 255))
    def deliver_junk(self, data: st.DataObject, mask: int) -> None:
        message = self._one(data, recent=True)
        at = data.draw(st.integers(0, len(message.wire) - 1))
        junk = message.wire[:at] + bytes((message.wire[at] ^ mask,)) + message.wire[at + 1 :]
        session = self.sessions[1 - message.sender]
        session.expire(self.now)
        before = session.to_secret(), session.skipped_to_secret()
        with pytest.raises(HoldfastError):
            session.decrypt(junk, now=self.now)
        assert (session.to_secret(), session.skipped_to_secret()) == before

    @rule(data=st.data())
    def reflect(self, data: st.DataObject) -> None:
        message = self._one(data, recent=True)
        session = self.sessions[message.sender]
        with pytest.raises(HoldfastError):
            session.decrypt(message.wire, now=self.now)

    @rule(who=st.integers(0, 1))
    def restart(self, who: int) -> None:
        before = self.sessions[who]
        self.sessions[who] = Session.from_secret(before.to_secret())
        self.sessions[who].restore_skipped(before.skipped_to_secret())

    @precondition(lambda self: len(self.wires) > 3)
    @rule(days=st.sampled_from([1, 10, 31]))
    def wait(self, days: int) -> None:
        self.now += days * DAY

    @invariant()
    def both_agree_on_what_is_missing(self) -> None:
        if len(getattr(self, "sessions", [])) == 2:
            for session, end in zip(self.sessions, self.model, strict=True):
                session.expire(self.now)
                live = sum(self.now < at + LIFE for numbers in end.missing.values() for at in numbers.values())
                assert session._ratchet.skipped.count == live
                assert session.transcript == self.sessions[0].transcript


TestTwoEnds = TwoEnds.TestCase
TestTwoEnds.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
