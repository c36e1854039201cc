# SPDX-License-Identifier: Apache-2.0
"""What goes on, on standard error, once it has lasted a second: a line that moves, and how far when that is known.

Implements the rule that nobody looks at a still screen for more than a second.
Says nothing to scripts: not with --json, and not when standard error is not a terminal.
"""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Final

from holdfast.cli.output import encoding_of, is_terminal
from holdfast.core.base.text import is_encodable

if TYPE_CHECKING:
    from rich.progress import Progress

PATIENCE_SECONDS: Final = 1.0


class Working:
    """Shows `what` while its `with` block lasts longer than a second. Calling it tells how much is done.

    total: the size of the whole, in the unit of what is told; 0 when nobody knows.
    """

    def __init__(self, what: str, *, is_shown: bool, total: int = 0) -> None:
        self._progress: Progress | None = None
        self._what = what
        self._total = total
        self._done = 0
        # Two threads: the timer's, which starts the display, and the command's, which feeds and ends it.
        self._lock = threading.Lock()
        self._has_ended = False
        self._timer = threading.Timer(PATIENCE_SECONDS, self._show) if is_shown and is_terminal(sys.stderr) else None
        if self._timer:
            self._timer.daemon = True

    def __enter__(self) -> Working:
        if self._timer:
            self._timer.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._has_ended = True
            if self._timer:
                self._timer.cancel()
            if self._progress:
                self._progress.stop()

    def __call__(self, done: int, total: int | None = None) -> None:
        """Tell how much is done, and how much there is when that has become known."""
        with self._lock:
            self._done = done
            self._total = self._total if total is None else total
            if self._progress:
                self._progress.update(self._progress.task_ids[0], completed=done, total=self._total or None)

    def _show(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

        with self._lock:
            if self._has_ended:
                return
            # Erased at the end: what stays on the screen is the result.
            self._progress = Progress(
                SpinnerColumn("dots" if is_encodable("⠋", encoding_of(sys.stderr)) else "line"),
                TextColumn("{task.description}", markup=False),
                *((BarColumn(), TaskProgressColumn()) if self._total else ()),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._progress.add_task(self._what, total=self._total or None, completed=self._done)
            self._progress.start()
