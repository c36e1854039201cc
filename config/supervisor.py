# SPDX-License-Identifier: Apache-2.0
"""The embedded form as one command: proxy, web, worker, sequencer and release process.

PLATFORM "Running it". Children get SIGTERM or SIGKILL from the kernel when this process goes, even by kill -9, so
nothing is left behind. It has neither Django nor the settings, which would lie in memory for as long as it waits:
`manage.py up` hands over to it. One that ends by itself is started again, after longer and longer, and the others go
on. One that refuses to start says what a person has to mend, and is not started again.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import NoReturn
from urllib.parse import urlsplit

from config.memory import die_with_parent
from config.proxy import MARKS, MAX_SOCKET_PATH, allow_connections, write_configuration
from config.refusal import REFUSED
from config.start import show_what_can_be_shown
from kernel.retries import Retries

START_SECONDS = 60
STOP_SECONDS = 8
# Before a process that ended is started again: 1 s, 2 s, 4 s … A minute is soon enough for one that never lasts.
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1, 60
# One that has run for so long has started well: should it end later, it is started again soon.
STEADY_SECONDS = 60
_ASK_TO_STOP = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Supervisor:
    """Starts the processes of one installation, and starts again what ends by itself."""

    project: Path
    public_url: str
    state_dir: Path
    # Where the proxy listens, as host:port: the public address, unless another proxy of the operator's has that.
    listen: str
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    stopping: bool = False
    _commands: dict[str, list[str]] = field(default_factory=dict)
    _started: dict[str, float] = field(default_factory=dict)  # by the monotonic clock
    _retries: Retries = field(default_factory=lambda: Retries(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS))
    _refused: set[str] = field(default_factory=set)  # roles that a person has to mend something for
    _mark: str = field(default_factory=lambda: secrets.token_hex(16))  # tells our proxy from whatever else answers

    def commands(self) -> dict[str, list[str]]:
        """Return each role's command line. No secret stands in any of them. Raises RuntimeError when none can be."""
        python = sys.executable
        granian = [python, "-m", "config.web", "--interface", "wsgi", "config.wsgi:application"]
        granian += [
            "--uds",
            str(self.socket),
            "--workers",
            "1",
            "--blocking-threads",
            "8",
            "--backpressure",
            "64",
            "--no-ws",
        ]
        granian += ["--log-level", "error"]
        at = self.state_dir / "proxy"
        proxy = write_configuration(at, project=self.project, listen=self.listen, socket=self.socket, mark=self._mark)
        manage = [python, str(self.project / "manage.py")]
        background = {role: [*manage, role] for role in ("worker", "sequencer", "release")}
        return {"web": granian, "proxy": proxy, **background}

    @property
    def socket(self) -> Path:
        """Where the web process listens: in a directory that no other account enters."""
        return self.state_dir / "proxy" / "web.sock"

    def start(self) -> None:
        """Start every process. Raises RuntimeError, naming it, when one ends before the server answers."""
        if len(os.fsencode(self.socket)) > MAX_SOCKET_PATH:
            raise RuntimeError(f"HOLDFAST_STATE_DIR: {self.state_dir} is too long for a socket in it; choose another")
        self._commands = self.commands()
        for role in self._commands:
            self._start(role)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            self._raise_if_one_ended()
            if time.monotonic() > deadline:
                raise RuntimeError(f"the server did not answer at {self.listen} within {START_SECONDS} s")
            time.sleep(0.1)
        self._raise_if_one_ended()

    def _start(self, role: str) -> None:
        if role == "web":
            # Left by a kill -9: nobody listens at it, and it would keep the next from listening.
            self.socket.unlink(missing_ok=True)
        trusted = ",".join(filter(None, (self.environment.get("HOLDFAST_TRUSTED_PROXIES"), "unix")))
        environment = {**self.environment, "HOLDFAST_TRUSTED_PROXIES": trusted, "HOLDFAST_SUPERVISED": "1"}
        self.children[role] = subprocess.Popen(  # noqa: S603 — our own command lines
            self._commands[role],
            cwd=self.project,
            env={**environment, "HOLDFAST_ROLE": role},
            preexec_fn=_begin,  # noqa: PLW1509 — this process has one thread
        )
        self._started[role] = time.monotonic()

    def wait(self) -> None:
        """Tend the processes until a signal asks to stop."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        while not self.stopping:
            for role in self._commands:
                self._tend(role)
            if os.getpid() == 1:
                self._bury_strangers()
            time.sleep(0.2)

    def _bury_strangers(self) -> None:
        """Take the status of what was left to us as the first process of a container, or it stays a zombie."""
        ours = {child.pid for child in self.children.values()}
        with suppress(ChildProcessError):
            while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if ended.si_pid in ours:
                    return  # of which `_tend` takes it
                os.waitpid(ended.si_pid, 0)

    def _tend(self, role: str) -> None:
        """Note that a process has ended, or start it again when its time has come."""
        child = self.children.get(role)
        if child is not None and child.poll() is None:
            if time.monotonic() - self._started[role] > STEADY_SECONDS:
                self._retries.worked(role)
        elif self.stopping:
            pass  # a Ctrl-C reaches the children too
        elif child is not None:
            del self.children[role]
            self._ended(role, f"ended with status {child.returncode}", is_refused=child.returncode == REFUSED)
        elif role not in self._refused and not self._retries.left(role):
            try:
                self._start(role)
            except OSError as error:
                # No memory or no process left for it, for the moment.
                self._ended(role, f"could not be started ({error.strerror})", is_refused=False)

    def _ended(self, role: str, how: str, *, is_refused: bool) -> None:
        if is_refused:
            self._refused.add(role)
            next_ = "what is wrong stands above. The others go on. Mend it, then stop and start Holdfast again"
        else:
            self._retries.failed(role)
            next_ = f"starting it again in {self._retries.left(role):.0f} s"
        # Whoever started it reads this.
        print(f"The {role} process {how}; {next_}.", file=sys.stderr, flush=True)  # noqa: T201

    def stop(self) -> None:
        """Ask every process to end, then end those that did not."""
        for child in self.children.values():
            if child.poll() is None:
                child.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for child in self.children.values():
            try:
                child.wait(timeout=max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True

    def _raise_if_one_ended(self) -> None:
        for role, child in self.children.items():
            if child.poll() is not None:
                why = f"; is something else at {self.listen}?" if role == "proxy" else ""
                raise RuntimeError(f"the {role} process ended with status {child.returncode} while starting{why}")

    def _answers(self) -> bool:
        try:
            # First where the web process listens itself: the proxy writes an error for each time that it finds nobody.
            with socket.socket(socket.AF_UNIX) as nearby:
                nearby.connect(str(self.socket))
            # Ours, and not another installation at the same place: only then is it for us to welcome anybody.
            return self._status_of(f"{MARKS}{self._mark}") == 204 and self._status_of("/readyz") == 200
        except (urllib.error.URLError, OSError):
            return False

    def _status_of(self, path: str) -> int:
        # Under the public name, at the place where we listen: the two need not be the same.
        asked = urllib.request.Request(
            f"http://{self.listen}{path}", headers={"host": urlsplit(self.public_url).netloc}
        )
        with urllib.request.urlopen(asked, timeout=2) as answer:  # noqa: S310 — our own address
            return int(answer.status)


def hand_over(*, project: Path, public_url: str, state_dir: Path, listen: str, welcome: str, keep: int) -> NoReturn:
    """Make this process the one that starts the others and tends them, under the same process id.

    welcome: what is printed once the server answers. It has passwords in it, so that it goes neither through arguments
    nor through the environment. keep: a descriptor that stays open meanwhile, of the lock of the directory.
    """
    said = os.memfd_create("welcome", 0)
    os.write(said, welcome.encode())
    os.lseek(said, 0, os.SEEK_SET)
    os.set_inheritable(keep, True)
    # Whoever asks to stop before `main` listens is heard there.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ASK_TO_STOP)
    os.chdir(project)
    arguments = [str(project), public_url, str(state_dir.resolve()), listen, str(said)]
    os.execv(sys.executable, [sys.executable, "-m", __name__, *arguments])  # noqa: S606 — our own program


def hear_no_more() -> None:
    """Let nothing interrupt the tidying up: whoever asks once more has been heard already."""
    for number in _ASK_TO_STOP:
        signal.signal(number, signal.SIG_IGN)


def main() -> None:
    """Start the processes, welcome whoever looks, and tend them until a signal asks to stop."""
    show_what_can_be_shown()
    project, public_url, state_dir, listen, said = sys.argv[1:]
    for number in _ASK_TO_STOP:
        signal.signal(number, signal.default_int_handler)
    supervisor = Supervisor(Path(project), public_url, Path(state_dir), listen)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ASK_TO_STOP)
        supervisor.start()
        with os.fdopen(int(said), encoding="utf-8") as welcome:
            print(welcome.read(), flush=True)  # noqa: T201 — whoever started it reads this
        supervisor.wait()
    except KeyboardInterrupt:
        pass
    except RuntimeError as error:
        sys.exit(f"CommandError: {error}")
    finally:
        hear_no_more()
        supervisor.stop()
    print("Stopped.")  # noqa: T201 — the same


def _begin() -> None:
    """What each child does before it becomes its program."""
    die_with_parent()
    allow_connections()


if __name__ == "__main__":
    main()
