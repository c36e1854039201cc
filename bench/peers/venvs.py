# SPDX-License-Identifier: Apache-2.0
"""Virtual environments of peers, outside our own and outside our requirements: some are under the AGPL."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Final

from bench.world import NotMeasured, say

_HERE: Final = Path(__file__).parent
_ROOT: Final = _HERE.parent.parent / "var" / "bench"


def python_of(name: str) -> Path:
    """Return the interpreter of an environment with what NAME.txt here pins, made when it is first asked for.

    Raises NotMeasured with what pip said, when it cannot be made.
    """
    requirements, directory = _HERE / f"{name}.txt", _ROOT / name
    python, stamp = directory / "bin" / "python", directory / "installed"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    say(f"making the environment of {name}")
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    for command in ([sys.executable, "-m", "venv", "--clear", directory], [*install, "-r", requirements]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotMeasured(f"{name} cannot be installed ({(done.stderr.splitlines() or ['no reason given'])[-1]})")
    stamp.write_text(wanted)
    return python
