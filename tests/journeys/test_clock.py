# SPDX-License-Identifier: Apache-2.0
"""A server's clock jumps two hours ahead for a moment and is set right: nobody is refused anything afterwards.

FAULTS W10a, on real processes: only the web process's clock, and the clocks of all, as when a machine's own is set.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import UUID

import httpx2
import pytest

from holdfast.client.escrow import archive, escrow
from holdfast.client.identity import device
from holdfast.client.maintenance import Done, Outcome, maintain
from holdfast.client.messages import messages, prekeys
from holdfast.client.officers import officer
from holdfast.client.profile import account as accounts
from holdfast.client.profile.account import Account
from holdfast.client.recovery import by_case
from holdfast.client.rotation import rotation
from holdfast.client.rotation.rotation import EVERYTHING
from holdfast.client.server.clock import Clock
from holdfast.client.vault import pairing, vault
from holdfast.core.base.secret import SecretBytes
from holdfast.core.identity.entries import Entry, Reason
from holdfast.core.signed.enrolment import EnrolmentCode
from tenants.sign_in import totp_code
from tests.cast.clock import ROLES, Clocks, build_clocks
from tests.cast.members import heard
from tests.cast.server import Installation, installation
from tests.journeys.messenger import PASSPHRASE
from tests.journeys.test_messages import CHEAP, code_of

AHEAD = 7200
# As long as every process needs to have acted by the wrong clock: the sequencer signs, the release process looks.
SEEN_SECONDS = 3.0


class House:
    """Alice with a laptop; carol, who issues the codes of further devices; and officers who sign in to the console."""

    def __init__(self, server: Installation, carol: Account, clocks: Clocks, home: Path) -> None:
        self.server, self.carol, self.clocks, self.home = server, carol, clocks, home
        self.alice = UUID(bytes=self.enrol("laptop", code_of(server, "alice")))
        with self.opened("laptop") as laptop:
            vault.save(laptop)
            archive.new_generation(laptop)

    @contextmanager
    def opened(self, name: str, *, ahead: int = 0) -> Iterator[Account]:
        """Open a profile as a process that has just begun: by this machine's own clock, right unless `ahead`."""
        with accounts.open_account(self.home / name, passphrase=PASSPHRASE) as account:
            account.connect(clock=Clock(lambda: time.time() + ahead))
            yield account

    def enrol(self, name: str, code: EnrolmentCode) -> bytes:
        account = accounts.create(
            self.home / name, tenant=code.tenant, user=code.person, passphrase=PASSPHRASE, cost=CHEAP
        )
        account.connect(self.server.url)
        if device.enrol(account, code, name=name, is_development=True).is_active:
            prekeys.publish(account)
        account.close()
        return code.person

    def second_device(self, name: str) -> UUID:
        """Give alice one more device, approved on the laptop."""
        self.enrol(name, EnrolmentCode.parse(device.issue_code(self.carol, self.alice).text))
        with self.opened(name) as one, self.opened("laptop") as laptop:
            words = device.device_words(device.fetch_statement(one, one.device.id))
            pairing.approve(laptop, UUID(bytes=one.device.id), words=words)
            return UUID(bytes=one.device.id)

    def sign_in(self, name: str, *, wrong: str = "", ahead: int = 0) -> bool:
        """Sign an officer in at the console in a fresh browser; tell whether the first page is shown."""
        rows = [line.split("\t") for line in (self.server.demo / "sign-in.txt").read_text().splitlines()]
        email, _, password, secret = next(row for row in rows if row[0].startswith(f"{name}@"))
        with httpx2.Client(base_url=self.server.url, follow_redirects=True) as browser:
            typed = {"tenant": "acme", "email": email, "password": wrong or password}
            page = _fill_in(browser, browser.get("/console/sign-in/"), **typed)
            if page.url.path.endswith("/code/"):
                page = _fill_in(
                    browser, page, code=totp_code(SecretBytes(base64.b32decode(secret)), at=time.time() + ahead)
                )
            assert page.status_code in (200, 401), page.text
            return page.url.path == "/console/"


def _fill_in(browser: httpx2.Client, page: httpx2.Response, **typed: str) -> httpx2.Response:
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
    assert token is not None
    data = {**typed, "csrfmiddlewaretoken": token[1]}
    return browser.post(str(page.url), data=data, headers={"referer": str(page.url)})


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    clocks = build_clocks(tmp_path_factory.mktemp("clocks"))
    with ExitStack() as stack:
        server = stack.enter_context(installation(LD_PRELOAD=str(clocks.library), CLOCK_OFFSETS=str(clocks.offsets)))
        carol = stack.enter_context(server.officer("carol"))
        made = House(server, carol, clocks, tmp_path_factory.mktemp("profiles"))
        # The ceremony has used the codes of its moment, which may not be over yet.
        used_at = (server.demo / "sign-in.txt").stat().st_mtime
        time.sleep(max(0.0, used_at - used_at % 30 + 30 - time.time()))
        yield made


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("roles", "name"), [(("web",), "carol"), (ROLES, "dan")], ids=["web", "all"])
def test_clock_that_jumped_and_was_set_right_has_cost_nobody_anything(
    house: House, roles: tuple[str, ...], name: str
) -> None:
    lost = house.second_device(f"phone that {name} hears of")
    with house.clocks.ahead(AHEAD, *roles):
        with house.opened("laptop") as laptop:
            rotation.rotate(laptop, EVERYTHING, reason=Reason.USER_REQUEST)
            assert laptop.api.clock.offset > AHEAD - 60, "the server's clock is ahead, and said so"
            newest = Entry.parse(laptop.state.chain[-1]).header.issued_at
            assert newest < time.time() + 60, "what is signed is dated by the device's own"
        assert house.sign_in(name, ahead=AHEAD)
        assert not house.sign_in(name, wrong="correct horse")
    with house.opened("laptop") as laptop:
        rotation.rotate(laptop, [], reason=Reason.DEVICE_LOST, revoke=[lost])
        assert lost.bytes not in laptop.chain.devices
    assert house.sign_in(name)
    assert not house.sign_in(name), "a code counts once"


@pytest.mark.timeout(300)
def test_case_opened_after_a_jump_is_released_as_always(house: House, officers: list[Account], tmp_path: Path) -> None:
    with house.opened("laptop") as laptop:
        (tmp_path / "letter").write_bytes(b"dear bob")
        archive.encrypt_file(laptop, tmp_path / "letter", tmp_path / "sealed")
        escrow.consent(laptop)
        escrow.deposit_missing(laptop)
        generation = laptop.chain.generations[-1].generation
    with house.clocks.ahead(AHEAD, *ROLES):
        time.sleep(SEEN_SECONDS)
    house.enrol("tablet", EnrolmentCode.parse(device.issue_code(house.carol, house.alice).text))
    with house.opened("tablet") as tablet:
        opened = by_case.open_case(tablet, reason="Both stolen.", purpose="device-loss", subject=house.alice.bytes)
        for account in officers:
            view = officer.see(account, opened.case_id)
            officer.approve(account, view, heard=heard(account, opened.words), identity_check="I know the voice.")
        collected = by_case.collect(tablet, wait_seconds=60)
        assert generation in collected.generations
        assert not collected.blamed


def clock_lines(report: list[Done]) -> list[str]:
    return [one.said for one in report if one.item == "clock" and one.outcome is Outcome.NEEDS_YOU]


def private_halves(account: Account) -> set[tuple[str, bytes]]:
    kinds = ("signed-pre-key", "one-time-pre-key", "session", "had", "heard", "retired-key")
    return {(kind, key) for kind in kinds for key in account.store.keys(kind)}


@pytest.mark.timeout(300)
def test_devices_clock_that_was_wrong_has_cost_nobody_anything(house: House) -> None:
    messages.send(house.carol, house.alice.bytes, b"before")
    with house.opened("laptop") as laptop:
        # With an entry of the chain: a head from a test before, when the log's clock was ahead, gives way to a new one.
        rotation.rotate(laptop, {rotation.IDENTITY, rotation.VAULT}, reason=Reason.USER_REQUEST)
        messages.receive(laptop)
        messages.send(laptop, house.carol.user, b"hello carol")
        kept = private_halves(laptop)
    messages.send(house.carol, house.alice.bytes, b"under way")
    for days in (1 / 12, 2, 8, 61, 68, 36_500, -3_650):
        with house.opened("laptop", ahead=int(days * 86_400)) as laptop:
            (said,) = clock_lines(maintain(laptop))
            assert said.startswith("This machine's clock is ")
            assert kept <= private_halves(laptop)
    with house.opened("laptop") as laptop:
        report = maintain(laptop)
        assert clock_lines(report) == []
        assert laptop.clock.confirmed() is not None, "the log signs anew for whoever asks"
        assert [one for one in report if one.outcome is Outcome.FAILED] == []
        assert [one.body for one in messages.receive(laptop)] == [b"before", b"under way"]
        assert messages.send(laptop, house.carol.user, b"after").is_sent
    received = [one.body for one in messages.receive(house.carol)]
    assert received[-2:] == [b"hello carol", b"after"]


@pytest.mark.timeout(300)
def test_servers_clock_that_is_ahead_destroys_nothing_on_a_device(house: House) -> None:
    with house.clocks.ahead(AHEAD, *ROLES):
        time.sleep(SEEN_SECONDS)
        with house.opened("laptop") as laptop:
            kept = private_halves(laptop)
            (said,) = clock_lines(maintain(laptop))
            assert "behind the server's" in said
            # By a head of the moment before, if there was one; never by those that are dated ahead.
            assert abs((laptop.clock.confirmed() or time.time()) - time.time()) < 60
            assert kept <= private_halves(laptop)
    with house.opened("laptop") as laptop:
        # A head that was dated ahead is followed by one of today as soon as there is news.
        rotation.rotate(laptop, {rotation.IDENTITY}, reason=Reason.USER_REQUEST)
        assert clock_lines(maintain(laptop)) == []
        assert laptop.clock.confirmed() is not None


@pytest.fixture
def officers(house: House) -> Iterator[list[Account]]:
    """Dan and erin, at the desks from which they founded the tenant."""
    with ExitStack() as stack:
        yield [stack.enter_context(house.server.officer(name)) for name in ("dan", "erin")]
