# SPDX-License-Identifier: Apache-2.0
"""Fork, several processes, kill -9 (HSM sections 6.3 and 6.4; FAULTS H10, H12)."""

import contextlib
import multiprocessing
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from hsm import manifest as manifests
from hsm.backend import WrappedTenantKey
from hsm.ceremony import Ceremony
from hsm.config import HsmConfig
from hsm.directories import hash_files
from hsm.errors import HsmError, HsmTokenDamaged
from hsm.runtime import Tokens, open_tokens
from tests.cast.hsm import OWN

AAD = b"acme/alice"


def in_child(action: Callable[[], None]) -> str:
    """Run `action` in a forked child; return what it raised, or nothing. Fails when it hangs."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = ""
        try:
            action()
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    deadline = time.monotonic() + 20
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            pytest.fail("the child hangs")
        time.sleep(0.01)
    with os.fdopen(reading) as pipe:
        return pipe.read()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("module", ["hsm_config", "interposed"])
def test_forked_child_is_refused_what_its_parent_opened(request: pytest.FixtureRequest, module: str) -> None:
    config: HsmConfig = request.getfixturevalue(module)
    with open_tokens(config, ["log"]) as tokens:
        assert "before fork" in in_child(lambda: check(tokens))
        assert "before fork" in in_child(lambda: open_tokens(config, ["log"]).close())
        # The child's end takes nothing from the parent.
        in_child(tokens.close)
        assert len(tokens.log.sign(b"head")) == 64


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("module", ["hsm_config", "interposed"])
def test_child_opens_for_itself_when_its_parent_has_closed_or_never_opened(
    request: pytest.FixtureRequest, module: str
) -> None:
    config: HsmConfig = request.getfixturevalue(module)

    def work() -> None:
        with open_tokens(config, ["log"]) as tokens:
            check(tokens)

    assert in_child(work) == ""
    work()
    assert in_child(work) == ""


def check(tokens: Tokens) -> None:
    assert len(tokens.log.sign(b"head")) == 64


def _work_in_turn(home: Path, tokens: list[str], wrapped: WrappedTenantKey, pipe: Connection) -> None:
    with open_tokens(HsmConfig(home=home), tokens) as opened:
        key = opened.root.load_tenant_key(wrapped)
        for n in range(200):
            record = key.new_record_key(aad=AAD)
            assert key.unwrap_record_key(record.wrapped, aad=AAD) == record.key
            if n % 20 == 0:
                pipe.send((record.wrapped, record.key.reveal()))
    pipe.send(None)


def test_two_processes_work_at_once_and_open_each_others_record_keys(hsm_config: HsmConfig) -> None:
    with open_tokens(hsm_config, ["root"]) as tokens:
        wrapped = tokens.root.generate_tenant_key(**OWN)
    spawn = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for names in (["root", "log"], ["root", "escrow"]):
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=_work_in_turn, args=(hsm_config.home, names, wrapped, theirs))
        process.start()
        pipes.append(ours)
        processes.append(process)
    opened = 0
    with open_tokens(hsm_config, ["root"]) as tokens:
        key = tokens.root.load_tenant_key(wrapped)
        for pipe in pipes:
            assert pipe.poll(30)
            while (received := pipe.recv()) is not None:
                record, plain = received
                assert key.unwrap_record_key(record, aad=AAD).reveal() == plain
                opened += 1
                assert pipe.poll(30)
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    assert opened == 20


LOGIN_LOOP = """
import sys
from pathlib import Path
from hsm.config import HsmConfig
from hsm.runtime import open_tokens
while True:
    open_tokens(HsmConfig(home=Path(sys.argv[1])), ["root", "log"]).close()
    print("opened", flush=True)
"""


def test_kill_in_a_login_loop_leaves_the_pristine_tokens_intact(hsm_config: HsmConfig) -> None:
    """Without private copies this loses the token within some ten kills."""
    before = hash_files(hsm_config.home / "tokens")
    logins = 0
    for _ in range(20):
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", LOGIN_LOOP, str(hsm_config.home)], stdout=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]
        for process in processes:
            # The loop runs from its first line on; the kill falls anywhere into it.
            assert process.stdout is not None
            process.stdout.readline()
        time.sleep(secrets.randbelow(30) / 1000)
        for process in processes:
            process.kill()
            assert process.stdout is not None
            logins += 1 + len(process.stdout.readlines())
            process.stdout.close()
            assert process.wait() == -signal.SIGKILL
    assert logins >= 40
    assert hash_files(hsm_config.home / "tokens") == before
    assert len(list(hsm_config.runtime_root.iterdir())) <= 2
    with open_tokens(hsm_config, ["root", "log", "escrow"]):
        # The copies of the dead are gone, ours is there.
        (ours,) = hsm_config.runtime_root.iterdir()
        assert ours.name.startswith(f"{os.getpid()}-")


def test_login_in_the_pristine_directory_itself_would_damage_it(hsm_config: HsmConfig) -> None:
    """The positive control of the copies: one login there changes a file that the manifest pins."""
    record = manifests.load(hsm_config.manifest_path).token("root")
    pristine = hsm_config.pristine("root", record.generation)
    conf = hsm_config.home / "direct.conf"
    conf.write_text(f"directories.tokendir = {pristine}\nobjectstore.backend = file\n")
    script = (
        "import sys, pkcs11; lib = pkcs11.lib(sys.argv[1]);"
        "lib.get_token(token_serial=sys.argv[2].encode()).open(user_pin=sys.stdin.read().strip())"
    )
    subprocess.run(
        [sys.executable, "-c", script, str(hsm_config.module), record.serial],
        input=hsm_config.pin_path("root").read_text(),
        env=os.environ | {"SOFTHSM2_CONF": str(conf)},
        text=True,
        check=True,
    )
    with pytest.raises(HsmTokenDamaged):
        open_tokens(hsm_config, ["root"])


def test_ceremonies_held_at_once_all_succeed(hsm_config: HsmConfig) -> None:
    script = (
        "import sys; from pathlib import Path;"
        "from hsm.config import HsmConfig; from hsm.ceremony import Ceremony;"
        "Ceremony(HsmConfig(home=Path(sys.argv[1]))).create_tenant_root(sys.argv[2])"
    )
    names = [f"tenant-{n}" for n in range(4)]
    processes = [subprocess.Popen([sys.executable, "-c", script, str(hsm_config.home), name]) for name in names]
    try:
        with open_tokens(hsm_config, ["log"]) as tokens:
            for _ in range(20):
                tokens.refresh()
                check(tokens)
        assert [process.wait(30) for process in processes] == [0, 0, 0, 0]
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()
    for name in names:
        assert Ceremony(hsm_config).sign_with_tenant_root(name, b"x")


def test_process_that_ends_without_closing_ends_cleanly_and_leaves_nothing(hsm_config: HsmConfig) -> None:
    script = (
        "import sys; from pathlib import Path; from hsm.config import HsmConfig;"
        "from hsm.runtime import open_tokens;"
        "tokens = open_tokens(HsmConfig(home=Path(sys.argv[1])), ['log']);"
        "print(len(tokens.log.sign(b'head')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(hsm_config.home)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "64\n", "")
    assert list(hsm_config.runtime_root.iterdir()) == []


def test_failed_opening_leaves_nothing_behind(hsm_config: HsmConfig) -> None:
    hsm_config.pin_path("root").unlink()
    for _ in range(3):
        with pytest.raises(HsmError):
            open_tokens(hsm_config, ["log", "root"])
    assert list(hsm_config.runtime_root.iterdir()) == []
    open_tokens(hsm_config, ["log"]).close()
