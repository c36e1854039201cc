# SPDX-License-Identifier: Apache-2.0
"""What the shells are offered: commands, options, and the options of every command wherever they stand.

Asks as bash, zsh and fish ask: through the environment, of the installed scripts' own protocol.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]


def offered(line: str) -> set[str]:
    """Return what bash is offered at the end of a line."""
    words = line.split(" ")
    environment = {
        **os.environ,
        "_HOLDFAST_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-m", "holdfast.cli"], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    return set(done.stdout.split())


def test_commands_and_groups_are_completed() -> None:
    assert {"enrol", "devices", "backup", "recover", "doctor"} <= offered("holdfast ")
    assert offered("holdfast devices ap") == {"approve"}
    assert "open" in offered("holdfast recover escrow ")


def test_commands_are_completed_behind_an_option_of_every_command() -> None:
    assert offered("holdfast --json devices ap") == {"approve"}
    assert offered("holdfast devices --json --profile p ap") == {"approve"}


def test_options_of_every_command_are_completed_behind_any_command() -> None:
    found = offered("holdfast devices list --")
    assert {"--json", "--profile", "--passphrase-file", "--passphrase-fd", "--help"} <= found
    assert "--install-completion" not in found
    assert offered("holdfast audit export --ou") == {"--out"}


def test_option_of_every_command_is_offered_once() -> None:
    environment = {"_HOLDFAST_COMPLETE": "complete_bash", "COMP_WORDS": "holdfast doctor --js", "COMP_CWORD": "2"}
    done = subprocess.run(
        [sys.executable, "-m", "holdfast.cli"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == ["--json"]


def test_value_of_a_hoisted_option_is_not_taken_for_an_argument() -> None:
    # bash completes the path itself when it is offered nothing.
    assert offered("holdfast devices approve --profile ") == set()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script_of_each_shell_asks_the_command_back(shell: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "holdfast.cli"],
        env={**os.environ, "_HOLDFAST_COMPLETE": f"source_{shell}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert f"complete_{shell}" in done.stdout
    assert "holdfast" in done.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="this machine has no bash")
def test_bash_completes_with_the_script_that_is_shown(tmp_path: Path) -> None:
    bin_directory = tmp_path / "bin"
    bin_directory.mkdir()
    command = bin_directory / "holdfast"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m holdfast.cli "$@"\n')
    command.chmod(0o700)
    script = """
        source <(_HOLDFAST_COMPLETE=source_bash holdfast)
        COMP_WORDS=(holdfast contacts --json conf) COMP_CWORD=3
        _holdfast_completion holdfast conf contacts
        echo "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=PROJECT,
        env={**os.environ, "PATH": f"{bin_directory}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == ["confirm"], done.stderr
