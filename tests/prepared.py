# SPDX-License-Identifier: Apache-2.0
"""What many tests begin from and none may change: made once for a run, and copied by whoever needs it.

The processes of a run share one directory, which a lock on a file guards; the one that began the run deletes it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

_NAME = "HOLDFAST_TEST_PREPARED"
_owner = _NAME not in os.environ
# Read once: a test may change the environment.
_directory = Path(os.environ.setdefault(_NAME, tempfile.mkdtemp(prefix="holdfast-prepared-") if _owner else ""))


def copy(name: str, to: Path, make: Callable[[Path], None]) -> None:
    """Copy what `make` makes to a path that is not there yet; the first caller of a run has it made."""
    made = _directory / name
    with (_directory / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            # Under another name until it is whole: what a failed making leaves is nobody's.
            beside = _directory / f"{name}.making"
            shutil.rmtree(beside, ignore_errors=True)
            make(beside)
            beside.rename(made)
    shutil.copytree(made, to, symlinks=True)


def delete() -> None:
    """Delete what was prepared, in the process that began the run; in the others do nothing."""
    if _owner:
        shutil.rmtree(_directory, ignore_errors=True)
