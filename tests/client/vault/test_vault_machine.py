# SPDX-License-Identifier: Apache-2.0
"""Two devices that write one vault in any order, against the simplest model: nothing that either ever held is lost."""

from __future__ import annotations

import functools

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from holdfast.client.escrow import archive
from holdfast.client.identity import chains, contacts, device
from holdfast.client.messages import letters
from holdfast.client.profile.account import Account
from holdfast.client.vault import pairing, vault
from holdfast.client.vault.vault_contents import HELD_SHARE
from holdfast.core.base.encoding import encode
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.identity import chain_author
from holdfast.core.identity.chain import ChainState
from holdfast.core.identity.entries import Entry, Reason
from holdfast.core.vault.blob import new_vault_key
from tests.cast.lying_server import LyingServer, Tenant
from tests.cast.members import ALICE, Members

PEOPLE = (b"bob-------------", b"carol-----------", b"dan-------------")
WHICH = st.integers(0, 1)


@functools.cache
def founded() -> Tenant:
    return Tenant()


class TwoWriters(RuleBasedStateMachine):
    """alice's laptop and phone, and what both together must know in the end."""

    @initialize()
    def begin(self) -> None:
        self.world = Members(LyingServer(founded()))
        laptop, phone = self.world.enrolled(ALICE), self.world.profile(ALICE)
        vault.save(laptop)
        device.enrol(phone, self.world.server.code(ALICE), name="phone")
        pairing.accept(laptop, pairing.request(phone).text())
        pairing.complete(phone)
        self.devices = (laptop, phone)
        self.others = {one: self.world.enrolled(one) for one in PEOPLE}
        self.keys: dict[int, bytes] = {}
        self.pins: dict[bytes, int] = {}
        self.rows: dict[bytes, tuple[int, bytes]] = {}

    def caught_up(self, which: int) -> Account:
        account = self.devices[which]
        letters.fetch(account)
        pairing.catch_up(account)
        return account

    @rule(which=WHICH)
    def make_an_archive_key(self, which: int) -> None:
        made = archive.new_generation(self.caught_up(which))
        self.keys[made.number] = made.key.reveal()

    @rule(which=WHICH, person=st.sampled_from(PEOPLE))
    def meet(self, which: int, person: bytes) -> None:
        account = self.devices[which]
        contacts.refresh(account, person)
        self.pins[person] = max(self.pins.get(person, 0), len(account.state.contacts[person].entries))

    @rule(person=st.sampled_from(PEOPLE))
    def grow(self, person: bytes) -> None:
        archive.new_generation(self.others[person])

    @rule(which=WHICH, key=st.binary(min_size=1, max_size=1), at=st.integers(1, 3), value=st.binary(max_size=2))
    def keep_a_row(self, which: int, key: bytes, at: int, value: bytes) -> None:
        known = self.rows.get(key)
        if known is None or at > known[0]:
            self.rows[key] = (at, value)
            self.devices[which].store.put(HELD_SHARE, key, SecretBytes(encode([at, value])))

    @rule(which=WHICH)
    def write(self, which: int) -> None:
        vault.save(self.caught_up(which))

    @rule(which=WHICH)
    def change_the_vault_key(self, which: int) -> None:
        account = self.caught_up(which)
        vault.begin_epoch(account, key=new_vault_key(), epoch=account.state.vault.epoch + 1)
        pairing.sync(account)

    @rule(which=WHICH, is_written_ahead=st.booleans())
    def change_the_identity_key(self, which: int, is_written_ahead: bool) -> None:
        account, new = self.caught_up(which), SigningKey.generate()
        if is_written_ahead:
            vault.save(account, next_identity=new.seed())

        def write(state: ChainState) -> list[Entry]:
            if state.aik == new.public:
                return []
            return [chain_author.rotate_key(state, by=account.author(state), new_aik=new, reason=Reason.SCHEDULE)]

        chains.append(account, write)
        account.state.identity_seed = new.seed()
        account.save()
        if not is_written_ahead:
            vault.save(account)

    def teardown(self) -> None:
        if not hasattr(self, "devices"):
            return
        for which in (0, 1, 0, 1):
            vault.save(self.caught_up(which))
        for account in self.devices:
            vault.load(account)
            state = account.state
            assert account.identity_key.public == account.chain.aik
            assert {one.number: one.key.reveal() for one in state.generations} == self.keys
            assert {person: len(state.contacts[person].entries) for person in self.pins} == self.pins
            for key, (at, value) in self.rows.items():
                assert account.store.get(HELD_SHARE, key) == SecretBytes(encode([at, value]))
        assert self.devices[0].state.vault == self.devices[1].state.vault


TestTwoWriters = TwoWriters.TestCase
TestTwoWriters.settings = settings(max_examples=12, stateful_step_count=12, deadline=None)
