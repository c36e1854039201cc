# SPDX-License-Identifier: Apache-2.0
"""The logs of the processes: an entry is one line, whatever text of others' it names."""

from __future__ import annotations

import io
import logging
import logging.config
from typing import Any

from django.conf import settings

from tests.cast.texts import ESCAPED, SHOWN_WHOLE


def formatter() -> logging.Formatter:
    formatters: Any = settings.LOGGING["formatters"]
    made: logging.Formatter = logging.config.DictConfigurator({"version": 1}).configure_custom(dict(formatters["line"]))
    return made


def test_every_text_is_logged_as_it_was_written_and_what_would_be_obeyed_as_an_escape() -> None:
    for text, said in ({text: text for text in SHOWN_WHOLE} | ESCAPED).items():
        entry = formatter().format(logging.LogRecord("tests", logging.INFO, "x", 1, "said “%s”", (text,), None))
        assert entry.endswith(f"said “{said}”")


def test_text_of_others_begins_no_line_and_speaks_to_no_terminal() -> None:
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    handler.setFormatter(formatter())
    log = logging.getLogger("tests.logs")
    log.propagate = False
    log.addHandler(handler)
    hostile = "x\n2026-01-01 CRITICAL FORGED\x1b[2J\u202e\x9b\r"
    try:
        log.warning("case %s waits", hostile)
        try:
            int(hostile)
        except ValueError:
            log.exception("it failed")
    finally:
        log.removeHandler(handler)
    lines = said.getvalue().splitlines()
    assert "x<U+000A>2026-01-01 CRITICAL FORGED<U+001B>[2J<U+202E><U+009B><U+000D> waits" in lines[0]
    assert "WARNING tests.logs case x" in lines[0]
    assert not [line for line in lines if line.startswith("2026-01-01 CRITICAL FORGED")]
    assert [line.startswith("    ") for line in lines[2:]] == [True] * len(lines[2:])
    assert not {"\x1b", "\u202e", "\x9b", "\r"} & set(said.getvalue())
