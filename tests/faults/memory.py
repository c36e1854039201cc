# SPDX-License-Identifier: Apache-2.0
"""Looking for octets in another process's memory, as a debugger with root's rights would."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

_MAP = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (r)")
CHUNK = 16 * 1024 * 1024
OVERLAP = 4096


def _regions(pid: int) -> Iterator[tuple[int, int]]:
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        found = _MAP.match(line)
        if found and "[vvar]" not in line and "[vsyscall]" not in line:
            yield int(found[1], 16), int(found[2], 16)


def find(pid: int, needles: Mapping[str, bytes]) -> dict[str, int]:
    """Count each needle in the readable memory of a process. Raises PermissionError when it is closed."""
    hits = dict.fromkeys(needles, 0)
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for start, end in _regions(pid):
            at = start
            while at < end:
                size = min(CHUNK + OVERLAP, end - at)
                try:
                    memory.seek(at)
                    held = memory.read(size)
                except (OSError, ValueError, OverflowError):
                    break
                own = held[: CHUNK + max(map(len, needles.values())) - 1]
                for name, needle in needles.items():
                    hits[name] += own.count(needle)
                at += CHUNK
    return hits
