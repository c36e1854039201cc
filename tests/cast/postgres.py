# SPDX-License-Identifier: Apache-2.0
"""A throw-away PostgreSQL server on a loopback port, for tests and benchmarks.

PostgreSQL refuses to run as root, so as root the server runs as the `postgres` user that Debian's
package makes. `python -m tests.cast.postgres [--unsynced] COMMAND…` runs a command with HOLDFAST_TEST_POSTGRES set.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ON_POSTGRES = bool(os.environ.get("HOLDFAST_TEST_POSTGRES"))
# Tests kill processes, never the machine: what the kernel has is read back, and no commit waits for the disk.
UNSYNCED = {"fsync": "off", "full_page_writes": "off"}
CANDIDATES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


def free_port() -> int:
    """Ask the kernel for a loopback port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _binaries() -> Path:
    for path in CANDIDATES:
        if (path / "initdb").exists():
            return path
    raise RuntimeError("PostgreSQL's server is not installed: apt-get install postgresql (`make test` does it)")


@contextmanager
def postgres(**settings: str) -> Iterator[str]:
    """Start a server with data checksums, yield its address, and stop and delete it afterwards."""
    binaries = _binaries()
    as_user: dict[str, Any] = {}
    directory = Path(tempfile.mkdtemp(prefix="holdfast-pg-"))
    if os.geteuid() == 0:
        account = pwd.getpwnam("postgres")
        os.chown(directory, account.pw_uid, account.pw_gid)
        as_user = {"user": "postgres", "group": account.pw_gid, "extra_groups": []}
    data, port = directory / "data", free_port()
    run: dict[str, Any] = {"cwd": directory, "stdout": subprocess.DEVNULL, **as_user}
    try:
        initdb: list[str | Path] = [
            binaries / "initdb",
            "-D",
            data,
            "-U",
            "holdfast",
            "--auth=trust",
            "--data-checksums",
            "-E",
            "UTF8",
        ]
        subprocess.run([*initdb, "--locale=C.UTF-8"], check=True, **run)
        options = {"port": str(port), "listen_addresses": "127.0.0.1", "unix_socket_directories": str(directory)}
        options |= {"max_connections": "120", **settings}
        with (data / "postgresql.auto.conf").open("a") as conf:
            conf.writelines(f"{name} = '{value}'\n" for name, value in options.items())
        start: list[str | Path] = [binaries / "pg_ctl", "-D", data, "-l", directory / "log", "-w", "-t", "60", "start"]
        subprocess.run(start, check=True, **run)
        try:
            yield f"postgres://holdfast@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([binaries / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop"], check=True, **run)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def main() -> int:
    """Run the command given with a server at its side, and return its exit status."""
    command, is_synced = sys.argv[1:], True
    if command[0] == "--unsynced":
        command, is_synced = command[1:], False
    with postgres(**({} if is_synced else UNSYNCED)) as url:
        return subprocess.run(command, env={**os.environ, "HOLDFAST_TEST_POSTGRES": url}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
