# SPDX-License-Identifier: Apache-2.0
"""nginx in front of the web process, as `make up` runs it: with the same two files that production includes.

PLATFORM "Running it". The web process has no deadline for a body that never ends, and eight threads; nginx holds
thousands of such bodies, in memory, and hands over whole requests through a Unix socket.
"""

from __future__ import annotations

import os
import resource
import shutil
from pathlib import Path

from holdfast.files import write_whole

# Directories that nginx makes at its start, whether it uses them or not; its own defaults are root's.
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
_CONNECTIONS = 4096
# Two files for each connection, and some of nginx's own.
_FILES = 2 * _CONNECTIONS + 64
# The longest path that a Unix socket can have (unix(7): 108 bytes with the ending NUL).
MAX_SOCKET_PATH = 107


def nginx() -> str:
    """Return where nginx is. Raises RuntimeError, with the way out, when it is not installed."""
    # Debian puts it where only root's PATH looks.
    found = shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
    if found is None:
        raise RuntimeError("nginx is not installed: run ./deploy/install.sh run, or apt-get install nginx-light")
    return found


# Where nginx answers by itself that it is the one of this start, below a name that nobody else knows.
MARKS = "/.well-known/holdfast-start/"


def write_configuration(directory: Path, *, project: Path, listen: str, socket: Path, mark: str) -> list[str]:
    """Write nginx's configuration and working directories below `directory`, and return its command line.

    listen: `127.0.0.1:8000` or `[::1]:8000`; socket: the web process's; mark: by which it is told from whatever else
    answers there. Raises RuntimeError without nginx.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = "".join(f"    {kind}_temp_path {directory}/{kind};\n" for kind in TEMPORARY)
    path = directory / "nginx.conf"
    text = f"""# Written at every start of `make up`.
daemon off;
# One process, which ends with the one that started it: nothing is left to run by itself.
master_process off;
pid {directory}/nginx.pid;
error_log stderr error;
events {{
    worker_connections {_CONNECTIONS};
}}
http {{
    include {project}/deploy/nginx/http.conf;
    access_log off;
{temporary}
    upstream holdfast {{
        server unix:{socket};
    }}
    server {{
        listen {listen};
        include {project}/deploy/nginx/server.conf;
        location = {MARKS}{mark} {{
            return 204;
        }}
    }}
}}
"""
    write_whole(path, text.encode(), replaces=True)
    return [nginx(), "-e", "stderr", "-p", str(directory), "-c", str(path)]


def allow_connections() -> None:
    """Let this process have as many files as nginx has connections, as far as its limits go."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
