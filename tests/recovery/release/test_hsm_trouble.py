# SPDX-License-Identifier: Apache-2.0
"""An HSM that is away, or fails after it has unwrapped: few unwraps, few entries, and nothing asked for twice.

ESCROW "Release process"; FAULTS H1, H6. Unwraps are counted outside the application, on a real token.
"""

from __future__ import annotations

import secrets
import shutil
import signal
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from holdfast.core.base.errors import Untrusted
from holdfast.core.escrow.deposit import Deposit
from hsm import registry
from hsm.errors import HsmError, HsmPinRejected, HsmTokenDamaged
from recovery.models import Case, Release
from recovery.release.directory import Intent, only_process
from recovery.release.process import LONGEST_PAUSE, RETRY_HSM, ReleaseProcess, hsm_pause
from tests.cast.founded import Hsm
from tests.cast.postgres import ON_POSTGRES
from tests.cast.server import wait_for
from tests.cast.world import OpenCase, World, as_superuser
from tests.recovery.release.test_believed import settled
from tests.recovery.release.test_kills import run

pytestmark = pytest.mark.django_db(transaction=True)

# A wrap is two calls: the first asks how long the answer is.
AFTER_ONE = "skip=2"
BEGIN, DEFER = "recovery:release:begin", "recovery:release:defer"


def with_deposits(world: World, count: int) -> tuple[OpenCase, list[Deposit]]:
    """An approved case about several deposits."""
    deposits = [world.deposit() for _ in range(count)]
    return approved(world, *deposits), deposits


def approved(world: World, *deposits: Deposit) -> OpenCase:
    case = world.opened(*deposits)
    for name in ("carol", "dan"):
        assert world.approve(case, name, *deposits).status_code == 201
    world.sequence()
    return case


def again(world: World, case: OpenCase, process: ReleaseProcess) -> timedelta:
    """Have the case tried as soon as its pause is over, and return how long the next pause is."""
    Case.unscoped.filter(id=case.id).update(release_at=timezone.now() - timedelta(seconds=1))
    world.sequence()
    settled(process)
    at = world.row(case).release_at
    assert at is not None
    return at - timezone.now()


def kept(world: World) -> int:
    return len(world.release.cases_with_halves())


def test_pauses_of_a_day_are_few_and_bounded() -> None:
    assert [hsm_pause(failures) for failures in (0, 1)] == [RETRY_HSM, RETRY_HSM]
    tries, at = 0, timedelta()
    while at < timedelta(days=1):
        tries += 1
        assert RETRY_HSM <= hsm_pause(tries) <= LONGEST_PAUSE
        at += hsm_pause(tries)
    assert tries < 160
    assert hsm_pause(10**6) == LONGEST_PAUSE


def test_hsm_that_fails_after_its_unwrap_is_asked_ever_less_often_and_said_once(world: World, hsm: Hsm) -> None:
    case, deposits = with_deposits(world, 1)
    hsm.interposer.rules("C_WrapKey rv 0x32")
    with world.process() as process:
        pauses = [again(world, case, process) for _ in range(6)]
        assert hsm.unwraps() == 6
        for pause, before in zip(pauses[1:], pauses, strict=False):
            assert pause > 1.5 * before
        row = world.row(case)
        assert (row.state, row.why) == ("waiting", "hsm-away")
        assert row.why_since is not None
        assert row.why_since < timezone.now()
        # One trouble: begun and put off once, however often it is tried.
        assert [tag for tag in world.tags(case) if tag in (BEGIN, DEFER)] == [BEGIN, DEFER]
        hsm.interposer.rules()
        again_at = world.row(case).release_at
        assert again_at is not None
        Case.unscoped.filter(id=case.id).update(release_at=timezone.now() - timedelta(seconds=1))
        world.sequence()
        settled(process)
    assert (world.state(case), hsm.unwraps(), Release.unscoped.count()) == ("released", 7, 1)
    assert world.tags(case).count("recovery:release:finish") == 1
    answer = world.collect(case).json()
    assert world.combine(case, deposits[0], answer) == world.archive_keys[deposits[0].header.deposit_id]


def test_half_that_is_held_is_not_asked_for_again_and_is_destroyed_at_the_end(world: World, hsm: Hsm) -> None:
    case, deposits = with_deposits(world, 3)
    hsm.interposer.rules(f"C_WrapKey rv 0x32 {AFTER_ONE}")
    with world.process() as process:
        again(world, case, process)
        assert (world.state(case), hsm.unwraps(), kept(world)) == ("waiting", 2, 1)
        again(world, case, process)
        assert hsm.unwraps() == 3
        hsm.interposer.rules()
        # Another process, after a restart.
    world.sequence()
    Case.unscoped.filter(id=case.id).update(release_at=timezone.now() - timedelta(seconds=1))
    world.tick()
    assert (world.state(case), hsm.unwraps(), kept(world)) == ("released", 5, 0)
    document = world.collect(case).json()
    for deposit in deposits:
        assert world.combine(case, deposit, document) == world.archive_keys[deposit.header.deposit_id]


def test_hsm_that_is_away_is_asked_for_nothing_and_costs_no_entry(world: World, hsm: Hsm) -> None:
    case, _ = with_deposits(world, 1)
    with world.process() as process:
        process.follow_all()
        # While it is there: what is new in the log is signed by it.
        before = world.tags(case)
        hsm.interposer.rules("C_GetAttributeValue rv 0x32", "C_OpenSession rv 0x32")
        for _ in range(4):
            pause = again(world, case, process)
            assert timedelta(seconds=3) < pause <= RETRY_HSM
        row = world.row(case)
        assert (row.state, row.why, hsm.unwraps()) == ("waiting", "hsm-away", 0)
        assert world.tags(case) == before
        assert world.release.intent(case.id.bytes) is None
    hsm.interposer.rules()
    # It is back within seconds, by itself, and the case goes on.
    wait_for(hsm.tokens.root.answers)
    with world.process() as process:
        Case.unscoped.filter(id=case.id).update(release_at=timezone.now() - timedelta(seconds=1))
        world.sequence()
        settled(process)
    assert (world.state(case), hsm.unwraps()) == ("released", 1)


def test_hsm_that_lacks_a_key_is_not_said_to_be_away(world: World, hsm: Hsm) -> None:
    case, _ = with_deposits(world, 1)
    with as_superuser("escrow_escrowkey") as cursor:
        cursor.execute("UPDATE escrow_escrowkey SET cka_id = %s", [secrets.token_bytes(16)])
    world.tick()
    row = world.row(case)
    assert (row.state, row.why, hsm.unwraps()) == ("waiting", "hsm-key-wrong", 0)
    waits = case.phone.send("GET", case.path).json()["waiting_for"]
    assert (waits["stuck"], "Waiting does not bring it back" in waits["text"]) == (True, True)


@pytest.mark.parametrize("refusal", [HsmPinRejected("the PIN"), HsmTokenDamaged("the token")])
def test_hsm_that_lets_nobody_in_is_not_said_to_be_away(
    world: World, hsm: Hsm, caplog: pytest.LogCaptureFixture, refusal: HsmError
) -> None:
    case, _ = with_deposits(world, 1)

    def shut() -> dict[str, Any]:
        raise type(refusal)(*refusal.args)

    with world.process() as process:
        for _ in range(8):
            world.sequence()
            registry.install(shut)
            Case.unscoped.filter(id=case.id).update(release_at=world.row(case).opened_at)
            settled(process)
            hsm.install()
    row = world.row(case)
    assert (row.state, row.why, hsm.unwraps()) == ("waiting", "hsm-shut", 0)
    said = [one for one in caplog.records if f"case {case.id} waits: {refusal} (" in one.getMessage()]
    # The first time in a row, the second, the fourth and the eighth.
    assert [one.levelname for one in said] == ["CRITICAL"] * 4
    waits = case.phone.send("GET", case.path).json()["waiting_for"]
    assert (waits["stuck"], "its token is damaged" in waits["text"]) == (True, True)


@pytest.mark.skipif(ON_POSTGRES, reason="another process finds the tests' database by its file")
@pytest.mark.skipif(shutil.which("strace") is None, reason="beside the other kills")
def test_kill_between_two_halves_keeps_the_first(world: World, hsm: Hsm) -> None:
    case, deposits = with_deposits(world, 2)
    hsm.interposer.rules(f"C_WrapKey kill-before {AFTER_ONE} once=kill")
    assert run(world, hsm) == -signal.SIGKILL
    assert (world.state(case), hsm.unwraps(), kept(world)) == ("releasing", 2, 1)
    hsm.interposer.rules()
    world.sequence()
    assert run(world, hsm) == 0
    # One for each deposit, and one for the kill.
    assert (world.state(case), hsm.unwraps(), kept(world)) == ("released", 3, 0)
    document = world.collect(case).json()
    for deposit in deposits:
        assert world.combine(case, deposit, document) == world.archive_keys[deposit.header.deposit_id]


def test_one_half_that_does_not_open_holds_the_case_without_further_tries(world: World, hsm: Hsm) -> None:
    broken = replace(world.build(), sealed_half=b"\0" + secrets.token_bytes(383))
    assert world.upload(broken).status_code == 201
    case = approved(world, world.deposit(), broken)
    with world.process() as process:
        settled(process)
        assert (world.state(case), world.row(case).why) == ("held", "half-refused")
        asked = hsm.unwraps()
        assert asked in {1, 2}, "the other one's came first, or not"
        world.sequence()
        for _ in range(3):
            settled(process)
    assert (hsm.unwraps(), kept(world)) == (asked, 0)


def test_halves_of_a_case_that_ends_otherwise_are_destroyed(world: World, hsm: Hsm) -> None:
    case, _ = with_deposits(world, 2)
    hsm.interposer.rules(f"C_WrapKey rv 0x32 {AFTER_ONE}")
    with world.process() as process:
        settled(process)
        assert (world.state(case), kept(world)) == ("waiting", 1)
        answer = case.phone.send("POST", f"{case.path}/cancel", {})
        assert answer.status_code == 201, answer.content
        world.sequence()
        settled(process)
    assert kept(world) == 0


def test_halves_are_bound_to_their_case_and_recipient_and_a_damaged_file_is_none(world: World) -> None:
    intent = Intent(b"c" * 16, b"q" * 32, b"r" * 32, 1)
    deposit_id = next(iter(world.cast.people.values())).pk
    world.release.keep_halves(intent, {deposit_id: b"h" * 384})
    assert world.release.halves(intent) == {deposit_id: b"h" * 384}
    for other in (
        Intent(b"c" * 16, b"x" * 32, b"r" * 32, 1),
        Intent(b"c" * 16, b"q" * 32, b"x" * 32, 1),
        Intent(b"d" * 16, b"q" * 32, b"r" * 32, 1),
    ):
        assert world.release.halves(other) == {}
    (world.release.path / "halves" / (b"c" * 16).hex()).write_bytes(b"damaged")
    assert world.release.halves(intent) == {}
    part = world.release.path / "halves" / f".holdfast-{'64' * 16}.part"
    for beside in (world.release.path / "halves" / "lost+found", part):
        beside.write_bytes(b"")
    assert sorted(world.release.cases_with_halves()) == [b"c" * 16]
    # What a kill left while it was written is destroyed by the next process.
    with only_process(world.release.path.parent):
        assert not part.exists()
    world.release.spend(intent)
    with pytest.raises(Untrusted):
        world.release.spend(Intent(b"c" * 16, b"q" * 32, b"x" * 32, 1))
