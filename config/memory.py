# SPDX-License-Identifier: Apache-2.0
"""A process's memory: closed to debuggers and core files (FAULTS Z2), small, and gone with its parent (Linux only)."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

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


@contextmanager
def left_out(*names: str) -> Iterator[None]:
    """Let packages of others be as if they were not installed, while one that can do without them is imported.

    Each process holds what it imports for as long as it runs. What is imported already stays.
    """
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type] # importlib: None refuses the import
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


def die_with_parent(began_under: int | None = None) -> None:
    """Have the kernel send SIGTERM to this process when its parent goes, even by kill -9.

    began_under: the parent's process id, of a process that comes here seconds after its start. Raises SystemExit when
    that one has gone meanwhile: of that the kernel tells nobody.
    """
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if began_under is not None and os.getppid() != began_under:
        raise SystemExit("the process that started this one has gone")
