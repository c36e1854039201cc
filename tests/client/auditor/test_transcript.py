# SPDX-License-Identifier: Apache-2.0
"""A transcript verified from two files and the keys that people carry: only this text, only of this organisation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest

from holdfast.cli.exits import Exit
from holdfast.client.auditor import transcript
from holdfast.core.base.errors import Malformed, Untrusted
from holdfast.core.crypto.keys import SigningKey
from holdfast.core.identity.roles import root_verifier
from holdfast.core.identity.transcript import MAX_TEXT
from holdfast.core.log.checkpoint import NoteVerifier
from holdfast.core.log.log_entry import log_origin
from tests.cast.statements import ACME, MALLORY_TENANT, ROOT
from tests.core.identity.test_transcript import LOG, TEXT, signed

ROOT_KEY = root_verifier(ACME, ROOT.public).to_text()
LOG_KEY = NoteVerifier(log_origin(str(UUID(bytes=ACME)), "audit"), LOG.public).to_text()


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "holdfast.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    text, signatures = tmp_path / "t.txt", tmp_path / "t.signed"
    text.write_bytes(TEXT)
    signatures.write_bytes(signed(ROOT, LOG))
    return text, signatures


def test_files_hold_under_both_keys_and_say_when_one_was_not_given(files: tuple[Path, Path]) -> None:
    assert transcript.verify(*files, root=ROOT_KEY, log=LOG_KEY).is_by_log
    assert not transcript.verify(*files, root=ROOT_KEY, log=None).is_by_log


def test_other_text_key_or_organisation_is_refused(files: tuple[Path, Path]) -> None:
    with pytest.raises(Untrusted):
        transcript.verify(*files, root=root_verifier(MALLORY_TENANT, ROOT.public).to_text(), log=None)
    with pytest.raises(Malformed):
        transcript.verify(*files, root=LOG_KEY, log=None)
    others = NoteVerifier(log_origin(str(UUID(bytes=MALLORY_TENANT)), "audit"), LOG.public).to_text()
    with pytest.raises(Malformed):
        transcript.verify(*files, root=ROOT_KEY, log=others)
    files[0].write_bytes(TEXT.replace(b"root", b"toor"))
    with pytest.raises(Untrusted):
        transcript.verify(*files, root=ROOT_KEY, log=LOG_KEY)
    files[0].write_bytes(bytes(MAX_TEXT + 1))
    with pytest.raises(Malformed):
        transcript.verify(*files, root=ROOT_KEY, log=LOG_KEY)


def test_command_says_what_was_checked_and_fails_for_a_changed_text(files: tuple[Path, Path]) -> None:
    arguments = ["audit", "transcript", *map(str, files), "--trust", ROOT_KEY]
    both = run(*arguments, "--log", LOG_KEY)
    assert both.returncode == Exit.DONE, both.stderr
    assert "by the root and the log's key" in " ".join(both.stdout.split())
    assert "was not given, nor checked" in " ".join(run(*arguments).stdout.split())
    other = root_verifier(ACME, SigningKey.generate().public).to_text()
    assert run(*arguments[:-1], other).returncode == Exit.UNTRUSTED
    files[0].write_bytes(TEXT + b"more")
    assert run(*arguments).returncode == Exit.UNTRUSTED
