# SPDX-License-Identifier: Apache-2.0
"""Close a process's memory to debuggers and core files (FAULTS Z2), and die with the parent (Linux only)."""

from __future__ import annotations

import ctypes
import os
import resource
import signal

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


def close_memory() -> None:
    """Refuse ptrace, /proc/PID/mem and core dumps to everyone but root. Raises OSError when the kernel will not."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(PR_SET_DUMPABLE, 0)


def die_with_parent(began_under: int | None = None) -> None:
    """Have the kernel send SIGTERM to this process when its parent goes, even by kill -9.

    began_under: the parent's process id, of a process that comes here seconds after its start. Raises SystemExit when
    that one has gone meanwhile: of that the kernel tells nobody.
    """
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if began_under is not None and os.getppid() != began_under:
        raise SystemExit("the process that started this one has gone")
