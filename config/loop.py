# SPDX-License-Identifier: Apache-2.0
"""What every command that works until SIGTERM does around its work.

Memory is closed, posture and tokens are verified, and what is away is waited for. A process may work in several lanes,
each a thread: what hangs in one, such as a mail server, keeps no other from its turn.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping
from types import FrameType

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import DatabaseError, InterfaceError, close_old_connections
from structlog.contextvars import bound_contextvars

from config.checks import require_posture
from config.hsm import verify_at_start
from config.logs import log_what_ends_this_process
from config.memory import close_memory
from config.refusal import refuse
from config.roles import require_role_key
from hsm.errors import HsmError, HsmUnavailable
from kernel import heartbeats
from kernel.retries import Retries, named

_PAUSE_SECONDS = 0.2  # when nothing was due: a person who waits for a notice or a release does not notice it
_AWAY_SECONDS = 2.0  # a database that starts again, or a full disk, is not helped by being asked all the time
_LONGEST_SECONDS = 60.0  # between the tries of a lane that fails in a way of its own

_LAST_SECONDS = 4.0  # for the step under way at the end; the supervisor kills after eight

Step = Callable[[], int]


class LoopCommand(BaseCommand):
    """A command that does one step after another, in each of its lanes, until it is told to stop."""

    requires_system_checks = ()

    def prepare(self) -> None:
        """Close this process's memory, and see that posture, keys and tokens are as they must, or end it: `refusal`."""
        log_what_ends_this_process(logging.getLogger("holdfast.process"))
        if settings.HOLDFAST_CLOSE_MEMORY:
            close_memory()
        require_posture()
        require_role_key()
        try:
            verify_at_start()
        except HsmError as error:
            refuse(str(error))

    def run_until_told(self, lanes: Mapping[str, Step], log: logging.Logger) -> None:
        """Call each lane's step until SIGTERM or SIGINT; it returns how much it did, and is called again after any.

        The first lane runs in this thread. A step that fails is tried again, after longer and longer: what one step met
        must not stop what the next ones have to do, and `/readyz` says meanwhile that the lane is late. What is no
        Exception ends the process, which its supervisor starts again: none goes on without one of its lanes.
        """
        stop = threading.Event()

        def on_signal(number: int, frame: FrameType | None) -> None:
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, on_signal)
        failed: list[BaseException] = []

        def run(name: str, step: Step) -> None:
            try:
                with bound_contextvars(lane=name):
                    _run_lane(name, step, stop, log)
            except BaseException as error:  # noqa: BLE001 — raised below, where the process ends by it
                failed.append(error)
                stop.set()

        (first, *others) = lanes.items()
        # Daemons: a lane that hangs at a mail server does not hold the process when it is told to stop. What it does
        # under a lease is done again by the next one.
        threads = [threading.Thread(target=run, args=lane, name=lane[0], daemon=True) for lane in others]
        for thread in threads:
            thread.start()
        run(*first)
        # The others may finish what they are at, or a mail that was just handed over would be sent once more.
        until = time.monotonic() + _LAST_SECONDS
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        if failed:
            raise failed[0]


def _run_lane(name: str, step: Step, stop: threading.Event, log: logging.Logger) -> None:
    beat = heartbeats.Beat(name, clock=time.monotonic)
    failing = Retries(first=_AWAY_SECONDS, longest=_LONGEST_SECONDS)
    while not stop.is_set():
        close_old_connections()
        try:
            done = step()
            beat.give()
        except (DatabaseError, InterfaceError) as error:
            log.warning("%s: the database is away or takes nothing (%s)", name, type(error).__name__)
        except HsmUnavailable as error:
            log.warning("%s: the HSM is away (%s)", name, error)
        except OSError as error:
            # A disk that is full or read-only: what was promised stays promised, and is done when there is room.
            log.warning("%s: %s: %s", name, error.filename or "a file", error.strerror or error)
        except Exception as error:  # noqa: BLE001 — whatever it was about, others have their turn next
            count = failing.failed(name)
            log.critical("%s failed: %s (%d in a row)", name, named(error), count)
            stop.wait(failing.left(name))
            continue
        else:
            failing.worked(name)
            if not done:
                stop.wait(_PAUSE_SECONDS)
            continue
        stop.wait(_AWAY_SECONDS)
