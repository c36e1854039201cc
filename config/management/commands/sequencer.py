# SPDX-License-Identifier: Apache-2.0
"""`manage.py sequencer`: numbers the entries of all logs and has the HSM sign their heads, and does nothing else."""

from __future__ import annotations

import logging
import time
from typing import Any

from audit.sequencer import find_restored
from audit.tasks import sequence_all
from config.loop import LoopCommand
from kernel import heartbeats

log = logging.getLogger("holdfast.sequencer")

# Whoever waits for a proof waits about this long; a head for each second of work is enough (PROTOCOL section 8).
_EVERY_SECONDS = 1.0
# At the start, and again for a backup that is put back while this process runs; whoever writes or asks anything has it
# found at once.
_LOOK_SECONDS = 60.0


class Command(LoopCommand):
    help = "Number and sign the logs of all tenants until SIGTERM."

    def handle(self, *args: Any, **options: Any) -> None:
        self.prepare()
        # No work of others delays a head: neither mail nor schedules are done here.
        heads = heartbeats.Beat("heads", clock=time.monotonic)
        last = looked = float("-inf")

        def step() -> int:
            nonlocal last, looked
            if time.monotonic() - last < _EVERY_SECONDS:
                return 0
            last = time.monotonic()
            if last - looked >= _LOOK_SECONDS:
                find_restored()
                looked = last
            if sequence_all():
                heads.give()
            return 0

        self.run_until_told({"sequencer": step}, log)
