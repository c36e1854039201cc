# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the release process at every durable step of a release (FAULTS D13, W1; ESCROW "Release process")."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from holdfast.core.log.writers import Role
from recovery.models import Release, ReleasedShare
from tests.cast.founded import Hsm
from tests.cast.phones import Phone
from tests.cast.postgres import ON_POSTGRES
from tests.cast.roles import key_file
from tests.cast.world import OpenCase, World
from tests.soak import rounds

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(ON_POSTGRES, reason="another process finds the tests' database by its file"),
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace makes the kills"),
]
PROJECT = Path(__file__).resolve().parents[3]
# Every write that must survive is followed by one of these; so is every message to the token's files.
DURABLE = ("fsync", "fdatasync", "rename")
MOST_CALLS = 30


def environment(world: World, hsm: Hsm) -> dict[str, str]:
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "config.settings.test",
        "HOLDFAST_ROLE": "release",
        "HOLDFAST_ROLE_KEY_FILE": str(key_file(Role.RELEASE, world.home)),
        "HOLDFAST_RELEASE_DIR": str(world.home),
        "HOLDFAST_HSM_HOME": str(hsm.config.home),
        "HOLDFAST_HSM_MODULE": str(hsm.config.module),
    }


def run(world: World, hsm: Hsm, *prefix: str) -> int:
    command = [*prefix, sys.executable, "-m", "tests.recovery.release_once"]
    return subprocess.run(
        command, cwd=PROJECT, env=environment(world, hsm), check=False, capture_output=True, timeout=120
    ).returncode


def killed_at(world: World, hsm: Hsm, call: str, number: int) -> bool:
    """Kill the process as it enters its durable call of this name and number; False when it ended well with fewer."""
    inject = f"inject={call}:signal=KILL:when={number}"
    code = run(world, hsm, "strace", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject)
    assert code in (0, -signal.SIGKILL, 128 + signal.SIGKILL)
    return code != 0


def approved(world: World, phone: Phone) -> OpenCase:
    case, _ = world.approved("carol", "dan", phone=phone)
    world.sequence()
    return case


@pytest.mark.rounds("release")
def test_release_is_recorded_once_and_unwraps_no_oftener_than_kills_allow(world: World, hsm: Hsm) -> None:
    phone = world.new_phone()
    approved(world, phone)
    world.tick()  # the first release also remembers the policy, for ever: later ones make fewer durable calls
    killed: Counter[str] = Counter()
    states_left = set()
    for call in DURABLE:
        # On to the next number until a run ends well because it made no more: so no durable call is left out,
        # however many a release happens to make. (In `make test`, every second is, but for commits: how many there
        # are before the intent's is not always the same.)
        for number in range(1, MOST_CALLS, 1 if call == "fdatasync" else rounds(2, 1)):
            case = approved(world, phone)
            hsm.interposer.forget()
            was_killed = killed_at(world, hsm, call, number)
            states_left.add(world.state(case))
            world.sequence()
            world.tick()
            assert world.state(case) == "released", f"after a kill at {call} number {number}"
            assert Release.unscoped.filter(case_id=case.id).count() == 1
            assert ReleasedShare.unscoped.filter(release__case_id=case.id).count() == 2
            assert hsm.unwraps() <= 1 + int(was_killed)
            intent = world.release.intent(case.id.bytes)
            assert intent is not None
            assert intent.q == bytes(world.row(case).q)
            if not was_killed:
                break
            killed[call] += 1
        else:
            pytest.fail(f"a release made {MOST_CALLS} calls of {call}")
    assert killed.keys() == set(DURABLE)
    assert killed.total() >= 6, "the intent, its commit and the result's commit are durable calls"
    # The sweep met the process before its intent, between intent and result, and after the result.
    assert {"waiting", "releasing", "released"} <= states_left


def test_start_refuses_when_another_release_process_holds_the_directory(world: World, hsm: Hsm) -> None:
    with world.process():
        assert run(world, hsm) != 0


@pytest.mark.parametrize("moment", ["kill-before", "kill-after"])
def test_release_resumes_when_killed_between_unwrapping_and_wrapping(world: World, hsm: Hsm, moment: str) -> None:
    case, deposit = world.approved("carol", "dan")
    world.sequence()
    # Nothing but a re-wrap wraps in this process, so the half was unwrapped a moment ago.
    hsm.interposer.rules(f"C_WrapKey {moment} once=kill")
    assert run(world, hsm) == -signal.SIGKILL
    assert (world.state(case), hsm.unwraps()) == ("releasing", 1)
    hsm.interposer.rules()
    world.sequence()
    assert run(world, hsm) == 0
    assert (world.state(case), hsm.unwraps()) == ("released", 2)
    assert Release.unscoped.filter(case_id=case.id).count() == 1
    assert world.combine(case, deposit, world.collect(case).json()) == world.archive_keys[deposit.header.deposit_id]


def test_release_resumes_when_killed_between_its_intent_and_the_hsm(world: World, hsm: Hsm) -> None:
    case, deposit = world.approved("carol", "dan")
    world.sequence()
    # Every unwrap waits before it reaches the token: time enough to see the intent in the row, and kill.
    hsm.interposer.rules("C_UnwrapKey before 700")
    command = [sys.executable, "-m", "tests.recovery.release_once"]
    with subprocess.Popen(command, cwd=PROJECT, env=environment(world, hsm), stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while world.state(case) != "releasing" and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.01)
        process.kill()
    assert (world.state(case), hsm.unwraps()) == ("releasing", 0)
    hsm.interposer.rules()
    world.sequence()
    assert run(world, hsm) == 0
    assert (world.state(case), hsm.unwraps()) == ("released", 1)
    assert world.combine(case, deposit, world.collect(case).json()) == world.archive_keys[deposit.header.deposit_id]
