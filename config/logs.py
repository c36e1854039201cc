# SPDX-License-Identifier: Apache-2.0
"""How the processes write their logs: one event, one line, with its time in UTC, the process's role and the request.

Implements FAULTS P13 for operators: no name, error or address begins a line of its own or speaks to the terminal.
Decides nothing about what is logged, but for the requests of strangers: each of those is a line, and not a trace.
"""

from __future__ import annotations

import logging
import sys
import threading
from datetime import UTC, datetime
from typing import Any, Final

from config.env import ENV
from config.memory import left_out
from holdfast.core.base.text import encodable, written_out

# Its colours for a developer's screen, of which nothing of ours makes use: 4 MiB of each process.
with left_out("rich"):
    import structlog

# What an event is about, beside its words (`config.access_log` gives them); in JSON each is a field of its own.
FIELDS: Final = ("method", "path", "status", "ms", "source")
# Longer than any event of ours: a trace of sixty places in the code. journald itself parts a line at 48 KiB.
_LONGEST: Final = 8 * 1024  # characters


class LineFormatter(logging.Formatter):
    """Writes an event as text for people: `TIME LEVEL ROLE LOGGER [request=…] words`, with a trace at its end."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        context = " ".join(f"{name}={value}" for name, value in structlog.contextvars.get_contextvars().items())
        words = f"{f'[{context}] ' if context else ''}{record.getMessage()}"
        if record.exc_info:
            words = f"{words} | {_folded(self.formatException(record.exc_info))}"
        if record.stack_info:
            words = f"{words} | {_folded(record.stack_info)}"
        head = f"{_time(record)} {record.levelname} {ENV.role} {record.name}"
        return f"{head} {_bounded_text(words)}"


class JsonFormatter(structlog.stdlib.ProcessorFormatter):
    """Writes an event as one JSON object, for a collector: `HOLDFAST_LOG_FORMAT=json`."""

    def __init__(self) -> None:
        super().__init__(
            foreign_pre_chain=[structlog.contextvars.merge_contextvars, structlog.stdlib.ExtraAdder(allow=FIELDS)],
            processors=[
                _head,
                structlog.processors.format_exc_info,
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _bounded,
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
        )


def formatter() -> logging.Formatter:
    """Return the formatter that the operator chose: text, unless asked for JSON."""
    return JsonFormatter() if ENV.log_format == "json" else LineFormatter()


class WithoutAddress(logging.Filter):
    """Writes the page in place of the address, where Django names that of a request: a link may have a token in it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let the record through, changed."""
        from config.access_log import shown_path  # not above: logs are set up before the apps are there

        request = getattr(record, "request", None)
        if request is not None and isinstance(record.args, tuple):
            shown = shown_path(request, is_found=False)
            record.args = tuple(shown if one == request.path else one for one in record.args)
        return True


class StrangersRequest(logging.Filter):
    """Makes of a request that Django calls suspicious a warning of one line: whoever sends it is not worth a trace."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let the record through, without the trace and at a level that wakes nobody."""
        record.exc_info = record.exc_text = None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        if record.name.endswith(".DisallowedHost"):
            # Django's words end in the advice to let the stranger's host in.
            record.msg, record.args = f"{record.getMessage().partition(' You may need')[0]} It is none of ours.", ()
        return True


def log_what_ends_this_process(log: logging.Logger) -> None:
    """Have an error that ends this process, or a thread of it, be an event like any other."""

    def ended(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
        else:
            log.critical("this process ends by an error", exc_info=(kind, error, trace))

    def thread_ended(what: threading.ExceptHookArgs) -> None:
        if what.exc_value is not None:
            log.critical("a thread ends by an error", exc_info=(what.exc_type, what.exc_value, what.exc_traceback))

    sys.excepthook, threading.excepthook = ended, thread_ended


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _folded(trace: str) -> str:
    return " | ".join(line.strip() for line in trace.splitlines() if line.strip(" ^~"))


def _bounded_text(text: str) -> str:
    # Shortened once more, since what is hidden takes ten times the room when it is written out. Half of a pair, as the
    # system names files that are no UTF-8, could be written by no collector.
    return _short(encodable(written_out(_short(text)), "utf-8"))


def _short(text: str) -> str:
    # The end of a trace says what went wrong, so the middle goes.
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]} … {text[-half:]}"


def _head(_logger: Any, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    record: logging.LogRecord = event["_record"]
    head = {"time": _time(record), "level": record.levelname.lower(), "role": ENV.role, "logger": record.name}
    return {**head, **event}


def _bounded(_logger: Any, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    if "exception" in event:
        event["exception"] = _folded(event["exception"])
    return {name: _bounded_text(value) if isinstance(value, str) else value for name, value in event.items()}
