# SPDX-License-Identifier: Apache-2.0
"""The cast of the client's tests, each with a profile in memory, against a server that a test makes lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import UUID

from holdfast.client.escrow import archive, escrow
from holdfast.client.identity import chains, device
from holdfast.client.messages import prekeys
from holdfast.client.officers import hearing, officer
from holdfast.client.officers.officer import CaseView
from holdfast.client.profile import account as accounts
from holdfast.client.profile.account import Account
from holdfast.client.profile.state import OfficerKeys, State
from holdfast.client.profile.store import MemoryStore
from holdfast.client.recovery import by_case
from holdfast.client.recovery.by_case import OpenedCase
from holdfast.client.server.clock import Clock
from holdfast.core.base.secret import SecretBytes
from holdfast.core.crypto.suites import DEFAULT_SUITE, Suite
from holdfast.core.vault.password_door import Argon2Cost
from tests.cast.lying_server import NOW, TENANT, URL, LyingServer
from tests.cast.officers import Founder

ALICE, BOB, MALLORY = b"alice-----------", b"bob-------------", b"mallory---------"
PASSWORD = SecretBytes(b"the password of a vault")
CHEAP = Argon2Cost(memory_kib=19 * 1024, passes=2, lanes=1)


@dataclass
class Members:
    """One tenant, its server, and people who enrol when a test needs them. `now` is everybody's clock."""

    server: LyingServer
    now: int = NOW

    def profile(self, user: bytes, founder: Founder | None = None) -> Account:
        account = accounts.Account(MemoryStore(tenant=TENANT, user=user), State())
        self.server.clock = lambda: self.now
        account.connect(URL, transport=self.server.transport(), clock=Clock(lambda: self.now))
        if founder:
            account.state.officer = OfficerKeys(founder.signing_key.seed(), founder.sealing_key.seed())
        return account

    def enrolled(self, user: bytes, founder: Founder | None = None, suite: Suite = DEFAULT_SUITE) -> Account:
        account = self.profile(user, founder)
        device.enrol(account, self.server.code(user), name="laptop", suite=suite)
        return account

    def published(self, user: bytes, suite: Suite = DEFAULT_SUITE) -> Account:
        account = self.enrolled(user, suite=suite)
        prekeys.publish(account)
        return account

    def another(self, first: Account, name: str = "phone") -> Account:
        """Return one more device of a person, approved by the first one, with pre-keys of its own."""
        account = self.profile(first.user)
        done = device.enrol(account, self.server.code(first.user), name=name, suite=first.suite)
        device.approve(first, done.device, words=done.words)
        chains.refresh(account)
        prekeys.publish(account)
        return account

    def copied(self, account: Account) -> MemoryStore:
        """Return a copy of a profile in memory, as a backup of its file is one."""
        store, own = MemoryStore(tenant=account.tenant, user=account.user), account.store
        assert isinstance(own, MemoryStore)
        store._rows = {kind: dict(rows) for kind, rows in own._rows.items()}
        store._places = own._places
        return store

    def put_back(self, copy: MemoryStore) -> Account:
        """Return the account as a new process finds it in a copy of its profile."""
        account = accounts.open_store(copy)
        account.connect(URL, transport=self.server.transport(), clock=Clock(lambda: self.now))
        return account

    def depositor(self, tmp_path: Path) -> Account:
        """Return alice with a file encrypted under an archive key that is in escrow."""
        account = self.enrolled(ALICE)
        (tmp_path / "letter").write_bytes(b"dear bob\n" * 9000)
        archive.encrypt_file(account, tmp_path / "letter", tmp_path / "letter.holdfast")
        escrow.consent(account)
        escrow.deposit_missing(account)
        return account

    def case(self) -> tuple[Account, OpenedCase]:
        """Return alice's new device with a case open."""
        tablet = self.enrolled(ALICE)
        opened = by_case.open_case(tablet, reason="lost both", purpose="recovery", subject=ALICE)
        return tablet, opened

    def disclosing(self, tmp_path: Path) -> tuple[Account, Callable[..., OpenedCase], OpenedCase]:
        """Return bob, what has him ask for alice’s archive, and his case: approved, with an end in nine days."""
        self.depositor(tmp_path)
        bob = self.published(BOB)
        ask = partial(by_case.open_case, bob, reason="Handover.", purpose="recovery", subject=ALICE)
        opened = ask(ends_at=self.now + 9 * 86_400)
        for index in (1, 3):
            self.approve(index, opened)
        return bob, ask, opened

    def seen(self, index: int, case_id: UUID) -> tuple[Account, CaseView]:
        """Return an officer, by number, with their view of a case."""
        founder = self.server.tenant.officers[index - 1]
        account = self.enrolled(founder.person, founder)
        return account, officer.see(account, case_id)

    def approve(self, index: int, opened: OpenedCase) -> None:
        account, view = self.seen(index, opened.case_id)
        officer.approve(account, view, heard=heard(account, opened.words), identity_check="I know the voice")


def heard(account: Account, words: tuple[str, ...], *, read: tuple[str, ...] = ()) -> dict[int, str]:
    """What an officer types who is asked for a key's words, and to whom the person reads these, or those of `read`."""
    return {place: (read or words)[place - 1] for place in hearing.places(account, words)}
