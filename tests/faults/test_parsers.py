# SPDX-License-Identifier: Apache-2.0
"""Goal G9: no input makes a parser of the core do anything but take it or refuse it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.faults.fuzz.parsers import PARSERS
from tests.faults.seeds import PROJECT


def fuzz(name: str, runs: int, *, parsers: int, seconds: int) -> None:
    """Run the fuzzer, and see that every run was made and found nothing."""
    command = [sys.executable, "-m", "tests.faults.fuzz", name, f"-runs={runs}"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-4000:]
    assert done.stderr.count(f"Done {runs} runs".encode()) == parsers


@pytest.mark.parametrize("name", PARSERS)
def test_parser_takes_its_samples(name: str) -> None:
    parser = PARSERS[name]
    assert parser.samples
    for sample in parser.samples:
        parser.feed(sample)


def test_each_parser_takes_or_refuses_ten_thousand_inputs() -> None:
    fuzz("every", 10_000, parsers=len(PARSERS), seconds=280)


@pytest.mark.soak("parsers")
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", PARSERS)
def test_parser_takes_or_refuses_a_million_inputs(name: str) -> None:
    fuzz(name, 1_000_000, parsers=1, seconds=7000)
