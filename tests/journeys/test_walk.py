# SPDX-License-Identifier: Apache-2.0
"""The main job, from end to end, as `make demo` shows it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.fixtures.hsm import Interposer
from tests.fixtures.server import PROJECT, Installation


@pytest.mark.timeout(600)
def test_the_demo_walks_the_main_job_and_the_hsm_unwraps_once(
    server: Installation, counted_unwraps: Interposer
) -> None:
    counted_unwraps.forget()
    done = subprocess.run(
        [sys.executable, "-m", "tests.journeys.demo"],
        cwd=PROJECT,
        env={**server.environment, "PATH": os.environ["PATH"]},
        text=True,
        capture_output=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr + server.log.read_text()[-4000:]
    assert "All 26 steps" in done.stdout
    # One release, one unwrap of an escrow key: counted outside the application.
    escrow_keys = {words[3] for words in counted_unwraps.log() if words[1:3] == ["enter", "C_UnwrapKey"]}
    counts = {key: counted_unwraps.entered("C_UnwrapKey", bytes.fromhex(key)) for key in escrow_keys if key != "-"}
    assert server.escrow_key_id() in counts
    assert counts[server.escrow_key_id()] == 1
