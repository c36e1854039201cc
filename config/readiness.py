# SPDX-License-Identifier: Apache-2.0
"""Whether requests can be served, and which parts are away or late: what `/readyz` answers.

PLATFORM "Running it". Anybody may ask, so the answer is kept for a moment, and says nothing of any tenant.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal

from django.conf import settings
from django.db import DatabaseError, InterfaceError

from audit.access import restored_tenants
from config.disk import is_low, places
from hsm import registry
from hsm.errors import HsmError
from kernel import heartbeats

# A load balancer asks every few seconds, and a stranger as often as they like: one look serves all.
_KEEP_SECONDS: Final = 2.0
# A lane beats every five seconds; one that has not for so long hangs, or its process is away.
_LATE: Final = timedelta(seconds=60)
# Heads are signed again every half minute (PROTOCOL section 8).
_OLD_HEADS: Final = timedelta(seconds=120)
_LANES: Final = ("worker/schedule", "worker/jobs", "worker/mail", "sequencer", "release")

State = Literal["ok", "late", "away", "low", "waiting"]


@dataclass(frozen=True)
class Readiness:
    """What was found, at one moment."""

    can_serve: bool
    parts: dict[str, State]
    head_age_seconds: int | None
    restored: int = 0  # tenants whose database was put back from a backup that their officers have not accepted

    def document(self) -> dict[str, Any]:
        """Return the answer: `ok`; `degraded` when something is away without which most requests are served."""
        is_whole = all(state == "ok" for state in self.parts.values())
        return {
            "status": ("ok" if is_whole else "degraded") if self.can_serve else "unavailable",
            "parts": self.parts,
            "head_age_seconds": self.head_age_seconds,
            **({"restored_tenants": self.restored} if self.restored else {}),
            **({"rehearsal": True} if settings.HOLDFAST_REHEARSAL else {}),
        }


_lock = threading.Lock()
_kept: tuple[float, Readiness] | None = None


def look() -> Readiness:
    """Look at every part, or give what was found a moment ago. Raises nothing."""
    global _kept  # noqa: PLW0603 — one process, one answer
    kept, now = _kept, time.monotonic()
    if kept is not None and now - kept[0] < _KEEP_SECONDS:
        return kept[1]
    # One looks at a time. The others are not kept waiting for it: what was found last will do.
    if not _lock.acquire(blocking=kept is None):
        assert kept is not None
        return kept[1]
    try:
        if _kept is kept:
            _kept = (time.monotonic(), _look())
        return _kept[1]  # type: ignore[index] # set above, or by whoever was first
    finally:
        _lock.release()


def _look() -> Readiness:
    parts: dict[str, State] = {"database": "ok", "hsm": _hsm(), "disk": _disk()}
    try:
        # Written and not only read: with a full or read-only disk nothing can be done, though all can be seen.
        heartbeats.note("web")
        ages = heartbeats.ages()
        restored = restored_tenants().count()
    except (DatabaseError, InterfaceError):
        return Readiness(False, {**parts, "database": "away"}, None)
    parts |= {**lanes(ages), "restored": "waiting" if restored else "ok"}
    heads = ages.get("heads")
    return Readiness(True, parts, None if heads is None else int(heads.total_seconds()), restored)


def lanes(ages: Mapping[str, timedelta]) -> dict[str, State]:
    """Tell of each lane, and of the signed heads, whether it is at work, by how long ago that was."""
    longest = {**dict.fromkeys(_LANES, _LATE), "heads": _OLD_HEADS}
    return {
        lane: "away" if lane not in ages else "late" if ages[lane] > late else "ok" for lane, late in longest.items()
    }


def _disk() -> State:
    try:
        return "low" if any(is_low(place) for place in places()) else "ok"
    except OSError:
        return "away"


def _hsm() -> State:
    try:
        return "ok" if registry.root().answers() else "away"
    except HsmError:
        return "away"
