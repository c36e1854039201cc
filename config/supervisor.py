# SPDX-License-Identifier: Apache-2.0
"""The embedded form as one command: proxy, web, worker, sequencer and release process live and die together.

PLATFORM "Running it". Children get SIGTERM or SIGKILL from the kernel when this process goes, even by kill -9, so
nothing is left behind. It restarts nothing: a child that ends takes the others with it, and the exit status tells.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

from config.memory import die_with_parent
from config.proxy import MAX_SOCKET_PATH, allow_connections, write_configuration

START_SECONDS = 60
STOP_SECONDS = 8


@dataclass
class Supervisor:
    """Starts the processes of one installation and waits for the first to end."""

    project: Path
    public_url: str
    state_dir: Path
    # Where the proxy listens, as host:port: the public address, unless another proxy of the operator's has that.
    listen: str
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    stopping: bool = False

    def commands(self) -> dict[str, list[str]]:
        """Return each role's command line. No secret stands in any of them. Raises RuntimeError when none can be."""
        python = sys.executable
        granian = [python, "-m", "granian", "--interface", "wsgi", "config.wsgi:application", "--uds", str(self.socket)]
        granian += ["--workers", "1", "--blocking-threads", "8", "--backpressure", "64", "--no-ws"]
        granian += ["--log-level", "error"]
        proxy = write_configuration(self.state_dir / "proxy", listen=self.listen, socket=self.socket)
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
        commands = self.commands()
        # Left by a kill -9: nobody listens at it, and it would keep the next from listening.
        self.socket.unlink(missing_ok=True)
        trusted = ",".join(filter(None, (self.environment.get("HOLDFAST_TRUSTED_PROXIES"), "unix")))
        environment = {**self.environment, "HOLDFAST_TRUSTED_PROXIES": trusted, "HOLDFAST_SUPERVISED": "1"}
        for role, command in commands.items():
            self.children[role] = subprocess.Popen(  # noqa: S603 — our own command lines
                command,
                cwd=self.project,
                env={**environment, "HOLDFAST_ROLE": role},
                preexec_fn=_begin,  # noqa: PLW1509 — this process has one thread
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            self._raise_if_one_ended()
            if time.monotonic() > deadline:
                raise RuntimeError(f"the server did not answer at {self.listen} within {START_SECONDS} s")
            time.sleep(0.1)
        self._raise_if_one_ended()

    def wait(self) -> int:
        """Wait until a signal asks to stop (0) or a process ends by itself (1)."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)
        while not self.stopping:
            for role, child in self.children.items():
                if child.poll() is not None:
                    print(  # noqa: T201 — whoever started it reads this
                        f"The {role} process ended with status {child.returncode}; stopping the others.",
                        file=sys.stderr,
                    )
                    return 1
            time.sleep(0.2)
        return 0

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
                raise RuntimeError(f"the {role} process ended with status {child.returncode} while starting")

    def _answers(self) -> bool:
        try:
            # Under the public name, at the place where we listen: the two need not be the same.
            asked = urllib.request.Request(
                f"http://{self.listen}/readyz", headers={"host": urlsplit(self.public_url).netloc}
            )
            with urllib.request.urlopen(asked, timeout=2) as answer:  # noqa: S310 — as above
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def _begin() -> None:
    """What each child does before it becomes its program."""
    die_with_parent()
    allow_connections()
