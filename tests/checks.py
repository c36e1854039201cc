# SPDX-License-Identifier: Apache-2.0
"""`make check`: migrations are made, and production settings pass Django's and our own deployment checks.

The checks run against production settings as an operator would give them, with a stand-in for each outside part.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]

GOOD = {
    "DJANGO_SETTINGS_MODULE": "config.settings.production",
    "HOLDFAST_DATABASE_URL": "postgres://holdfast@db.example/holdfast?sslmode=verify-full&sslrootcert=/etc/holdfast/ca.pem",
    "HOLDFAST_PUBLIC_URL": "https://holdfast.example",
    "HOLDFAST_ALLOWED_HOSTS": '["holdfast.example"]',
    "HOLDFAST_HSM_MODULE": "/opt/vendor/libpkcs11.so",
    "HOLDFAST_HSM_SOFTHSM": "false",
    "HOLDFAST_TRUSTED_PROXIES": "unix",
    "HOLDFAST_EMAIL_URL": "smtp://mail.example:587",
    "HOLDFAST_EMAIL_FROM": "Holdfast <holdfast@mail.example>",
}


def manage(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one management command under exactly this environment."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HOLDFAST_", "DJANGO_"))}
    command = [sys.executable, str(PROJECT / "manage.py"), *arguments]
    return subprocess.run(command, env={**kept, **environment}, text=True, capture_output=True, check=False)


def production(directory: Path) -> dict[str, str]:
    """Return the environment of a sound production installation, its files made in `directory`."""
    (directory / "secret.key").write_text(secrets.token_urlsafe(64))
    (directory / "hsm").mkdir(exist_ok=True)
    (directory / "hsm" / "hsm.json").write_text("{}")
    files = {"HOLDFAST_SECRET_KEY_FILE": str(directory / "secret.key"), "HOLDFAST_HSM_HOME": str(directory / "hsm")}
    kept = {"HOLDFAST_STATE_DIR": str(directory), "HOLDFAST_STATIC_ROOT": str(directory / "static")}
    return {**GOOD, **kept, **files}


def main() -> int:
    """Run both checks and print what they find."""
    failed = 0
    with tempfile.TemporaryDirectory() as directory:
        runs = {
            "migrations": manage(
                "makemigrations", "--check", "--dry-run", DJANGO_SETTINGS_MODULE="config.settings.test"
            ),
            "deployment": manage("check", "--deploy", "--fail-level", "WARNING", **production(Path(directory))),
        }
    for name, done in runs.items():
        print(f"{name}: {'ok' if done.returncode == 0 else 'failed'}")  # noqa: T201
        if done.returncode:
            failed = 1
            print(done.stdout, done.stderr)  # noqa: T201
    return failed


if __name__ == "__main__":
    sys.exit(main())
