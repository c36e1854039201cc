# SPDX-License-Identifier: Apache-2.0
"""The embedded form as one command: web, worker and release process live and die together.

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

START_SECONDS = 60
STOP_SECONDS = 8


@dataclass
class Supervisor:
    """Starts the processes of one installation and waits for the first to end."""

    project: Path
    public_url: str
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    stopping: bool = False

    def commands(self) -> dict[str, list[str]]:
        """Return each role's command line. No secret stands in any of them."""
        address = urlsplit(self.public_url)
        python = sys.executable
        granian = [python, "-m", "granian", "--interface", "wsgi", "config.wsgi:application"]
        granian += ["--host", address.hostname or "127.0.0.1", "--port", str(address.port or 8000)]
        granian += [
            "--workers",
            "1",
            "--blocking-threads",
            "8",
            "--backpressure",
            "64",
            "--no-ws",
            "--log-level",
            "error",
        ]
        manage = [python, str(self.project / "manage.py")]
        return {"web": granian, "worker": [*manage, "worker"], "release": [*manage, "release"]}

    def start(self) -> None:
        """Start every process. Raises RuntimeError, naming it, when one ends before the server answers."""
        for role, command in self.commands().items():
            self.children[role] = subprocess.Popen(  # noqa: S603 — our own command lines
                command,
                cwd=self.project,
                env={**self.environment, "HOLDFAST_ROLE": role, "HOLDFAST_SUPERVISED": "1"},
                preexec_fn=die_with_parent,  # noqa: PLW1509 — this process has one thread
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            self._raise_if_one_ended()
            if time.monotonic() > deadline:
                raise RuntimeError(f"the server did not answer at {self.public_url} within {START_SECONDS} s")
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
            with urllib.request.urlopen(f"{self.public_url}/readyz", timeout=2) as answer:  # noqa: S310 — our own address
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False
