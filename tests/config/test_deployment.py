# SPDX-License-Identifier: Apache-2.0
"""`check --deploy` takes a sound production installation and refuses each unsound one (FAULTS U6, D8)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.checks import manage, production


def check(directory: Path, **changes: str) -> tuple[int, str]:
    done = manage("check", "--deploy", "--fail-level", "WARNING", **(production(directory) | changes))
    return done.returncode, done.stdout + done.stderr


def test_check_takes_a_sound_installation(tmp_path: Path) -> None:
    status, said = check(tmp_path)
    assert status == 0, said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"HOLDFAST_DATABASE_URL": "sqlite:////tmp/x.sqlite3"}, "SQLite"),
        ({"HOLDFAST_DATABASE_URL": ""}, "SQLite"),
        ({"HOLDFAST_DATABASE_URL": "postgres://holdfast@db.example/holdfast"}, "sslmode=verify-full"),
        ({"HOLDFAST_DATABASE_URL": "postgres://holdfast@db.example/holdfast?sslmode=require"}, "sslmode=verify-full"),
        ({"HOLDFAST_DATABASE_URL": "postgres://holdfast:secret@db/holdfast"}, "HOLDFAST_DATABASE_PASSWORD_FILE"),
        ({"HOLDFAST_PUBLIC_URL": "http://holdfast.example"}, "https"),
        ({"HOLDFAST_HSM_SOFTHSM": "true"}, "SoftHSM"),
        ({"HOLDFAST_HSM_MODULE": "/usr/lib/softhsm/libsofthsm2.so"}, "SoftHSM"),
        ({"HOLDFAST_HSM_HOME": "/nowhere"}, "manifest"),
        ({"HOLDFAST_ALLOWED_HOSTS": "[]"}, "ALLOWED_HOSTS"),
        ({"HOLDFAST_EMAIL_URL": ""}, "HOLDFAST_EMAIL_URL"),
        ({"HOLDFAST_EMAIL_URL": "smtp://holdfast:secret@mail.example"}, "HOLDFAST_EMAIL_PASSWORD_FILE"),
        ({"HOLDFAST_SECRET_KEY_FILE": "/nowhere"}, "HOLDFAST_SECRET_KEY_FILE"),
        ({"DJANGO_SETTINGS_MODULE": "config.settings.development"}, "SoftHSM"),
    ],
)
def test_check_refuses(tmp_path: Path, changes: dict[str, str], said: str) -> None:
    if changes.get("DJANGO_SETTINGS_MODULE"):
        changes = {**changes, "HOLDFAST_HSM_SOFTHSM": "true", "HOLDFAST_HSM_MODULE": ""}
        changes["HOLDFAST_HSM_MODULE"] = "/usr/lib/softhsm/libsofthsm2.so"
    status, shown = check(tmp_path, **changes)
    assert status != 0
    assert said in shown
